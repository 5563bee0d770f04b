//! Deadlines: one hierarchical wheel a reactor, one entry a connection.
//!
//! In: a slot and the tick at which it wants to be looked at. Out: slots whose tick has come.
//! Never here: an allocation, or what the deadline is for.
//!
//! Three levels of 256 buckets, a tick of 8 ms: 2 s, 9 min, 37 h. A longer deadline waits in the last
//! level and is set again. Entries are linked through the slots, so that moving one is O(1). A bit for each
//! bucket says whether it holds somebody: a reactor asks before each sleep when the next tick is due.

use crate::conn::has_come;

/// No slot.
pub(crate) const NONE: u32 = u32::MAX;

/// What it costs of a budget to take a slot out; to bring one nearer, which is a few links, costs 1.
pub(crate) const TAKEN: usize = 8;

const LEVELS: usize = 3;
const BUCKETS: usize = 256;
/// A link whose `prev` has this bit is the first of the bucket in the other bits.
const FIRST: u32 = 1 << 31;

/// A slot's place in the wheel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    prev: u32,
    next: u32,
    /// The tick it is set to, while it is set.
    tick: u32,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            prev: NONE,
            next: NONE,
            tick: 0,
        }
    }
}

impl Link {
    pub(crate) fn is_set(&self) -> bool {
        self.prev != NONE
    }

    pub(crate) fn tick(&self) -> Option<u32> {
        self.is_set().then_some(self.tick)
    }
}

/// Where the links are kept.
pub(crate) trait Links {
    fn link(&mut self, slot: u32) -> &mut Link;
}

/// Which buckets of a level hold somebody.
#[derive(Clone, Copy, Debug, Default)]
struct Level([u64; BUCKETS / 64]);

impl Level {
    fn holds(&self, bucket: u32) -> bool {
        self.0[bucket as usize / 64] >> (bucket % 64) & 1 == 1
    }

    fn note(&mut self, bucket: u32, holds: bool) {
        let (word, bit) = (&mut self.0[bucket as usize / 64], 1 << (bucket % 64));
        *word = if holds { *word | bit } else { *word & !bit };
    }

    /// How far the first one is from `bucket`, round the level.
    fn ahead(&self, bucket: u32) -> Option<u32> {
        let (word, bit) = (bucket as usize / 64, bucket % 64);
        let rest = self.0[word] >> bit;
        if rest != 0 {
            return Some(rest.trailing_zeros());
        }
        (1..=self.0.len()).find_map(|n| {
            let next = self.0[(word + n) % self.0.len()];
            (next != 0).then(|| 64 * n as u32 - bit + next.trailing_zeros())
        })
    }
}

#[derive(Debug)]
pub(crate) struct Wheel {
    heads: Box<[u32; LEVELS * BUCKETS]>,
    levels: [Level; LEVELS],
    /// The next tick to be handled.
    tick: u32,
    /// The tick at which to look again, which is asked for before each sleep.
    next: Option<u32>,
}

impl Wheel {
    pub(crate) fn new(now: u32) -> Self {
        Self {
            heads: Box::new([NONE; LEVELS * BUCKETS]),
            levels: [Level::default(); LEVELS],
            tick: now,
            next: None,
        }
    }

    /// Sets `slot` to `tick`, wherever it was set before. A tick that has passed is the next one.
    pub(crate) fn set(&mut self, links: &mut impl Links, slot: u32, tick: u32) {
        self.unset(links, slot);
        let tick = if has_come(self.tick, tick) {
            self.tick
        } else {
            tick
        };
        let distance = tick.wrapping_sub(self.tick);
        let bucket = match distance {
            0..0x100 => tick & 0xff,
            0x100..0x1_0000 => 0x100 | (tick >> 8) & 0xff,
            0x1_0000..0x100_0000 => 0x200 | (tick >> 16) & 0xff,
            // As far as the wheel reaches; it is set again from there.
            _ => 0x200 | (self.tick.wrapping_add(0xff_0000) >> 16) & 0xff,
        };
        let head = self.heads[bucket as usize];
        *links.link(slot) = Link {
            prev: FIRST | bucket,
            next: head,
            tick,
        };
        if head != NONE {
            links.link(head).prev = slot;
        }
        self.set_head(bucket, slot);
        let turn = self.turns_at(bucket);
        if self.next.is_none_or(|next| has_come(next, turn)) {
            self.next = Some(turn);
        }
    }

