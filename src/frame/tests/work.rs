//! What a framing says it looked at: the work that a peer can make, which a snapshot shows.

use super::*;
use crate::frame::framers::{CRLF, U8};

/// How many bytes are looked at, of these as they come after those that are staged.
fn looked_at(
    framing: &Framing,
    limits: Limits,
    mut partial: Partial,
    staged: &str,
    fresh: &str,
) -> usize {
    let (staged, fresh) = (staged.as_bytes(), fresh.as_bytes());
    let mut cuts = Vec::new();
    cut(framing, &limits, &mut partial, staged, fresh, &mut cuts)
}

const BEGUN: Partial = Partial::Message { need: 0 };
const SKIP_TO: Partial = Partial::SkipTo {
    tail: [0; 6],
    len: 0,
};

#[test]
fn of_lines_what_follows_the_last_end_and_what_is_searched_for_one() {
    let discard = |max| limits(max, OversizePolicy::Discard);
    for (max, partial, staged, fresh, expected) in [
        (300, Partial::Between, "", "one\ntwo\nth", 3),
        (300, BEGUN, "tw", "o\nx", 2),
        (300, Partial::Between, "", "abc", 3),
        (300, BEGUN, "abc", "", 0),
        // Hops of five: back to the end in each, and on behind it.
        (4, Partial::Between, "", "ab\ncd\nefg", 3 + 3 + 1),
        // Too large: as many as are legal and one, then on to its end; then back from the end.
        (2, Partial::Between, "", "abcdef\nok\n", 3 + 4 + 1),
        (2, Partial::Between, "", "abcdef", 3 + 3),
        (2, SKIP_TO, "", "xx\nok", 3 + 2),
        (2, SKIP_TO, "", "xxxx", 4),
    ] {
        let looked_at = looked_at(&Framing::Line, discard(max), partial, staged, fresh);
        assert_eq!(looked_at, expected, "{staged:?} {fresh:?} of {max}");
    }
    let close = limits(2, OversizePolicy::Close);
    let examined = looked_at(&Framing::Line, close, Partial::Between, "", "abcdef");
    assert_eq!(examined, 3, "the rest is discarded unseen");
}

#[test]
fn of_counted_messages_the_counts_alone() {
    let promised = Partial::Message { need: 9 };
    for (partial, staged, fresh, expected) in [
        (Partial::Between, "", "2 ok3 yes", 4),
        (Partial::Between, "", "2 ok123", 2 + 3),
        (Partial::Between, "", "2 ok3 ye", 4),
        (promised, "7 12345", "6", 0),
        (promised, "7 12345", "67", 2),
        (BEGUN, "1", "2", 2),
        (Partial::SkipCount(9), "", "12345678", 0),
        (Partial::SkipCount(3), "", "1232 ok", 2),
        (Partial::Between, "", "9 1234567892 ok", 2 + 2),
        (Partial::Between, "", "9 1234", 2),
        // What is no count is looked at as far as one can be.
        (Partial::Between, "", "2 okx23", 2 + 3),
        (Partial::Between, "", "2 okx2345678901234", 2 + 11),
    ] {
        for policy in [OversizePolicy::Truncate, OversizePolicy::Discard] {
            let limits = limits(7, policy);
            let looked_at = looked_at(&Framing::Octet, limits, partial, staged, fresh);
            assert_eq!(looked_at, expected, "{staged:?} {fresh:?} {policy:?}");
        }
    }
    let close = limits(7, OversizePolicy::Close);
    let examined = looked_at(&Framing::Octet, close, Partial::Between, "", "2 ok9 12");
    assert_eq!(examined, 2 + 2);
}

#[test]
fn of_an_embedders_messages_what_it_was_shown() {
    let crlf = Framing::Custom(Arc::new(CRLF));
    let u8 = Framing::Custom(Arc::new(U8));
    let promised = Partial::Message { need: 5 };
    for (framing, partial, staged, fresh, expected) in [
        (&crlf, Partial::Between, "", "a\r\nb", 4),
        (&crlf, BEGUN, "a", "\r\nb", 3),
        // Too large: all of it, what is searched for its end, and what follows that.
        (&crlf, Partial::Between, "", "fives\r\nok", 9 + 9 + 2),
        (&crlf, BEGUN, "five", "s\r\nok", 5 + 5 + 2),
        (&crlf, SKIP_TO, "", "xx\r\nok", 6 + 2),
        (&crlf, SKIP_TO, "", "xxxx", 4),
        (&u8, Partial::Between, "", "\x05fully\x01b", 8 + 2),
        (&u8, promised, "\x04fu", "l", 0),
        (&u8, Partial::SkipCount(3), "", "123\x01b", 2),
        (&u8, Partial::SkipCount(3), "", "12", 0),
    ] {
        let discard = limits(4, OversizePolicy::Discard);
        let looked_at = looked_at(framing, discard, partial, staged, fresh);
        assert_eq!(looked_at, expected, "{framing} {staged:?} {fresh:?}");
    }
}
