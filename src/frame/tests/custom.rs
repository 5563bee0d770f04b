//! Embedders' framers, good and bad.

use super::*;
use crate::frame::framers::{CRLF, SEVEN, U8};

#[test]
fn good_framers_keep_the_contract() {
    for input in [
        &b"a\r\n\r\nfour\r\nfives\r\nb\r\r\n\r\n12345678901\r2\r\n\n"[..],
        b"1234567\r",
        b"1234\r",
        b"12345\r\r\n",
    ] {
        framer_contract(&CRLF, input, 4).unwrap();
    }
    for input in [
        &b"a<-end->four<-end->fives<-end-><-end->b<-end-<-end->far too large<-en<-end->ok<-end->"[..],
        b"12345<-end",
        b"<<-<-e<-en<-end<-end-<-end->",
    ] {
        framer_contract(&SEVEN, input, 4).unwrap();
    }
    for input in [
        &b"\x01a\x04full\x05fully\x01b\x09123456789\x02a"[..],
        b"\x02ok\x0012",
        b"\x09123",
    ] {
        framer_contract(&U8, input, 4).unwrap();
    }
}

#[test]
fn a_custom_framing_is_named_and_cut_as_one_of_ours() {
    let crlf = Framing::Custom(Arc::new(CRLF));
    assert_eq!(crlf.to_string(), "crlf");
    assert_eq!(format!("{crlf:?}"), "Custom(Framer(crlf))");
    assert!(!crlf.is_counted());
    let outcome = read(
        &crlf,
        limits(4, OversizePolicy::Truncate),
        &[b"ok\r", b"\nlonger than four\r", b"\nok\r\n"],
    );
    assert_eq!(
        outcome.delivered,
        [whole("ok"), cut_short("long"), whole("ok")]
    );
    assert_eq!(outcome.discarded_bytes, "er than four\r\n".len());
    assert_eq!(outcome.discarded_messages, 1);

    let u8 = Framing::Custom(Arc::new(U8));
    assert!(u8.is_counted());
    let begun = Partial::Message { need: 3 };
    let cut_at_end = AtEnd::Discard(DiscardReason::CutAtEnd);
    assert_eq!(at_end(&u8, begun, 2), cut_at_end);
}

/// Says the same whatever it is asked.
struct Parrot(Scan, Option<usize>);

impl Framer for Parrot {
    fn scan(&self, _staged: &[u8], _fresh: &[u8], _max: usize) -> Scan {
        self.0
    }

    fn split<'b>(&self, bytes: &'b [u8]) -> Option<(&'b [u8], &'b [u8])> {
        Some((&bytes[..0], bytes))
    }

    fn resync(&self, _tail: &[u8], _fresh: &[u8]) -> Option<usize> {
        self.1
    }

    fn delivers_unterminated(&self) -> bool {
        true
    }

    fn name(&self) -> &str {
        "parrot"
    }
}

#[test]
fn a_framer_that_cannot_be_right_costs_its_connection_only() {
    let oversize = |prefix, size| Scan::Oversize {
        end: 0,
        prefix,
        size,
    };
    for (scan, resync) in [
        (Scan::Whole { end: 9, need: 0 }, None),
        (Scan::Whole { end: 0, need: 5 }, None),
        (
            Scan::Whole {
                end: 0,
                need: 1 << 40,
            },
            None,
        ),
        (Scan::Invalid { end: 9 }, None),
        (oversize(9, None), None),
        (oversize(0, Some(4)), None),
        (oversize(0, Some(1 << 40)), None),
        (oversize(0, None), Some(0)),
        (oversize(0, None), Some(9)),
    ] {
        for policy in [OversizePolicy::Truncate, OversizePolicy::Discard] {
            let mut cuts = Vec::new();
            let mut partial = Partial::Between;
            let framing = Framing::Custom(Arc::new(Parrot(scan, resync)));
            let limits = limits(4, policy);
            cut(&framing, &limits, &mut partial, b"", b"12345", &mut cuts);
            let close = Cut::Close {
                reason: CloseReason::Protocol,
            };
            assert_eq!(cuts.last(), Some(&close), "{scan:?} {resync:?}");
            let is_blamed = cuts.iter().any(|cut| {
                matches!(
                    cut,
                    Cut::Discard {
                        reason: DiscardReason::Framing,
                        ..
                    }
                )
            });
            assert!(is_blamed, "{cuts:?}");
        }
    }
    // Called too large, and over before it was.
    let framing = Framing::Custom(Arc::new(Parrot(oversize(0, None), Some(1))));
    let discard = limits(4, OversizePolicy::Discard);
    let outcome = read(&framing, discard, &[b"12345"]);
    assert_eq!(outcome.close, Some(CloseReason::Protocol));
    assert_eq!(outcome.discarded_messages, 1);
    let parrot = Parrot(Scan::Whole { end: 1, need: 0 }, None);
    let framing = Framing::Custom(Arc::new(parrot));
    assert_eq!(MessageIter::new(&framing, b"for ever").count(), 0);
}

