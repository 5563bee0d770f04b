//! A connection as the reactor drives it, with every rule of the cuts asserted: for tests and fuzzers.
//!
//! In: reads. Out: what became of their bytes. Never here: an opinion about what should have.

use super::{Cut, Framing, Limits, MessageIter, OversizePolicy, Partial, cut};
use crate::close::CloseReason;

/// Bytes that the marks of one message take at most, which a claim is sized for.
const MARKS: usize = 16;

/// What became of the bytes of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// In order; true: truncated.
    pub(crate) delivered: Vec<(bool, Vec<u8>)>,
    pub(crate) discarded_bytes: usize,
    pub(crate) discarded_messages: u64,
    pub(crate) close: Option<CloseReason>,
}

pub(crate) struct Connection {
    framing: Framing,
    limits: Limits,
    /// Those of the last read.
    pub(crate) cuts: Vec<Cut>,
    pub(crate) partial: Partial,
    pub(crate) staged: Vec<u8>,
    pub(crate) outcome: Outcome,
}

impl Connection {
    pub(crate) fn new(framing: Framing, limits: Limits) -> Self {
        Self {
            framing,
            limits,
            cuts: Vec::new(),
            partial: Partial::default(),
            staged: Vec::new(),
            outcome: Outcome::default(),
        }
    }

    /// Returns the bytes examined. Nothing more is received once it is to be closed.
    pub(crate) fn receive(&mut self, fresh: &[u8]) -> usize {
        if self.outcome.close.is_some() {
            self.cuts.clear();
            self.outcome.discarded_bytes += fresh.len();
            return 0;
        }
        let examined = cut(
            &self.framing,
            &self.limits,
            &mut self.partial,
            &self.staged,
            fresh,
            &mut self.cuts,
        );
        let bytes = [&self.staged, fresh].concat();
        self.staged.clear();
        // Every byte is in one cut, and the cuts are in order.
        let mut at = 0;
        for (place, cut) in self.cuts.clone().iter().enumerate() {
            let is_last = place + 1 == self.cuts.len();
            match *cut {
                Cut::Messages { start, end } => {
                    assert!(start == at && start < end, "{:?}", self.cuts);
                    self.take_apart(&bytes[start..end]);
                    at = end;
                }
                Cut::Truncated { start, end } => {
                    assert_eq!(start, at, "{:?}", self.cuts);
                    assert_eq!(end - start, self.limits.max, "{:?}", self.cuts);
                    assert_eq!(self.limits.oversize, OversizePolicy::Truncate);
                    let message = bytes[start..end].to_vec();
                    self.outcome.delivered.push((true, message));
                    at = end;
                }
                Cut::Discard {
                    bytes, messages, ..
                } => {
                    assert!(bytes > 0, "{:?}", self.cuts);
                    self.outcome.discarded_bytes += bytes;
                    self.outcome.discarded_messages += messages;
                    at += bytes;
                }
                Cut::Rest { start } => {
                    assert!(is_last && start == at && start < bytes.len());
                    self.staged = bytes[start..].to_vec();
                    assert!(
                        self.staged.len() <= self.limits.max + MARKS,
                        "{:?}",
                        self.cuts
                    );
                    at = bytes.len();
                }
                Cut::Close { reason } => {
                    assert!(is_last && at == bytes.len(), "{:?}", self.cuts);
                    assert_eq!(self.partial, Partial::Between);
                    self.outcome.close = Some(reason);
                }
            }
        }
        assert_eq!(at, bytes.len(), "{:?}", self.cuts);
        assert_eq!(self.partial.is_message(), !self.staged.is_empty());
        examined
    }

    fn take_apart(&mut self, raw: &[u8]) {
        let before = self.outcome.delivered.len();
        for message in MessageIter::new(&self.framing, raw) {
            // What an embedder's framer splits off is the embedder's matter.
            let is_ours = !matches!(self.framing, Framing::Custom(_));
            assert!(message.len() <= self.limits.max || !is_ours);
            self.outcome.delivered.push((false, message.to_vec()));
        }
        let delivered = &self.outcome.delivered[before..];
        let messages = MessageIter::new(&self.framing, raw);
        assert_eq!(messages.clone().count(), delivered.len());
        // To fold has a loop of its own.
        let folded = messages.fold(0, |at, message| {
            assert_eq!(message, delivered[at].1);
            at + 1
        });
        assert_eq!(folded, delivered.len());
    }
}
