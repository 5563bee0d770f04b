//! What one run is: a configuration, a network and the peers, all from a seed.
//!
//! In: chance. Out: plain values. Never here: anything that happens.

use std::sync::LazyLock;
use std::time::Duration;

use super::{Simulation, Stream};
use crate::config::{Config, Listen, OnConsumerGone, OnFull, OnOversize, PressureAction};
use crate::frame::Framing;
use crate::net::sim::{Fault, Faults, Random};
use crate::policy::{AtLimit, Coalesce, LeastRate, OnConsumerStall, Route};

/// How a peer ends its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// FIN, and it is gone.
    Fin,
    /// FIN, and it waits for ours.
    HalfClose,
    /// FIN, and some time later RST.
    FinReset,
    /// FIN in the middle of a message.
    InMessage,
    /// RST.
    Reset,
    /// Bytes that follow no framing, then FIN.
    Garbage,
    /// Nothing more, for ever.
    Vanish,
}

impl Ending {
    const ALL: [Self; 7] = [
        Self::Fin,
        Self::HalfClose,
        Self::FinReset,
        Self::InMessage,
        Self::Reset,
        Self::Garbage,
        Self::Vanish,
    ];
}

/// One connection of a peer, from beginning to end.
#[derive(Clone, Debug)]
pub(super) struct Script {
    pub(super) place: usize,
    pub(super) begin: Duration,
    pub(super) messages: Vec<Vec<u8>>,
    /// As they go over the wire.
    pub(super) bytes: Vec<u8>,
    /// Where each message begins there, and where the last one ends; empty where nobody here knows.
    pub(super) starts: Vec<u64>,
    pub(super) ending: Ending,
    /// The largest piece that is sent at once, and the longest pause between two.
    pub(super) piece: usize,
    pub(super) pause: Duration,
}

#[derive(Debug)]
pub(super) struct Plan {
    pub(super) config: Config,
    pub(super) faults: Faults,
    pub(super) scripts: Vec<Script>,
    pub(super) descriptors: usize,
    pub(super) window: usize,
    pub(super) backlog: usize,
    /// How often something else happens inside a reactor's call, in thousandths.
    pub(super) interleave: u16,
    /// When the faults stop.
    pub(super) calm_at: Duration,
    /// How old the reactors are at the beginning: ticks pass the ends of the wheel's levels, and wrap after
    /// 397 days.
    pub(super) start: Duration,
    /// A stop comes in a drain, or not at all.
    pub(super) stops_drain: bool,
    /// The longest time that a consumer works on a batch.
    pub(super) work: Duration,
    /// Reactors turn as [`Reactor::run`](crate::Reactor::run) lets them.
    pub(super) runs: bool,
}

/// What a peer sends at most, give or take a message or two.
const MOST_BYTES: usize = 1 << 20;

fn ms(millis: usize) -> Duration {
    Duration::from_millis(millis as u64)
}

impl Plan {
    pub(super) fn new(random: &mut Random, simulation: &Simulation) -> Self {
        let mut faults = Faults::swarm(random);
        // These end the whole: in one run of some, not in one of two.
        for (fault, often) in [
            (Fault::ConsumerDies, [2, 20, 100]),
            (Fault::Stop, [2, 20, 100]),
            (Fault::EarlyDrain, [5, 50, 300]),
        ] {
            let permille = random.one_of(&often);
            let happens = random.permille(120);
            faults.set(fault, if happens { permille } else { 0 });
        }
        // After this one every clock has struck: seldom, and in few runs.
        let jumps = random.one_of(&[1, 5, 20]);
        let happens = random.permille(200);
        faults.set(Fault::TimeJumps, if happens { jumps } else { 0 });
        // There are few occasions for it.
        faults.set(Fault::PortTaken, random.one_of(&[0, 500]));
        // An operator who loses patience with a drain.
        let stops_drain = faults.may(Fault::EarlyDrain) && random.permille(500);
        if stops_drain {
            faults.set(Fault::EarlyDrain, 20);
            faults.set(Fault::Stop, 300);
        }
        if let Some(fault) = simulation.options.without {
            faults.set(fault, 0);
        }
        let config = match &simulation.config {
            Some(config) => config.clone(),
            None => config(random),
        };
        let peers = random.within(1..=24);
        let mut scripts = Vec::new();
        for number in 0..peers {
            let place = random.below(config.listeners.len());
            let sent = match &simulation.peers {
                Some(peers) => peers(random, place).into(),
                None => letters(random, &config, place, number),
            };
            scripts.push(script(random, &config, &faults, place, sent));
        }
        let scarce = faults.may(Fault::NoDescriptor);
        Self {
            descriptors: if scarce {
                random.within(1..=peers)
            } else {
                usize::MAX
            },
            window: random.one_of(&[64, 1 << 10, 8 << 10, 64 << 10]),
            backlog: random.one_of(&[1, 4, 128]),
            interleave: random.one_of(&[0, 50, 200, 500]),
            calm_at: calm_at(random, &config),
            start: {
                let ticks = random.one_of(&[0, 0, 1 << 16, 1 << 24, 1 << 32]);
                Duration::from_millis(8 * ticks).saturating_sub(ms(random.below(3000)))
            },
            stops_drain,
            work: ms(random.one_of(&[0, 0, 1, 30, 300])),
            runs: random.permille(700),
            config,
            faults,
            scripts,
        }
    }
}

