//! `fanin serve` and what becomes of a message on its way out: escaped or raw, whole or cut, for every
//! framing.

mod support;

use std::io::{Read, Write};

use serde_json::Value;

use support::{Fanin, PATIENCE, total, wait_for};

/// What comes out when this goes in, and the report.
#[track_caller]
fn through(options: &[&str], input: &[u8]) -> (Vec<u8>, Value) {
    let mut fanin = Fanin::start(options);
    fanin.send(input);
    // A peer that the drain finds still there is closed by it, and not for a reason of its own.
    wait_for("the peer has been closed", PATIENCE, || {
        let closed = total(&fanin.report_now(), "/connections/closed");
        (closed == 1).then_some(())
    });
    let report = fanin.drain();
    assert_eq!(total(&report, "/bytes/received"), input.len() as u64);
    (fanin.output(), report)
}

#[track_caller]
fn comes_out(options: &[&str], input: &[u8], expected: &[u8]) -> Value {
    let (output, report) = through(options, input);
    assert_eq!(
        output.escape_ascii().to_string(),
        expected.escape_ascii().to_string(),
        "{options:?}"
    );
    report
}

/// All that a message can hold and a line cannot, or that is nobody's business.
const WILD: &[u8] = b"<1>LF \n, backslash \\, both \\\n\n, CR \r, TAB \t, \xff and \xc3\xa4";
const WILD_ESCAPED: &[u8] =
    b"<1>LF \\n, backslash \\\\, both \\\\\\n\\n, CR \r, TAB \t, \xff and \xc3\xa4";

/// One of the counted framings.
fn counted(framing: &str, message: &[u8]) -> Vec<u8> {
    let len = message.len();
    let prefix = match framing {
        "octet" | "auto" => format!("{len} ").into_bytes(),
        "u16" => (len as u16).to_be_bytes().to_vec(),
        "u32" => (len as u32).to_be_bytes().to_vec(),
        // LEB128: seven bits each, the lowest first, all but the last with the highest bit set.
        "varint" if len < 128 => vec![len as u8],
        "varint" => vec![len as u8 | 0x80, (len >> 7) as u8],
        other => panic!("{other} counts nothing"),
    };
    [&prefix, message].concat()
}

const COUNTED: [&str; 5] = ["octet", "auto", "u16", "u32", "varint"];
const DELIMITED: [(&str, &[u8]); 3] = [("nul", b"\0"), ("byte:0x7c", b"|"), ("byte:254", b"\xfe")];

/// Every framing but `line`, with messages in it as a peer sends them.
fn framed(messages: &[&[u8]]) -> Vec<(&'static str, Vec<u8>)> {
    let delimited = DELIMITED.iter().map(|(name, end)| {
        let each = messages.iter().map(|m| [m, *end].concat());
        (*name, each.collect::<Vec<_>>().concat())
    });
    let counted = COUNTED.iter().map(|name| {
        let each = messages.iter().map(|m| counted(name, m));
        (*name, each.collect::<Vec<_>>().concat())
    });
    delimited.chain(counted).collect()
}

#[test]
fn lines_are_copied_as_they_are() {
    let input = b"backslash \\, CR \r, NUL \0, \xff\r\n\n|\n";
    for output in ["line", "raw"] {
        let report = comes_out(&["--output", output], input, input);
        assert_eq!(total(&report, "/messages/delivered"), 3);
    }
}

#[test]
fn no_other_message_can_forge_a_line() {
    let expected = [b"<1>first\n", WILD_ESCAPED, b"\n<1>last\n"].concat();
    for (framing, input) in framed(&[b"<1>first", WILD, b"<1>last"]) {
        let report = comes_out(&["--framing", framing], &input, &expected);
        assert_eq!(total(&report, "/messages/delivered"), 3, "{framing}");
        // What peers sent, never what a sink adds.
        assert_eq!(total(&report, "/bytes/delivered"), input.len() as u64);
    }
}

#[test]
fn auto_is_escaped_when_it_has_settled_to_lines_too() {
    let report = comes_out(
        &["--framing", "auto"],
        b"back\\slash\n\n",
        b"back\\\\slash\n\n",
    );
    assert_eq!(total(&report, "/messages/delivered"), 2);
}

