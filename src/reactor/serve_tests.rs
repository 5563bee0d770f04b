//! Whatever a peer sends, what a read says fits the claim that was made for it.

use super::super::Counters;
use super::super::pieces::place;
use super::super::writer::{Writer, farewell_len};
use super::*;
use crate::books::{Books, Gap};
use crate::close::DiscardReason;
use crate::conn::Conn;
use crate::frame::{Limits, OversizePolicy, Partial};
use crate::peer::{ConnectionId, Peer};
use crate::ring::record::{Closed, Kind, Walk};
use proptest::prelude::*;

proptest! {
    #[test]
    fn a_claim_for_a_read_is_also_a_read_for_the_claim(
        staged in 0usize..100_000,
        n in 1usize..65_536,
        max in 1usize..100_000,
        more in 0usize..100_000,
    ) {
        // Never 0: a read of nothing looks like the end of a stream.
        prop_assert!(read_len(claim_len(staged, n, max), staged, max) >= n);
        let len = claim_len(staged, n, max) + more;
        let read = read_len(len, staged, max);
        prop_assert!(fixed_len(staged) + read + PER_OVERSIZE * (read / max) <= len);
    }
}

fn message(framing: &Framing, size: usize) -> Vec<u8> {
    let body = vec![b'x'; size];
    match framing {
        Framing::Line => [body, vec![b'\n']].concat(),
        Framing::Octet => [format!("{size} ").into_bytes(), body].concat(),
        Framing::U16 => [(size as u16).to_be_bytes().to_vec(), body].concat(),
        Framing::U32 => [(size as u32).to_be_bytes().to_vec(), body].concat(),
        Framing::Varint if size < 128 => [vec![size as u8], body].concat(),
        Framing::Varint => [vec![size as u8 | 128, (size >> 7) as u8], body].concat(),
        other => unreachable!("{other} is not tried"),
    }
}

/// A stream of one peer, made to need as much room beside its bytes as possible: messages too large by
/// one byte, with the smallest possible between them, and at the end what follows no framing.
#[derive(Clone, Debug)]
struct Dense {
    framing: Framing,
    limits: Limits,
    introduced: bool,
    /// Before each read: was the ring full, and messages were discarded?
    full: Vec<bool>,
    /// Too large?
    messages: Vec<bool>,
    small: usize,
    reads: Vec<usize>,
}

const FRAMINGS: [Framing; 5] = [
    Framing::Line,
    Framing::Octet,
    Framing::U16,
    Framing::U32,
    Framing::Varint,
];

fn dense() -> impl Strategy<Value = Dense> {
    use OversizePolicy::{Close, Discard, Truncate};
    (
        prop::sample::select(FRAMINGS.to_vec()),
        prop::sample::select(vec![Truncate, Truncate, Discard, Close]),
        16usize..300,
        any::<bool>(),
        prop::collection::vec(any::<bool>(), 1..6),
        prop::collection::vec(prop::bool::weighted(0.6), 1..60),
        1usize..18,
        prop::collection::vec(1usize..3000, 1..6),
    )
        .prop_map(
            |(framing, oversize, max, introduced, full, messages, small, reads)| Dense {
                framing,
                limits: Limits { max, oversize },
                introduced,
                full,
                messages,
                small,
                reads,
            },
        )
}

impl Dense {
    fn wire(&self) -> Vec<u8> {
        let one = |large: &bool| {
            let size = if *large {
                self.limits.max + 1
            } else {
                self.small.min(self.limits.max)
            };
            message(&self.framing, size)
        };
        let mut wire: Vec<u8> = self.messages.iter().flat_map(one).collect();
        wire.extend_from_slice(b"0 \xff\xff\xff\xff\xff");
        wire
    }

