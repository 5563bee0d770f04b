//! The corpus of byte streams in `streams/`: the library does what it says, however the bytes are split into
//! reads, and so does the program.

mod corpus;
mod support;

use std::collections::{BTreeMap, HashMap};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use corpus::{Case, End, Event, TRUNCATED, UNTERMINATED, merged};
use fanin::{
    Books, BoundAddr, CloseReason, Config, Consumer, DiscardReason, Ended, Fanin, Handle, Messages,
    OnOversize, Peer, Reactor, Reason, Record,
};
use rustix::process::Signal;
use socket2::SockRef;
use support::{PATIENCE, wait_for};

// --- The library

/// What a consumer was told of one connection.
#[derive(Debug, Default)]
struct Told {
    framing: Option<String>,
    events: Vec<Event>,
    closed: Option<(CloseReason, Books)>,
}

/// A reactor and its consumer in this thread.
struct Receiver {
    reactor: Reactor,
    consumer: Consumer,
    handle: Handle,
    told: HashMap<SocketAddr, Told>,
}

impl Receiver {
    fn new(case: &Case) -> Self {
        let mut config = Config::listen("tcp://127.0.0.1:0").unwrap();
        config.framing = case.framing.parse().unwrap();
        config.max_message = case.max_message;
        config.on_oversize = case.oversize.as_deref().map(|policy| match policy {
            "truncate" => OnOversize::Truncate,
            "discard" => OnOversize::Discard,
            "close" => OnOversize::Close,
            other => panic!("{}: no policy is {other:?}", case.name),
        });
        let Fanin {
            mut reactors,
            mut consumers,
            handle,
            ..
        } = config.validate().unwrap().bind().unwrap();
        Self {
            reactor: reactors.remove(0),
            consumer: consumers.remove(0),
            handle,
            told: HashMap::new(),
        }
    }

    fn connect(&self) -> TcpStream {
        let BoundAddr::Tcp(address) = self.handle.local_addrs()[0] else {
            panic!("not TCP")
        };
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream
    }

    /// One turn, and all that it brought.
    fn step(&mut self) {
        let _ = self.reactor.turn(Some(Duration::from_millis(1))).unwrap();
        loop {
            let batch = match self.consumer.try_next() {
                Ok(Some(batch)) => batch,
                Ok(None) | Err(Ended::Drained) => break,
                Err(other) => panic!("{other}"),
            };
            for record in batch.records() {
                note(&mut self.told, record);
            }
            batch.release();
        }
    }

    #[track_caller]
    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            let late = Instant::now() >= deadline;
            assert!(!late, "never: {what}; {:#?}", self.handle.snapshot());
            self.step();
        }
    }

    fn closed(&self) -> u64 {
        self.handle.snapshot().connections.closed.total()
    }
}

fn of(told: &mut HashMap<SocketAddr, Told>, peer: Peer) -> &mut Told {
    let Peer::Tcp(address) = peer else {
        panic!("{peer} is not of TCP")
    };
    told.entry(address).or_default()
}

fn note(told: &mut HashMap<SocketAddr, Told>, record: Record<'_>) {
    match record {
        Record::Opened { peer, framing, .. } => {
            let earlier = of(told, peer).framing.replace(framing.to_string());
            assert_eq!(earlier, None, "{peer} was opened twice");
        }
        Record::Messages(messages) => of(told, messages.peer())
            .events
            .extend(taken_apart(&messages)),
        Record::Gap {
            peer,
            reason,
            bytes,
            messages,
            ..
        } => of(told, peer).events.push(Event::Discard {
            bytes,
            reason: reason.label().to_owned(),
            messages,
        }),
        Record::Closed {
            peer,
            reason,
            books,
            ..
        } => {
            let earlier = of(told, peer).closed.replace((reason, books));
            assert!(earlier.is_none(), "{peer} was closed twice");
        }
        other => panic!("a record that this test does not know: {other:?}"),
    }
}

