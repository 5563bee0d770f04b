//! Buckets against greedy readers: never more than the limit, never much less, nobody woken for a byte.

use proptest::prelude::*;

use super::*;

const MS: u64 = 1_000_000;

fn second() -> Duration {
    Duration::from_secs(1)
}

#[test]
fn a_full_bucket_gives_its_burst_at_once_and_then_the_rate() {
    let limit = Limit::bytes(1_000_000, second());
    let mut bucket = Bucket::default();
    assert_eq!(bucket.allows(&limit, 0), Some(1_000_000));
    bucket.take(&limit, 1_000_000, 0);
    assert_eq!(bucket.allows(&limit, 0), None);
    assert_eq!(bucket.goes_on_at(&limit), 100 * MS, "a tenth of a second");
    assert_eq!(bucket.allows(&limit, 100 * MS), Some(100_000));
    // Who is reading goes on down to what a system call is worth.
    bucket.take(&limit, 96_000, 100 * MS);
    assert_eq!(bucket.allows(&limit, 100 * MS), None);
    assert_eq!(bucket.allows(&limit, 101 * MS), Some(5_000));
}

#[test]
fn a_bucket_that_spills_is_full_and_no_fuller() {
    let limit = Limit::bytes(1000, second());
    let mut bucket = Bucket::default();
    bucket.take(&limit, 1000, 0);
    let much_later = 365 * 24 * 3600 * SECOND;
    assert_eq!(bucket.allows(&limit, much_later), Some(1000));
}

#[test]
fn what_was_taken_too_much_is_waited_for() {
    let limit = Limit::messages(10, second());
    let mut bucket = Bucket::default();
    bucket.take(&limit, 400, 0);
    assert_eq!(bucket.allows(&limit, 39 * SECOND), None);
    assert_eq!(bucket.goes_on_at(&limit), 39 * SECOND + 100 * MS);
    assert_eq!(bucket.allows(&limit, 39 * SECOND + 100 * MS), Some(1));
}

#[test]
fn a_burst_smaller_than_a_read_or_a_message_holds_nobody_for_ever() {
    let burst = Duration::from_millis(100);
    for limit in [Limit::bytes(1, burst), Limit::messages(1, burst)] {
        let mut bucket = Bucket::default();
        assert_eq!(bucket.allows(&limit, 0), Some(1));
        bucket.take(&limit, 1, 0);
        let at = bucket.goes_on_at(&limit);
        assert_eq!(at, 950 * MS);
        assert_eq!(bucket.allows(&limit, at), Some(1));
    }
}

#[test]
fn a_limit_is_kept_by_others_that_let_less_through_at_once() {
    let messages = |burst| Limit::messages(1, Duration::from_secs(burst));
    // 10 of a full bucket and one that was drawn before.
    let outer = messages(10);
    for (burst, is_kept) in [(10, false), (14, false), (15, true)] {
        assert_eq!(messages(burst).is_kept_by(&[outer]), is_kept, "{burst}");
    }
    assert!(!messages(25).is_kept_by(&[outer, outer]));
    assert!(messages(26).is_kept_by(&[outer, outer]));
}

#[test]
fn a_clock_that_goes_back_gives_nothing_away_and_holds_nobody_longer() {
    let limit = Limit::bytes(1000, second());
    let mut bucket = Bucket::default();
    bucket.take(&limit, 600, 5 * SECOND);
    let at = bucket.goes_on_at(&limit);
    assert_eq!(bucket.allows(&limit, 3 * SECOND), None);
    bucket.take(&limit, 0, 3 * SECOND);
    assert_eq!(bucket.goes_on_at(&limit), at);
}

#[test]
fn a_mean_follows_what_comes_and_begins_with_what_came_first() {
    assert_eq!(mean_len(0, 1000, 10), 100);
    assert_eq!(
        mean_len(100, 1000, 0),
        100,
        "of no message nothing is learned"
    );
    let mut mean = 100;
    for _ in 0..40 {
        mean = mean_len(mean, 4096, 1);
    }
    assert!((4090..=4100).contains(&mean), "{mean}");
    assert_eq!(mean_len(1, 5, 10), 1);
}

fn limits() -> impl Strategy<Value = Limit> {
    let rate = prop_oneof![
        1u64..5000,
        1000u64..10_000_000,
        Just(u64::MAX),
        Just(40_000_000_000)
    ];
    (rate, 100u64..5000, any::<bool>()).prop_map(|(rate, burst, is_bytes)| {
        let burst = Duration::from_millis(burst);
        if is_bytes {
            Limit::bytes(rate, burst)
        } else {
            Limit::messages(rate, burst)
        }
    })
}

