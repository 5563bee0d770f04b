//! A consumer's own books: what it was given, summed by connection, held against `Closed`.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::BTreeMap;
use std::net::SocketAddr;

use fanin::{Batch, ConnectionId, DiscardReason, Peer, Record};

/// One message as it was delivered.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) peer: Peer,
    pub(crate) text: Vec<u8>,
    pub(crate) unterminated: bool,
}

#[derive(Debug, Default)]
struct Account {
    published: u64,
    discarded: u64,
    closed: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Audit {
    accounts: BTreeMap<ConnectionId, Account>,
    got: Vec<Got>,
    gaps: Vec<(DiscardReason, u64, u64)>,
    /// Bytes to count wrong: an audit that cannot fail is none.
    pub(crate) miscount: u64,
}

impl Audit {
    pub(crate) fn take(&mut self, batch: &Batch<'_>) {
        for record in batch.records() {
            match record {
                Record::Opened { who, .. } => {
                    let again = self.accounts.insert(who, Account::default());
                    assert!(again.is_none(), "{who} was opened twice");
                }
                Record::Messages(messages) => {
                    let account = self.account(messages.who());
                    account.published += messages.raw().len() as u64;
                    for text in messages.iter() {
                        self.got.push(Got {
                            peer: messages.peer(),
                            text: text.to_vec(),
                            unterminated: messages.is_unterminated(),
                        });
                    }
                }
                Record::Gap {
                    who,
                    reason,
                    bytes,
                    messages,
                    ..
                } => {
                    self.account(who).discarded += bytes;
                    self.gaps.push((reason, bytes, messages));
                }
                Record::Closed { who, books, .. } => {
                    let miscount = self.miscount;
                    let account = self.account(who);
                    account.closed = true;
                    assert!(books.balanced(), "{who}: {books:?}");
                    let counted = (account.published + miscount, account.discarded);
                    assert_eq!(
                        counted,
                        (books.published, books.discarded),
                        "{who}: the consumer counted (published, discarded) otherwise than `Closed`"
                    );
                }
                other => panic!("a record that this test does not know: {other:?}"),
            }
        }
    }

    fn account(&mut self, who: ConnectionId) -> &mut Account {
        let account = self
            .accounts
            .get_mut(&who)
            .unwrap_or_else(|| panic!("{who} never opened"));
        assert!(!account.closed, "{who}: a record after `Closed`");
        account
    }

    pub(crate) fn check_all_closed(&self) {
        for (who, account) in &self.accounts {
            assert!(account.closed, "{who} was never closed");
        }
    }

    /// Connections that it has heard of.
    pub(crate) fn accounts(&self) -> usize {
        self.accounts.len()
    }

    pub(crate) fn all(&self) -> Vec<Got> {
        self.got.clone()
    }

    pub(crate) fn from(&self, peer: SocketAddr) -> Vec<Got> {
        self.got
            .iter()
            .filter(|got| got.peer == Peer::Tcp(peer))
            .cloned()
            .collect()
    }

    pub(crate) fn gaps(&self) -> &[(DiscardReason, u64, u64)] {
        &self.gaps
    }
}
