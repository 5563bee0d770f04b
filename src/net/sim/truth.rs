//! What the network knows, for those who check what others make of it.
//!
//! In: questions. Out: answers. Never here: anything that happens.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use super::state::State;
use crate::net::Watch;
use crate::peer::Peer;

/// What only the network knows of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Truth {
    pub(crate) watch: Option<Watch>,
    /// An event is on its way.
    pub(crate) edge: bool,
    pub(crate) unread: u64,
    /// Our side asked, and was not told, once at least.
    pub(crate) is_unknown: bool,
    /// The last read stopped at an urgent mark: nothing tells of what is behind it.
    pub(crate) at_mark: bool,
    /// Bytes that had come before the turn in which we finished, and had not been read.
    pub(crate) overlooked: u64,
    pub(crate) finished: bool,
    pub(crate) reset: bool,
}

impl State {
    /// What the wall clock said then.
    pub(super) fn wall(&self, then: Duration) -> SystemTime {
        let set = self.settings.iter().rev().find(|(at, _)| *at <= then);
        let (_, by) = set.expect("the first is of the beginning");
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000) + *by + then
    }

    /// Did the wall clock say this between these moments?
    pub(super) fn said(&self, wall: SystemTime, from: Duration, to: Duration) -> bool {
        let ends = self.settings.iter().skip(1).map(|(at, _)| *at);
        let ends = ends.chain([Duration::MAX]);
        self.settings.iter().zip(ends).any(|((begin, by), end)| {
            let zero = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000) + *by;
            wall.duration_since(zero)
                .is_ok_and(|at| at >= from.max(*begin) && at <= to.min(end))
        })
    }

    /// When its reactor last asked for the time before the byte before this one of a stream was read.
    pub(super) fn read_at(&self, peer: Peer, offset: u64) -> Option<Duration> {
        let socket = self.sockets.iter().find(|socket| socket.peer == peer)?;
        let at = socket.reads.partition_point(|(end, _)| *end < offset);
        socket.reads.get(at).map(|(_, when)| *when)
    }

    /// What the kernel knows of a connection, for those who check.
    pub(super) fn truth(&self, key: usize) -> Truth {
        let socket = &self.sockets[key];
        let read = socket.arrived - socket.queue.len() as u64;
        Truth {
            watch: socket.watched.map(|(_, _, watch)| watch),
            edge: socket.is_ready,
            unread: socket.queue.len() as u64,
            is_unknown: socket.is_unknown,
            at_mark: socket.stopped_at == Some(read),
            overlooked: socket.overlooked,
            finished: socket.fin,
            reset: socket.is_reset,
        }
    }

    /// A drain closes a listener: did it take those who had been waiting when it was ordered?
    pub(super) fn check_forgotten(&self, waiting: &VecDeque<usize>) {
        if let Some((before, until)) = self.drain
            && self.holds_drains
            && self.now < until
            && !std::thread::panicking()
        {
            let forgotten: Vec<_> = waiting.iter().filter(|key| **key < before).collect();
            assert!(
                forgotten.is_empty(),
                "a drain forgets peers {forgotten:?}, who wait"
            );
        }
    }
}
