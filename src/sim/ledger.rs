//! What consumers got, held against what peers sent and against the reactor's books.
//!
//! In: records, as they are delivered. Out: nothing, or a panic that names the connection.
//! Never here: a number of the reactor's that is not checked against one of our own.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use super::Delivered;
use super::plan::{Ending, Script, cut_message};
use crate::books::Books;
use crate::close::{CloseReason, Reason};
use crate::config::{Config, OnFull, OnOversize};
use crate::consumer::{Messages, Record};
use crate::net::sim::{Fate, SimNetwork};
use crate::peer::{ConnectionId, Peer};

/// What a consumer is shown: a record, or one message of it.
#[derive(Debug)]
pub(super) enum Shown {
    Opened(ConnectionId, Peer),
    Message {
        who: ConnectionId,
        text: Vec<u8>,
        /// With its marks.
        bytes: usize,
        form: Form,
        received: SystemTime,
    },
    /// With its bytes and its messages.
    Gap(ConnectionId, u64, u64),
    Closed(ConnectionId, CloseReason, Books),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    Whole,
    Truncated,
    Unterminated,
}

impl Shown {
    /// A record that has no messages.
    pub(super) fn of(record: &Record<'_>) -> Self {
        match record {
            Record::Opened { who, peer, .. } => Self::Opened(*who, *peer),
            Record::Gap {
                who,
                bytes,
                messages,
                ..
            } => Self::Gap(*who, *bytes, *messages),
            Record::Closed {
                who, reason, books, ..
            } => Self::Closed(*who, *reason, *books),
            Record::Messages(messages) => panic!("{messages:?}: one by one"),
        }
    }

    pub(super) fn message(messages: &Messages<'_>, text: &[u8], bytes: usize) -> Self {
        let form = match messages {
            m if m.is_truncated() => Form::Truncated,
            m if m.is_unterminated() => Form::Unterminated,
            _ => Form::Whole,
        };
        Self::Message {
            who: messages.who(),
            text: text.to_vec(),
            bytes,
            form,
            received: messages.received(),
        }
    }
}

/// How far the time at which a record was received may lie behind.
const TIME_EVERY: Duration = Duration::from_millis(10);

/// What is known of one connection from the consumer's side.
#[derive(Debug)]
struct Account {
    script: Rc<Script>,
    peer: Peer,
    port: u16,
    consumer: usize,
    /// The message that is due.
    next: usize,
    messages: u64,
    /// Those of them that came as they were sent.
    whole: u64,
    /// Something was discarded since the last message.
    gap: bool,
    /// The stream was cut inside the last message: nothing may follow.
    cut: bool,
    published: u64,
    discarded: u64,
    /// Messages that gaps say began in them.
    left_out: u64,
    closed: Option<(CloseReason, Books)>,
}

/// All connections of a run.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// By the port, which is a connection's number.
    scripts: HashMap<u16, Rc<Script>>,
    accounts: HashMap<ConnectionId, Account>,
    max: usize,
    /// What is too large is left out, and a gap stands in its place.
    discards: bool,
    /// What comes to a full ring is, too.
    loses: bool,
    pub(super) messages: u64,
}

