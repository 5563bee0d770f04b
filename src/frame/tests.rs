//! The framings, told as stories; the any-split property and custom framers stand in rooms of their own.

mod adversary;
mod any_split;
mod custom;
mod work;

use super::counted::{self, Prefix};
use super::driver::{Connection, Outcome};
use super::*;
use crate::close::CloseReason;

fn limits(max: usize, oversize: OversizePolicy) -> Limits {
    Limits { max, oversize }
}

const POLICIES: [OversizePolicy; 3] = [
    OversizePolicy::Truncate,
    OversizePolicy::Discard,
    OversizePolicy::Close,
];

fn read(framing: &Framing, limits: Limits, reads: &[&[u8]]) -> Outcome {
    let mut connection = Connection::new(framing.clone(), limits);
    for fresh in reads {
        connection.receive(fresh);
    }
    connection.outcome
}

fn whole(message: &str) -> (bool, Vec<u8>) {
    (false, message.as_bytes().to_vec())
}

fn cut_short(message: &str) -> (bool, Vec<u8>) {
    (true, message.as_bytes().to_vec())
}

#[test]
fn a_connection_costs_eight_bytes() {
    assert_eq!(size_of::<Partial>(), 8);
}

#[test]
fn names_parse_and_print() {
    for name in [
        "line",
        "nul",
        "byte:0x7c",
        "byte:0x00",
        "octet",
        "auto",
        "u16",
        "u32",
        "varint",
    ] {
        assert_eq!(name.parse::<Framing>().unwrap().to_string(), name);
    }
    let decimal: Framing = "byte:124".parse().unwrap();
    assert_eq!(decimal.to_string(), "byte:0x7c");
    for byte in [
        "", "0x", "256", "0x100", "+5", "0x+5", "-1", "|", "0X7c", " 1",
    ] {
        let error = format!("byte:{byte}").parse::<Framing>().unwrap_err();
        assert_eq!(error, ParseFramingError::NotAByte(byte.to_owned()));
        assert!(error.to_string().contains("0 to 255"), "{error}");
    }
    for name in ["", "lines", "LINE", "u8", "byte", "line "] {
        let error = name.parse::<Framing>().unwrap_err();
        assert_eq!(error, ParseFramingError::Unknown(name.to_owned()));
        assert!(
            error.to_string().contains("line, nul, byte:0xNN"),
            "{error}"
        );
    }
}

#[test]
fn a_settled_framing_survives_its_record() {
    for framing in [
        Framing::Line,
        Framing::Nul,
        Framing::Byte(9),
        Framing::Octet,
        Framing::U16,
        Framing::U32,
        Framing::Varint,
    ] {
        let same = Framing::from_code(framing.code(), &framing).unwrap();
        assert_eq!(same.to_string(), framing.to_string());
        let from_auto = Framing::from_code(framing.code(), &Framing::Auto).is_some();
        assert_eq!(from_auto, matches!(framing, Framing::Line | Framing::Octet));
        assert!(Framing::from_code(0, &framing).is_none());
    }
    assert!(Framing::from_code(0, &Framing::Auto).is_none());
}

#[test]
fn a_prefix_caps_the_largest_message() {
    assert_eq!(Framing::U16.max_message(1 << 20), 65_535);
    assert_eq!(Framing::U16.max_message(10), 10);
    assert_eq!(Framing::U32.max_message(1 << 20), 1 << 20);
    assert_eq!(Framing::Line.max_message(usize::MAX), usize::MAX);
    assert_eq!(Framing::Octet.max_message(usize::MAX), u32::MAX as usize);
}

#[test]
fn a_read_of_whole_lines_is_one_cut_and_a_beginning_a_second() {
    let mut cuts = vec![Cut::Rest { start: 99 }];
    let mut partial = Partial::default();
    let limits = limits(4, OversizePolicy::Truncate);
    cut(
        &Framing::Line,
        &limits,
        &mut partial,
        b"",
        b"one\ntwo\r\n\nfour\n",
        &mut cuts,
    );
    assert_eq!(cuts, [Cut::Messages { start: 0, end: 15 }]);
    assert_eq!(partial, Partial::Between);

    cut(
        &Framing::Line,
        &limits,
        &mut partial,
        b"",
        b"one\ntw",
        &mut cuts,
    );
    let rest = Cut::Rest { start: 4 };
    assert_eq!(cuts, [Cut::Messages { start: 0, end: 4 }, rest]);
    assert_eq!(partial, Partial::Message { need: 0 });

    cut(
        &Framing::Line,
        &limits,
        &mut partial,
        b"tw",
        b"o\n",
        &mut cuts,
    );
    assert_eq!(cuts, [Cut::Messages { start: 0, end: 4 }]);
    assert_eq!(partial, Partial::Between);
}

