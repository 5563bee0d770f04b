//! Stories of one connection: given a state, when an event, then the next state.

use super::*;
use proptest::prelude::*;

const CLOCKS: Clocks = Clocks {
    idle: Some(100),
    message: Some(10),
    window: None,
    age: Some(1000),
    linger: 5,
};

fn open() -> Conn {
    Conn::new(0).weighed()
}

fn paused(cause: PauseCause) -> Conn {
    let mut conn = open();
    conn.handle_pause(cause, 20);
    conn
}

#[test]
fn an_open_connection_that_is_quiet_is_looked_at_and_then_evicted() {
    let mut conn = open();
    assert_eq!(conn.poll_timeout(&CLOCKS, false), Some(100));
    assert_eq!(conn.handle_timeout(&CLOCKS, 0, 99), Expired::Nothing);
    assert_eq!(
        conn.handle_timeout(&CLOCKS, 0, 100),
        Expired::Look(CloseReason::Idle)
    );
    conn.handle_look(CloseReason::Idle, 100);
    assert_eq!(conn.poll_timeout(&CLOCKS, false), Some(100 + LOOK));
    assert_eq!(
        conn.handle_timeout(&CLOCKS, 0, 99 + LOOK),
        Expired::Nothing,
        "it has its second"
    );
    assert_eq!(
        conn.handle_timeout(&CLOCKS, 0, 100 + LOOK),
        Expired::Close(CloseReason::Idle)
    );
}

#[test]
fn a_byte_found_by_the_look_saves_an_idle_connection() {
    let mut conn = open();
    conn.handle_look(CloseReason::Idle, 100);
    conn.handle_read(1, 101);
    assert_eq!(conn.handle_timeout(&CLOCKS, 0, 200), Expired::Nothing);
    assert_eq!(
        conn.handle_timeout(&CLOCKS, 0, 201),
        Expired::Look(CloseReason::Idle),
        "the next time it is looked at anew"
    );
}

#[test]
fn a_look_for_one_eviction_does_not_put_the_other_off() {
    let mut conn = open();
    conn.handle_read(3, 0);
    conn.handle_message(0);
    conn.handle_cut(0, 0, 3);
    conn.handle_look(CloseReason::Message, 10);
    conn.handle_read(1, 11);
    conn.handle_cut(0, 0, 4);
    // As quiet as it may be, and no more: it is looked at within the second of the message's look.
    assert_eq!(
        conn.handle_timeout(&CLOCKS, 0, 111),
        Expired::Look(CloseReason::Idle)
    );
    conn.handle_look(CloseReason::Idle, 111);
    conn.handle_read(1, 112);
    conn.handle_cut(0, 0, 5);
    assert_eq!(conn.poll_timeout(&CLOCKS, false), Some(10 + LOOK));
    assert_eq!(
        conn.handle_timeout(&CLOCKS, 0, 10 + LOOK),
        Expired::Close(CloseReason::Message)
    );
}

#[test]
fn nor_does_a_look_for_a_message_save_whoever_is_idle() {
    let mut conn = open();
    conn.handle_read(3, 0);
    conn.handle_cut(0, 0, 3);
    conn.handle_message(95);
    conn.handle_look(CloseReason::Idle, 100);
    conn.handle_look(CloseReason::Message, 105);
    assert_eq!(
        conn.handle_timeout(&CLOCKS, 0, 100 + LOOK),
        Expired::Close(CloseReason::Idle)
    );
}

#[test]
fn a_message_begun_and_not_finished_has_a_clock_of_its_own() {
    let mut conn = open();
    conn.handle_read(3, 50);
    conn.handle_message(50);
    conn.handle_cut(0, 0, 3);
    assert_eq!(conn.poll_timeout(&CLOCKS, false), Some(60));
    conn.handle_read(1, 59);
    conn.handle_cut(0, 0, 4);
    assert_eq!(
        conn.handle_timeout(&CLOCKS, 0, 60),
        Expired::Look(CloseReason::Message),
        "trickling does not help"
    );
}