/// The messages of a record, each with the bytes that it and its marks take.
fn taken_apart(messages: &Messages<'_>) -> Vec<Event> {
    let raw = messages.raw();
    let flag = match (messages.is_truncated(), messages.is_unterminated()) {
        (false, false) => None,
        (true, false) => Some(TRUNCATED),
        (false, true) => Some(UNTERMINATED),
        (true, true) => panic!("both flags"),
    };
    assert_eq!(messages.is_whole(), flag.is_some());
    let delimiter = usize::from(!messages.is_whole() && !messages.framing().is_counted());
    let mut end = 0;
    let events: Vec<_> = messages
        .iter()
        .map(|message| {
            let start = end;
            end = message.as_ptr().addr() - raw.as_ptr().addr() + message.len() + delimiter;
            Event::Message {
                bytes: message.to_vec(),
                flag,
                takes: (end - start) as u64,
            }
        })
        .collect();
    assert_eq!(end, raw.len(), "bytes of a record that are no message's");
    assert_eq!(events.len(), messages.count());
    events
}

/// The ways in which the bytes come: all at once, one by one, and in two reads. A long stream comes in
/// two around its ends, where its counts are, and around the largest size.
fn splits(case: &Case) -> Vec<Vec<Vec<u8>>> {
    const SHORT: usize = 48;
    const LONG: usize = 1000;
    let input = &case.input;
    let piece = if input.len() <= LONG { 1 } else { LONG };
    let mut splits = vec![vec![input.clone()]];
    splits.push(input.chunks(piece).map(<[u8]>::to_vec).collect());
    for at in 1..input.len() {
        let is_at_an_end = at < 12 || at + 12 > input.len();
        let is_at_the_limit = at.abs_diff(case.max_message) < 8;
        if input.len() <= SHORT || is_at_an_end || is_at_the_limit {
            let (first, second) = input.split_at(at);
            splits.push(vec![first.to_vec(), second.to_vec()]);
        }
    }
    splits
}

struct Sender {
    parts: Vec<Vec<u8>>,
    sent: usize,
    stream: TcpStream,
    address: SocketAddr,
}

impl Sender {
    fn new(parts: Vec<Vec<u8>>, receiver: &Receiver) -> Self {
        let stream = receiver.connect();
        let address = stream.local_addr().unwrap();
        Self {
            parts,
            sent: 0,
            stream,
            address,
        }
    }