#[test]
fn every_framing_finds_its_messages() {
    let max = limits(300, OversizePolicy::Close);
    let examples: [(Framing, &[u8]); 7] = [
        (Framing::Line, b"a\r\n\nbc\n"),
        (Framing::Nul, b"a\r\0\0bc\0"),
        (Framing::Byte(b'|'), b"a\r||bc|"),
        (Framing::U16, b"\0\x02a\r\0\0\0\x02bc"),
        (Framing::U32, b"\0\0\0\x02a\r\0\0\0\0\0\0\0\x02bc"),
        (Framing::Varint, b"\x02a\r\x80\x00\x82\x80\x80\x80\x00bc"),
        (Framing::Octet, b"2 a\r10 0123456789"),
    ];
    for (framing, bytes) in examples {
        let outcome = read(&framing, max, &[bytes]);
        let expected = if matches!(framing, Framing::Octet) {
            vec![whole("a\r"), whole("0123456789")]
        } else {
            vec![whole("a\r"), whole(""), whole("bc")]
        };
        assert_eq!(outcome.delivered, expected, "{framing}");
        assert_eq!(outcome.discarded_bytes, 0, "{framing}");
        assert_eq!(outcome.close, None, "{framing}");
        assert_eq!(
            MessageIter::new(&framing, bytes).count(),
            expected.len(),
            "{framing}"
        );
    }
}

#[test]
fn legal_and_illegal_counts() {
    let is = |len, size| Prefix::Is { len, size };
    for (text, expected) in [
        ("", Prefix::Short),
        ("1", Prefix::Short),
        ("1 ", is(2, 1)),
        ("120 <", is(4, 120)),
        ("4294967295 ", is(11, u32::MAX)),
        ("4294967295", Prefix::Short),
        ("4294967296", Prefix::Invalid),
        ("12345678901", Prefix::Invalid),
        ("0", Prefix::Invalid),
        ("0 ", Prefix::Invalid),
        ("01 ", Prefix::Invalid),
        (" ", Prefix::Invalid),
        ("-1", Prefix::Invalid),
        ("1\n", Prefix::Invalid),
        ("<13>", Prefix::Invalid),
    ] {
        assert_eq!(counted::octet(text.as_bytes()), expected, "{text:?}");
    }
    for (bytes, expected) in [
        (&b""[..], Prefix::Short),
        (b"\x80\x80\x80\x80", Prefix::Short),
        (b"\x00", is(1, 0)),
        (b"\x7f", is(1, 127)),
        (b"\xac\x02", is(2, 300)),
        (b"\xff\xff\xff\xff\x0f", is(5, u32::MAX)),
        (b"\xff\xff\xff\xff\x10", Prefix::Invalid),
        (b"\x80\x80\x80\x80\x80", Prefix::Invalid),
    ] {
        assert_eq!(counted::varint(bytes), expected, "{bytes:?}");
    }
    assert_eq!(counted::u16(b"\x01"), Prefix::Short);
    assert_eq!(counted::u16(b"\xff\xff"), is(2, 65_535));
    assert_eq!(counted::u32(b"\0\0\x01"), Prefix::Short);
    assert_eq!(counted::u32(b"\xff\xff\xff\xff"), is(4, u32::MAX));
}

#[test]
fn an_illegal_count_closes_whatever_the_policy() {
    for policy in POLICIES {
        for bad in ["0 x", "01 x", "x", "99999999999 x", "4294967296 x"] {
            let bytes = format!("2 ok{bad}");
            let outcome = read(&Framing::Octet, limits(4, policy), &[bytes.as_bytes()]);
            assert_eq!(outcome.delivered, [whole("ok")], "{bad}");
            assert_eq!(outcome.discarded_bytes, bad.len(), "{bad}");
            assert_eq!(outcome.discarded_messages, 1, "{bad}");
            assert_eq!(outcome.close, Some(CloseReason::Protocol), "{bad}");
        }
    }
}