#[test]
fn bytes_found_by_the_look_do_not_save_a_message_that_does_not_end() {
    let mut conn = open();
    conn.handle_read(3, 50);
    conn.handle_message(50);
    conn.handle_cut(0, 0, 3);
    conn.handle_look(CloseReason::Message, 60);
    conn.handle_read(1, 60 + LOOK);
    conn.handle_cut(0, 0, 4);
    assert_eq!(
        conn.handle_timeout(&CLOCKS, 0, 60 + LOOK),
        Expired::Close(CloseReason::Message)
    );
    conn.handle_read(2, 190);
    conn.handle_message(190);
    conn.handle_cut(5, 0, 1);
    assert_eq!(
        conn.handle_timeout(&CLOCKS, 0, 200),
        Expired::Look(CloseReason::Message),
        "the next message is looked at anew"
    );
}

#[test]
fn the_message_clock_starts_again_with_the_next_message() {
    let mut conn = open();
    conn.handle_read(3, 50);
    conn.handle_message(50);
    conn.handle_cut(0, 0, 3);
    conn.handle_read(5, 58);
    conn.handle_message(58);
    conn.handle_cut(6, 0, 2);
    assert_eq!(conn.poll_timeout(&CLOCKS, false), Some(68));
    assert!(conn.books().balanced());
}

#[test]
fn a_message_that_is_skipped_has_its_clock_from_its_own_beginning() {
    let mut conn = open();
    conn.handle_read(30, 50);
    *conn.partial_mut() = Partial::SkipCount(7);
    conn.handle_message(50);
    conn.handle_cut(20, 10, 0);
    assert_eq!(conn.poll_timeout(&CLOCKS, false), Some(60));
    conn.handle_read(3, 59);
    conn.handle_cut(0, 3, 0);
    assert_eq!(
        conn.handle_timeout(&CLOCKS, 0, 60),
        Expired::Look(CloseReason::Message),
        "trickling does not help"
    );
}

#[test]
fn waiting_for_a_full_ring_freezes_the_peers_clocks() {
    let mut conn = open();
    assert_eq!(
        conn.poll_timeout(&CLOCKS, true),
        Some(1000),
        "only age runs"
    );
    assert_eq!(conn.handle_timeout(&CLOCKS, 70, 120), Expired::Nothing);
    conn.handle_held(70);
    assert_eq!(conn.poll_timeout(&CLOCKS, false), Some(170));
}

#[test]
fn an_operators_pause_freezes_them_too_and_staging_does_not() {
    let mut conn = paused(PauseCause::Operator);
    assert_eq!(conn.poll_timeout(&CLOCKS, false), Some(1000));
    conn.handle_resume(PauseCause::Operator, 50);
    assert_eq!(conn.poll_timeout(&CLOCKS, false), Some(130));

    let mut conn = paused(PauseCause::Staging);
    assert_eq!(conn.poll_timeout(&CLOCKS, false), Some(100));
    conn.handle_resume(PauseCause::Staging, 50);
    assert_eq!(conn.poll_timeout(&CLOCKS, false), Some(100));
}

#[test]
fn two_causes_at_once_give_the_time_back_once() {
    let mut conn = paused(PauseCause::Operator);
    conn.handle_pause(PauseCause::Rate, 30);
    conn.handle_resume(PauseCause::Operator, 40);
    assert_eq!(conn.paused_for(PauseCause::Operator, 45), None);
    assert_eq!(conn.paused_for(PauseCause::Rate, 45), Some(15));
    assert_eq!(conn.poll_timeout(&CLOCKS, false), Some(1000), "frozen");
    conn.handle_resume(PauseCause::Rate, 50);
    assert_eq!(conn.poll_timeout(&CLOCKS, false), Some(130), "from 20 on");
}