impl Ledger {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            max: config.max_message,
            discards: config.on_oversize == Some(OnOversize::Discard),
            loses: config.on_full == OnFull::Discard,
            ..Self::default()
        }
    }

    pub(super) fn expect(&mut self, port: u16, script: Rc<Script>) {
        self.scripts.insert(port, script);
    }

    /// The connections that this consumer was told of, or all.
    pub(super) fn ids(&self, consumer: Option<usize>) -> Vec<ConnectionId> {
        let of = |account: &Account| consumer.is_none_or(|consumer| consumer == account.consumer);
        let accounts = self.accounts.iter().filter(|(_, account)| of(account));
        let mut ids: Vec<_> = accounts.map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids
    }

    /// One was delivered by this consumer.
    pub(super) fn take(&mut self, network: &SimNetwork, consumer: usize, shown: &Shown) {
        match shown {
            Shown::Opened(who, peer) => self.open(*who, *peer, consumer),
            Shown::Message {
                who,
                text,
                bytes,
                form,
                received,
            } => {
                let (max, discards, loses) = (self.max, self.discards, self.loses);
                let account = self.account(*who);
                assert!(!account.cut, "{who}: a message behind the cut one");
                // The stream may have ended before more came than is legal.
                let cut = matches!(form, Form::Unterminated).then_some(&text[..]);
                if loses {
                    account.skip_lost(*who);
                } else {
                    account.skip_discarded(max, discards, cut);
                }
                account.message(*who, text, *form, max);
                account.published += *bytes as u64;
                account.timely(network, *who, *form, *received);
                self.messages += 1;
            }
            Shown::Gap(who, bytes, messages) => {
                assert!(*bytes > 0, "{who}: a gap of nothing");
                let account = self.account(*who);
                account.discarded += bytes;
                account.left_out += messages;
                account.gap = true;
            }
            Shown::Closed(who, reason, books) => {
                let account = self.account(*who);
                assert!(books.balanced(), "{who}: {books:?}");
                assert_eq!(
                    (account.published, account.discarded),
                    (books.published, books.discarded),
                    "{who}: counted (published, discarded), and what `Closed` says"
                );
                account.closed = Some((*reason, *books));
            }
        }
    }

    fn open(&mut self, who: ConnectionId, peer: Peer, consumer: usize) {
        let Peer::Tcp(address) = peer else {
            panic!("{who}: {peer:?}")
        };
        let script = self.scripts.get(&address.port());
        let account = Account {
            script: script.expect("a peer of ours").clone(),
            peer,
            port: address.port(),
            consumer,
            next: 0,
            messages: 0,
            whole: 0,
            gap: false,
            cut: false,
            published: 0,
            discarded: 0,
            left_out: 0,
            closed: None,
        };
        let before = self.accounts.insert(who, account);
        assert!(before.is_none(), "{who} was opened twice");
    }

    fn account(&mut self, who: ConnectionId) -> &mut Account {
        let account = self.accounts.get_mut(&who);
        let account = account.unwrap_or_else(|| panic!("{who} never opened"));
        assert!(account.closed.is_none(), "{who}: a record after `Closed`");
        account
    }

    /// Connections of which the consumers were told that they ended for this reason.
    pub(super) fn closed_by(&self, reason: CloseReason) -> u64 {
        let closed = self.accounts.values().filter_map(|a| a.closed);
        closed.filter(|(r, _)| r.index() == reason.index()).count() as u64
    }

    /// What was delivered of each connection.
    pub(super) fn delivered(&self) -> Vec<Delivered> {
        let delivered = self.accounts.iter().map(|(who, account)| Delivered {
            who: *who,
            peer: account.peer,
            messages: account.messages,
            bytes: account.published,
            closed: account.closed.map(|(reason, _)| reason),
        });
        let mut delivered: Vec<_> = delivered.collect();
        delivered.sort_unstable_by_key(|one| one.who);
        delivered
    }

    /// At the very end: what a peer sent wholly and finished properly has arrived wholly, if nothing cut
    /// the connection short; `fates` is what the network says of each port.
    pub(super) fn finish(&self, fates: &HashMap<u16, Fate>) {
        for (who, account) in &self.accounts {
            let Some((reason, books)) = account.closed else {
                continue;
            };
            let script = &account.script;
            let fate = fates[&account.port];
            let (sent, left) = (fate.arrived, fate.left);
            assert_eq!(
                books.received + left,
                sent,
                "{who}: read and left behind, and what arrived ({reason})"
            );
            // Only a peer that has finished has a last message, and only if all before it was read.
            let is_last = fate.finished && left == 0;
            assert!(
                !account.cut || is_last,
                "{who}: half a message as its last, by {reason}: {fate:?}"
            );
            match reason {
                CloseReason::Eof => {
                    let is_over = fate.finished && left == 0;
                    assert!(is_over, "{who}: {fate:?}");
                }
                CloseReason::Reset => assert!(fate.reset, "{who}: was not reset: {fate:?}"),
                _ => {}
            }
            let proper = matches!(
                script.ending,
                Ending::Fin | Ending::HalfClose | Ending::FinReset | Ending::InMessage
            );
            if reason == CloseReason::Eof && proper && sent == script.bytes.len() as u64 {
                let cut_off = script.ending == Ending::InMessage && !account.cut;
                if self.loses {
                    assert_eq!(
                        account.whole + account.left_out,
                        script.messages.len() as u64 + u64::from(cut_off),
                        "{who}: messages that came, or that gaps count"
                    );
                    continue;
                }
                let mut due = script.messages.iter().skip(account.next);
                let is_left_out = |m: &&Vec<u8>| m.len() > self.max && self.discards && account.gap;
                let missing = due.find(|m| !is_left_out(m));
                assert!(
                    missing.is_none(),
                    "{who}: message {} of {} never came",
                    account.next,
                    script.messages.len()
                );
                let is_too_large = |m: &&Vec<u8>| m.len() > self.max;
                let too_large = script.messages.iter().filter(is_too_large).count();
                assert_eq!(
                    account.left_out,
                    too_large as u64 + u64::from(cut_off),
                    "{who}: messages that gaps count"
                );
            }
        }
    }

    /// Has everybody who was opened been closed?
    pub(super) fn check_all_closed(&self) {
        for (who, account) in &self.accounts {
            assert!(account.closed.is_some(), "{who} was never closed");
        }
    }
}