impl Plan {
    /// Does nobody begin a drain but the operator?
    pub(super) fn is_drained_by_order(&self) -> bool {
        !self.faults.may(Fault::ConsumerDies)
            && self.config.on_consumer_stall != OnConsumerStall::Stop
    }
}

fn config(random: &mut Random) -> Config {
    let framings = [
        Framing::Line,
        Framing::Nul,
        Framing::Byte(b'|'),
        Framing::Octet,
        Framing::Auto,
        Framing::U16,
        Framing::U32,
        Framing::Varint,
    ];
    let mut config = Config::default();
    for _ in 0..random.within(1..=2) {
        let mut listen: Listen = "tcp://127.0.0.1:0".parse().expect("an address");
        listen.framing = Some(framings[random.below(framings.len())].clone());
        config.listeners.push(listen);
    }
    config.reactors = random.one_of(&[1, 1, 2, 3]);
    config.consumers = random.one_of(&[1, 1, 2, 3]);
    let size = random.below(MESSAGES.len());
    config.max_message = MESSAGES[size];
    config.ring_bytes = Some(SMALLEST_RINGS[size] * random.one_of(&[1, 1, 2, 8]));
    config.on_oversize = random.one_of(&[
        None,
        Some(OnOversize::Truncate),
        Some(OnOversize::Discard),
        Some(OnOversize::Close),
    ]);
    config.max_connections = random.one_of(&[1, 3, 10, 1000]);
    config.at_max_connections = random.one_of(&[
        AtLimit::Wait,
        AtLimit::Wait,
        AtLimit::Refuse,
        AtLimit::Evict,
    ]);
    for listen in &mut config.listeners {
        listen.max_connections = random.one_of(&[None, None, Some(1), Some(4)]);
    }
    // Seldom: who is turned away sends nothing.
    if random.permille(300) {
        config.per_source.connections = random.one_of(&[None, Some(1), Some(2)]);
        config.per_source.connects_per_sec = random.one_of(&[None, Some(1), Some(3)]);
        config.per_source.ipv6_prefix = random.one_of(&[48, 64, 64, 128]);
    }
    config.staging_bytes = config.max_message.max(256) * random.one_of(&[1, 2, 50]);
    config.deadlines.idle =
        random.one_of(&[None, Some(ms(300)), Some(ms(3000)), Some(ms(700_000))]);
    config.deadlines.message =
        random.one_of(&[None, Some(ms(100)), Some(ms(1000)), Some(ms(600_000))]);
    config.deadlines.stall = random.one_of(&[None, Some(ms(200)), Some(ms(2000))]);
    config.deadlines.age =
        random.one_of(&[None, None, Some(ms(500)), Some(ms(3000)), Some(ms(660_000))]);
    config.deadlines.linger = random.one_of(&[ms(20), ms(500)]);
    if random.permille(400) {
        rates(random, &mut config);
    }
    config.route = random.one_of(&[Route::LeastLoaded, Route::Source, Route::Listener]);
    config.on_consumer_gone = random.one_of(&[OnConsumerGone::Stop, OnConsumerGone::Reroute]);
    config.drain_timeout = ms(random.within(100..=2000));
    // Seldom: time that passes within a turn is an excuse for whatever is late.
    if random.permille(150) {
        config.coalesce = Coalesce::Apart(random.one_of(&[ms(1), ms(10)]));
    }
    if random.permille(100) {
        let budgets = &mut config.budgets;
        budgets.reads = random.one_of(&[1, 3]);
        budgets.bytes = random.one_of(&[1, 4096]);
        budgets.accepts = random.one_of(&[1, 2]);
    }
    config.on_full = random.one_of(&[OnFull::Pause, OnFull::Pause, OnFull::Discard]);
    config.pressure.after = random.one_of(&[None, Some(ms(1)), Some(ms(5)), Some(ms(100))]);
    if config.pressure.after.is_some() {
        use PressureAction::{CloseListener, StopAccepting};
        config.pressure.action = random.one_of(&[StopAccepting, CloseListener]);
    }
    config.consumer_stall = random.one_of(&[None, Some(ms(50)), Some(ms(300)), Some(ms(1500))]);
    if config.consumer_stall.is_some() {
        use OnConsumerStall::{Evict, Stop, Wait};
        config.on_consumer_stall = random.one_of(&[Wait, Wait, Wait, Evict, Evict, Stop]);
    }
    if random.permille(300) {
        // More than a peer that pauses after each byte sends, and less than most others do.
        let rate = random.one_of(&[1, 20, 1000]);
        config.least_rate = Some(LeastRate::new(rate, ms(random.one_of(&[1000, 2500]))));
        // A window that a message's deadline always ends is refused.
        config.deadlines.message = config.deadlines.message.filter(|time| *time > ms(2500));
    }
    config
}

