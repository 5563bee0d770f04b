//! An operator's order for many connections, obeyed in slices.
//!
//! In: a pause or a resume of all, or of all of one consumer. Out: the same for each of them, so many in one
//! turn. Never here: a connection that came after the order.

use super::Reactor;
use super::control::Target;
use crate::close::PauseCause;
use crate::net::Net;

/// Slots looked at in one turn for it.
pub(super) const SLICE: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Pause,
    Resume,
}

/// An order that is under way; the next commands wait for it, for they came later.
#[derive(Debug)]
pub(crate) struct Bulk {
    order: Order,
    /// `None`: of all consumers.
    consumer: Option<usize>,
    /// Slots from here on have not been looked at.
    from: u32,
    /// The generation of the last connection that was there.
    last: u32,
}

impl<N: Net> Reactor<N> {
    fn obey(&mut self, key: u32, order: Order) {
        match order {
            Order::Pause => self.pause(key, PauseCause::Operator),
            Order::Resume => self.resume(key, PauseCause::Operator),
        }
    }

    /// For one it is done at once, for many it begins.
    pub(super) fn begin_bulk(&mut self, target: Target, order: Order) {
        let consumer = match target {
            Target::All => None,
            Target::Consumer(consumer) => Some(consumer),
            Target::Connection(who) => {
                let token = super::token(who.generation(), who.slot());
                if let Some(key) = self.slots.find(token) {
                    self.obey(key, order);
                }
                return;
            }
        };
        self.bulk = Some(Bulk {
            order,
            consumer,
            from: 0,
            last: self.slots.generation(),
        });
    }

    /// Goes on with the order that is under way, for so many slots. Returns how many are left of them.
    pub(super) fn go_on_in_bulk(&mut self, most: usize) -> usize {
        let Some(bulk) = self.bulk.take() else {
            return most;
        };
        let slice = self.slots.slice(bulk.from, most);
        let came_since = self.slots.generation().wrapping_sub(bulk.last);
        for key in slice.keys {
            let slot = &self.slots[key];
            // Generations wrap: all are before those that came since.
            let after = slot.generation.wrapping_sub(bulk.last);
            let was_there = after == 0 || after > came_since;
            let is_meant = bulk
                .consumer
                .is_none_or(|c| c == usize::from(slot.consumer));
            if was_there && is_meant {
                self.obey(key, bulk.order);
            }
        }
        self.bulk = slice.next.map(|from| Bulk { from, ..bulk });
        slice.left
    }
}
