//! What an embedder holds: a consumer, the batches it lends, the records in them.
//!
//! In: the reading ends of one ring for each reactor. Out: records; back: releases.
//! Never here: a socket, a lock that a reactor waits for, a copy of a message.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant, SystemTime};

use self::peers::Peers;
use self::record::wall;
use crate::frame::Framing;
use crate::peer::ConnectionId;
use crate::ring::record::{Kind, Walk};
use crate::ring::{End, Parked, RingConsumer};

mod batch;
mod ended;
#[cfg(feature = "fuzz")]
pub(crate) mod model;
mod peers;
mod record;
#[cfg(test)]
mod tests;

pub use self::batch::{Batch, Mark, Records};
pub use self::ended::{Ended, Lag};
pub use self::record::{Messages, Record};

/// Tells the marks of different consumers apart.
static SERIAL: AtomicU64 = AtomicU64::new(0);

/// The receiving end: one thread or task takes the messages of all connections that were bound to it.
///
/// There is no sending end to be had, and this one cannot be shared or cloned; it can be moved.
///
/// A consumer that is slow pauses the connections that are bound to it, and no others: they are not
/// read until it releases. A consumer that is dropped, also by a panic, leaves what it did not release
/// to be booked as abandoned, and its connections end.
///
/// ```no_run
/// # fn sink(_: fanin::Peer, _: &[u8]) -> std::io::Result<()> { Ok(()) }
/// fn consume(mut consumer: fanin::Consumer) -> std::io::Result<()> {
///     while let Ok(batch) = consumer.wait() {
///         for record in batch.records() {
///             if let fanin::Record::Messages(messages) = record {
///                 for message in messages.iter() {
///                     sink(messages.peer(), message)?; // `?`: the batch is not delivered
///                 }
///             }
///         }
///         batch.release(); // delivered
///     }
///     Ok(())
/// }
/// ```
///
/// What must not compile (a second batch beside the first, a record that outlives its batch, and more) is in
/// `tests/compile_fail/`.
pub struct Consumer {
    index: usize,
    serial: u64,
    /// One for each reactor, in their order.
    rings: Vec<Desk>,
    parked: Arc<Parked>,
    framings: Arc<[Framing]>,
    batch_max: usize,
    /// The ring to look at first. It moves on with every release, so that a batch that was dropped
    /// comes again at once, and no ring waits for another.
    turn: usize,
    /// One holder at a time, whatever the fields may become.
    not_sync: PhantomData<Cell<()>>,
}

/// A ring with what is known of its connections.
struct Desk {
    ring: RingConsumer,
    peers: Peers,
    /// The last receive time before the released position, in nanoseconds since the epoch.
    time: u64,
}

impl Desk {
    /// Is there nothing to be read, and may there be something yet?
    fn is_idle(&self) -> bool {
        // First the end, then what there is: what was published before the end is seen then.
        self.ring.end().is_none() && self.ring.is_empty()
    }
}

struct Unpark(Thread);

impl std::task::Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Who wakes the thread that asks: made once for each, and in its last moments anew.
fn this_thread() -> Waker {
    fn unpark() -> Waker {
        Waker::from(Arc::new(Unpark(thread::current())))
    }
    thread_local!(static WAKER: Waker = unpark());
    WAKER.try_with(Waker::clone).unwrap_or_else(|_| unpark())
}

impl Consumer {
    /// `rings[i]` comes from reactor `i`; `framings` is by listener; a batch holds at most `batch_max`
    /// bytes, or one record; `slots` is how many connections a reactor may have.
    pub(crate) fn new(
        index: usize,
        rings: Vec<RingConsumer>,
        parked: Arc<Parked>,
        framings: Arc<[Framing]>,
        batch_max: usize,
        slots: usize,
    ) -> Self {
        let desk = |ring| Desk {
            ring,
            peers: Peers::new(slots),
            time: 0,
        };
        Self {
            index,
            // Relaxed: only that it is another number.
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
            rings: rings.into_iter().map(desk).collect(),
            parked,
            framings,
            batch_max,
            turn: 0,
            not_sync: PhantomData,
        }
    }