    /// Reads as `serve` does, each into the smallest legal claim.
    fn play(&self) {
        let id = ConnectionId::new(0, 1, 0);
        let peer = Peer::Unix { pid: 1, uid: 1 };
        let mut slot = Slot::new(Conn::new(0), (), 1, peer);
        slot.conn.is_introduced = self.introduced;
        let counters = Counters::new(1, 1);
        let (mut partial, mut cuts, mut staged) = (Partial::default(), Vec::new(), Vec::new());
        let (mut published, mut discarded, mut received) = (0, 0, 0);
        let wire = self.wire();
        for (n, full) in self.reads.iter().cycle().zip(self.full.iter().cycle()) {
            if *full {
                slot.conn.more().gap = Some(Gap::new(DiscardReason::RingFull, 1, 1));
            }
            let mut claim = vec![0; claim_len(staged.len(), *n, self.limits.max)];
            let n = read_len(claim.len(), staged.len(), self.limits.max).min(wire.len() - received);
            if n == 0 {
                break;
            }
            let fresh = &wire[received..received + n];
            received += n;
            frame::cut(
                &self.framing,
                &self.limits,
                &mut partial,
                &staged,
                fresh,
                &mut cuts,
            );
            *slot.conn.partial_mut() = partial;
            let whole = [&staged[..], fresh].concat();
            if let [Cut::Rest { start: 0 }] = *cuts {
                staged = whole;
                continue;
            }
            let mut writer = Writer::new(&mut claim, id);
            writer.introduce(&mut slot, Some(1));
            let placed = place(&mut writer, &mut slot, &cuts, &whole, &counters);
            let used = writer.at;
            discarded += placed.discarded as usize;
            staged = whole[placed.rest..].to_vec();

            let mut walk = Walk::new(&claim[..used]);
            published += walk
                .by_ref()
                .filter(|(_, header, _)| header.kind == Kind::Data)
                .map(|(_, _, payload)| payload.len())
                .sum::<usize>();
            assert_eq!(walk.left(), 0, "whole records only");
            assert_eq!(received, published + discarded + staged.len());
            if placed.closing.is_some() {
                break;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// With 112 bytes for each message that is too large, a peer could make a reactor panic.
    #[test]
    fn whatever_a_read_holds_its_records_fit_the_claim(stream in dense()) {
        stream.play();
    }
}

/// The time, who it is, a gap that is pending, and then what is staged: delivered, or discarded for another reason.
#[test]
fn all_that_an_end_may_have_to_tell_fits_its_claim() {
    for staged in 0..=48 {
        for is_delivered in [true, false] {
            let peer = Peer::Unix { pid: 1, uid: 1 };
            let mut slot = Slot::new(Conn::new(0), (), 1, peer);
            slot.conn.more().gap = Some(Gap::new(DiscardReason::RingFull, 1, 1));
            let mut claim = vec![0; farewell_len(staged)];
            let mut writer = Writer::new(&mut claim, ConnectionId::new(0, 1, 0));
            writer.introduce(&mut slot, Some(1));
            if is_delivered {
                writer.tell_gap(&mut slot);
                writer.data(record::WHOLE, &vec![b'x'; staged]);
            } else {
                writer.add_gap(&mut slot, Gap::new(DiscardReason::CutAtEnd, 1, 1));
                writer.tell_gap(&mut slot);
            }
            let reason = CloseReason::Eof;
            let books = Books::default();
            writer.closed(&Closed { reason, books });
            let spare = farewell_len(staged) - writer.at;
            assert!(spare <= record::GAP_LEN - record::HEADER, "{spare}");
            assert_eq!(
                Walk::new(&claim).count(),
                5,
                "time, who, gap, the last of it, books"
            );
        }
    }
}

/// As little room as there can be: a read that is smaller than the largest message, behind the staged
/// beginning of one that is too large, and all that may stand in a claim beside bytes.
#[test]
fn a_pending_gap_fits_in_front_of_all_that_one_read_may_need() {
    for framing in FRAMINGS {
        for max in 15..48 {
            for small in 0..17 {
                let mut stream = Dense {
                    framing: framing.clone(),
                    limits: Limits {
                        max,
                        oversize: OversizePolicy::Truncate,
                    },
                    introduced: false,
                    full: vec![false, true],
                    messages: vec![true, false],
                    small,
                    reads: Vec::new(),
                };
                let len = stream.wire().len();
                for staged in 1..=max {
                    stream.reads = vec![staged, len - staged];
                    stream.play();
                }
            }
        }
    }
}
