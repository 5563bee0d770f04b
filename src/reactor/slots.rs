//! The connections of one reactor, and the queues that run through them.
//!
//! In: streams that were accepted. Out: slots by key, generation checked. Never here: what is done with
//! them.

use std::ops::{Index, IndexMut};
use std::time::Duration;

use slab::Slab;

use super::lane::Mark;
use super::staging::{PartKey, Staging};
use super::wheel::{Link, Links, NONE};
use crate::books::Gap;
use crate::close::{DiscardReason, PauseCause};
use crate::conn::{Conn, Tick};
use crate::net::{MioStream, Token};
use crate::peer::Peer;
use crate::ring::record::PackedPeer;
use crate::status::Pauses;

/// Which queue a slot stands in; it stands in one at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Nowhere,
    /// At rest, where the longest at rest makes room at the limit.
    Resting,
    /// The FIFO of its ring: it has bytes, or `Closed`, to publish.
    Ring,
    /// With its ring, until that has room: it has only a gap, or its end, to tell.
    Owing,
    /// Until staging has room.
    Staging,
    /// Until the bucket of its listener or its source has something for it.
    Rate,
    /// Read into scratch and counted, until its peer has finished.
    Lingering,
    /// Ended; the slot is free at the end of this turn.
    Dead,
}

/// What is known of the bytes that the kernel holds for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// Read to its end: the next byte raises an edge.
    Drained,
    /// An edge came, and has not been read to its end.
    Ready,
    /// The same, and it is watched for hang-ups alone until it is drained.
    Unwatched,
}

/// A connection with all that the reactor keeps for it: two lines of the cache.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Slot<S> {
    pub(crate) conn: Conn,
    /// `None` once it is closed.
    pub(crate) stream: Option<S>,
    pub(crate) generation: u32,
    pub(crate) place: Place,
    pub(crate) readiness: Readiness,
    pub(crate) consumer: u8,
    pub(crate) listener: u8,
    pub(crate) part: PartKey,
    prev: u32,
    next: u32,
    pub(crate) queued_at: Tick,
    wheel: Link,
    /// The ring's clock of blocked time when it joined the FIFO, or was booked last.
    pub(crate) blocked_mark: Mark,
    peer: PackedPeer,
}

const _: () = assert!(size_of::<Slot<MioStream>>() == 128);
/// A slab's entry is a slot or the next free place; this is one like it.
const _: () = assert!(size_of::<Result<Slot<MioStream>, usize>>() == 128);

impl<S> Slot<S> {
    pub(crate) fn new(conn: Conn, stream: S, generation: u32, peer: Peer) -> Self {
        Self {
            conn,
            stream: Some(stream),
            generation,
            place: Place::Nowhere,
            readiness: Readiness::Drained,
            consumer: 0,
            listener: 0,
            part: NONE,
            prev: NONE,
            next: NONE,
            queued_at: 0,
            wheel: Link::default(),
            blocked_mark: 0,
            peer: PackedPeer::pack(peer),
        }
    }

    pub(crate) fn peer(&self) -> Peer {
        self.peer.unpack().expect("it was packed from a peer")
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.readiness != Readiness::Drained
    }

    /// There may be something to be read.
    pub(crate) fn mark_ready(&mut self) {
        if self.readiness == Readiness::Drained {
            self.readiness = Readiness::Ready;
        }
    }

    /// Puts the beginning of a message into staging, or more of it. Returns how many bytes were copied.
    pub(crate) fn stage(&mut self, key: u32, bytes: &[u8], staging: &mut Staging) -> usize {
        if bytes.is_empty() {
            return 0;
        }
        let (part, moved) = staging.append(self.part, key, self.consumer, bytes);
        self.part = part;
        bytes.len() + moved
    }

    /// Gives back what it has in staging, if anything.
    pub(crate) fn unstage(&mut self, staging: &mut Staging) {
        let part = std::mem::replace(&mut self.part, NONE);
        if part != NONE {
            staging.release(part);
        }
    }

    pub(crate) fn add_pause(&mut self, cause: PauseCause, time: Duration) {
        self.conn.more().add_pause(cause, time.as_micros() as u64);
    }

    /// Bytes that the kernel held when it was closed.
    pub(crate) fn unread(&self) -> u64 {
        self.conn.seldom().map_or(0, |more| more.unread)
    }