    /// Which consumer this is, from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// The next batch; sleeps until there is one.
    ///
    /// # Errors
    ///
    /// [`Ended`] when no more will come.
    pub fn wait(&mut self) -> Result<Batch<'_>, Ended> {
        let end = self
            .sleep_until(None)?
            .expect("without a deadline it sleeps until there is something");
        Ok(self.lend(end))
    }

    /// The next batch, or `None` when none came for so long. Otherwise as [`Consumer::wait`].
    ///
    /// # Errors
    ///
    /// [`Ended`] when no more will come.
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<Option<Batch<'_>>, Ended> {
        // One that is further away than the clock can say never comes.
        let deadline = Instant::now().checked_add(timeout);
        let found = self.sleep_until(deadline)?;
        Ok(found.map(|end| self.lend(end)))
    }

    /// The next batch, if there is one now.
    ///
    /// # Errors
    ///
    /// [`Ended`] when no more will come.
    pub fn try_next(&mut self) -> Result<Option<Batch<'_>>, Ended> {
        let found = self.look()?;
        Ok(found.map(|end| self.lend(end)))
    }

    /// The next batch for a task of any async runtime: when it is pending, the task is woken when it
    /// is worth to look again. Only the waker of the latest call is kept.
    ///
    /// # Errors
    ///
    /// [`Ended`] when no more will come.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Batch<'_>, Ended>> {
        match self.look_or_register(|| cx.waker().clone()) {
            Ok(Some(end)) => Poll::Ready(Ok(self.lend(end))),
            Ok(None) => Poll::Pending,
            Err(ended) => Poll::Ready(Err(ended)),
        }
    }

    /// How far this consumer is behind its reactors.
    pub fn lag(&self) -> Lag {
        let now = SystemTime::now();
        let mut lag = Lag::default();
        for desk in &self.rings {
            let seen = desk.ring.observer();
            lag.bytes += seen
                .published()
                .saturating_sub(seen.delivered() + seen.abandoned());
            let first = desk
                .ring
                .walk()
                .find(|(_, header, _)| header.kind != Kind::Padding)
                .map(|(_, header, _)| match header.kind {
                    Kind::Time => header.id,
                    _ => desk.time,
                });
            if let Some(nanos) = first.filter(|nanos| *nanos != 0) {
                let age = now.duration_since(wall(nanos)).unwrap_or_default();
                lag.oldest = lag.oldest.max(Some(age));
            }
        }
        lag
    }

    /// Was all that this consumer ever saw of the connection, its `Closed` included, released?
    ///
    /// Ask the consumer that the connection was bound to. `false` for a connection that this consumer
    /// has not seen, unless it has seen a later one in the same slot.
    pub fn delivered(&self, id: ConnectionId) -> bool {
        self.rings
            .get(id.reactor())
            .is_some_and(|desk| desk.peers.all_released(id))
    }

    /// Was everything up to this mark of this consumer released?
    #[cfg(feature = "sim")]
    pub(crate) fn has_released(&self, mark: Mark) -> bool {
        let here = self.here(mark.ring);
        (mark.position, mark.taken) <= (here.position, here.taken)
    }

    fn lend(&mut self, end: Mark) -> Batch<'_> {
        Batch {
            consumer: self,
            end,
        }
    }

    /// The place up to which a ring is released.
    fn here(&self, ring: usize) -> Mark {
        let desk = &self.rings[ring];
        Mark {
            consumer: self.serial,
            ring,
            position: desk.ring.released(),
            taken: desk.ring.taken(),
            delivered: desk.ring.delivered(),
            time: desk.time,
        }
    }

    fn release(&mut self, mark: Mark) {
        let desk = &mut self.rings[mark.ring];
        if (mark.position, mark.taken) <= (desk.ring.released(), desk.ring.taken()) {
            return;
        }
        // Before the room is given back: a table that lags behind costs nothing, the other way round
        // a panic in between would leave it wrong.
        desk.peers.release(mark.position);
        desk.time = mark.time;
        let payload = mark.delivered - desk.ring.delivered();
        desk.ring.release(mark.position, mark.taken, payload);
        self.turn = self.after(mark.ring);
    }

    /// The ring whose turn it is when this one had its own.
    fn after(&self, ring: usize) -> usize {
        if ring + 1 < self.rings.len() {
            ring + 1
        } else {
            0
        }
    }

    /// The end of the next batch, whose beginning is what the ring has released.
    fn look(&mut self) -> Result<Option<Mark>, Ended> {
        // Where messages come one at a time, two of three looks find no more than this.
        if self.rings.iter().all(Desk::is_idle) {
            return Ok(None);
        }
        self.search()
    }

    /// Not inlined, so that the look is: it is small where there is nothing.
    #[inline(never)]
    fn search(&mut self) -> Result<Option<Mark>, Ended> {
        let mut alive = false;
        let mut worst = Ended::Drained;
        let mut ring = self.turn;
        for _ in 0..self.rings.len() {
            let desk = &mut self.rings[ring];
            // First the end, then what there is: what was published before the end is seen then.
            let end = desk.ring.end();
            if end == Some(End::Stopped) {
                desk.ring.abandon_rest();
            } else if let Some(mark) = self.gather(ring) {
                return Ok(Some(mark));
            }
            match end {
                None => alive = true,
                Some(end) => worst = worst.max(end.into()),
            }
            ring = self.after(ring);
        }
        if alive { Ok(None) } else { Err(worst) }
    }

    /// Walks the headers of one ring up to a batch's size. What nobody is shown is released at once.
    fn gather(&mut self, ring: usize) -> Option<Mark> {
        while !self.rings[ring].ring.is_empty() {
            let mut end = self.here(ring);
            let start = end.position;
            let desk = &mut self.rings[ring];
            let mut shown = false;
            let mut walk = Walk::new(desk.ring.readable());
            let mut ended_early = false;
            for (at, header, payload) in walk.by_ref() {
                let past = at + header.record_len();
                let is_shown = !matches!(header.kind, Kind::Time | Kind::Padding);
                if shown && is_shown && past > self.batch_max {
                    ended_early = true;
                    break;
                }
                desk.peers.apply(end.position, &header, payload);
                shown |= is_shown;
                match header.kind {
                    Kind::Time => end.time = header.id,
                    Kind::Data => end.delivered += (payload.len() - end.taken) as u64,
                    _ => {}
                }
                end.taken = 0;
                end.position = start + past as u64;
            }
            assert!(
                ended_early || walk.left() == 0,
                "no record where one begins: a bug of fanin"
            );
            if shown {
                return Some(end);
            }
            let turn = self.turn;
            self.release(end);
            self.turn = turn;
        }
        None
    }

    fn look_or_register(&mut self, whom: impl FnOnce() -> Waker) -> Result<Option<Mark>, Ended> {
        match self.look() {
            Ok(None) => self.register(whom()),
            found => found,
        }
    }

    /// It is to be woken from now on, unless a last look finds something.
    fn register(&mut self, whom: Waker) -> Result<Option<Mark>, Ended> {
        self.parked.prepare(whom);
        let found = self.look();
        if !matches!(found, Ok(None)) {
            self.parked.cancel();
        }
        found
    }

    fn sleep_until(&mut self, deadline: Option<Instant>) -> Result<Option<Mark>, Ended> {
        let mut found = self.look();
        while matches!(found, Ok(None)) {
            found = self.register(this_thread());
            if !matches!(found, Ok(None)) {
                break;
            }
            // A token left over from elsewhere ends this early: then it looks again, and parks again.
            match deadline.map(|at| at.saturating_duration_since(Instant::now())) {
                None => thread::park(),
                Some(Duration::ZERO) => {
                    self.parked.cancel();
                    return Ok(None);
                }
                Some(left) => thread::park_timeout(left),
            }
            found = self.look();
        }
        found
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("index", &self.index)
            .field("rings", &self.rings.len())
            .finish_non_exhaustive()
    }
}