    pub(crate) fn unset(&mut self, links: &mut impl Links, slot: u32) {
        let link = *links.link(slot);
        if !link.is_set() {
            return;
        }
        if link.prev & FIRST != 0 {
            self.set_head(link.prev & !FIRST, link.next);
        } else {
            links.link(link.prev).next = link.next;
        }
        if link.next != NONE {
            links.link(link.next).prev = link.prev;
        }
        *links.link(slot) = Link::default();
    }

    /// When it is empty, another one may be the next.
    fn set_head(&mut self, bucket: u32, slot: u32) {
        self.heads[bucket as usize] = slot;
        self.levels[bucket as usize / BUCKETS].note(bucket & 0xff, slot != NONE);
        if slot == NONE {
            self.next = self.search();
        }
    }

    /// Takes a slot whose tick is at most `now`, and unsets it. That costs [`TAKEN`] of `budget`, and each one that is
    /// brought down to where it belongs 1. When that is spent, the next tick is still the same.
    pub(crate) fn expired(
        &mut self,
        links: &mut impl Links,
        now: u32,
        budget: &mut usize,
    ) -> Option<u32> {
        while let Some(next) = self.next.filter(|next| has_come(now, *next)) {
            self.tick = next;
            while let Some(slot) = self.turning() {
                *budget = budget.checked_sub(1)?;
                let tick = links.link(slot).tick;
                self.set(links, slot, tick);
            }
            let head = self.heads[(self.tick & 0xff) as usize];
            if head != NONE {
                *budget = budget.checked_sub(TAKEN)?;
                self.unset(links, head);
                return Some(head);
            }
            self.tick = next.wrapping_add(1);
            self.next = self.search();
        }
        // Nothing is passed by on the way.
        if has_come(now, self.tick) {
            self.tick = now.wrapping_add(1);
        }
        None
    }

    /// The first entry of a bucket above that turns at this tick. Whoever is set meanwhile goes into another one:
    /// this one is a whole round of its level away.
    fn turning(&self) -> Option<u32> {
        if self.tick & 0xff != 0 {
            return None;
        }
        let middle = self.heads[(0x100 | (self.tick >> 8) & 0xff) as usize];
        let high = match self.tick & 0xffff {
            0 => self.heads[(0x200 | (self.tick >> 16) & 0xff) as usize],
            _ => NONE,
        };
        [middle, high].into_iter().find(|slot| *slot != NONE)
    }

    /// A tick at which to look again; `None`: nothing is set. Exact within 2 s, else when a level turns.
    pub(crate) fn next_tick(&self) -> Option<u32> {
        self.next
    }

    fn search(&self) -> Option<u32> {
        // The rest of this round of the lowest level, then whole buckets above.
        let round_end = (self.tick | 0xff).wrapping_add(1);
        let turning = self.tick & 0xff == 0;
        if turning && self.any_above(self.tick) {
            return Some(self.tick);
        }
        let [low, middle, high] = &self.levels;
        if let Some(ahead) = low.ahead(self.tick & 0xff) {
            let tick = self.tick.wrapping_add(ahead);
            // Beyond this round, the turn of the level comes first.
            let beyond = has_come(tick, round_end) && self.any_above(round_end);
            return Some(if beyond { round_end } else { tick });
        }
        // What the last level turns next comes before what is beyond it.
        let last = (self.tick | 0xffff).wrapping_add(1);
        let Some(ahead) = middle.ahead(round_end >> 8 & 0xff) else {
            return high.ahead(0).map(|_| last);
        };
        let turn = round_end.wrapping_add(ahead << 8);
        let beyond = has_come(turn, last) && self.any_above(last);
        Some(if beyond { last } else { turn })
    }

