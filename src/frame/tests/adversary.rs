//! Hostile streams against the slow reader.
//!
//! Sizes at and around the largest, counts that are none, delimiters and ends of skipped messages at the
//! edges of reads; every framing, `auto` included, to the end of the stream.

use proptest::prelude::*;

use crate::frame::{Framing, Limits, OversizePolicy, slow};

fn framings() -> Vec<Framing> {
    vec![
        Framing::Line,
        Framing::Nul,
        Framing::Byte(b'2'),
        Framing::Octet,
        Framing::Auto,
        Framing::U16,
        Framing::U32,
        Framing::Varint,
    ]
}

/// A message of this size, whose count may say another one.
fn message(framing: &Framing, says: u64, body: usize) -> Vec<u8> {
    let body = vec![b'x'; body];
    let prefix = match framing {
        Framing::Octet => format!("{says} ").into_bytes(),
        Framing::Auto => format!("{says} <").into_bytes(),
        Framing::U16 => (says as u16).to_be_bytes().to_vec(),
        Framing::U32 => (says as u32).to_be_bytes().to_vec(),
        Framing::Varint => {
            let (mut left, mut prefix) = (says as u32, Vec::new());
            while left >= 0x80 {
                prefix.push(left as u8 | 0x80);
                left >>= 7;
            }
            prefix.push(left as u8);
            prefix
        }
        _ => return [body, vec![framing.delimiter().unwrap()]].concat(),
    };
    // The `<` is the message's first byte.
    let body = match framing {
        Framing::Auto => &body[1.min(body.len())..],
        _ => &body[..],
    };
    [&prefix, body].concat()
}

fn noise() -> impl Strategy<Value = Vec<u8>> {
    let literal: [&[u8]; 18] = [
        b"0 ",
        b"01 x",
        b"1",
        b"1 ",
        b" ",
        b"\n",
        b"9999999999",
        b"4294967295 ",
        b"4294967296 ",
        b"12345678901 ",
        b"12345678901 <",
        b"1234567890 <",
        b"\x80\x00",
        b"\x80\x80\x80\x80\x0f",
        b"\x80\x80\x80\x80\x80",
        b"\xff\xff\xff\xff\xff",
        b"\xff\xff\xff\xff\x10",
        b"\0\0\0\0",
    ];
    let bytes = prop::sample::select(&b"\n\0 012<x\x80\xff"[..]);
    prop_oneof![
        2 => prop::sample::select(literal.to_vec()).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(bytes, 0..8),
        1 => (0usize..40).prop_map(|n| vec![0; n]),
        1 => (0usize..40).prop_map(|n| vec![b'7'; n]),
    ]
}

#[derive(Clone, Debug)]
struct Attack {
    framing: Framing,
    limits: Limits,
    pieces: Vec<Vec<u8>>,
    /// Where the stream ends, as a part of 1,000 of all.
    end: usize,
    /// Where reads end, beside the edges of pieces: as parts of 1,000 of all.
    cuts: Vec<usize>,
    /// Whether a read ends before, at or after the edge of each piece.
    edges: Vec<Option<isize>>,
}

fn attacks() -> impl Strategy<Value = Attack> {
    use OversizePolicy::{Close, Discard, Truncate};
    let framings = prop::sample::select(framings());
    let policies = prop::sample::select(vec![Truncate, Discard, Close]);
    (framings, policies, 16usize..300).prop_flat_map(|(framing, oversize, max)| {
        let sizes = vec![
            0,
            1,
            2,
            max - 1,
            max,
            max + 1,
            max + 2,
            2 * max,
            2 * max + 1,
            5 * max,
        ];
        let size = prop_oneof![3 => prop::sample::select(sizes), 1 => 0..=max];
        let of = framing.clone();
        let honest = size.prop_map(move |size| message(&of, size as u64, size));
        let of = framing.clone();
        let liar = prop::sample::select(vec![1 << 16, u64::from(u32::MAX), 1 << 31, 300])
            .prop_map(move |says| message(&of, says, 3));
        let piece = prop_oneof![20 => honest, 1 => liar, 2 => noise()];
        let edge = prop::option::weighted(0.6, -1isize..=1);
        (
            Just(framing),
            Just(Limits { max, oversize }),
            prop::collection::vec(piece, 0..14),
            prop_oneof![1 => Just(1000), 2 => 0usize..1000],
            prop::collection::vec(0usize..1000, 0..10),
            prop::collection::vec(edge, 14),
        )
            .prop_map(|(framing, limits, pieces, end, cuts, edges)| Attack {
                framing,
                limits,
                pieces,
                end,
                cuts,
                edges,
            })
    })
}

impl Attack {
    fn reads<'i>(&self, input: &'i [u8]) -> Vec<&'i [u8]> {
        let mut ends: Vec<usize> = self.cuts.iter().map(|n| input.len() * n / 1000).collect();
        let mut at = 0;
        for (piece, edge) in self.pieces.iter().zip(&self.edges) {
            at += piece.len();
            ends.extend(edge.map(|by| at.saturating_add_signed(by).min(input.len())));
        }
        ends.push(input.len());
        ends.sort_unstable();
        ends.dedup();
        let mut from = 0;
        let mut reads = Vec::new();
        for end in ends {
            reads.push(&input[from..end]);
            from = end;
        }
        reads.retain(|read| !read.is_empty());
        reads
    }

    fn check(&self) {
        let mut input = self.pieces.concat();
        input.truncate(input.len() * self.end / 1000);
        let reads = self.reads(&input);
        slow::check(&self.framing, self.limits, &input, &reads);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn hostile_streams_are_cut_as_the_slow_reader_does(attack in attacks()) {
        attack.check();
    }
}
