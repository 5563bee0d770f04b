//! Lines of those who wait for a bucket that they share: one for each listener, and one for each source that
//! has a connection here.
//!
//! In: who has to wait, and time. Out: lines whose turn has come, and when the next one does. Never here: a
//! timer for everybody who waits, or a look at all lines.
//!
//! ```text
//!                somebody waits                  what it drew has come
//!   nobody ─────────────────────────► in the wheel ────────────────────► due ──► its head is called
//!      ▲                                    ▲                             │
//!      └────────────────────────────────────┴─────────────────────────────┘
//!              nobody is left                  somebody is, and draws
//! ```
//!
//! A line that nobody stands in costs nothing; that of a source goes with its last connection.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use slab::Slab;

use super::TICK;
use super::common::{Both, Common, Owner};
use super::slots::{Fifo, Place, Slots};
use super::wheel::{Link, Links, TAKEN, Wheel};
use crate::conn::Tick;
use crate::policy::ROWS;
use crate::policy::rate::Share;

/// Lines whose turn comes in one turn of the reactor.
const LINE_BUDGET: usize = 256;

/// The kinds of a limit.
pub(super) const BYTES: usize = 0;
pub(super) const MESSAGES: usize = 1;

/// What a read of somebody comes to, as far as that is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reads {
    /// Bytes of a message, and of the one that has begun.
    pub(super) mean: u32,
    pub(super) staged: u64,
    /// What the smallest read brings.
    pub(super) smallest: u64,
}

impl Reads {
    /// So much of a kind, in bytes.
    pub(super) fn bytes(self, kind: usize, n: u64) -> u64 {
        if kind == BYTES {
            return n;
        }
        let bytes = match self.mean {
            // The smallest read tells.
            0 => self.smallest,
            mean => n.saturating_mul(mean.into()),
        };
        // What is larger than all before is read in larger and larger pieces.
        bytes.max(self.staged)
    }
}

/// A bucket's part in this reactor, and who waits for it.
#[derive(Debug)]
pub(super) struct Line {
    owner: Owner,
    shares: [Share; 2],
    pub(super) waiting: Fifo,
    link: Link,
    is_due: bool,
    /// A listener's line has one that never goes.
    connections: u32,
}

/// Bytes of a line in the sum of promise 1, with its place among those that are due and its entry in the table
/// that finds it: such a table keeps an eighth free, and a byte for each.
pub(crate) const LINE_BYTES: usize =
    size_of::<Line>() + size_of::<u32>() + (size_of::<([u32; ROWS], u32)>() + 1) * 8 / 7;

/// A slab's entry is a line or the next free place; this is one like it.
const _: () = assert!(size_of::<Result<Line, usize>>() == size_of::<Line>());

impl Line {
    fn new(owner: Owner) -> Self {
        Self {
            owner,
            shares: [Share::default(); 2],
            waiting: Fifo::new(Place::Rate),
            link: Link::default(),
            is_due: false,
            connections: 0,
        }
    }

    fn settle(&mut self, limits: &Both, now: u64) {
        for (share, limit) in self.shares.iter_mut().zip(limits) {
            if let Some(limit) = limit {
                share.settle(limit, now);
            }
        }
    }

    /// How many bytes may be read now; where nobody waits, out of the common bucket too.
    fn allows(&self, limits: &Both, common: &Common, reads: Reads, now: u64) -> Option<u64> {
        let mut most = u64::MAX;
        for (kind, limit) in limits.iter().enumerate() {
            let Some(limit) = limit else { continue };
            let share = &self.shares[kind];
            let is_free = self.waiting.is_empty() && share.comes_at(limit).is_none();
            let n = match share.allows(limit) {
                None if is_free => common.of(self.owner, kind).look().allows(limit, now)?,
                other => other?,
            };
            most = most.min(reads.bytes(kind, n));
        }
        Some(most)
    }

    /// Asks the common bucket for what is lacking.
    fn draw(&mut self, limits: &Both, common: &Common, reactors: usize, now: u64) {
        for (kind, limit) in limits.iter().enumerate() {
            let Some(limit) = limit else { continue };
            let share = &mut self.shares[kind];
            if let Some(n) = share.wants(limit, reactors) {
                let bucket = common.of(self.owner, kind).take(limit, n, now);
                share.draw(limit, n, bucket, now);
            }
        }
    }

