//! A run of records on loan, and its release.

use super::Consumer;
use super::peers::Peers;
use super::record::{Messages, Record};
use crate::frame::Framing;
use crate::peer::ConnectionId;
use crate::ring::record::{Closed, Gap, Header, Kind, Walk};

/// Records of one ring on loan from it: borrowed where the reactor read them to, not copied.
///
/// They are delivered by [`Batch::release`]. A batch that is dropped, by an early `?` or a panic,
/// is not: its records come again, with the next batch. Until the release their room in the ring is
/// taken; a consumer that keeps a batch for long makes the reactor pause the connections of this
/// ring, and no others.
#[must_use = "a batch that is not released comes again"]
#[derive(Debug)]
pub struct Batch<'c> {
    pub(super) consumer: &'c mut Consumer,
    pub(super) end: Mark,
}

/// A place between records, or between the messages of one; see [`Batch::release_until`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub(super) consumer: u64,
    pub(super) ring: usize,
    /// Records before this position of the ring are done,
    pub(super) position: u64,
    /// and so many bytes of the payload of the one that begins there.
    pub(super) taken: usize,
    /// What the ring will then have delivered in all.
    pub(super) delivered: u64,
    /// The receive time that holds there.
    pub(super) time: u64,
}

#[cfg(feature = "sim")]
impl Mark {
    /// The reactor whose ring it is of.
    pub(crate) fn ring(&self) -> usize {
        self.ring
    }
}

impl Batch<'_> {
    fn left(&self) -> &[u8] {
        let ring = &self.consumer.rings[self.end.ring].ring;
        let len = self.end.position - ring.released();
        &ring.readable()[..len as usize]
    }

    /// The records, from the first that is not released.
    pub fn records(&self) -> Records<'_> {
        let desk = &self.consumer.rings[self.end.ring];
        Records {
            walk: Walk::new(self.left()),
            here: self.consumer.here(self.end.ring),
            peers: &desk.peers,
            framings: &self.consumer.framings,
        }
    }

    /// Bytes of peers in what is not released of it.
    pub fn bytes(&self) -> u64 {
        let ring = &self.consumer.rings[self.end.ring].ring;
        self.end.delivered.saturating_sub(ring.delivered())
    }

    /// All of it is delivered: its room goes back to the reactor, which is woken if it waits for it.
    pub fn release(self) {
        self.consumer.release(self.end);
    }

    /// What comes before `mark` is delivered; the rest is still in this batch, and if the batch is
    /// dropped, it comes again. A mark that was passed already does nothing.
    ///
    /// # Panics
    ///
    /// When the mark was made by another consumer or for another ring.
    pub fn release_until(&mut self, mark: Mark) {
        assert!(
            mark.consumer == self.consumer.serial && mark.ring == self.end.ring,
            "a mark of another batch's ring"
        );
        // A mark from an earlier loan of the same records may lie behind this batch's end.
        if mark.position > self.end.position {
            self.end = mark;
        }
        self.consumer.release(mark);
    }
}

/// The records of a [`Batch`], in order.
#[derive(Clone)]
pub struct Records<'b> {
    walk: Walk<'b>,
    here: Mark,
    peers: &'b Peers,
    framings: &'b [Framing],
}

impl Records<'_> {
    /// Everything that this iterator has given so far, for [`Batch::release_until`].
    pub fn mark_here(&self) -> Mark {
        self.here
    }
}

impl<'b> Records<'b> {
    /// A record that is not of messages. Not inlined: those are most, and would pay for these.
    #[inline(never)]
    fn event(&self, header: Header, payload: &[u8]) -> Record<'b> {
        let who = ConnectionId::from_u64(header.id);
        let from = self.peers.know(who);
        let peer = from.peer();
        match header.kind {
            Kind::Opened => Record::Opened {
                who,
                peer,
                listener: from.listener(),
                framing: from.framing(self.framings).clone(),
            },
            Kind::Gap => {
                let gap = Gap::decode(payload).expect("our producer wrote a whole Gap");
                Record::Gap {
                    who,
                    peer,
                    reason: gap.reason,
                    bytes: gap.bytes,
                    messages: gap.messages,
                }
            }
            Kind::Closed => {
                let closed = Closed::decode(payload).expect("our producer wrote a whole Closed");
                Record::Closed {
                    who,
                    peer,
                    reason: closed.reason,
                    books: closed.books,
                }
            }
            Kind::Data | Kind::Time | Kind::Padding => unreachable!("not an event"),
        }
    }
}

impl<'b> Iterator for Records<'b> {
    type Item = Record<'b>;

    fn next(&mut self) -> Option<Record<'b>> {
        while let Some((_, header, payload)) = self.walk.next() {
            let before = self.here;
            self.here.position += header.record_len() as u64;
            self.here.taken = 0;
            match header.kind {
                Kind::Padding => {}
                Kind::Time => self.here.time = header.id,
                Kind::Data => {
                    let raw = &payload[before.taken..];
                    self.here.delivered += raw.len() as u64;
                    let who = ConnectionId::from_u64(header.id);
                    return Some(Record::Messages(Messages {
                        raw,
                        who,
                        from: self.peers.know(who),
                        flags: header.flags,
                        framings: self.framings,
                        before,
                    }));
                }
                Kind::Opened | Kind::Gap | Kind::Closed => {
                    return Some(self.event(header, payload));
                }
            }
        }
        assert_eq!(
            self.walk.left(),
            0,
            "no record where one begins: a bug of fanin"
        );
        None
    }
}

impl std::fmt::Debug for Records<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records")
            .field("here", &self.here)
            .finish_non_exhaustive()
    }
}