    /// The next tick at which a bucket is emptied.
    fn turns_at(&self, bucket: u32) -> u32 {
        let shift = 8 * (bucket / 0x100);
        let unit = 1u32 << shift;
        // This tick is still to be handled.
        let first = self.tick.wrapping_add(unit - 1) >> shift;
        let first = first & (u32::MAX >> shift);
        let ahead = (bucket & 0xff).wrapping_sub(first) & 0xff;
        (first.wrapping_add(ahead)) << shift
    }

    /// Would the turn of the levels at `turn` bring anything down?
    fn any_above(&self, turn: u32) -> bool {
        let [_, middle, high] = &self.levels;
        middle.holds(turn >> 8 & 0xff) || turn & 0xffff == 0 && high.holds(turn >> 16 & 0xff)
    }
}

/// Links that are only looked at.
#[cfg(feature = "sim")]
pub(crate) trait Linked {
    fn linked(&self, slot: u32) -> Link;
}

#[cfg(feature = "sim")]
impl Wheel {
    /// Every entry is linked both ways, and in a bucket that is turned in time. Returns how many there are.
    pub(crate) fn check(&self, links: &impl Linked) -> usize {
        let mut set = 0;
        for (bucket, head) in self.heads.iter().enumerate() {
            let holds = self.levels[bucket / BUCKETS].holds(bucket as u32 & 0xff);
            assert_eq!(holds, *head != NONE, "the bit of bucket {bucket}");
            let (mut at, mut before) = (*head, FIRST | bucket as u32);
            while at != NONE {
                let link = links.linked(at);
                assert_eq!(link.prev, before, "{at} in bucket {bucket}");
                let turns = self.turns_at(bucket as u32);
                assert!(
                    has_come(link.tick, turns),
                    "{at}: due at {}, its bucket {bucket} turns at {turns}, now {}",
                    link.tick,
                    self.tick
                );
                (before, at) = (at, link.next);
                set += 1;
            }
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl Links for Vec<Link> {
        fn link(&mut self, slot: u32) -> &mut Link {
            &mut self[slot as usize]
        }
    }

    fn expired_at(wheel: &mut Wheel, links: &mut Vec<Link>, now: u32) -> Vec<u32> {
        let mut budget = usize::MAX;
        let mut all: Vec<_> =
            std::iter::from_fn(|| wheel.expired(links, now, &mut budget)).collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn a_deadline_fires_at_its_tick_on_every_level() {
        for start in [0, 1, 255, 256, 0xffff, 0x1_0000, u32::MAX - 3] {
            for delay in [
                0, 1, 255, 256, 257, 65_535, 65_536, 70_000, 0xff_ffff, 0x200_0000,
            ] {
                let mut links = vec![Link::default(); 1];
                let mut wheel = Wheel::new(start);
                let due = start.wrapping_add(delay);
                wheel.set(&mut links, 0, due);
                if delay > 0 {
                    let early = expired_at(&mut wheel, &mut links, due.wrapping_sub(1));
                    assert_eq!(early, [], "start {start} delay {delay}");
                }
                assert_eq!(
                    expired_at(&mut wheel, &mut links, due),
                    [0],
                    "start {start} delay {delay}"
                );
            }
        }
    }

    #[test]
    fn a_sleep_ends_where_the_last_level_turns() {
        let mut links = vec![Link::default(); 1];
        // All before this turn of the last level is handled.
        let mut wheel = Wheel::new(0xff00);
        wheel.set(&mut links, 0, 0x1_ff00);
        assert_eq!(expired_at(&mut wheel, &mut links, 0xffff), []);
        assert_eq!(wheel.next_tick(), Some(0x1_0000));
    }

    #[test]
    fn a_bucket_that_turns_is_brought_down_in_slices() {
        let mut links = vec![Link::default(); 1005];
        let mut wheel = Wheel::new(1);
        for slot in 0..1005 {
            wheel.set(&mut links, slot, 0x1_2345);
        }
        // From the last level, and from the one below it.
        for turn in [0x1_0000, 0x1_2300] {
            let mut left = 0;
            for _ in 0..101 {
                assert_eq!((wheel.next_tick(), left), (Some(turn), 0));
                left = 10;
                assert_eq!(wheel.expired(&mut links, turn, &mut left), None);
            }
            assert_eq!(left, 5);
        }
        assert_eq!(wheel.next_tick(), Some(0x1_2345));
    }

    proptest! {
        /// Against a list that is searched: the same slots in the same ticks, and never a sleep past one.
        #[test]
        fn the_wheel_is_a_list_of_deadlines(
            start in any::<u32>(),
            steps in prop::collection::vec(
                (
                    0u32..20,
                    prop_oneof![0u32..3, 0u32..300, 0u32..100_000],
                    prop_oneof![0u32..3, 0u32..3_000],
                ),
                1..60,
            ),
        ) {
            let mut links = vec![Link::default(); 20];
            let mut wheel = Wheel::new(start);
            let mut list: Vec<Option<u64>> = vec![None; 20];
            let (mut now, mut handled_to) = (0u64, 0u64);
            for (slot, delay, pass) in steps {
                let due = now + u64::from(delay);
                wheel.set(&mut links, slot, start.wrapping_add(due as u32));
                // What is due in a tick that was handled fires in the next one.
                list[slot as usize] = Some(due.max(handled_to));
                let earliest = list.iter().flatten().min().copied().unwrap();
                let next = wheel.next_tick().expect("something is set");
                prop_assert!(u64::from(next.wrapping_sub(start)) <= earliest.max(now + 1), "sleeps past a deadline");
                now += u64::from(pass);
                let fired = expired_at(&mut wheel, &mut links, start.wrapping_add(now as u32));
                handled_to = now + 1;
                let mut due = Vec::new();
                for (slot, at) in list.iter_mut().enumerate() {
                    if at.is_some_and(|at| at <= now) {
                        due.push(slot as u32);
                        *at = None;
                    }
                }
                prop_assert_eq!(fired, due);
            }
        }

        /// With too small a budget in each turn, and slots that are set and unset meanwhile: nobody is taken early or
        /// twice, none is slept past, and in the end all have been taken.
        #[test]
        fn a_turn_without_the_budget_leaves_the_rest_to_the_next(
            start in any::<u32>(),
            steps in prop::collection::vec(
                (
                    0u32..20,
                    prop_oneof![0u32..3, 0u32..300, 0u32..100_000],
                    prop_oneof![Just(0u32), 0u32..3, 0u32..3_000, 60_000u32..70_000],
                    0u32..20,
                    0usize..3 * TAKEN,
                ),
                1..100,
            ),
        ) {
            let mut links = vec![Link::default(); 20];
            let mut wheel = Wheel::new(start);
            let mut list: Vec<Option<u64>> = vec![None; 20];
            let mut now = 0;
            for (slot, delay, pass, unset, mut budget) in steps {
                wheel.unset(&mut links, unset);
                list[unset as usize] = None;
                let due = now + u64::from(delay);
                wheel.set(&mut links, slot, start.wrapping_add(due as u32));
                // One that has passed is the next that is handled.
                let handled = u64::from(wheel.tick.wrapping_sub(start));
                list[slot as usize] = Some(due.max(handled));
                now += u64::from(pass);
                let tick = start.wrapping_add(now as u32);
                while let Some(slot) = wheel.expired(&mut links, tick, &mut budget) {
                    let due = list[slot as usize].take();
                    prop_assert!(due.is_some_and(|due| due <= now), "{slot} {due:?} at {now}");
                }
                if list.iter().flatten().any(|due| *due <= now) {
                    prop_assert!(wheel.next_tick().is_some_and(|next| has_come(tick, next)));
                }
            }
            let rest = expired_at(&mut wheel, &mut links, start.wrapping_add(now as u32 + 100_000));
            let left = (0..20).filter(|slot| list[*slot as usize].is_some());
            prop_assert_eq!(rest, left.collect::<Vec<_>>());
        }
    }
}