    /// When all that is lacking has come, if something is.
    fn comes_at(&self, limits: &Both) -> Option<u64> {
        let all = self.shares.iter().zip(limits);
        all.filter_map(|(share, limit)| share.comes_at(limit.as_ref()?))
            .max()
    }
}

impl Links for Slab<Line> {
    fn link(&mut self, line: u32) -> &mut Link {
        &mut self[line as usize].link
    }
}

/// What the lines of a reactor go by.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) source: Both,
    pub(super) listeners: Arc<[Both]>,
    pub(super) common: Arc<Common>,
    pub(super) reactors: usize,
}

impl Rules {
    fn limits(&self, owner: Owner) -> &Both {
        match owner {
            Owner::Listener(listener) => &self.listeners[usize::from(listener)],
            Owner::Source(_) => &self.source,
        }
    }
}

#[derive(Debug)]
pub(super) struct Lines {
    rules: Rules,
    /// Those of the listeners first.
    lines: Slab<Line>,
    of_source: HashMap<[u32; ROWS], u32>,
    wheel: Wheel,
    due: VecDeque<u32>,
}

/// The first tick that has not begun before.
pub(super) fn tick_at(nanos: u64) -> Tick {
    nanos.div_ceil(TICK.as_nanos() as u64) as Tick
}

impl Lines {
    pub(super) fn new(rules: Rules, tick: Tick) -> Self {
        let mut lines = Slab::new();
        for listener in 0..rules.listeners.len() {
            let mut line = Line::new(Owner::Listener(listener as u8));
            line.connections = 1;
            lines.insert(line);
        }
        Self {
            rules,
            lines,
            of_source: HashMap::new(),
            wheel: Wheel::new(tick),
            due: VecDeque::new(),
        }
    }

    /// The line of a listener's connections, if it has a limit.
    pub(super) fn of_listener(&self, listener: u8) -> Option<u32> {
        let limits = &self.rules.listeners[usize::from(listener)];
        limits.iter().any(Option::is_some).then(|| listener.into())
    }

    /// The line of a source that has one connection more here.
    pub(super) fn join(&mut self, numbers: [u32; ROWS]) -> u32 {
        let lines = &mut self.lines;
        let line = *self
            .of_source
            .entry(numbers)
            .or_insert_with(|| lines.insert(Line::new(Owner::Source(numbers))) as u32);
        self[line].connections += 1;
        line
    }

    /// One less.
    pub(super) fn leave(&mut self, line: u32) {
        self[line].connections -= 1;
        self.retire(line);
    }

    /// A source without a connection has no line, and has not taken what it did not use.
    fn retire(&mut self, at: u32) {
        let line = &self.lines[at as usize];
        let Owner::Source(numbers) = line.owner else {
            return;
        };
        if line.connections > 0 || line.is_due {
            return;
        }
        for (kind, limit) in self.rules.source.iter().enumerate() {
            let unused = limit.and_then(|limit| line.shares[kind].unused(&limit));
            if let Some((after, without)) = unused {
                let cells = self.rules.common.of(line.owner, kind);
                cells.set_back(after, without);
            }
        }
        self.of_source.remove(&numbers);
        self.lines.remove(at as usize);
    }

    /// How many bytes somebody may read now who stands in no line. Who `is_next` has stood at the head, and
    /// goes before those who wait. `None`: it waits, and what it waits for is on its way.
    pub(super) fn allows(&mut self, at: u32, is_next: bool, reads: Reads, now: u64) -> Option<u64> {
        let line = &mut self.lines[at as usize];
        if !is_next && !line.waiting.is_empty() {
            return None;
        }
        self.offers(at, reads, now)
    }

    /// What there is for the next one of a line; if there is nothing, more is asked for.
    pub(super) fn offers(&mut self, at: u32, reads: Reads, now: u64) -> Option<u64> {
        let Rules {
            common, reactors, ..
        } = &self.rules;
        let line = &mut self.lines[at as usize];
        let limits = self.rules.limits(line.owner);
        line.settle(limits, now);
        line.allows(limits, common, reads, now).or_else(|| {
            line.draw(limits, common, *reactors, now);
            line.allows(limits, common, reads, now)
        })
    }

    /// So much was read by somebody of this line.
    pub(super) fn take(&mut self, at: u32, taken: [u64; 2], now: u64) {
        let line = &mut self.lines[at as usize];
        let limits = self.rules.limits(line.owner);
        for (kind, limit) in limits.iter().enumerate() {
            let Some(limit) = limit else { continue };
            let rest = line.shares[kind].take(taken[kind]);
            if rest > 0 {
                let cells = self.rules.common.of(line.owner, kind);
                cells.take(limit, rest, now);
            }
        }
    }