/// One limit or several, as far as they are legal together.
fn rates(random: &mut Random, config: &mut Config) {
    let rates = &mut config.rates;
    rates.burst = random.one_of(&[ms(100), ms(1000), ms(7000)]);
    let bytes = [None, Some(2_000), Some(50_000), Some(1_000_000)];
    let messages = [None, Some(5), Some(100), Some(3_000)];
    rates.listener.bytes_per_sec = random.one_of(&bytes);
    rates.listener.messages_per_sec = random.one_of(&messages);
    if random.permille(250) {
        let first = &mut config.listeners[0].rate;
        first.bytes_per_sec = random.one_of(&bytes);
        first.messages_per_sec = random.one_of(&messages);
    }
    let within = |own: Option<u64>, outer: Option<u64>| own.map(|n| n.min(outer.unwrap_or(n)));
    // Seldom: who waits sends nothing.
    if random.permille(350) {
        rates.source.bytes_per_sec = random.one_of(&bytes);
        rates.source.messages_per_sec = random.one_of(&messages);
    }
    rates.connection.bytes_per_sec = within(random.one_of(&bytes), rates.listener.bytes_per_sec);
    rates.connection.messages_per_sec =
        within(random.one_of(&messages), rates.listener.messages_per_sec);
}

/// Messages of a run are at most so large.
const MESSAGES: [usize; 4] = [16, 100, 1000, 5000];

/// The smallest legal ring for each of them, as a refusal says it.
static SMALLEST_RINGS: LazyLock<[usize; 4]> = LazyLock::new(|| {
    MESSAGES.map(|max_message| {
        let mut config = Config::listen("tcp://127.0.0.1:0").expect("an address");
        config.max_message = max_message;
        let is_legal = |ring: &usize| {
            let config = Config {
                ring_bytes: Some(*ring),
                ..config.clone()
            };
            config.validate().is_ok()
        };
        let mut rings = (6..).map(|shift| 1 << shift);
        rings.find(is_legal).expect("some ring is large enough")
    })
});

/// When the faults stop: some time after every clock may have struck, or before.
fn calm_at(random: &mut Random, config: &Config) -> Duration {
    let clocks = config.deadlines;
    let clock = random.one_of(&[clocks.idle, clocks.message, clocks.stall, clocks.age]);
    // One that takes minutes strikes in the calm.
    let longest = clock.filter(|clock| *clock < ms(10_000));
    let longest = longest.unwrap_or_default().max(ms(2000));
    ms(random.within(200..=2 * longest.as_millis() as usize))
}

/// What a peer is to send, and in which framing, if the simulation itself has framed it.
struct Sent {
    wire: Option<Framing>,
    starts: Vec<u64>,
    stream: Stream,
}

impl From<Stream> for Sent {
    fn from(stream: Stream) -> Self {
        Self {
            wire: None,
            starts: Vec::new(),
            stream,
        }
    }
}

/// Of a length that no size here is a multiple of.
const LETTERS: &[u8; 23] = b"abcdefghijklmnopqrstuvw";

/// Messages that say whose they are and which, filled up with letters.
fn letters(random: &mut Random, config: &Config, place: usize, number: usize) -> Sent {
    let framing = config.listeners[place].framing.as_ref();
    let wire = match framing.unwrap_or(&config.framing).clone() {
        // What a sender to `auto` decides for all of its connection.
        Framing::Auto if random.permille(500) => Framing::Octet,
        Framing::Auto => Framing::Line,
        Framing::Custom(framer) => panic!(
            "{} is a framing of your own: say by `Simulation::peers` what its peers send",
            framer.name()
        ),
        other => other,
    };
    let max = config.max_message;
    let count = random
        .one_of(&[0, 1, 3, 20, 100, 400])
        .min(1 + MOST_BYTES / max);
    let largest = if matches!(wire, Framing::U16) {
        usize::from(u16::MAX)
    } else {
        usize::MAX
    };
    let mut messages = Vec::new();
    for n in 0..count {
        let size = match random.below(12) {
            0 => 0,
            1 => max,
            2 => max + 1,
            3 => max * 3 + 7,
            _ => random.within(0..=max),
        }
        .min(largest);
        let mut text = format!("<{number}.{n}>").into_bytes();
        while text.len() < size {
            text.extend(&LETTERS[text.len() % LETTERS.len()..]);
        }
        text.truncate(size);
        // No framing here has an empty octet-counted message, and `auto` needs one that begins with `<`.
        if text.is_empty() && wire.is_counted() {
            text.push(b'<');
        }
        messages.push(text);
    }
    let (mut bytes, mut starts) = (Vec::new(), vec![0]);
    for message in &messages {
        bytes.extend(frame(&wire, message));
        starts.push(bytes.len() as u64);
    }
    Sent {
        wire: Some(wire),
        starts,
        stream: Stream { bytes, messages },
    }
}