#[test]
fn raw_is_what_came() {
    let auto = ("auto", b"back\\slash\n\n".to_vec());
    for (framing, input) in framed(&[b"<1>first", WILD, b"<1>last"])
        .into_iter()
        .chain([auto])
    {
        comes_out(&["--framing", framing, "--output", "raw"], &input, &input);
    }
}

#[test]
fn empty_messages_are_messages() {
    for (framing, input) in framed(&[b"", b"", b"x"]) {
        // For octet counting, 0 is no count (RFC 6587).
        if ["octet", "auto"].contains(&framing) {
            continue;
        }
        let report = comes_out(&["--framing", framing], &input, b"\n\nx\n");
        assert_eq!(total(&report, "/messages/delivered"), 3, "{framing}");
    }
}

#[test]
fn a_message_that_comes_byte_by_byte_is_written_as_one_that_came_at_once() {
    let lines = ("line", b"<1>ab\n<1>c\n".to_vec());
    for (framing, input) in framed(&[b"<1>ab", b"<1>c"]).into_iter().chain([lines]) {
        for output in ["line", "raw"] {
            let mut fanin = Fanin::start(&["--framing", framing, "--output", output]);
            let mut peer = fanin.connect();
            peer.set_nodelay(true).unwrap();
            for (number, byte) in input.iter().enumerate() {
                peer.write_all(&[*byte]).unwrap();
                wait_for("the byte is read", PATIENCE, || {
                    let received = total(&fanin.report_now(), "/bytes/received");
                    (received == number as u64 + 1).then_some(())
                });
            }
            drop(peer);
            fanin.drain();
            let expected = if output == "raw" {
                &input
            } else {
                &b"<1>ab\n<1>c\n"[..]
            };
            assert_eq!(fanin.output(), expected, "{framing} {output}");
        }
    }
}

// Messages that end too early.

#[test]
fn a_line_without_its_end_is_given_one_and_raw_gives_none() {
    for (framing, end) in [
        ("line", "\n"),
        ("auto", "\n"),
        ("nul", "\0"),
        ("byte:0x7c", "|"),
    ] {
        let input = format!("whole{end}and no end");
        let framing = ["--framing", framing];
        let report = comes_out(&framing, input.as_bytes(), b"whole\nand no end\n");
        assert_eq!(total(&report, "/messages/delivered"), 2);
        assert_eq!(total(&report, "/bytes/delivered"), input.len() as u64);
        let raw = [&framing[..], &["--output", "raw"]].concat();
        comes_out(&raw, input.as_bytes(), input.as_bytes());
    }
}

#[test]
fn a_message_without_its_end_is_escaped_as_others_are() {
    comes_out(&["--framing", "nul"], b"no\nend\\", b"no\\nend\\\\\n");
}

#[test]
fn a_counted_message_that_is_cut_short_is_not_delivered_but_counted() {
    for framing in COUNTED {
        let whole = counted(framing, b"<1>whole");
        let cut = counted(framing, b"<1>cut short");
        let cut = &cut[..cut.len() - 1];
        for output in ["line", "raw"] {
            let options = ["--framing", framing, "--output", output];
            let expected = if output == "raw" {
                &whole
            } else {
                &b"<1>whole\n"[..]
            };
            let report = comes_out(&options, &[&whole, cut].concat(), expected);
            assert_eq!(report["bytes"]["discarded"]["cut_at_end"], cut.len());
            assert_eq!(total(&report, "/bytes/discarded"), cut.len() as u64);
            assert_eq!(total(&report, "/messages/delivered"), 1);
        }
    }
}

// Messages that are too large.

/// Large enough for two bytes of a varint.
const MAX: usize = 200;
const CUT: [&str; 4] = ["--max-message", "200", "--on-oversize", "truncate"];

#[test]
fn a_truncated_line_is_given_its_lf() {
    let cut = [b'x'; MAX];
    let input = [&cut[..], b"yyyy\nok\n"].concat();
    let expected = [&cut[..], b"\nok\n"].concat();
    for output in ["line", "raw"] {
        let options = [&CUT[..], &["--output", output]].concat();
        let report = comes_out(&options, &input, &expected);
        assert_eq!(report["bytes"]["discarded"]["oversize"], 4 + 1);
        assert_eq!(total(&report, "/messages/delivered"), 2);
    }
}