/// What is cut from `bytes` that are read at once. An error: the framer is blamed for so many of them.
fn judge(
    framer: impl Framer,
    max: usize,
    oversize: OversizePolicy,
    bytes: &[u8],
) -> Result<Vec<Cut>, usize> {
    let mut cuts = Vec::new();
    let framing = Framing::Custom(Arc::new(framer));
    let limits = limits(max, oversize);
    let mut partial = Partial::Between;
    cut(&framing, &limits, &mut partial, b"", bytes, &mut cuts);
    let reason = CloseReason::Protocol;
    if cuts.last() != Some(&Cut::Close { reason }) {
        return Ok(cuts);
    }
    let blamed = |cut: &Cut| match cut {
        Cut::Discard {
            reason: DiscardReason::Framing,
            bytes,
            ..
        } => *bytes,
        _ => 0,
    };
    Err(cuts.iter().map(blamed).sum())
}

#[test]
fn a_framer_may_keep_a_largest_message_and_sixteen_bytes_of_marks() {
    let keeps = |bytes: usize, need: usize| {
        let parrot = Parrot(Scan::Whole { end: 0, need }, None);
        judge(parrot, 4, OversizePolicy::Close, &vec![b'x'; bytes])
    };
    let rest = vec![Cut::Rest { start: 0 }];
    for (bytes, need) in [(20, 0), (5, 6), (5, 20), (19, 20)] {
        assert_eq!(keeps(bytes, need), Ok(rest.clone()), "{bytes} {need}");
    }
    for (bytes, need) in [(21, 0), (5, 5), (5, 1), (5, 21)] {
        assert_eq!(keeps(bytes, need), Err(bytes), "{bytes} {need}");
    }
    assert_eq!(keeps(0, 0), Ok(Vec::new()));
}

#[test]
fn a_framer_may_call_too_large_what_is_and_whose_prefix_is_there() {
    let calls = |bytes: usize, prefix: usize, size: Option<usize>| {
        let scan = Scan::Oversize {
            end: 0,
            prefix,
            size,
        };
        let all = vec![b'x'; bytes];
        judge(Parrot(scan, None), 4, OversizePolicy::Close, &all)
    };
    for (bytes, prefix, size) in [
        (1, 0, None),
        (5, 5, None),
        (16, 16, Some(5)),
        (1, 0, Some(5)),
    ] {
        let discard = Cut::Discard {
            bytes,
            messages: 1,
            reason: DiscardReason::Oversize,
        };
        let reason = CloseReason::Oversize;
        let expected = vec![discard, Cut::Close { reason }];
        assert_eq!(
            calls(bytes, prefix, size),
            Ok(expected),
            "{bytes} {prefix} {size:?}"
        );
    }
    for (bytes, prefix, size) in [
        (5, 6, None),
        (17, 17, None),
        (9, 0, Some(4)),
        (9, 0, Some(1 << 32)),
        (0, 0, Some(5)),
    ] {
        assert_eq!(
            calls(bytes, prefix, size),
            Err(bytes),
            "{bytes} {prefix} {size:?}"
        );
    }
}

#[test]
fn what_is_kept_of_a_message_that_is_too_large_is_cut_as_soon_as_it_is_there() {
    let cuts = |bytes: &[u8]| judge(U8, 4, OversizePolicy::Truncate, bytes);
    assert_eq!(cuts(b"\x09123"), Ok(vec![Cut::Rest { start: 0 }]));
    let prefix = Cut::Discard {
        bytes: 1,
        messages: 1,
        reason: DiscardReason::Oversize,
    };
    let truncated = Cut::Truncated { start: 1, end: 5 };
    assert_eq!(cuts(b"\x091234"), Ok(vec![prefix, truncated]));
    let framing = Framing::Custom(Arc::new(U8));
    let mut connection = Connection::new(framing, limits(4, OversizePolicy::Truncate));
    connection.receive(b"\x09");
    assert_eq!(connection.partial, Partial::Message { need: 5 });
}

/// Without a prefix the message counts with the first byte behind what is kept, which is to be there.
#[test]
fn a_message_without_a_prefix_counts_where_its_first_byte_is_discarded() {
    for size in [Some(9), None] {
        let oversize = Scan::Oversize {
            end: 0,
            prefix: 0,
            size,
        };
        let cuts = |bytes: &[u8]| judge(Parrot(oversize, None), 4, OversizePolicy::Truncate, bytes);
        assert_eq!(cuts(b"1234"), Ok(vec![Cut::Rest { start: 0 }]));
        let truncated = Cut::Truncated { start: 0, end: 4 };
        let discard = Cut::Discard {
            bytes: 1,
            messages: 1,
            reason: DiscardReason::Oversize,
        };
        assert_eq!(cuts(b"12345"), Ok(vec![truncated, discard]));
    }
}

