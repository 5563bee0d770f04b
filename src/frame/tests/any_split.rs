//! However a stream is split into reads, it is cut as a slow and obvious reader would.

use proptest::prelude::*;

use crate::close::CloseReason;
use crate::frame::driver::{Connection, Outcome};
use crate::frame::{Framing, Limits, OversizePolicy};

/// What the reference is left with, beside the outcome: the bytes of a message that is not decided.
type Left = Vec<u8>;

fn delimited(delimiter: u8, limits: &Limits, input: &[u8]) -> (Outcome, Left) {
    let mut outcome = Outcome::default();
    let mut rest = input;
    loop {
        let size = rest.iter().position(|byte| *byte == delimiter);
        let body = size.unwrap_or(rest.len());
        let all = size.map_or(body, |size| size + 1);
        if body > limits.max {
            if !oversize(&mut outcome, limits, &rest[..body], all, rest.len()) {
                return (outcome, Vec::new());
            }
        } else if size.is_some() {
            outcome.delivered.push((false, rest[..body].to_vec()));
        } else {
            return (outcome, rest.to_vec());
        }
        rest = &rest[all..];
    }
}

/// A message too large whose `body` is there, and of which `all` bytes are. False: it is the last.
fn oversize(
    outcome: &mut Outcome,
    limits: &Limits,
    body: &[u8],
    all: usize,
    to_the_end: usize,
) -> bool {
    outcome.discarded_messages += 1;
    match limits.oversize {
        OversizePolicy::Truncate => {
            outcome.delivered.push((true, body[..limits.max].to_vec()));
            outcome.discarded_bytes += all - limits.max;
        }
        OversizePolicy::Discard => outcome.discarded_bytes += all,
        OversizePolicy::Close => {
            outcome.discarded_bytes += to_the_end;
            outcome.close = Some(CloseReason::Oversize);
            return false;
        }
    }
    true
}

/// `Ok(None)`: the count is not all there. Else the bytes it takes and what it says.
fn count_of(framing: &Framing, bytes: &[u8]) -> Result<Option<(usize, usize)>, ()> {
    let big_endian = |len: usize| {
        let count = bytes.get(..len)?;
        let size = count
            .iter()
            .fold(0, |size, byte| size * 256 + usize::from(*byte));
        Some((len, size))
    };
    match framing {
        Framing::U16 => Ok(big_endian(2)),
        Framing::U32 => Ok(big_endian(4)),
        Framing::Varint => {
            let Some(last) = bytes.iter().take(5).position(|byte| *byte < 128) else {
                return if bytes.len() < 5 { Ok(None) } else { Err(()) };
            };
            let size = (0..=last)
                .rev()
                .fold(0, |size: u64, at| size * 128 + u64::from(bytes[at] % 128));
            let size = u32::try_from(size).map_err(|_| ())?;
            Ok(Some((last + 1, size as usize)))
        }
        Framing::Octet => {
            let digits = bytes
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .count();
            let text = std::str::from_utf8(&bytes[..digits]).unwrap();
            let is_legal = digits == 0 || text.parse::<u32>().is_ok();
            if !is_legal || digits > 10 || text.starts_with('0') {
                return Err(());
            }
            match bytes.get(digits) {
                None => Ok(None),
                Some(b' ') if digits > 0 => Ok(Some((digits + 1, text.parse().unwrap()))),
                Some(_) => Err(()),
            }
        }
        other => unreachable!("{other} has no counts"),
    }
}

fn counted(framing: &Framing, limits: &Limits, input: &[u8]) -> (Outcome, Left) {
    let mut outcome = Outcome::default();
    let mut rest = input;
    while !rest.is_empty() {
        let (prefix, size) = match count_of(framing, rest) {
            Ok(Some(count)) => count,
            Ok(None) => return (outcome, rest.to_vec()),
            Err(()) => {
                outcome.discarded_messages += 1;
                outcome.discarded_bytes += rest.len();
                outcome.close = Some(CloseReason::Protocol);
                return (outcome, Vec::new());
            }
        };
        let all = rest.len().min(prefix + size);
        let body = &rest[prefix..all];
        if size > limits.max {
            let may_truncate = body.len() >= limits.max;
            if limits.oversize == OversizePolicy::Truncate && !may_truncate {
                return (outcome, rest.to_vec());
            }
            if !oversize(&mut outcome, limits, body, all, rest.len()) {
                return (outcome, Vec::new());
            }
        } else if body.len() == size {
            outcome.delivered.push((false, body.to_vec()));
        } else {
            return (outcome, rest.to_vec());
        }
        rest = &rest[all..];
    }
    (outcome, Vec::new())
}