    /// Did the kernel certainly hold nothing when it was closed?
    pub(crate) fn was_drained(&self) -> bool {
        let more = self.conn.seldom();
        more.is_none_or(|more| more.unread == 0 && !more.is_unread_unknown)
    }

    /// A gap that there is no room to tell, or nobody yet. Gaps of several reasons are one by then: the first one's, or
    /// that of a full ring, without which each of the others would have been told by itself.
    pub(crate) fn owe_gap(&mut self, gap: Gap) {
        match &mut self.conn.more().gap {
            Some(owed) => {
                if gap.reason == DiscardReason::RingFull {
                    owed.reason = gap.reason;
                }
                owed.grow(gap);
            }
            none => *none = Some(gap),
        }
    }

    pub(crate) fn take_gap(&mut self) -> Option<Gap> {
        self.gap()?;
        self.conn.more().gap.take()
    }

    pub(crate) fn gap(&self) -> Option<Gap> {
        self.conn.seldom()?.gap
    }

    /// Has it a gap that could be told now? One whose message goes on is told with its end.
    pub(crate) fn owes(&self) -> bool {
        self.gap().is_some() && !self.conn.partial().is_skipping() && !self.conn.is_discarding()
    }

    pub(crate) fn wheel_tick(&self) -> Option<Tick> {
        self.wheel.tick()
    }

