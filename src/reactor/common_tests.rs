//! Buckets that are shared: what becomes of those who take at the same time, what is given back, and how
//! seldom somebody waits for what others took.

use std::time::Duration;

use super::*;
use crate::policy::rate::Share;
use crate::policy::{Seed, Source};
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);
const MS: u64 = 1_000_000;

fn limit() -> Limit {
    Limit::bytes(1_000_000, SECOND)
}

fn of_sources(max_connections: usize) -> Common {
    Common::new(1, &[Some(limit()), None], max_connections)
}

fn user(uid: u32) -> Owner {
    Owner::Source(Seed::new([7, 11]).numbers(Source::User(uid)))
}

#[test]
fn there_is_a_table_for_each_limit_and_none_for_what_is_off() {
    let common = of_sources(10_000);
    let cells = common.sources.each_ref().map(|table| {
        let table = table.as_ref();
        table.map_or(0, |table| table.cells.len() * size_of::<AtomicU64>())
    });
    assert_eq!(cells, [table_bytes(10_000), 0]);
    assert_eq!(table_bytes(10_000), 4 * 131_072 * 8);
    assert_eq!(table_bytes(1), 4 * 65_536 * 8);
}

#[test]
fn a_source_takes_out_of_its_own_bucket_and_out_of_no_others() {
    let common = of_sources(100);
    let (one, other) = (common.of(user(1), 0), common.of(user(2), 0));
    one.take(&limit(), 1_000_000, 0);
    assert_eq!(one.look().allows(&limit(), 0), None);
    assert_eq!(other.look().allows(&limit(), 0), Some(1_000_000));
}

/// Ten thousand sources have used up what they may, and of some thousands of others all but one or two may
/// read all the same. In a single row every thirteenth would wait.
#[test]
fn an_attacker_with_many_addresses_holds_hardly_anybody_else_up() {
    const MOST: u32 = 10_000;
    let common = of_sources(MOST as usize);
    for uid in 0..MOST {
        common.of(user(uid), 0).take(&limit(), 1_000_000, 0);
    }
    let strangers = MOST..MOST + 200_000;
    let is_held = |uid: &u32| {
        common
            .of(user(*uid), 0)
            .look()
            .allows(&limit(), 0)
            .is_none()
    };
    let held = strangers.filter(is_held).count();
    println!("{held} of 200000 held up by others");
    assert!(held <= 49, "more than one in 4,096: {held}");
}

#[test]
fn what_was_drawn_and_not_used_is_given_back_unless_somebody_has_taken_since() {
    let common = of_sources(100);
    let cells = common.of(user(1), 0);
    let draw = |n, now| {
        let mut share = Share::default();
        share.draw(&limit(), n, cells.take(&limit(), n, now), now);
        share
    };
    let give_back = |share: &Share| {
        if let Some((after, without)) = share.unused(&limit()) {
            cells.set_back(after, without);
        }
    };
    let mut share = draw(300_000, 5_000 * MS);
    assert_eq!(share.take(100_000), 0);
    give_back(&share);
    assert_eq!(cells.look().allows(&limit(), 5_000 * MS), Some(900_000));
    // What is still to come is not lost either.
    cells.take(&limit(), 900_000, 5_000 * MS);
    let share = draw(100_000, 5_000 * MS);
    assert_eq!(share.allows(&limit()), None);
    give_back(&share);
    assert_eq!(cells.look().goes_on_at(&limit()), 5_100 * MS);
    // Nobody knows what of it was missed once another one has taken.
    let share = draw(100_000, 7_000 * MS);
    cells.take(&limit(), 500_000, 7_050 * MS);
    give_back(&share);
    assert_eq!(cells.look().allows(&limit(), 7_050 * MS), Some(450_000));
}

/// Three draw at the same time, in all orders in which they can. Each is told another time to come for it:
/// were two told the same, one of them would be beyond the limit.
#[cfg(feature = "sim")]
#[test]
fn those_who_draw_at_once_come_one_after_the_other() {
    use std::cell::RefCell;
    use std::rc::Rc;

    const POINTS: usize = 12;
    let mut tried = 0;
    for points in (0..POINTS * POINTS).map(|n| [n / POINTS, n % POINTS]) {
        let (common, told) = (of_sources(1), Rc::new(RefCell::new(Vec::new())));
        let hears = told.clone();
        common.of(user(1), 0).take(&limit(), 1_000_000, 0);
        let all_acted = crate::ring::others::one_in_another(points, move |_| {
            let bucket = common.of(user(1), 0).take(&limit(), 100_000, 0);
            hears.borrow_mut().push(bucket.full_at() / MS);
        });
        if all_acted {
            tried += 1;
            told.borrow_mut().sort_unstable();
            assert_eq!(*told.borrow(), [1100, 1200, 1300], "at {points:?}");
        }
    }
    assert!(tried >= 16, "{tried}");
}

proptest! {
    /// In a table so narrow that everybody meets everybody, with draws that are given back now and then:
    /// nobody ever has more than its burst and its rate.
    #[test]
    fn in_a_narrow_table_nobody_gets_too_much(
        steps in prop::collection::vec((0u32..12, 0u64..100 * MS, 1u64..400_000, 0u64..400_000), 1..300),
    ) {
        let limit = limit();
        let table = Table::<AtomicU64>::new(4);
        let seed = Seed::new([1, 2]);
        let cells = |uid| Cells::Rows(table.of(seed.numbers(Source::User(uid))));
        let mut now = 0;
        let mut taken: Vec<Vec<(u64, u64)>> = vec![Vec::new(); 12];
        let mut drawn: Vec<Option<Share>> = vec![None; 12];
        for (uid, passes, n, used) in steps {
            now += passes;
            let (cells, at) = (cells(uid), uid as usize);
            if let Some(mut share) = drawn[at].take() {
                share.settle(&limit, now);
                let used = share.allows(&limit).unwrap_or(0).min(used);
                prop_assert_eq!(share.take(used), 0);
                taken[at].push((now, used));
                if let Some((after, without)) = share.unused(&limit) {
                    cells.set_back(after, without);
                }
            } else if let Some(most) = cells.look().allows(&limit, now) {
                cells.take(&limit, n.min(most), now);
                taken[at].push((now, n.min(most)));
            } else {
                let mut share = Share::default();
                share.draw(&limit, n, cells.take(&limit, n, now), now);
                drawn[at] = Some(share);
            }
        }
        for taken in taken {
            for (from, (since, _)) in taken.iter().enumerate() {
                let mut sum = 0;
                for (at, n) in &taken[from..] {
                    sum += n;
                    // A full bucket, and what it may have drawn before.
                    let most = 1_000_000 + 400_000 + (at - since) / 1000;
                    prop_assert!(sum <= most + 10, "{sum} of {most}");
                }
            }
        }
    }
}