#[test]
fn a_pause_ends_when_its_last_cause_does() {
    let mut conn = paused(PauseCause::Operator);
    assert!(conn.handle_pause(PauseCause::Staging, 21));
    assert!(
        !conn.handle_pause(PauseCause::Staging, 22),
        "it held before"
    );
    conn.handle_resume(PauseCause::Operator, 23);
    assert!(!conn.may_be_served());
    conn.handle_resume(PauseCause::Staging, 24);
    assert_eq!(conn.state(), State::Open);
    let deadlines = conn.poll_timeout(&CLOCKS, false);
    conn.handle_resume(PauseCause::Operator, 90);
    assert_eq!(
        (conn.state(), conn.poll_timeout(&CLOCKS, false)),
        (State::Open, deadlines),
        "a second resume is nothing"
    );
}

#[test]
fn a_message_has_been_coming_for_its_own_time_and_not_for_ours() {
    let mut conn = open();
    conn.handle_read(1000, 0);
    conn.handle_cut(0, 0, 1000);
    assert_eq!(conn.message_took(0, 125), 125);
    assert_eq!(conn.message_took(125, 250), 125, "it waited for its ring");
    assert_eq!(conn.message_took(126, 125), 0, "not for less than nothing");
    assert_eq!(conn.message_took(0, (1 << 31) - 1), (1 << 31) - 1);
    assert_eq!(conn.message_took(1 << 31, 0), 0, "by the most of all");
}

const WINDOW: Clocks = Clocks {
    idle: None,
    message: None,
    window: Some(1250),
    age: None,
    linger: 5,
};

/// With so many bytes of an unfinished message, all in one read.
fn begun(bytes: usize) -> Conn {
    let mut conn = open();
    conn.handle_read(bytes, 0);
    conn.handle_message(0);
    conn.handle_cut(0, 0, bytes);
    conn
}

#[test]
fn what_few_need_is_not_made_for_others() {
    let mut conn = Conn::new(0);
    conn.handle_read(7, 1);
    conn.handle_cut(3, 0, 4);
    assert!(conn.seldom().is_none());
    conn.handle_cut(0, 4, 0);
    assert!(conn.seldom().is_some());
}

#[test]
fn a_window_counts_what_was_staged_and_not_what_was_published_or_discarded() {
    let mut conn = begun(100);
    conn.handle_cut(20, 50, 30);
    conn.handle_read(5, 1);
    conn.handle_message(1);
    assert_eq!(conn.window_bytes(), 35);
}

#[test]
fn an_unfinished_message_is_weighed_window_by_window() {
    let mut conn = begun(7);
    assert_eq!(conn.poll_timeout(&WINDOW, false), Some(1250));
    assert_eq!(conn.handle_timeout(&WINDOW, 0, 1249), Expired::Nothing);
    assert_eq!(conn.handle_timeout(&WINDOW, 0, 1250), Expired::Weigh);
    assert_eq!(conn.window_bytes(), 7);
    conn.handle_window(1250);
    assert_eq!(conn.window_bytes(), 0, "old bytes do not save it again");
    assert_eq!(conn.poll_timeout(&WINDOW, false), Some(2500));
    conn.handle_read(2, 1300);
    conn.handle_cut(0, 0, 9);
    assert_eq!(conn.poll_timeout(&WINDOW, false), Some(2500));
    assert_eq!(conn.window_bytes(), 2);
}

#[test]
fn a_look_for_trickling_lasts_a_second_and_is_in_the_same_window() {
    let mut conn = begun(7);
    conn.handle_look(CloseReason::Trickle, 1250);
    assert_eq!(conn.poll_timeout(&WINDOW, false), Some(1250 + LOOK));
    conn.handle_read(1, 1251);
    conn.handle_cut(0, 0, 8);
    assert_eq!(conn.window_bytes(), 8);
    assert_eq!(conn.looked(CloseReason::Trickle), Some(1250));
    conn.handle_message(1252);
    assert_eq!(conn.looked(CloseReason::Trickle), None, "another message");
    assert_eq!(conn.poll_timeout(&WINDOW, false), Some(1252 + 1250));
}

