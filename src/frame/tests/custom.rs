//! Embedders' framers, good and bad.

use super::*;

/// Messages end with CR LF.
struct CrLf;

impl Framer for CrLf {
    fn scan(&self, staged: &[u8], fresh: &[u8], max: usize) -> Scan {
        let bytes = [staged, fresh].concat();
        let (mut start, mut end) = (0, 0);
        loop {
            let found = bytes[start..].windows(2).position(|two| two == b"\r\n");
            let size = found.unwrap_or_else(|| {
                let open = &bytes[start..];
                open.len() - usize::from(open.ends_with(b"\r"))
            });
            if size > max {
                return Scan::Oversize {
                    end,
                    prefix: 0,
                    size: None,
                };
            }
            if found.is_none() {
                return Scan::Whole { end, need: 0 };
            }
            start += size + 2;
            end = start - staged.len();
        }
    }

    fn split<'b>(&self, bytes: &'b [u8]) -> Option<(&'b [u8], &'b [u8])> {
        let at = bytes.windows(2).position(|two| two == b"\r\n")?;
        Some((&bytes[..at], &bytes[at + 2..]))
    }

    fn resync(&self, tail: &[u8], fresh: &[u8]) -> Option<usize> {
        if tail.ends_with(b"\r") && fresh.starts_with(b"\n") {
            return Some(1);
        }
        Some(fresh.windows(2).position(|two| two == b"\r\n")? + 2)
    }

    fn delivers_unterminated(&self) -> bool {
        true
    }

    fn name(&self) -> &str {
        "crlf"
    }
}

/// One byte says how many follow, and never none.
struct U8;

impl Framer for U8 {
    fn scan(&self, staged: &[u8], fresh: &[u8], max: usize) -> Scan {
        let bytes = [staged, fresh].concat();
        let (mut start, mut end) = (0, 0);
        while let Some(size) = bytes.get(start).map(|size| usize::from(*size)) {
            if size == 0 {
                return Scan::Invalid { end };
            }
            if size > max {
                return Scan::Oversize {
                    end,
                    prefix: 1,
                    size: Some(size),
                };
            }
            if bytes.len() - start < 1 + size {
                return Scan::Whole {
                    end,
                    need: 1 + size,
                };
            }
            start += 1 + size;
            end = start - staged.len();
        }
        Scan::Whole { end, need: 0 }
    }

    fn split<'b>(&self, bytes: &'b [u8]) -> Option<(&'b [u8], &'b [u8])> {
        let (size, after) = bytes.split_first()?;
        after.split_at_checked(usize::from(*size))
    }

    fn resync(&self, _tail: &[u8], _fresh: &[u8]) -> Option<usize> {
        unreachable!("its sizes are known")
    }

    fn delivers_unterminated(&self) -> bool {
        false
    }

    fn name(&self) -> &str {
        "u8"
    }
}

#[test]
fn good_framers_keep_the_contract() {
    for input in [
        &b"a\r\n\r\nfour\r\nfives\r\nb\r\r\n\r\n12345678901\r2\r\n\n"[..],
        b"1234567\r",
        b"1234\r",
        b"12345\r\r\n",
    ] {
        framer_contract(&CrLf, input, 4).unwrap();
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
    let crlf = Framing::Custom(Arc::new(CrLf));
    assert_eq!(crlf.to_string(), "crlf");
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
    assert!(framer_contract(&parrot, b"1", 4).is_err());
    let framing = Framing::Custom(Arc::new(parrot));
    assert_eq!(MessageIter::new(&framing, b"for ever").count(), 0);
}