#[test]
fn exactly_the_maximum_passes_and_one_more_does_not() {
    let examples: [(Framing, &[u8], &[u8]); 7] = [
        (Framing::Line, b"full\n", b"fully\n"),
        (Framing::Octet, b"4 full", b"5 fully"),
        (Framing::U16, b"\0\x04full", b"\0\x05fully"),
        (Framing::U32, b"\0\0\0\x04full", b"\0\0\0\x05fully"),
        (Framing::Varint, b"\x04full", b"\x05fully"),
        (
            Framing::Custom(Arc::new(framers::U8)),
            b"\x04full",
            b"\x05fully",
        ),
        (
            Framing::Custom(Arc::new(framers::CRLF)),
            b"full\r\n",
            b"fully\r\n",
        ),
    ];
    for (framing, legal, large) in examples {
        for policy in POLICIES {
            let input = [legal, large, legal].concat();
            let outcome = read(&framing, limits(4, policy), &[&input]);
            let full = whole("full");
            let (delivered, close) = match policy {
                OversizePolicy::Truncate => (vec![full.clone(), cut_short("full"), full], None),
                OversizePolicy::Discard => (vec![full.clone(), full], None),
                OversizePolicy::Close => (vec![full], Some(CloseReason::Oversize)),
            };
            assert_eq!(outcome.delivered, delivered, "{framing} {policy:?}");
            assert_eq!(outcome.close, close, "{framing} {policy:?}");
            assert_eq!(outcome.discarded_messages, 1, "{framing} {policy:?}");
            // Marks of the message that does not pass as it came are discarded with it.
            let discarded = match policy {
                OversizePolicy::Truncate => large.len() - 4,
                OversizePolicy::Discard => large.len(),
                OversizePolicy::Close => large.len() + legal.len(),
            };
            assert_eq!(outcome.discarded_bytes, discarded, "{framing} {policy:?}");
        }
    }
}

#[test]
fn a_large_counted_message_waits_until_it_can_be_truncated() {
    let mut connection = Connection::new(Framing::Octet, limits(4, OversizePolicy::Truncate));
    connection.receive(b"9 123");
    assert_eq!(connection.partial, Partial::Message { need: 6 });
    assert_eq!(connection.staged, b"9 123");
    connection.receive(b"4");
    assert_eq!(connection.outcome.delivered, [cut_short("1234")]);
    assert_eq!(connection.partial, Partial::SkipCount(5));
    connection.receive(b"567891 x");
    assert_eq!(connection.outcome.delivered.last(), Some(&whole("x")));
    assert_eq!(connection.outcome.discarded_bytes, 2 + 5);
    assert_eq!(connection.outcome.discarded_messages, 1);
}

#[test]
fn discarding_a_large_message_stages_nothing() {
    let mut connection = Connection::new(Framing::U32, limits(4, OversizePolicy::Discard));
    connection.receive(b"\xff\xff\xff\xffab");
    assert_eq!(connection.partial, Partial::SkipCount(u32::MAX - 2));
    assert!(connection.staged.is_empty());
    let mut connection = Connection::new(Framing::Line, limits(4, OversizePolicy::Discard));
    connection.receive(b"12345");
    assert!(connection.partial.is_skipping());
    assert_eq!(connection.outcome.discarded_messages, 1);
    connection.receive(b"678");
    connection.receive(b"9\nok\n");
    assert_eq!(connection.outcome.delivered, [whole("ok")]);
    assert_eq!(connection.outcome.discarded_bytes, 10);
    assert_eq!(connection.outcome.discarded_messages, 1);
}

#[test]
fn a_stream_may_end_inside_a_message() {
    let begun = Partial::Message { need: 0 };
    assert_eq!(at_end(&Framing::Line, begun, 3), AtEnd::Deliver);
    assert_eq!(at_end(&Framing::Auto, Partial::Between, 3), AtEnd::Deliver);
    let cut_at_end = AtEnd::Discard(DiscardReason::CutAtEnd);
    assert_eq!(at_end(&Framing::Octet, begun, 3), cut_at_end);
    let promised = Partial::Message { need: 70 };
    assert_eq!(at_end(&Framing::U16, promised, 3), cut_at_end);
    for partial in [Partial::Between, Partial::SkipCount(3)] {
        assert_eq!(at_end(&Framing::U16, partial, 0), AtEnd::Nothing);
    }
    assert_eq!(at_end(&Framing::Line, Partial::Between, 0), AtEnd::Nothing);
}

#[test]
fn auto_is_decided_by_the_first_bytes_however_they_come() {
    for (bytes, expected) in [
        ("", None),
        ("1", None),
        ("1234567890", None),
        ("1234567890 ", None),
        ("1234567890 <", Some("octet")),
        ("12345678901", Some("line")),
        ("7 <13>", Some("octet")),
        ("7 x", Some("line")),
        ("7  <", Some("line")),
        ("7<", Some("line")),
        ("7 7", Some("line")),
        ("0", Some("line")),
        (" ", Some("line")),
        ("<13>", Some("line")),
        ("\n", Some("line")),
        ("12\n", Some("line")),
    ] {
        for at in 0..=bytes.len() {
            let (staged, fresh) = bytes.as_bytes().split_at(at);
            let settled = settle(staged, fresh).map(|framing| framing.to_string());
            assert_eq!(settled.as_deref(), expected, "{bytes:?} after {at}");
        }
    }
}