    /// Sends the part in this place, if there is one. Returns its size.
    fn send(&mut self, place: usize, receiver: &mut Receiver) -> u64 {
        let Some(part) = self.parts.get(place) else {
            return 0;
        };
        let mut left = &part[..];
        while !left.is_empty() {
            match self.stream.write(left) {
                Ok(n) => left = &left[n..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => receiver.step(),
                Err(error) => panic!("{error}"),
            }
        }
        self.sent += part.len();
        part.len() as u64
    }

    /// Has the receiver ended the connection?
    fn is_refused(&self) -> bool {
        match self.stream.peek(&mut [0]) {
            Ok(0) => true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            other => panic!("{other:?}"),
        }
    }

    fn describe(&self, case: &Case) -> String {
        let sizes: Vec<_> = self.parts.iter().map(Vec::len).collect();
        format!("{} in reads of {sizes:?}", case.name)
    }
}

/// Every split of one stream at the same time, a connection each. No part is sent before all that was
/// sent is read, so that a part is a read.
fn replay(case: &Case, receiver: &mut Receiver) {
    receiver.told.clear();
    let before = receiver.handle.snapshot();
    let splits = splits(case).into_iter();
    let mut senders: Vec<_> = splits.map(|parts| Sender::new(parts, receiver)).collect();
    let count = senders.len() as u64;

    let mut received = before.bytes.received;
    let waves = senders.iter().map(|sender| sender.parts.len()).max();
    for wave in 0..waves.unwrap() {
        for sender in &mut senders {
            received += sender.send(wave, receiver);
        }
        let is_read = |r: &mut Receiver| r.handle.snapshot().bytes.received == received;
        receiver.until("all is read", is_read);
        for sender in &senders {
            let fault = case.error.as_ref();
            if fault.is_some_and(|fault| sender.sent >= fault.said_after) {
                receiver.until("the error is said", |_| sender.is_refused());
            } else {
                let early = sender.is_refused();
                assert!(!early, "{}: said too early", sender.describe(case));
            }
        }
    }

    if case.end == End::Open {
        let held = held(case);
        let staged = receiver.handle.snapshot().bytes.staged;
        assert_eq!(staged, held * count, "{}: held", case.name);
        for sender in &senders {
            let told = receiver.told.get(&sender.address);
            check(case, told, &sender.describe(case));
        }
    }
    for sender in &senders {
        if case.end == End::Reset {
            let reset = Some(Duration::ZERO);
            SockRef::from(&sender.stream).set_linger(reset).unwrap();
        }
    }
    let left: Vec<_> = senders
        .into_iter()
        .map(|sender| (sender.address, sender.describe(case)))
        .collect();
    let all = before.connections.closed.total() + count;
    receiver.until("all are closed", |r| r.closed() == all);
    if !case.input.is_empty() {
        let is_told = |told: &Told| told.closed.is_some();
        receiver.until("all ends are told", |r| {
            r.told.values().filter(|told| is_told(told)).count() == left.len()
        });
    }
    assert!(receiver.handle.snapshot().balanced(), "{}", case.name);
    if case.end != End::Open {
        for (address, description) in left {
            check(case, receiver.told.get(&address), &description);
        }
    }
}

fn held(case: &Case) -> u64 {
    let events = case.events.iter();
    let held = events.filter(|event| matches!(event, Event::Held(_)));
    held.map(Event::takes).sum()
}

/// Is it what the corpus says that a consumer is told?
#[track_caller]
fn check(case: &Case, told: Option<&Told>, what: &str) {
    let expected: Vec<_> = case
        .events
        .iter()
        .filter(|event| !matches!(event, Event::Held(_)))
        .cloned()
        .collect();
    let is_ended = case.end != End::Open;
    // Of a connection that brought nothing nothing is told, nor of one that is not decided.
    let is_silent = case.input.is_empty() || (!is_ended && expected.is_empty());
    let Some(told) = told else {
        assert!(is_silent, "{what}: nothing was told");
        return;
    };
    assert!(!is_silent, "{what}: {told:?}");
    let framing = case.settled.as_ref().unwrap_or(&case.framing);
    assert_eq!(told.framing.as_ref(), Some(framing), "{what}");
    assert_eq!(
        settle_reasons(case, &told.events),
        merged(&expected),
        "{what}"
    );
    assert_eq!(told.closed.is_some(), is_ended, "{what}");
    if let Some((reason, books)) = told.closed {
        assert_eq!(reason.label(), closed_as(case), "{what}");
        let (messages, others): (Vec<_>, Vec<_>) = expected
            .iter()
            .partition(|event| matches!(event, Event::Message { .. }));
        let sum = |events: Vec<&Event>| events.into_iter().map(Event::takes).sum::<u64>();
        assert!(books.balanced(), "{what}: {books:?}");
        assert_eq!(books.received, case.input.len() as u64, "{what}");
        assert_eq!(books.published, sum(messages), "{what}");
        assert_eq!(books.discarded, sum(others), "{what}");
    }
}

/// What came after an error is told with another reason when it came in another read.
fn settle_reasons(case: &Case, events: &[Event]) -> Vec<Event> {
    let mut events = events.to_vec();
    if let Some(fault) = &case.error {
        for event in &mut events {
            if let Event::Discard { reason, .. } = event
                && *reason == DiscardReason::Lingering.label()
            {
                reason.clone_from(&fault.kind);
            }
        }
    }
    merged(&events)
}

/// Why the connection ends.
fn closed_as(case: &Case) -> &str {
    match (&case.error, case.end) {
        (Some(fault), _) => &fault.kind,
        (None, End::Reset) => CloseReason::Reset.label(),
        (None, End::Fin | End::Open) => CloseReason::Eof.label(),
    }
}

/// The cases of a file, those of one configuration together.
fn configurations(family: &str) -> Vec<Vec<Case>> {
    let mut groups: BTreeMap<_, Vec<Case>> = BTreeMap::new();
    for case in corpus::read(family) {
        let key = (
            case.framing.clone(),
            case.max_message,
            case.oversize.clone(),
        );
        groups.entry(key).or_default().push(case);
    }
    groups.into_values().collect()
}

fn in_every_split(family: &str) {
    for cases in configurations(family) {
        let mut receiver = Receiver::new(&cases[0]);
        for case in &cases {
            replay(case, &mut receiver);
        }
    }
}

#[test]
fn line_in_every_split() {
    in_every_split("line");
}

#[test]
fn nul_in_every_split() {
    in_every_split("nul");
}

#[test]
fn byte_in_every_split() {
    in_every_split("byte");
}

#[test]
fn octet_in_every_split() {
    in_every_split("octet");
}

#[test]
fn auto_in_every_split() {
    in_every_split("auto");
}

#[test]
fn u16_in_every_split() {
    in_every_split("u16");
}

#[test]
fn u32_in_every_split() {
    in_every_split("u32");
}

#[test]
fn varint_in_every_split() {
    in_every_split("varint");
}

// --- The program

/// A message as the program writes it by default.
fn written(case: &Case, message: &[u8]) -> Vec<u8> {
    let mut line = Vec::new();
    for byte in message {
        match byte {
            b'\n' if case.framing != "line" => line.extend_from_slice(b"\\n"),
            b'\\' if case.framing != "line" => line.extend_from_slice(b"\\\\"),
            byte => line.push(*byte),
        }
    }
    line.push(b'\n');
    line
}

/// Of each configuration every stream that its sender finishes, one after the other.
#[test]
fn the_program_does_the_same() {
    for family in corpus::families() {
        for mut cases in configurations(&family) {
            cases.retain(|case| case.end == End::Fin);
            if !cases.is_empty() {
                through_the_program(&cases);
            }
        }
    }
}

fn through_the_program(cases: &[Case]) {
    let first = &cases[0];
    let max = first.max_message.to_string();
    let mut options = vec!["--framing", &first.framing, "--max-message", &max];
    if let Some(policy) = &first.oversize {
        options.extend(["--on-oversize", policy]);
    }
    let mut fanin = support::Fanin::start(&options);
    let mut expected = Vec::new();
    let mut peers = Vec::new();
    for case in cases {
        let mut stream = fanin.connect();
        peers.push(stream.local_addr().unwrap().to_string());
        stream.write_all(&case.input).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "{}", case.name);
        for event in &case.events {
            if let Event::Message { bytes, .. } = event {
                expected.extend(written(case, bytes));
            }
        }
    }
    let closed = wait_for("all are closed", PATIENCE, || {
        let report = fanin.report_now();
        let closed = report["recently_closed"].as_array().unwrap().clone();
        (closed.len() == cases.len()).then_some(closed)
    });
    for (case, peer) in cases.iter().zip(peers) {
        let row = closed.iter().find(|row| row["peer"] == *peer).unwrap();
        let name = &case.name;
        assert_eq!(row["reason"], closed_as(case), "{name}: {row}");
        let discards = case
            .events
            .iter()
            .filter(|e| matches!(e, Event::Discard { .. }));
        let discarded: u64 = discards.map(Event::takes).sum();
        assert_eq!(row["received"], case.input.len(), "{name}: {row}");
        assert_eq!(row["discarded"], discarded, "{name}: {row}");
    }
    fanin.signal(Signal::TERM);
    fanin.end();
    let output = fanin.output();
    assert_eq!(
        output.escape_ascii().to_string(),
        expected.escape_ascii().to_string(),
        "{first:?} and those of its configuration"
    );
}