#[test]
fn nobody_is_weighed_between_messages_or_while_we_do_not_read() {
    let mut conn = begun(7);
    assert_eq!(conn.poll_timeout(&WINDOW, true), None, "its ring is full");
    conn.handle_held(100);
    assert_eq!(conn.poll_timeout(&WINDOW, false), Some(1350));
    for (cause, then) in [
        (PauseCause::Rate, 1380),
        (PauseCause::Staging, 1300),
        (PauseCause::Operator, 1300),
    ] {
        conn.handle_pause(cause, 20);
        assert_eq!(conn.poll_timeout(&WINDOW, false), None, "{cause}");
        conn.handle_resume(cause, 50);
        assert_eq!(
            conn.poll_timeout(&WINDOW, false),
            Some(then),
            "{cause}: what it took is given back, or another one begins"
        );
    }
    conn.handle_read(1, 1200);
    conn.handle_cut(8, 0, 0);
    assert_eq!(conn.poll_timeout(&WINDOW, false), None, "it is whole");
}

#[test]
fn the_first_reason_to_close_stands() {
    let mut conn = open();
    assert!(conn.handle_close(CloseReason::Age, 30));
    assert!(!conn.handle_close(CloseReason::Operator, 40));
    conn.handle_pause(PauseCause::Operator, 25);
    let until = |until| State::Draining {
        reason: CloseReason::Age,
        until,
    };
    assert_eq!(conn.state(), until(30));
    assert!(!conn.handle_close(CloseReason::Shutdown, 28));
    assert_eq!(conn.state(), until(28), "of two ends the sooner one holds");
    assert_eq!(
        conn.handle_timeout(&CLOCKS, 0, 28),
        Expired::End(CloseReason::Age)
    );
    conn.handle_end(CloseReason::Eof);
    assert_eq!(conn.reason(), Some(CloseReason::Age));
    assert_eq!(conn.poll_timeout(&CLOCKS, false), None);
}

#[test]
fn a_full_ring_takes_nothing_from_the_time_in_which_a_farewell_is_read() {
    let mut conn = open();
    conn.handle_close(CloseReason::Age, 30);
    assert_eq!(conn.poll_timeout(&CLOCKS, true), None, "not while it waits");
    assert_eq!(conn.handle_timeout(&CLOCKS, 100, 129), Expired::Nothing);
    conn.handle_held(100);
    assert_eq!(conn.poll_timeout(&CLOCKS, false), Some(130));
}

#[test]
fn a_peers_own_fault_ends_what_our_reason_let_it_deliver() {
    let mut conn = open();
    assert!(conn.handle_close(CloseReason::Shutdown, 30));
    assert!(conn.handle_close(CloseReason::Protocol, 40));
    assert!(conn.is_discarding());
    assert_eq!(
        conn.state(),
        State::Draining {
            reason: CloseReason::Protocol,
            until: 30
        },
        "it has no more time than before"
    );
    assert!(!conn.handle_close(CloseReason::Shutdown, 50));
}

#[test]
fn a_farewell_delivers_or_discards_by_its_reason() {
    let leaving = |reason| {
        let mut conn = open();
        conn.handle_close(reason, 10);
        (conn.may_be_served(), conn.is_discarding())
    };
    assert_eq!(leaving(CloseReason::Shutdown), (true, false));
    assert_eq!(leaving(CloseReason::Idle), (false, true));
}

#[test]
fn a_reset_is_never_taken_back() {
    let mut conn = open();
    assert!(!conn.has_finished());
    conn.handle_fin(1);
    assert!(conn.has_finished());
    conn.handle_reset(2);
    conn.handle_fin(3);
    assert_eq!(conn.peer_end(), PeerEnd::Reset { at: 2 });
    assert!(
        !conn.has_finished(),
        "and nothing that it sent is known to be all"
    );
}

#[test]
fn age_comes_in_every_state_that_is_not_closing() {
    for conn in [
        open(),
        paused(PauseCause::Operator),
        paused(PauseCause::Staging),
    ] {
        assert_eq!(
            conn.handle_timeout(&CLOCKS, 5000, 1000),
            Expired::Close(CloseReason::Age)
        );
    }
}

