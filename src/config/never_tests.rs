//! Pairs of limits, each with values of which one never fires, and with values of which both may; and the
//! machines that fire, which must agree.

use proptest::prelude::*;

use super::*;
use crate::CloseReason;
use crate::conn::{Clocks, Conn, Expired, Tick};
use crate::policy::LeastRate;
use crate::policy::rate::{Bucket, Share};
use crate::reactor::clock;

fn listening() -> Config {
    Config::listen("tcp://127.0.0.1:0").unwrap()
}

fn of(config: &Config) -> Vec<(&'static str, &'static str)> {
    let never = config.clone().validate().unwrap().never_fires();
    never.iter().map(|one| (one.setting, one.first)).collect()
}

fn never(change: impl Fn(&mut Config)) -> Vec<(&'static str, &'static str)> {
    let mut config = listening();
    change(&mut config);
    of(&config)
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[test]
fn by_default_every_limit_can_fire() {
    assert_eq!(never(|_| {}), []);
}

#[test]
fn whoever_is_closed_for_its_age_is_not_closed_for_what_takes_longer() {
    let age = |age| move |c: &mut Config| c.deadlines.age = Some(secs(age));
    // An hour, with the tenth by which ages are spread.
    assert_eq!(never(age(3273)), []);
    assert_eq!(never(age(3272)), [("deadlines.idle", "deadlines.age")]);
    // Not for how long it may stall: it does so in its farewell, too.
    let all = ["deadlines.idle", "deadlines.message"];
    assert_eq!(never(age(27)), all.map(|one| (one, "deadlines.age")));
}

fn weighed(
    window: u64,
    message: Option<u64>,
    age: Option<u64>,
) -> Vec<(&'static str, &'static str)> {
    never(|c| {
        c.least_rate = Some(LeastRate::new(1, secs(window)));
        (c.deadlines.idle, c.deadlines.stall) = (None, None);
        (c.deadlines.message, c.deadlines.age) = (message.map(secs), age.map(secs));
    })
}

#[test]
fn no_window_is_over_after_the_largest_age() {
    assert_eq!(
        weighed(11, None, Some(10)),
        [("least_rate.window", "deadlines.age")]
    );
    assert_eq!(weighed(10, None, Some(10)), []);
}

#[test]
fn no_window_is_over_after_the_end_of_its_message() {
    assert_eq!(
        weighed(32, Some(30), None),
        [("least_rate.window", "deadlines.message")]
    );
    // Its message may be given a second more, and a turn may be late.
    assert_eq!(weighed(31, Some(30), None), []);
    assert_eq!(weighed(3600, None, None), []);
}

#[test]
fn a_listener_that_may_have_as_many_as_all_has_no_limit() {
    let own = |own: [Option<usize>; 3]| {
        move |c: &mut Config| {
            c.listeners = vec![c.listeners[0].clone(); 3];
            for (listen, own) in c.listeners.iter_mut().zip(own) {
                listen.max_connections = own;
            }
        }
    };
    let pair = ("listeners", "max_connections");
    assert_eq!(never(own([Some(10_000), None, Some(10_001)])), [pair, pair]);
    assert_eq!(never(own([Some(9_999), None, None])), []);
}

#[test]
fn a_source_that_may_have_as_many_as_all_has_no_limit() {
    let own = |most| move |c: &mut Config| c.per_source.connections = Some(most);
    let pair = ("per_source.connections", "max_connections");
    assert_eq!(never(own(10_000)), [pair]);
    assert_eq!(never(own(9_999)), []);
}

fn rates(change: impl Fn(&mut crate::Rates)) -> Vec<(&'static str, &'static str)> {
    never(|c| change(&mut c.rates))
}

#[test]
fn a_connection_that_may_send_more_than_all_of_its_listener_has_no_rate() {
    let bytes = |own, outer| {
        rates(|r| {
            r.connection.bytes_per_sec = Some(own);
            r.listener.bytes_per_sec = Some(outer);
            r.connection.messages_per_sec = Some(1);
        })
    };
    let pair = (
        "rates.connection.bytes_per_sec",
        "rates.listener.bytes_per_sec",
    );
    assert_eq!(bytes(2_000_000, 1_000_000), [pair]);
    assert_eq!(bytes(1_110_000, 1_000_000), [pair]);
    // What its listener drew before and what it has now are more than it may send at once.
    assert_eq!(bytes(1_050_000, 1_000_000), []);
    assert_eq!(bytes(1_000_000, 1_000_000), []);
    let messages = |own, outer| {
        rates(|r| {
            r.connection.messages_per_sec = Some(own);
            r.listener.messages_per_sec = Some(outer);
        })
    };
    let pair = (
        "rates.connection.messages_per_sec",
        "rates.listener.messages_per_sec",
    );
    assert_eq!(messages(200, 100), [pair]);
    assert_eq!(messages(100, 100), []);
}

#[test]
fn a_connection_that_may_send_more_than_its_source_has_no_rate() {
    let bytes = |own, outer| {
        rates(|r| {
            r.connection.bytes_per_sec = Some(own);
            r.source.bytes_per_sec = Some(outer);
            // None of these is of the same kind.
            r.source.messages_per_sec = Some(1);
            r.listener.messages_per_sec = Some(1);
        })
    };
    let pair = (
        "rates.connection.bytes_per_sec",
        "rates.source.bytes_per_sec",
    );
    assert_eq!(bytes(2_000_000, 1_000_000), [pair]);
    assert_eq!(bytes(1_000_000, 1_000_000), []);
}

#[test]
fn a_source_that_may_send_more_than_all_listeners_let_in_has_no_rate() {
    let messages = |listeners: usize, own, outer| {
        never(|c| {
            c.listeners = vec![c.listeners[0].clone(); listeners];
            c.rates.source.messages_per_sec = Some(own);
            c.rates.listener.messages_per_sec = Some(outer);
        })
    };
    let pair = (
        "rates.source.messages_per_sec",
        "rates.listener.messages_per_sec",
    );
    assert_eq!(messages(1, 2500, 1000), [pair]);
    assert_eq!(messages(1, 1000, 1000), []);
    // It may be connected to all of them.
    assert_eq!(messages(2, 2500, 1000), [pair]);
    assert_eq!(messages(3, 2500, 1000), []);
    // And two reactors may each see what is there once.
    let many = never(|c| {
        c.reactors = 2;
        c.rates.source.messages_per_sec = Some(2000);
        c.rates.listener.messages_per_sec = Some(1000);
    });
    assert_eq!(many, []);
}

#[test]
fn a_listeners_own_rate_is_what_counts() {
    let with = |urls: &[&str], change: fn(&mut Config)| {
        never(|c| {
            c.listeners = urls.iter().map(|url| url.parse().unwrap()).collect();
            c.rates.listener.bytes_per_sec = Some(1_000_000);
            change(c);
        })
    };
    let (small, other) = (
        "tcp://127.0.0.1:0?listener-bytes=1000000",
        "unix:///z?listener-bytes=9000000",
    );
    let none: fn(&mut Config) = |_| {};
    assert_eq!(with(&["tcp://127.0.0.1:0", other], none), []);
    let unused = ("rates.listener.bytes_per_sec", "listeners");
    assert_eq!(with(&[small, other], none), [unused]);
    // One of two lets more through than a connection may send.
    let own: fn(&mut Config) = |c| c.rates.connection.bytes_per_sec = Some(2_000_000);
    assert_eq!(with(&["tcp://127.0.0.1:0", other], own), []);
    let pair = ("rates.connection.bytes_per_sec", "listeners");
    assert_eq!(with(&["unix:///x", small], own), [pair]);
    let source: fn(&mut Config) = |c| c.rates.source.bytes_per_sec = Some(15_000_000);
    let pair = ("rates.source.bytes_per_sec", "listeners");
    assert_eq!(with(&["unix:///x", other], source), [pair]);
    let messages = "tcp://127.0.0.1:0?listener-messages=3000000";
    let pair = ("listeners", "rates.listener.bytes_per_sec");
    assert_eq!(with(&["unix:///y", messages], none), [pair]);
}

#[test]
fn there_are_no_more_messages_than_bytes() {
    type Of = fn(&mut crate::Rates) -> &mut crate::Rate;
    let scopes: [Of; 3] = [
        |r| &mut r.connection,
        |r| &mut r.source,
        |r| &mut r.listener,
    ];
    for (of, name) in scopes.into_iter().zip(["connection", "source", "listener"]) {
        let both = |messages, bytes| {
            rates(|r| {
                of(r).messages_per_sec = Some(messages);
                of(r).bytes_per_sec = Some(bytes);
            })
        };
        let [(setting, first)] = both(20_000, 10_000)[..] else {
            panic!("{name}")
        };
        assert_eq!(setting, format!("rates.{name}.messages_per_sec"));
        assert_eq!(first, format!("rates.{name}.bytes_per_sec"));
        assert_eq!(both(10_000, 10_000), []);
    }
}

#[test]
fn it_is_told_with_both_values() {
    let mut config = listening();
    config.deadlines.age = Some(secs(1800));
    config.listeners[0].max_connections = Some(20_000);
    let never = config.validate().unwrap().never_fires();
    let told: Vec<_> = never.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "deadlines.idle can never fire: it is 3600s, and connections are closed at the age of 1800s, or up to a \
             tenth later",
            "listeners can never fire: tcp://127.0.0.1:0 may have 20000 connections, and all together 10000",
        ]
    );
}