#[test]
fn a_truncated_message_is_escaped_and_given_its_lf_and_raw_gives_it_its_new_length() {
    // The cut is after an LF: what is left of it must not end the line before its time.
    let cut = [&b"<1>\\"[..], &[b'x'; MAX - 5], b"\n"].concat();
    let long = [&cut[..], b"yyyy"].concat();
    let escaped = [&b"<1>\\\\"[..], &[b'x'; MAX - 5], b"\\n\n<1>ok\n"].concat();
    let raw = framed(&[&cut, b"<1>ok"]);
    for ((framing, input), (_, raw)) in framed(&[&long, b"<1>ok"]).into_iter().zip(raw) {
        let options = [&CUT[..], &["--framing", framing]].concat();
        let report = comes_out(&options, &input, &escaped);
        // Its prefix or delimiter is lost with its end.
        let marks = match DELIMITED.iter().any(|(name, _)| *name == framing) {
            true => 1,
            false => counted(framing, &long).len() - long.len(),
        };
        assert_eq!(
            report["bytes"]["discarded"]["oversize"],
            4 + marks,
            "{framing}"
        );
        assert_eq!(
            total(&report, "/bytes/delivered"),
            (input.len() - 4 - marks) as u64
        );
        comes_out(&[&options[..], &["--output", "raw"]].concat(), &input, &raw);
    }
}

#[test]
fn the_largest_message_passes_whole_and_a_larger_one_is_treated_as_the_policy_says() {
    let three = b"exactly the most\nseventeen letter\nok\n";
    // The input, and how many of its bytes are the large message and the one after it.
    let lines = (&b"exactly the most\nseventeen letters\nok\n"[..], 18, 3);
    let octets = (&b"16 exactly the most17 seventeen letters2 ok"[..], 20, 4);
    for (framing, (input, large, after)) in [("line", lines), ("octet", octets)] {
        let run = |policy: &[&str], expected: &[u8]| {
            let options = [&["--max-message", "16", "--framing", framing], policy].concat();
            comes_out(&options, input, expected)
        };
        let is_truncated = |report: Value| {
            assert_eq!(report["bytes"]["discarded"]["oversize"], large - 16);
            assert_eq!(report["connections"]["closed"]["oversize"], 0);
            assert_eq!(total(&report, "/messages/delivered"), 3);
        };
        let is_closed = |report: Value| {
            // What comes after it is read only so that closing is no reset, and is counted as well.
            assert_eq!(total(&report, "/bytes/discarded"), large + after);
            assert!(
                total(&report, "/bytes/discarded/oversize") > 0,
                "{report:#}"
            );
            assert_eq!(report["connections"]["closed"]["oversize"], 1);
            assert_eq!(total(&report, "/messages/delivered"), 1);
        };
        is_truncated(run(&["--on-oversize", "truncate"], three));
        is_closed(run(&["--on-oversize", "close"], b"exactly the most\n"));
        let discarded = run(&["--on-oversize", "discard"], b"exactly the most\nok\n");
        assert_eq!(discarded["bytes"]["discarded"]["oversize"], large);
        assert_eq!(discarded["connections"]["closed"]["oversize"], 0);
        assert_eq!(total(&discarded, "/messages/delivered"), 2);
        match framing {
            "line" => is_truncated(run(&[], three)),
            _ => is_closed(run(&[], b"exactly the most\n")),
        }
    }
}

#[test]
fn a_peer_that_is_closed_for_its_size_sees_an_end_and_no_reset() {
    let options = ["--max-message", "16", "--on-oversize", "close", "-v"];
    let mut fanin = Fanin::start(&options);
    let mut peer = fanin.connect();
    peer.write_all(b"ok\nthis one is too long for it\nlost\n")
        .unwrap();
    let mut rest = Vec::new();
    peer.read_to_end(&mut rest).expect("FIN, not RST");
    assert_eq!(rest, b"");
    drop(peer);
    fanin.wait_to_say("closed: oversize; received 36, published 3, discarded 33");
    fanin.drain();
    assert_eq!(fanin.output(), b"ok\n");
}
