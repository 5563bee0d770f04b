//! What is refused, and what the sum of a configuration says.

use super::*;
use crate::Deadlines;

fn listening() -> Config {
    Config::listen("tcp://127.0.0.1:0").unwrap()
}

#[test]
fn the_defaults_are_legal_and_their_sum_is_printed() {
    let checked = listening().validate().unwrap();
    assert_eq!(checked.ring_bytes(), 4 << 20);
    let printed = checked.memory().to_string();
    assert!(
        printed.contains("4 MiB (1 ring of 4 MiB)") && printed.contains("in the kernel at most"),
        "{printed}"
    );
}

#[test]
fn a_ring_too_small_is_refused_with_the_numbers_that_would_do() {
    let refused = Config {
        ring_bytes: Some(64 << 10),
        ..listening()
    }
    .validate()
    .unwrap_err();
    let reason = &refused.0[0].reason;
    assert!(
        reason.contains("smallest ring for them is 524288"),
        "{reason}"
    );
    let legal: usize = reason.rsplit(' ').nth(1).unwrap().parse().unwrap();
    let with = |max_message| {
        Config {
            ring_bytes: Some(64 << 10),
            max_message,
            ..listening()
        }
        .validate()
    };
    assert!(with(legal).is_ok());
    assert!(with(legal + 1).is_err());
}

#[test]
fn the_largest_message_of_a_ring_is_the_largest_that_is_legal() {
    for shift in 10..24 {
        let ring = 1 << shift;
        let legal = largest_message(ring, ring / 2);
        let fits = |max| claim_len(max + MARKS, SMALLEST_READ, max) <= ring / 4;
        assert!(legal == 0 || fits(legal), "{ring}");
        assert!((legal + 1..legal + 10_000).all(|max| !fits(max)), "{ring}");
    }
}

#[test]
fn a_ring_that_is_not_given_grows_with_the_largest_message() {
    let config = Config {
        max_message: 16 << 20,
        ..listening()
    };
    let ring = config.validate().unwrap().ring_bytes();
    assert_eq!(ring, 128 << 20);
}

#[test]
fn the_sum_holds_for_every_number_that_is_legal() {
    for ring in [0, 1, 3, usize::MAX - 1, usize::MAX, (1 << 63) + 1] {
        let config = Config {
            ring_bytes: Some(ring),
            ..listening()
        };
        assert!(config.validate().is_err(), "{ring}");
    }
    let config = Config {
        reactors: 64,
        backlog: u32::MAX,
        receive_buffer: 1 << 30,
        staging_bytes: usize::MAX,
        ..listening()
    };
    let memory = config.validate().unwrap().memory();
    assert_eq!(memory.user_bytes(), u64::MAX);
    assert_eq!(memory.kernel_bytes(), u64::MAX);
}

#[test]
fn the_staging_of_all_reactors_is_within_its_term() {
    let config = Config {
        reactors: 64,
        max_message: (1 << 20) - 16,
        staging_bytes: 1 << 20,
        ..listening()
    };
    let checked = config.validate().unwrap();
    // Each reactor has room for one message, and its oldest holder for one beyond.
    let most = 64 * (checked.staging_bytes() + (1 << 20)) as u64;
    let memory = checked.memory();
    let mut terms = memory.user.iter();
    let (_, staging) = terms.find(|(name, _)| name == "staging").unwrap();
    assert!(
        most <= *staging,
        "{most} bytes possible, {staging} promised"
    );
}

#[test]
fn what_comes_over_a_unix_socket_is_not_ours_to_hold() {
    let config = Config::listen("unix:///tmp/fanin").unwrap();
    let memory = config.validate().unwrap().memory();
    assert_eq!(memory.kernel_bytes(), 0);
    assert!(memory.to_string().contains("charged to their senders"));
}

#[test]
fn a_ring_of_a_few_bytes_is_too_small_and_nothing_else() {
    for ring_bytes in [1, 2, 4, 8, 64] {
        let config = Config {
            ring_bytes: Some(ring_bytes),
            ..listening()
        };
        let refused = config.validate().unwrap_err();
        assert_eq!(refused.0.len(), 1, "{refused}");
        assert_eq!(refused.0[0].setting, "ring_bytes");
        assert!(refused.to_string().contains("the smallest ring"));
    }
}