fn framings() -> impl Strategy<Value = Framing> {
    prop_oneof![
        Just(Framing::Line),
        Just(Framing::Nul),
        Just(Framing::Byte(b'2')),
        Just(Framing::Octet),
        Just(Framing::U16),
        Just(Framing::U32),
        Just(Framing::Varint),
    ]
}

fn policies() -> impl Strategy<Value = OversizePolicy> {
    prop_oneof![
        Just(OversizePolicy::Truncate),
        Just(OversizePolicy::Discard),
        Just(OversizePolicy::Close),
    ]
}

fn encoded(framing: &Framing, size: usize) -> Vec<u8> {
    let body = vec![b'x'; size];
    let counted = |prefix: Vec<u8>| [prefix, body.clone()].concat();
    match framing {
        Framing::Octet => counted(format!("{size} ").into_bytes()),
        Framing::U16 => counted((size as u16).to_be_bytes().to_vec()),
        Framing::U32 => counted((size as u32).to_be_bytes().to_vec()),
        Framing::Varint if size >= 128 || size.is_multiple_of(2) => {
            counted(vec![size as u8 | 0x80, (size / 128) as u8])
        }
        Framing::Varint => counted(vec![size as u8]),
        other => [body, vec![other.delimiter().unwrap()]].concat(),
    }
}

/// A message in its framing, or now and then some bytes that need not be one.
fn piece(framing: &Framing) -> BoxedStrategy<Vec<u8>> {
    let framing = framing.clone();
    let alphabet = prop::sample::select(&b"\n\0 0123x\x80\xff"[..]);
    let noise = prop::collection::vec(alphabet, 0..6);
    let message = (0_usize..24).prop_map(move |size| encoded(&framing, size));
    prop_oneof![12 => message, 1 => noise].boxed()
}

fn streams() -> impl Strategy<Value = (Framing, Vec<u8>)> {
    framings().prop_flat_map(|framing| {
        let input = prop::collection::vec(piece(&framing), 0..14).prop_map(|p| p.concat());
        (Just(framing), input)
    })
}

/// Messages of all sizes, many alike in a row, so that they are found by whatever way there is to find them.
fn runs() -> impl Strategy<Value = (Framing, Vec<usize>)> {
    let size = prop_oneof![0_usize..5, 60_usize..68, 0_usize..64, 0_usize..300];
    let run = (size, 1_usize..20).prop_map(|(size, times)| vec![size; times]);
    let sizes = prop::collection::vec(run, 1..12).prop_map(|runs| runs.concat());
    (framings(), sizes).prop_map(|(framing, mut sizes)| {
        // Which counts from one.
        if matches!(framing, Framing::Octet) {
            sizes.retain(|size| *size > 0);
        }
        (framing, sizes)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_split_is_cut_as_the_reference_does(
        (framing, input) in streams(),
        max in 1_usize..20,
        oversize in policies(),
        sizes in prop::collection::vec(1_usize..40, 1..12),
    ) {
        let limits = Limits { max, oversize };
        let (expected, left) = match framing.delimiter() {
            Some(delimiter) => delimited(delimiter, &limits, &input),
            None => counted(&framing, &limits, &input),
        };
        let all_at_once = [input.len().max(1)];
        for sizes in [&sizes[..], &[1], &all_at_once] {
            let mut connection = Connection::new(framing.clone(), limits);
            let mut examined = 0;
            let mut rest = &input[..];
            let mut sizes = sizes.iter().cycle();
            while !rest.is_empty() {
                let (fresh, after) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
                examined += connection.receive(fresh);
                rest = after;
            }
            prop_assert_eq!(&connection.outcome, &expected);
            prop_assert_eq!(&connection.staged, &left);
            if framing.delimiter().is_some() {
                prop_assert!(examined <= input.len(), "every byte is looked at once at most");
            }
        }
    }

    #[test]
    fn messages_of_all_sizes_are_visited(
        (framing, sizes) in runs(),
        begun in prop::collection::vec(1_usize..400, 0..3),
    ) {
        let limits = Limits { max: 1 << 10, oversize: OversizePolicy::Close };
        let input: Vec<_> = sizes.iter().flat_map(|size| encoded(&framing, *size)).collect();
        let mut connection = Connection::new(framing, limits);
        let mut rest = &input[..];
        for few in begun {
            let (fresh, after) = rest.split_at(rest.len().min(few));
            connection.receive(fresh);
            rest = after;
        }
        connection.receive(rest);
        let outcome = connection.outcome;
        let visited: Vec<_> = outcome.delivered.iter().map(|(_, message)| message.len()).collect();
        prop_assert_eq!(visited, sizes);
        prop_assert_eq!(outcome.close, None);
    }
}
