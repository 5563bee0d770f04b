//! Who the connections of one ring are: what their `Opened` records said.
//!
//! In: the headers of a run that is about to become a batch; releases. Out: a peer for a name.
//! Never here: a lock; each consumer keeps its own tables.

use std::collections::{HashMap, VecDeque};
use std::fmt;

use crate::frame::Framing;
use crate::peer::{ConnectionId, Peer};
use crate::ring::record::{Header, Kind, Opened, PackedPeer};

/// A connection, packed: a table of these is a term of the memory bound.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    address: [u8; 16],
    generation: u32,
    port: [u8; 2],
    listener: u8,
    /// Bits 0 to 3: the settled framing. Bits 4 and 5: the kind of peer, 0 for a slot not seen yet.
    /// Bit 7: its `Closed` was released.
    kind: u8,
}

const _: () = assert!(size_of::<Entry>() == 24);
const RELEASED: u8 = 0x80;

impl Entry {
    const VACANT: Self = Self {
        address: [0; 16],
        generation: 0,
        port: [0; 2],
        listener: 0,
        kind: 0,
    };

    fn is_vacant(self) -> bool {
        self.kind & 0x30 == 0
    }

    pub(super) fn peer(&self) -> Peer {
        let packed = PackedPeer {
            address: self.address,
            port: self.port,
            kind: self.kind >> 4 & 3,
        };
        packed.unpack().expect("packed when it was opened")
    }

    pub(super) fn listener(&self) -> usize {
        usize::from(self.listener)
    }

    /// What its listener's framing became; `listeners` has the framing of each.
    pub(super) fn framing<'f>(&self, listeners: &'f [Framing]) -> &'f Framing {
        listeners
            .get(self.listener())
            .and_then(|listener| Framing::from_code(self.kind & 0x0f, listener))
            .unwrap_or(&Framing::Line)
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("peer", &self.peer())
            .field("listener", &self.listener)
            .finish_non_exhaustive()
    }
}

/// What a release has to do when it passes a position.
struct Due {
    position: u64,
    id: ConnectionId,
    what: What,
}

enum What {
    /// The connection's `Closed` ends here.
    Closed,
    /// Another connection took the slot here: nothing behind this speaks of the old one.
    Displaced,
}

pub(super) struct Peers {
    table: Vec<Entry>,
    /// Former tenants of slots that were taken again in records that are not released yet: a batch
    /// may hold both. Not a list: with short connections a batch holds thousands of them.
    displaced: HashMap<ConnectionId, Entry>,
    /// In the order of positions.
    due: VecDeque<Due>,
    /// Records before this position have been applied; a batch that comes again is not applied again.
    applied: u64,
}

impl Peers {
    pub(super) fn new(slots: usize) -> Self {
        Self {
            table: Vec::with_capacity(slots),
            displaced: HashMap::new(),
            due: VecDeque::new(),
            applied: 0,
        }
    }

    /// A record that is about to be shown: `position` is where it begins.
    pub(super) fn apply(&mut self, position: u64, header: &Header, payload: &[u8]) {
        if position < self.applied {
            return;
        }
        let end = position + header.record_len() as u64;
        self.applied = end;
        let id = ConnectionId::from_u64(header.id);
        match header.kind {
            Kind::Opened => {
                let opened = Opened::decode(payload).expect("our producer wrote a whole Opened");
                self.open(position, id, opened);
            }
            Kind::Closed => self.due.push_back(Due {
                position: end,
                id,
                what: What::Closed,
            }),
            _ => {}
        }
    }

    fn open(&mut self, position: u64, id: ConnectionId, opened: Opened) {
        let slot = id.slot() as usize;
        if slot >= self.table.len() {
            self.table.resize(slot + 1, Entry::VACANT);
        }
        let packed = PackedPeer::pack(opened.peer);
        let new = Entry {
            address: packed.address,
            generation: id.generation(),
            port: packed.port,
            listener: opened.listener,
            kind: opened.framing & 0x0f | packed.kind << 4,
        };
        let old = std::mem::replace(&mut self.table[slot], new);
        // One whose `Closed` was released is spoken of by no record that is still to come.
        if !old.is_vacant() && old.kind & RELEASED == 0 {
            let former = ConnectionId::new(id.reactor() as u8, old.generation, id.slot());
            self.displaced.insert(former, old);
            self.due.push_back(Due {
                position,
                id: former,
                what: What::Displaced,
            });
        }
    }

    /// Everything before `position` was released.
    pub(super) fn release(&mut self, position: u64) {
        while self.due.front().is_some_and(|due| due.position <= position) {
            let due = self.due.pop_front().expect("there is a front");
            match due.what {
                What::Displaced => {
                    self.displaced.remove(&due.id);
                }
                What::Closed => {
                    if let Some(entry) = self.find_mut(due.id) {
                        entry.kind |= RELEASED;
                    }
                }
            }
        }
    }

    fn find(&self, id: ConnectionId) -> Option<&Entry> {
        let entry = self.table.get(id.slot() as usize)?;
        if entry.generation == id.generation() && !entry.is_vacant() {
            return Some(entry);
        }
        self.displaced.get(&id)
    }

    fn find_mut(&mut self, id: ConnectionId) -> Option<&mut Entry> {
        let entry = self.table.get_mut(id.slot() as usize)?;
        if entry.generation == id.generation() && !entry.is_vacant() {
            return Some(entry);
        }
        self.displaced.get_mut(&id)
    }

    pub(super) fn know(&self, id: ConnectionId) -> &Entry {
        let Some(entry) = self.find(id) else {
            panic!("a record of connection {id}, whose Opened never came: a bug of fanin");
        };
        entry
    }

    /// Was everything of this connection released? See `Consumer::delivered`.
    pub(super) fn all_released(&self, id: ConnectionId) -> bool {
        if let Some(entry) = self.find(id) {
            return entry.kind & RELEASED != 0;
        }
        // A newer tenant: what was said of this one came before, and is released, else it were found.
        // Generations wrap after 2^32 accepts: newer is what is less than half of that ahead.
        self.table.get(id.slot() as usize).is_some_and(|entry| {
            !entry.is_vacant() && entry.generation.wrapping_sub(id.generation()) < 1 << 31
        })
    }
}
