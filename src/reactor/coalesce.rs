//! Fewer turns for the same messages: what comes close together is read together.
//!
//! In: when a turn began, and what it has read. Out: a nap before the next one. Never here: a nap while
//! there is something to do, or one that makes a byte wait for longer than was allowed.
//!
//! At one message a write nearly all cost is that of waking up. Turns that begin some hundred microseconds
//! apart find several messages each. A turn that took as long is followed by the next at once, and who
//! comes after a pause is read at once.

use std::time::Duration;

use super::Reactor;
use crate::net::Net;

/// What is much for one turn: its wake-up is cheap beside it. A receive buffer of 64 KiB has room for as much
/// again, so that nobody who sends all the time has to wait for us.
const MUCH: u64 = 32 << 10;
const SHORTEST: Duration = Duration::from_micros(10);

#[derive(Debug)]
pub(super) struct Coalesce {
    most: Duration,
    /// How far apart turns begin, at present.
    apart: Duration,
    /// Read in all, when we looked last.
    received: u64,
}

impl Coalesce {
    pub(super) fn new(most: Duration) -> Self {
        Self {
            most,
            apart: most,
            received: 0,
        }
    }

    /// A turn is over, and so much has been read in all. Where much had piled up, naps get shorter.
    fn handle_turn(&mut self, received: u64) -> Duration {
        let came = received - self.received;
        self.received = received;
        self.apart = match came > MUCH {
            true => self.apart / 2,
            false => (2 * self.apart).clamp(SHORTEST, self.most),
        };
        self.apart
    }
}

impl<N: Net> Reactor<N> {
    /// Before a wait of at most `timeout`. Returns what a nap leaves of that.
    pub(super) fn coalesce(
        &mut self,
        now: Duration,
        timeout: Option<Duration>,
    ) -> Option<Duration> {
        let Some(coalesce) = &mut self.coalesce else {
            return timeout;
        };
        let apart = coalesce.handle_turn(self.counters.received.read());
        let left = (self.now + apart).saturating_sub(now);
        let nap = timeout.map_or(left, |timeout| left.min(timeout));
        if !nap.is_zero() {
            self.net.nap(nap);
        }
        timeout.map(|timeout| timeout - nap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn naps_get_shorter_while_much_comes_and_as_long_as_before_when_it_does_not() {
        let most = Duration::from_micros(200);
        let mut coalesce = Coalesce::new(most);
        assert_eq!(coalesce.handle_turn(0), most);
        assert_eq!(coalesce.handle_turn(MUCH), most);
        let mut received = MUCH;
        let mut much = || {
            received += MUCH + 1;
            coalesce.handle_turn(received)
        };
        assert_eq!(much(), most / 2);
        assert_eq!(much(), most / 4);
        for _ in 0..20 {
            much();
        }
        assert_eq!(much(), Duration::ZERO);
        assert_eq!(coalesce.handle_turn(received), SHORTEST);
        for _ in 0..5 {
            coalesce.handle_turn(received);
        }
        assert_eq!(coalesce.handle_turn(received), most);
    }
}