fn script(
    random: &mut Random,
    config: &Config,
    faults: &Faults,
    place: usize,
    sent: Sent,
) -> Script {
    let max = config.max_message;
    let Stream {
        mut bytes,
        messages,
    } = sent.stream;
    let wire = sent.wire.as_ref();
    let may = |ending: &Ending| match ending {
        Ending::Fin => true,
        Ending::HalfClose => faults.may(Fault::HalfClose),
        Ending::Reset => faults.may(Fault::Reset),
        Ending::FinReset => faults.may(Fault::Reset) && faults.may(Fault::HalfClose),
        // Of what somebody else framed, nobody here knows what breaks it.
        Ending::InMessage => faults.may(Fault::FinInMessage) && wire.is_some() && max >= 16,
        // Whatever comes is a line, or a count, of u16 and u32.
        Ending::Garbage => faults.may(Fault::Garbage) && wire.and_then(garbage).is_some(),
        // Without a clock that finds it, a peer that vanished keeps its place for ever.
        Ending::Vanish => faults.may(Fault::Vanish) && config.deadlines.idle.is_some(),
    };
    let endings: Vec<_> = Ending::ALL.into_iter().filter(may).collect();
    let ending = random.one_of(&endings);
    match (ending, wire) {
        (Ending::InMessage, Some(wire)) => {
            // Longer than any prefix, so that it is one message, cut.
            let last = cut_message(max.min(40));
            let framed = frame(wire, &last);
            let marks = framed.len() - last.len();
            let keep =
                framed.len() - 1 - random.below(max.min(40) - 1).min(framed.len() - marks - 2);
            bytes.extend(&framed[..keep]);
        }
        (Ending::Garbage, Some(wire)) => bytes.extend(garbage(wire).unwrap_or_default()),
        (Ending::Reset, _) if random.permille(500) && !bytes.is_empty() => {
            let keep = random.below(bytes.len());
            bytes.truncate(keep);
        }
        _ => {}
    }
    let pause = ms(random.one_of(&[0, 1, 20, 400]));
    let piece = random.one_of(&[1, 7, 100, 5000, 100_000]);
    // A byte at a time is for short streams, and with a pause after each for the shortest.
    let pieces = if pause.is_zero() { 2000 } else { 300 };
    let least = bytes.len() / pieces;
    Script {
        place,
        begin: ms(random.below(1000)),
        messages,
        bytes,
        starts: sent.starts,
        ending,
        piece: piece.max(least),
        pause,
    }
}

/// What no message begins with, if there is such a thing, and something that looks like one behind it.
fn garbage(framing: &Framing) -> Option<Vec<u8>> {
    match framing {
        Framing::Octet => Some(b"007 <never".to_vec()),
        Framing::Varint => Some(b"\xff\xff\xff\xff\xff\x05<nev".to_vec()),
        _ => None,
    }
}

/// What a message looks like of which only the beginning is sent.
pub(super) fn cut_message(len: usize) -> Vec<u8> {
    let mut text = vec![b'~'; len];
    text.iter_mut().take(1).for_each(|first| *first = b'<');
    text
}

/// A message with its marks.
fn frame(framing: &Framing, text: &[u8]) -> Vec<u8> {
    let len = text.len();
    match framing {
        Framing::Nul => [text, b"\0"].concat(),
        Framing::Byte(byte) => [text, &[*byte]].concat(),
        Framing::Octet => [format!("{len} ").as_bytes(), text].concat(),
        Framing::U16 => [&(len as u16).to_be_bytes(), text].concat(),
        Framing::U32 => [&(len as u32).to_be_bytes(), text].concat(),
        Framing::Varint => {
            let (mut out, mut rest) = (Vec::new(), len);
            while rest >= 0x80 {
                out.push(rest as u8 | 0x80);
                rest >>= 7;
            }
            out.push(rest as u8);
            [&out, text].concat()
        }
        _ => [text, b"\n"].concat(),
    }
}