    /// Pauses that have ended.
    pub(crate) fn pauses(&self, cause: PauseCause) -> Pauses {
        let more = self.conn.seldom();
        let (count, micros) = more.map_or((0, 0), |more| more.pauses(cause));
        Pauses {
            count: count.into(),
            time: Duration::from_micros(micros),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Slots<S> {
    slab: Slab<Slot<S>>,
    /// Those of the slab that were ever taken, many of which may be free again.
    entries: u32,
    generation: u32,
}

/// What a turn finds in a slab that is gone through in slices.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    pub(crate) keys: Vec<u32>,
    /// Where to go on, if there is more.
    pub(crate) next: Option<u32>,
    /// How many more could have been found.
    pub(crate) left: usize,
}

/// To find so many entries free takes as long as to do something for one that is not.
const FREE_FOR_ONE: usize = 32;

/// At most so many of a slab's first `entries`, from `from` on, as `find` finds them. What is free is looked at,
/// too: after a peak nearly all is, and a turn is as long as what it looks at.
pub(crate) fn slice(
    from: u32,
    most: usize,
    entries: u32,
    find: impl Fn(u32) -> Option<u32>,
) -> Slice {
    let (mut keys, mut at) = (Vec::new(), from);
    let mut left = most.saturating_mul(FREE_FOR_ONE);
    while at < entries && left > 0 {
        if let Some(key) = find(at) {
            keys.push(key);
            left = left.saturating_sub(FREE_FOR_ONE);
        } else {
            left -= 1;
        }
        at += 1;
    }
    Slice {
        keys,
        next: (at < entries).then_some(at),
        left: left / FREE_FOR_ONE,
    }
}

impl<S> Slots<S> {
    pub(crate) fn new() -> Self {
        Self {
            slab: Slab::new(),
            entries: 0,
            generation: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    /// The next connection's key and generation. 0 is no generation: tokens of listeners have it.
    pub(crate) fn next(&mut self) -> (u32, u32) {
        self.generation = self.generation.wrapping_add(1).max(1);
        (self.slab.vacant_key() as u32, self.generation)
    }

    /// That of the last connection that came.
    pub(crate) fn generation(&self) -> u32 {
        self.generation
    }

    pub(crate) fn insert(&mut self, slot: Slot<S>) -> u32 {
        let key = self.slab.insert(slot) as u32;
        self.entries = self.entries.max(key + 1);
        key
    }

    pub(crate) fn remove(&mut self, key: u32) -> Slot<S> {
        self.slab.remove(key as usize)
    }

    /// The slot that a token means, if its connection still is the one there.
    pub(crate) fn find(&self, token: Token) -> Option<u32> {
        let key = token.0 as u32;
        let slot = self.slab.get(key as usize)?;
        (slot.generation == (token.0 >> 32) as u32).then_some(key)
    }

    /// At most so many, from `from` on.
    pub(crate) fn slice(&self, from: u32, most: usize) -> Slice {
        let find = |key| self.slab.contains(key as usize).then_some(key);
        slice(from, most, self.entries, find)
    }

    pub(crate) fn all(&self) -> Vec<u32> {
        self.slice(0, usize::MAX).keys
    }
}

pub(crate) fn token(generation: u32, key: u32) -> Token {
    Token(u64::from(generation) << 32 | u64::from(key))
}

impl<S> Index<u32> for Slots<S> {
    type Output = Slot<S>;
    fn index(&self, key: u32) -> &Slot<S> {
        &self.slab[key as usize]
    }
}

impl<S> IndexMut<u32> for Slots<S> {
    fn index_mut(&mut self, key: u32) -> &mut Slot<S> {
        &mut self.slab[key as usize]
    }
}

#[cfg(feature = "sim")]
impl<S> super::wheel::Linked for Slots<S> {
    fn linked(&self, slot: u32) -> Link {
        self.slab[slot as usize].wheel
    }
}

impl<S> Links for Slots<S> {
    fn link(&mut self, slot: u32) -> &mut Link {
        &mut self.slab[slot as usize].wheel
    }
}

/// A queue through the slots: in at the tail, out anywhere, all in O(1).
#[derive(Debug)]
pub(crate) struct Fifo {
    head: u32,
    tail: u32,
    place: Place,
}

impl Fifo {
    pub(crate) fn new(place: Place) -> Self {
        Self {
            head: NONE,
            tail: NONE,
            place,
        }
    }

    pub(crate) fn head(&self) -> Option<u32> {
        (self.head != NONE).then_some(self.head)
    }

    pub(crate) fn tail(&self) -> Option<u32> {
        (self.tail != NONE).then_some(self.tail)
    }

    /// Who stands before this one, which is in it.
    pub(crate) fn before<S>(&self, slots: &Slots<S>, key: u32) -> Option<u32> {
        Some(slots[key].prev).filter(|prev| *prev != NONE)
    }

    /// From the head on.
    pub(crate) fn iter<'s, S>(&self, slots: &'s Slots<S>) -> impl Iterator<Item = u32> + 's {
        let next = |key: &u32| Some(slots[*key].next).filter(|next| *next != NONE);
        std::iter::successors(self.head(), next)
    }

    /// By walking it, for those who check.
    #[cfg(feature = "sim")]
    pub(crate) fn len<S>(&self, slots: &Slots<S>) -> usize {
        let mut count = 0;
        let mut at = self.head;
        let mut before = NONE;
        while at != NONE {
            assert_eq!((slots[at].place, slots[at].prev), (self.place, before));
            (before, at) = (at, slots[at].next);
            count += 1;
        }
        assert_eq!(self.tail, before);
        count
    }

    /// Nobody stands before somebody who came earlier.
    #[cfg(feature = "sim")]
    pub(crate) fn check_order<S>(&self, slots: &Slots<S>) {
        let mut at = self.head;
        while at != NONE && slots[at].next != NONE {
            let next = slots[at].next;
            let is_later = crate::conn::has_come(slots[next].queued_at, slots[at].queued_at);
            assert!(is_later, "{at} stands before {next}, which came earlier");
            at = next;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.head == NONE
    }

    pub(crate) fn push<S>(&mut self, slots: &mut Slots<S>, key: u32) {
        let slot = &mut slots[key];
        debug_assert_eq!(
            slot.place,
            Place::Nowhere,
            "a slot stands in one queue at most"
        );
        slot.place = self.place;
        slot.prev = self.tail;
        slot.next = NONE;
        match self.tail {
            NONE => self.head = key,
            tail => slots[tail].next = key,
        }
        self.tail = key;
    }

    pub(crate) fn remove<S>(&mut self, slots: &mut Slots<S>, key: u32) {
        let slot = &mut slots[key];
        debug_assert_eq!(slot.place, self.place);
        slot.place = Place::Nowhere;
        let (prev, next) = (slot.prev, slot.next);
        match prev {
            NONE => self.head = next,
            prev => slots[prev].next = next,
        }
        match next {
            NONE => self.tail = prev,
            next => slots[next].prev = prev,
        }
    }
}