// The machines.

/// What a connection with an unfinished message ends by, whose peer sends nothing more; `holds` says
/// whether the kernel holds bytes of it each time that somebody looks. Turns are up to `late` ticks apart.
fn ends_by(clocks: &Clocks, spread: u8, late: &[Tick], holds: &[bool]) -> CloseReason {
    let mut conn = Conn::new(0).spread(spread).weighed();
    conn.handle_read(1, 0);
    conn.handle_message(0);
    conn.handle_cut(0, 0, 1);
    let mut late = late.iter().cycle();
    let mut holds = holds.iter().cycle();
    loop {
        let due = conn.poll_timeout(clocks, false).expect("some clock runs");
        let now = due + late.next().unwrap();
        match conn.handle_timeout(clocks, 0, now) {
            Expired::Nothing => {}
            Expired::Look(reason) if *holds.next().unwrap() => conn.handle_look(reason, now),
            Expired::Weigh => return CloseReason::Trickle,
            Expired::Look(reason) | Expired::Close(reason) | Expired::End(reason) => return reason,
        }
    }
}

proptest! {
    /// No clock that is said never to fire fires first in the machine, however its age is spread, whatever
    /// the kernel holds, and though turns are half a second late.
    #[test]
    fn the_connection_agrees(
        times in proptest::array::uniform4(1_000u64..60_000),
        set in proptest::array::uniform4(any::<bool>()).prop_filter("a clock", |set| set.contains(&true)),
        spread: u8,
        late in proptest::collection::vec(0u32..62, 1..9),
        holds in proptest::collection::vec(any::<bool>(), 1..5),
    ) {
        let time = |n: usize| set[n].then(|| Duration::from_millis(times[n]));
        let mut config = listening();
        config.deadlines.stall = None;
        config.deadlines.idle = time(0);
        config.deadlines.message = time(1);
        config.deadlines.age = time(2);
        config.least_rate = time(3).map(|window| LeastRate::new(1, window));
        let clocks = Clocks {
            idle: time(0).map(clock),
            message: time(1).map(clock),
            age: time(2).map(clock),
            window: time(3).map(clock),
            linger: 1,
        };
        let setting = match ends_by(&clocks, spread, &late, &holds) {
            CloseReason::Idle => "deadlines.idle",
            CloseReason::Message => "deadlines.message",
            CloseReason::Age => "deadlines.age",
            _ => "least_rate.window",
        };
        let never = of(&config);
        prop_assert!(never.iter().all(|(one, _)| *one != setting), "{setting}: {never:?}");
    }

    /// A connection's bucket that is said never to fire makes nobody wait for longer than its listener's
    /// would. The others of that listener take what they like; `reads` are how much time passes, how much
    /// the others take, and how much there is to read, in percent of a burst; messages are known after a read.
    #[test]
    fn the_buckets_agree(
        own in 1u64..50_000,
        percent in 50u64..101,
        burst in 100u64..3_000,
        is_bytes: bool,
        reactors in 1usize..4,
        reads in proptest::collection::vec(
            (
                prop_oneof![4 => Just(0u64), 1 => 0u64..200],
                prop_oneof![Just(0u64), 0u64..50],
                1u64..150,
            ),
            1..60,
        ),
    ) {
        let most = (own * percent / 100).max(1);
        let mut config = listening();
        let rates = &mut config.rates;
        rates.burst = Duration::from_millis(burst);
        let (ours, theirs) = (&mut rates.connection, &mut rates.listener);
        match is_bytes {
            true => (ours.bytes_per_sec, theirs.bytes_per_sec) = (Some(own), Some(most)),
            false => (ours.messages_per_sec, theirs.messages_per_sec) = (Some(own), Some(most)),
        }
        if of(&config).is_empty() {
            return Ok(());
        }
        let limit = |n| match is_bytes {
            true => Limit::bytes(n, Duration::from_millis(burst)),
            false => Limit::messages(n, Duration::from_millis(burst)),
        };
        let (limit, outer) = (limit(own), limit(most));
        let (mut bucket, mut common, mut share) = (Bucket::default(), Bucket::default(), Share::default());
        let mut now = 0;
        for (passed, others, there_is) in reads {
            let there_is = 1 + own * burst * there_is / 100_000;
            let at_once = own * burst / 1000;
            now += burst * 1_000_000 * passed / 100;
            common.take(&outer, at_once * others / 100, now);
            share.settle(&outer, now);
            if let Some(n) = share.wants(&outer, reactors) {
                common.take(&outer, n, now);
                share.draw(&outer, n, common, now);
            }
            let allowed = share.allows(&outer);
            let Some(mine) = bucket.allows(&limit, now) else {
                let listeners = if allowed.is_some() { now } else { share.comes_at(&outer).unwrap() };
                let goes_on = bucket.goes_on_at(&limit);
                prop_assert!(goes_on <= listeners, "{goes_on} > {listeners} at {now}");
                continue;
            };
            if let Some(allowed) = allowed {
                let n = match is_bytes {
                    true => there_is.min(allowed).min(mine),
                    false => there_is,
                };
                bucket.take(&limit, n, now);
                common.take(&outer, share.take(n), now);
            }
        }
    }
}