#[test]
fn what_is_discarded_of_a_message_that_is_too_large_is_what_is_there() {
    let discard = Cut::Discard {
        bytes: 4,
        messages: 1,
        reason: DiscardReason::Oversize,
    };
    let cuts = judge(U8, 4, OversizePolicy::Discard, b"\x09123");
    assert_eq!(cuts, Ok(vec![discard]));
}

#[test]
fn a_message_that_was_too_large_ends_beyond_the_largest() {
    let ends = |end, at| {
        let scan = Scan::Oversize {
            end,
            prefix: 0,
            size: None,
        };
        // It says so of what follows, too, and of nothing.
        let parrot = Parrot(scan, Some(at));
        judge(parrot, 4, OversizePolicy::Discard, b"123456789")
    };
    assert_eq!(ends(0, 4), Err(9), "it was not too large");
    assert_eq!(ends(0, 5), Err(4), "and the four behind it are said to be");
    assert_eq!(ends(0, 9), Err(0), "nothing is left, and is said to be");
    assert_eq!(ends(0, 10), Err(9), "beyond what there is");
    assert_eq!(ends(0, 0), Err(9), "nowhere");
    assert_eq!(ends(3, 4), Err(6), "behind a whole one it was not, either");
    assert_eq!(ends(3, 5), Err(1), "and the one behind it cannot be whole");
}

/// First it needs more bytes, then all of them are one message, which had ended long before.
struct Late;

impl Framer for Late {
    fn scan(&self, staged: &[u8], _fresh: &[u8], _max: usize) -> Scan {
        if staged.is_empty() {
            return Scan::Whole { end: 0, need: 0 };
        }
        Scan::Oversize {
            end: 0,
            prefix: 1,
            size: Some(5),
        }
    }

    fn split<'b>(&self, _bytes: &'b [u8]) -> Option<(&'b [u8], &'b [u8])> {
        None
    }

    fn resync(&self, _tail: &[u8], _fresh: &[u8]) -> Option<usize> {
        None
    }

    fn delivers_unterminated(&self) -> bool {
        false
    }

    fn name(&self) -> &str {
        "late"
    }
}

#[test]
fn an_end_in_what_was_staged_comes_too_late() {
    let framing = Framing::Custom(Arc::new(Late));
    let ends = |first: &[u8], second: &[u8]| {
        let discard = limits(4, OversizePolicy::Discard);
        let outcome = read(&framing, discard, &[first, second]);
        (
            outcome.close,
            outcome.discarded_bytes,
            outcome.discarded_messages,
        )
    };
    // Six bytes are the message. Those behind it were staged, as if nothing had ended.
    let closed = Some(CloseReason::Protocol);
    assert_eq!(ends(b"1234567", b"8"), (closed, 8, 2));
    assert_eq!(ends(b"123456", b""), (None, 6, 1), "but here nothing was");
    assert_eq!(ends(b"12345", b"6"), (None, 6, 1));
}

/// Forgets what it has seen before, finds ends where it is told to, and knows no largest message.
enum Bad {
    Forgets,
    IsBeyond,
    KnowsNoMax,
}

impl Framer for Bad {
    fn scan(&self, staged: &[u8], fresh: &[u8], max: usize) -> Scan {
        match self {
            Self::Forgets => CRLF.scan(b"", fresh, max),
            Self::IsBeyond if !staged.is_empty() => Scan::Invalid {
                end: fresh.len() + 1,
            },
            Self::IsBeyond => CRLF.scan(staged, fresh, max),
            Self::KnowsNoMax => CRLF.scan(staged, fresh, usize::MAX),
        }
    }

    fn split<'b>(&self, bytes: &'b [u8]) -> Option<(&'b [u8], &'b [u8])> {
        CRLF.split(bytes)
    }

    fn resync(&self, tail: &[u8], fresh: &[u8]) -> Option<usize> {
        CRLF.resync(tail, fresh)
    }

    fn delivers_unterminated(&self) -> bool {
        true
    }

    fn name(&self) -> &str {
        "bad"
    }
}

#[test]
fn the_contract_says_how_a_framer_breaks_it() {
    for (framer, input, says) in [
        (Bad::Forgets, "ok\r\n", "split after 3 bytes: Outcome"),
        (
            Bad::IsBeyond,
            "ok\r\n",
            "split after 1 bytes: scan or resync said what cannot be",
        ),
        (
            Bad::KnowsNoMax,
            "fives\r\n",
            "all at once: scan let a message of 5 bytes pass",
        ),
    ] {
        let error = framer_contract(&framer, input.as_bytes(), 4).unwrap_err();
        assert!(error.contains(says), "{error}");
    }
    // Exactly the largest.
    framer_contract(&Bad::KnowsNoMax, b"four\r\n", 4).unwrap();
    let parrot = Parrot(Scan::Whole { end: 1, need: 0 }, None);
    let error = framer_contract(&parrot, b"1", 4).unwrap_err();
    assert!(error.contains("split finds no message there"), "{error}");
}