impl Account {
    /// Was the last message told with the time at which it was read?
    fn timely(&self, network: &SimNetwork, who: ConnectionId, form: Form, told: SystemTime) {
        let end = self.published + self.discarded;
        let read = |offset| network.read_at(self.peer, offset);
        let first = read(end).expect("it was read");
        // What is not to be delivered as it came is known later: by the next byte, or by the end.
        let last = match form {
            Form::Whole => first,
            Form::Truncated => read(end + 1).unwrap_or(first),
            Form::Unterminated => network.now(),
        };
        let earliest = first.saturating_sub(TIME_EVERY - Duration::from_nanos(1));
        assert!(
            network.said(told, earliest, last),
            "{who}: read from {first:?} to {last:?}, told as {told:?}"
        );
    }

    /// What a full ring had no room for is not due any more, if a gap stands in its place. What is due is
    /// known by how many bytes came before it, delivered or not.
    fn skip_lost(&mut self, who: ConnectionId) {
        let offset = self.published + self.discarded;
        let starts = &self.script.starts;
        let due = starts.partition_point(|start| *start <= offset) - 1;
        assert!(
            self.gap || due == self.next,
            "{who}: message {due} instead of {}, and no gap",
            self.next
        );
        self.next = due;
    }

    /// What was too large and discarded is not due any more, if a gap stands in its place.
    fn skip_discarded(&mut self, max: usize, discards: bool, cut: Option<&[u8]>) {
        let is_skipped =
            |due: &Vec<u8>| due.len() > max && !cut.is_some_and(|cut| due.starts_with(cut));
        while self.gap && discards && self.due().is_some_and(is_skipped) {
            self.next += 1;
        }
    }

    fn due(&self) -> Option<&Vec<u8>> {
        self.script.messages.get(self.next)
    }

    fn message(&mut self, who: ConnectionId, text: &[u8], form: Form, max: usize) {
        let script = self.script.clone();
        let tail = cut_message(text.len());
        let due = match script.messages.get(self.next) {
            Some(message) => &message[..],
            None => &tail,
        };
        let what = || {
            format!(
                "{who}: message {} came as {:?}",
                self.next,
                String::from_utf8_lossy(&text[..text.len().min(60)])
            )
        };
        match form {
            Form::Truncated => {
                assert!(due.len() > max, "{}, truncated", what());
                assert!(text == &due[..max], "{}", what());
            }
            Form::Unterminated => {
                // A count that was cut before it could be told from a line is one.
                let undecided = self.next == 0 && script.bytes.starts_with(text);
                let is_cut = undecided || due.starts_with(text);
                assert!(is_cut, "{}, unterminated", what());
                self.cut = true;
            }
            Form::Whole => {
                let is_sent = self.next < script.messages.len();
                assert!(is_sent, "{}, beyond the last", what());
                assert!(text == due && due.len() <= max, "{}", what());
                self.whole += 1;
            }
        }
        self.messages += 1;
        self.next += 1;
        self.gap = false;
    }
}

/// A connection's port is its number. It comes from one of four hosts with an IPv4 address, or from one of
/// three networks of IPv6, where each has an address of its own.
pub(super) fn address(port: u16) -> Peer {
    Peer::Tcp(match port % 7 {
        host @ 0..4 => SocketAddr::from(([10, 0, 0, host as u8], port)),
        network => SocketAddr::from(([0x2001, 0xdb8, 1, network, 0, 0, 0, port], port)),
    })
}

/// Who that is, if networks are told apart by so many bits.
pub(super) fn source(port: u16, ipv6_prefix: u8) -> u16 {
    match (port % 7, ipv6_prefix) {
        (host @ 0..4, _) => host,
        (_, 128) => 1000 + port,
        (network, 64) => network,
        (_, 48) => 4,
        (_, prefix) => panic!("/{prefix}"),
    }
}