#[test]
fn what_auto_kept_may_be_larger_than_a_line_may() {
    let mut cuts = Vec::new();
    let mut partial = Partial::Between;
    let truncate = limits(4, OversizePolicy::Truncate);
    cut(
        &Framing::Line,
        &truncate,
        &mut partial,
        b"123456",
        b"7\nok\n",
        &mut cuts,
    );
    let reason = DiscardReason::Oversize;
    assert_eq!(
        cuts,
        [
            Cut::Truncated { start: 0, end: 4 },
            Cut::Discard {
                bytes: 4,
                messages: 1,
                reason
            },
            Cut::Messages { start: 8, end: 11 },
        ]
    );
    cut(
        &Framing::Line,
        &truncate,
        &mut partial,
        b"123456",
        b"",
        &mut cuts,
    );
    let discard = Cut::Discard {
        bytes: 2,
        messages: 1,
        reason,
    };
    assert_eq!(cuts, [Cut::Truncated { start: 0, end: 4 }, discard]);
    assert!(partial.is_skipping());
}

#[test]
fn byte_by_byte_costs_no_more_than_at_once() {
    const SIZE: usize = 16 << 10;
    let body = vec![b'x'; SIZE];
    let octet = [b"16384 ", &body[..]].concat();
    let varint = [b"\x80\x80\x01", &body[..]].concat();
    let line = [&body[..], b"\n"].concat();
    for (framing, input) in [
        (Framing::Line, line),
        (Framing::Octet, octet),
        (Framing::Varint, varint),
    ] {
        for max in [SIZE, SIZE / 2, 1] {
            for policy in POLICIES {
                let mut examined = 0;
                let mut connection = Connection::new(framing.clone(), limits(max, policy));
                for byte in &input {
                    examined += connection.receive(&[*byte]);
                }
                assert!(examined <= 2 * input.len(), "{framing} {max}: {examined}");
                if max == SIZE {
                    assert_eq!(connection.outcome.delivered, [(false, body.clone())]);
                }
            }
        }
    }
}

#[test]
fn a_consumer_iterates_what_was_cut() {
    let line = Framing::Line;
    let mut lines = MessageIter::new(&line, b"a\n\nbc\n");
    assert_eq!(lines.next(), Some(&b"a"[..]));
    assert_eq!(lines.clone().count(), 2);
    assert_eq!(format!("{lines:?}"), format!("{:?}", [&b""[..], b"bc"]));
    assert_eq!(lines.collect::<Vec<_>>(), [&b""[..], b"bc"]);
    let octet = Framing::Octet;
    let counted = MessageIter::new(&octet, b"1 a2 bc");
    assert_eq!(counted.clone().count(), 2);
    assert_eq!(counted.collect::<Vec<_>>(), [&b"a"[..], b"bc"]);
    let mut bare = MessageIter::bare(b"a\nb");
    assert_eq!(bare.clone().count(), 1);
    assert_eq!(bare.next(), Some(&b"a\nb"[..]));
    assert_eq!((bare.next(), bare.count()), (None, 0));
    assert_eq!(
        split(&Framing::U16, &mut Last::default(), b"\0\x03ab"),
        None
    );
    assert_eq!(MessageIter::new(&Framing::Nul, b"ab").next(), None);
}

/// Folding has a loop of its own; it begins wherever `next` has got to.
#[test]
fn what_is_folded_is_what_next_would_give() {
    let framings = [Framing::Line, Framing::Nul, Framing::Octet];
    let all = [&b"a\n\nbc\n"[..], b"a\0\0bc\0", b"1 a1 b2 bc"];
    let iterators = framings
        .iter()
        .zip(all)
        .map(|(framing, bytes)| MessageIter::new(framing, bytes))
        .chain([MessageIter::bare(b"a\nb")]);
    for mut messages in iterators {
        loop {
            let mut folded = Vec::new();
            messages.clone().for_each(|message| folded.push(message));
            let mut rest = messages.clone();
            let given: Vec<_> = std::iter::from_fn(|| rest.next()).collect();
            assert_eq!(folded, given);
            if messages.next().is_none() {
                break;
            }
        }
    }
}

#[test]
fn an_iterator_says_how_far_it_got_in_the_bytes() {
    let taken = |mut messages: MessageIter<'_>| {
        let mut places = vec![messages.taken()];
        while messages.next().is_some() {
            places.push(messages.taken());
        }
        places
    };
    assert_eq!(
        taken(MessageIter::new(&Framing::Line, b"a\n\nbc\n")),
        [0, 2, 3, 6]
    );
    assert_eq!(
        taken(MessageIter::new(&Framing::Octet, b"1 a2 bc")),
        [0, 3, 7]
    );
    assert_eq!(taken(MessageIter::bare(b"a\nb")), [0, 3]);
}