#[test]
fn who_came_together_grows_older_by_up_to_a_tenth() {
    for (spread, age) in [(0, 1000), (1, 1000), (128, 1050), (255, 1099)] {
        let conn = Conn::new(7).spread(spread);
        assert_eq!(conn.poll_timeout(&CLOCKS, true), Some(7 + age));
    }
}

#[test]
fn a_read_between_messages_puts_off_what_is_set_unless_it_is_idle_sooner() {
    let read = |published, staged| {
        let mut conn = open();
        conn.handle_read(4, 20);
        conn.handle_cut(published, 0, staged);
        conn
    };
    let between = read(4, 0);
    for (set, is_put_off) in [(119, true), (120, true), (121, false)] {
        assert_eq!(between.is_put_off(&CLOCKS, set), is_put_off, "{set}");
    }
    assert!(
        !read(0, 4).is_put_off(&CLOCKS, 119),
        "its message has a time"
    );
    let mut skipping = read(4, 0);
    *skipping.partial_mut() = Partial::SkipCount(7);
    assert!(
        !skipping.is_put_off(&CLOCKS, 119),
        "and so has what is skipped"
    );
    let mut paused = read(4, 0);
    paused.handle_pause(PauseCause::Staging, 21);
    assert!(!paused.is_put_off(&CLOCKS, 119));
}

#[test]
fn ticks_may_wrap() {
    let mut conn = Conn::new(u32::MAX - 10);
    conn.handle_read(1, u32::MAX - 5);
    assert_eq!(conn.poll_timeout(&CLOCKS, false), Some(94));
    assert_eq!(conn.handle_timeout(&CLOCKS, 0, u32::MAX), Expired::Nothing);
    assert_eq!(
        conn.handle_timeout(&CLOCKS, 0, 94),
        Expired::Look(CloseReason::Idle)
    );
}

/// What a walk of one connection is made of.
fn happen(conn: &mut Conn, event: u8, ticks: Tick, now: Tick) {
    match event {
        0 => conn.handle_message(now),
        1 => conn.handle_look(CloseReason::Idle, now),
        6 => conn.handle_look(CloseReason::Message, now),
        7 => conn.handle_look(CloseReason::Trickle, now),
        8 => conn.handle_window(now),
        2 => conn.handle_held(ticks),
        3 => assert!(conn.handle_pause(PauseCause::Operator, now) || conn.state() != State::Open),
        4 => conn.handle_resume(PauseCause::Operator, now),
        _ => {
            conn.handle_read(1, now);
            conn.handle_cut(conn.staged() as u64, 0, 1);
        }
    }
}

proptest! {
    #[test]
    fn a_tick_has_come_for_half_of_all_ticks_wherever_they_wrap(
        tick: Tick,
        by in prop_oneof![Just(1), Just(1 << 31), 1..=1u32 << 31],
    ) {
        prop_assert!(has_come(tick, tick));
        prop_assert!(has_come(tick.wrapping_add(by - 1), tick));
        prop_assert!(!has_come(tick, tick.wrapping_add(by)));
    }

    #[test]
    fn whatever_happens_the_armed_tick_is_the_first_with_something_to_say(
        born: Tick,
        idle in prop::option::of(1u32..200),
        message in prop::option::of(1u32..200),
        window in prop::option::of(125u32..300),
        age in prop::option::of(1u32..400),
        walk in prop::collection::vec((0u8..11, 0u32..60), 0..12),
    ) {
        let clocks = Clocks { idle, message, window, age, linger: 0 };
        let mut conn = Conn::new(born);
        let mut now = born;
        for (event, ticks) in walk {
            now = now.wrapping_add(ticks);
            happen(&mut conn, event, ticks, now);
        }
        // Later than all of them: what was held twice as long as it took, a look, the longest clock.
        let says = |tick: &Tick| conn.handle_timeout(&clocks, 0, *tick) != Expired::Nothing;
        let first = (0..2000).map(|ticks| now.wrapping_add(ticks)).find(says);
        let armed = conn.poll_timeout(&clocks, false);
        prop_assert_eq!(armed.map(|at| if has_come(now, at) { now } else { at }), first);
    }
}