proptest! {
    /// In every window no more than the burst and the rate, and what the last take was too much.
    #[test]
    fn no_window_has_more_than_the_burst_and_the_rate(
        limit in limits(),
        start in 0u64..1 << 60,
        steps in prop::collection::vec((0u64..400 * MS, 1u64..100_000, any::<bool>()), 1..60),
    ) {
        let mut bucket = Bucket::default();
        let mut now = start;
        let mut takes = Vec::new();
        for (passes, wants, is_blind) in steps {
            now += passes;
            let Some(most) = bucket.allows(&limit, now) else { continue };
            // Messages are known afterwards.
            let n = if is_blind { wants } else { wants.min(most) };
            bucket.take(&limit, n, now);
            takes.push((now, n, n.saturating_sub(most)));
        }
        for from in 0..takes.len() {
            let mut sum = 0u128;
            for (at, n, beyond) in &takes[from..] {
                sum += u128::from(*n);
                let time = u128::from(limit.burst + at - takes[from].0);
                let most = time * u128::from(limit.per_sec) / u128::from(SECOND);
                prop_assert!(sum <= most + u128::from(*beyond) + 1, "{sum} in a window of {most}");
            }
        }
    }

    /// Who waits is called when there is a quantum and not before, however late it comes.
    #[test]
    fn who_waits_is_called_once_for_a_quantum(
        limit in limits(),
        n in 1u64..1 << 20,
        start in 0u64..1 << 60,
        late in 0u64..10 * SECOND,
    ) {
        let mut bucket = Bucket::default();
        bucket.take(&limit, n, start);
        if bucket.allows(&limit, start).is_none() {
            let at = bucket.goes_on_at(&limit);
            prop_assert!(at > start);
            let called = bucket.allows(&limit, at).expect("that is when");
            prop_assert!(called >= limit.tokens(limit.quantum));
            prop_assert!(bucket.allows(&limit, at + late).expect("and later") >= called);
        }
    }

    /// A greedy reader that is called as late as a loaded machine calls it misses nothing: the bucket has
    /// room for what comes meanwhile.
    #[test]
    fn a_greedy_reader_gets_its_rate(
        rate in prop_oneof![100u64..100_000, 100_000u64..1_000_000_000],
        late in prop::collection::vec(0u64..50 * MS, 50),
    ) {
        let limit = Limit::bytes(rate, second());
        let (mut bucket, mut now, mut sum) = (Bucket::default(), 0, 0);
        for late in late {
            while let Some(most) = bucket.allows(&limit, now) {
                bucket.take(&limit, most.min(64 << 10), now);
                sum += most.min(64 << 10);
            }
            now = bucket.goes_on_at(&limit) + late;
        }
        let due = limit.tokens(now);
        // But for the last wait, of a quantum and so late.
        prop_assert!(sum + limit.tokens(limit.quantum + 50 * MS) + 1 >= due, "{sum} of {due}");
        prop_assert!(sum <= due + limit.tokens(limit.burst) + 1);
    }

    /// Reactors that all want everything take turns, whoever looks first and however late they come.
    #[test]
    fn reactors_take_turns_and_together_stay_below_the_limit(
        rate in 10_000u64..100_000_000,
        reactors in 1usize..5,
        steps in prop::collection::vec((0u64..30 * MS, any::<bool>()), 200..400),
    ) {
        let limit = Limit::bytes(rate, second());
        let mut common = Bucket::default();
        let mut shares = vec![Share::default(); reactors];
        let mut taken = vec![0u64; reactors];
        let mut now = 0;
        let mut most_quantum = 0;
        for (step, (passes, backwards)) in steps.into_iter().enumerate() {
            now += passes;
            for at in 0..reactors {
                let at = if backwards { reactors - 1 - at } else { at };
                let share = &mut shares[at];
                share.settle(&limit, now);
                if let Some(most) = share.allows(&limit) {
                    // A read may bring more than was allowed.
                    let n = most + if step % 7 == 0 { 100 } else { 0 };
                    common.take(&limit, share.take(n), now);
                    taken[at] += n;
                }
                if let Some(n) = share.wants(&limit, reactors) {
                    common.take(&limit, n, now);
                    share.draw(&limit, n, common, now);
                    most_quantum = most_quantum.max(n);
                }
                let is_waiting = share.allows(&limit).is_none();
                prop_assert!(!is_waiting || share.comes_at(&limit).is_some_and(|at| at > now));
            }
        }
        let sum: u64 = taken.iter().sum();
        let in_hand = (most_quantum + 100) * reactors as u64;
        prop_assert!(sum <= limit.tokens(now + limit.burst) + in_hand, "{sum} by {now} ns");
        let (least, most) = (taken.iter().min().unwrap(), taken.iter().max().unwrap());
        prop_assert!(most - least <= 3 * most_quantum + limit.tokens(30 * MS), "{taken:?}");
    }
}