#[test]
fn a_deadline_of_no_time_is_refused() {
    let mut config = listening();
    config.deadlines.idle = Some(std::time::Duration::ZERO);
    config.deadlines.age = Some(std::time::Duration::ZERO);
    let refused = config.validate().unwrap_err();
    let settings: Vec<_> = refused.0.iter().map(|e| e.setting).collect();
    assert_eq!(settings, ["deadlines.idle", "deadlines.age"]);
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let config = Config {
        consumers: 0,
        reactors: 65,
        backlog: 0,
        ..Config::default()
    };
    let refused = config.validate().unwrap_err();
    let settings: Vec<_> = refused.0.iter().map(|e| e.setting).collect();
    assert_eq!(settings, ["listeners", "consumers", "reactors", "backlog"]);
    assert_eq!(refused.to_string().lines().count(), 4);
}

#[test]
fn an_address_that_cannot_be_listened_on_says_why() {
    for (text, why) in [
        ("127.0.0.1:1", "tcp:// or unix://"),
        ("tcp://localhost:1", "names are not looked up"),
        ("tcp://127.0.0.1", "a port"),
        ("unix://", "a path must follow"),
        (&format!("unix:///{}", "x".repeat(107)), "at most 107"),
    ] {
        let error = text.parse::<ListenAddr>().unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[test]
fn a_least_rate_of_nothing_or_of_no_time_is_refused() {
    for (rate, secs, is_legal) in [(1, 1, true), (0, 1, false), (9, 0, false), (9, 30, true)] {
        let mut config = listening();
        config.least_rate = Some(LeastRate::new(rate, Duration::from_secs(secs)));
        assert_eq!(config.validate().is_ok(), is_legal, "{rate} in {secs} s");
    }
}

#[test]
fn a_deadline_that_ticks_cannot_tell_from_the_past_is_refused() {
    let day = Duration::from_secs(24 * 60 * 60);
    let with = |days: u32| {
        let mut config = listening();
        config.deadlines = Deadlines {
            idle: Some(days * day),
            message: Some(days * day),
            stall: Some(days * day),
            age: Some(days * day),
            linger: days * day,
        };
        config.validate()
    };
    assert!(with(99).is_ok());
    let refused = with(100).unwrap_err();
    let settings: Vec<_> = refused.0.iter().map(|error| error.setting).collect();
    let clocks = ["idle", "message", "age", "linger"];
    assert_eq!(settings, clocks.map(|clock| format!("deadlines.{clock}")));
}

#[test]
fn turns_begin_apart_as_was_said_and_not_so_far_that_anything_is_full() {
    let spacing = |config: Config| config.validate().unwrap().spacing();
    let auto = |room| Spacing::new(Coalesce::Auto, room);
    assert_eq!(spacing(listening()), auto(64 << 10));
    let buffer = |receive_buffer| Config {
        receive_buffer,
        ..listening()
    };
    assert_eq!(spacing(buffer(4096)), auto(4096));
    assert_eq!(spacing(buffer(0)), auto(1 << 20));
    let small = Config {
        ring_bytes: Some(64 << 10),
        max_message: 4096,
        ..listening()
    };
    assert_eq!(spacing(small), auto(16 << 10));
    let apart = Coalesce::Apart(Duration::from_millis(1));
    for (on_full, coalesce, effective) in [
        (OnFull::Pause, Coalesce::Off, Coalesce::Off),
        (OnFull::Pause, apart, apart),
        (OnFull::Discard, Coalesce::Auto, Coalesce::Off),
        (OnFull::Discard, Coalesce::Off, Coalesce::Off),
        (OnFull::Discard, apart, apart),
    ] {
        let config = Config {
            on_full,
            coalesce,
            ..listening()
        };
        assert_eq!(spacing(config), Spacing::new(effective, 64 << 10));
    }
    for micros in [0, 9, 10_001] {
        let coalesce = Coalesce::Apart(Duration::from_micros(micros));
        let refused = Config {
            coalesce,
            ..listening()
        };
        let refused = refused.validate().unwrap_err();
        assert_eq!(refused.0[0].setting, "coalesce");
    }
    for micros in [10, 10_000] {
        let coalesce = Coalesce::Apart(Duration::from_micros(micros));
        let legal = Config {
            coalesce,
            ..listening()
        };
        assert!(legal.validate().is_ok());
    }
}
