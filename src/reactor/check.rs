//! What must hold between any two turns. A simulation asks after each.
//!
//! In: a reactor at rest. Out: nothing, or a panic that says what is wrong with which connection.

use super::drain::Phase;
use super::lane::Flow;
use super::slots::Place;
use super::wheel::{NONE, has_come};
use super::{MARKS, Reactor};
use crate::close::PauseCause;
use crate::net::Net;

impl<N: Net<Stream: std::fmt::Debug>> Reactor<N> {
    /// Panics unless every invariant holds.
    pub(crate) fn check(&self) {
        if self.phase == Phase::Ended {
            assert_eq!(self.slots.len(), 0, "ended with connections");
            return;
        }
        let mut open = 0;
        let mut staged = 0;
        let mut waiting = vec![0; self.lanes.len()];
        let mut bound = vec![0; self.lanes.len()];
        let (mut starved, mut lingering) = (0, 0);
        for key in self.slots.keys(0, usize::MAX) {
            let slot = &self.slots[key];
            let lane = usize::from(slot.consumer);
            let books = slot.conn.books();
            assert!(books.balanced(), "{key}: {books:?}");
            assert_eq!(
                books.staged as usize,
                self.staging.bytes(slot.part).len(),
                "{key}: staged bytes"
            );
            open += u64::from(slot.stream.is_some());
            staged += books.staged as usize;
            bound[lane] += 1;
            match slot.place {
                Place::Nowhere => {}
                Place::Ring => waiting[lane] += 1,
                Place::Staging => starved += 1,
                Place::Lingering => lingering += 1,
                Place::Dead => panic!("{key}: dead, and its slot is not free"),
            }
            self.check_served(key);
            self.check_deadline(key);
        }
        assert_eq!(self.counters.open.read(), open, "open connections");
        assert_eq!(self.staging.held(), staged, "staged bytes");
        let most = self.staging.most(self.slots.len());
        assert!(
            self.staging.used() <= most,
            "staging beyond its budget: {} of {most}",
            self.staging.used()
        );
        assert_eq!(self.starved.len(&self.slots), starved);
        assert_eq!(self.lingering.len(&self.slots), lingering);
        assert!(
            starved == 0 || self.staging.held() > 0,
            "{starved} wait for staging that nobody holds"
        );
        for (at, lane) in self.lanes.iter().enumerate() {
            assert_eq!(lane.fifo.len(&self.slots), waiting[at], "lane {at}: FIFO");
            assert_eq!(lane.connections, bound[at], "lane {at}: connections");
            assert!(lane.producer.occupied() <= lane.producer.observer().capacity());
            if let Flow::Blocked { .. } = lane.flow() {
                assert!(
                    lane.gone || lane.will_resume(),
                    "lane {at} is blocked, and nobody will wake for it"
                );
            }
        }
    }

    /// Whoever has something to be read is in a queue, or held by a cause that is true now.
    fn check_served(&self, key: u32) {
        let slot = &self.slots[key];
        let held = |cause| slot.conn.is_paused_by(cause);
        assert!(
            slot.place == Place::Staging || !held(PauseCause::Staging),
            "{key}: paused for staging, and not among those who wait for it"
        );
        if slot.stream.is_none() {
            assert_eq!(slot.place, Place::Ring, "{key}: nobody will tell its end");
        } else if slot.ready && slot.place == Place::Nowhere {
            assert!(
                held(PauseCause::Operator),
                "{key}: has something to be read, and nobody will: {:?}",
                slot.conn
            );
        }
    }

    /// The wheel looks at a connection no later than its next deadline.
    fn check_deadline(&self, key: u32) {
        let slot = &self.slots[key];
        let waits = slot.place == Place::Ring;
        let Some(due) = slot.conn.poll_timeout(&self.clocks, waits) else {
            return;
        };
        let set = slot.wheel_tick();
        assert!(
            set.is_some_and(|set| set == due || has_come(due, set)) || has_come(self.tick, due),
            "{key}: due at tick {due}, looked at {set:?}, now {}: {:?} {:?}",
            self.tick,
            slot.place,
            slot.conn
        );
        debug_assert!(slot.part == NONE || self.staging.bytes(slot.part).len() <= self.largest());
    }

    fn largest(&self) -> usize {
        self.scratch.len() - super::READ_SIZES[super::READ_SIZES.len() - 1] + MARKS
    }
}