    pub(super) fn push<S>(&mut self, slots: &mut Slots<S>, at: u32, key: u32) {
        let line = &mut self[at];
        line.waiting.push(slots, key);
        if !line.link.is_set() && !line.is_due {
            self.wait(at);
        }
    }

    pub(super) fn remove<S>(&mut self, slots: &mut Slots<S>, at: u32, key: u32) {
        let line = &mut self[at];
        line.waiting.remove(slots, key);
        if line.waiting.is_empty() {
            self.wheel.unset(&mut self.lines, at);
        }
    }

    /// Its turn comes when what its head has drawn has come; in the next turn if that is there already.
    fn wait(&mut self, at: u32) {
        let line = &mut self.lines[at as usize];
        match line.comes_at(self.rules.limits(line.owner)) {
            Some(comes) => self.wheel.set(&mut self.lines, at, tick_at(comes)),
            None => {
                line.is_due = true;
                self.due.push_back(at);
            }
        }
    }

    /// Lines whose turn has come by now. Returns how many there are.
    pub(super) fn turn(&mut self, tick: Tick) -> usize {
        let mut budget = LINE_BUDGET * TAKEN;
        while let Some(at) = self.wheel.expired(&mut self.lines, tick, &mut budget) {
            self[at].is_due = true;
            self.due.push_back(at);
        }
        self.due.len()
    }

    /// The first of them, whose turn this is. To be given back by [`Lines::rest`].
    pub(super) fn next(&mut self) -> Option<u32> {
        let line = self.due.pop_front()?;
        self[line].is_due = false;
        Some(line)
    }

    /// Its turn is over: it waits for the next one, if somebody is left.
    pub(super) fn rest(&mut self, at: u32) {
        if self[at].waiting.is_empty() {
            self.retire(at);
        } else {
            self.wait(at);
        }
    }

    pub(super) fn is_busy(&self) -> bool {
        !self.due.is_empty()
    }

    pub(super) fn next_tick(&self) -> Option<Tick> {
        self.wheel.next_tick()
    }
}

impl std::ops::Index<u32> for Lines {
    type Output = Line;
    fn index(&self, line: u32) -> &Line {
        &self.lines[line as usize]
    }
}

impl std::ops::IndexMut<u32> for Lines {
    fn index_mut(&mut self, line: u32) -> &mut Line {
        &mut self.lines[line as usize]
    }
}

#[cfg(feature = "sim")]
impl super::wheel::Linked for Slab<Line> {
    fn linked(&self, line: u32) -> Link {
        self[line as usize].link
    }
}

#[cfg(feature = "sim")]
impl Lines {
    /// Panics unless these are all the lines there are, by how many of the connections here each has and how
    /// many of them wait.
    pub(super) fn check<S>(&self, slots: &Slots<S>, all: &HashMap<u32, [usize; 2]>) {
        let mut due = 0;
        let mut set = 0;
        for (at, line) in &self.lines {
            let at = at as u32;
            let [connections, waiting] = all.get(&at).copied().unwrap_or_default();
            assert_eq!(line.waiting.len(slots), waiting, "line {at}: who waits");
            let is_called = line.link.is_set() || line.is_due;
            assert!(is_called || waiting == 0, "line {at}: nobody will call it");
            due += usize::from(line.is_due);
            set += usize::from(line.link.is_set());
            if let Owner::Source(numbers) = line.owner {
                assert_eq!(line.connections as usize, connections, "line {at}");
                assert!(connections > 0 || line.is_due, "line {at} of nobody");
                assert_eq!(self.of_source.get(&numbers), Some(&at));
            }
        }
        assert_eq!(self.due.len(), due, "lines that are due");
        assert_eq!(self.wheel.check(&self.lines), set, "lines in the wheel");
        let sources = self.lines.len() - self.rules.listeners.len();
        assert_eq!(self.of_source.len(), sources);
    }

    /// When the next one of a line is to be called, as its bucket has it: the next tick from now on.
    pub(super) fn goes_on_at(&self, at: u32, now: u64) -> std::time::Duration {
        let line = &self[at];
        let comes = line.comes_at(self.rules.limits(line.owner));
        let tick = TICK.as_nanos() as u64;
        let at = comes.unwrap_or(0).max(now).div_ceil(tick);
        std::time::Duration::from_nanos(at * tick)
    }
}
