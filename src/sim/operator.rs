//! What an operator has ordered, held against what the lists of connections say.
//!
//! In: orders as they are given, lists as they are answered. Out: nothing, or a panic that names an order
//! that was lost or forgotten. Never here: an order.

use std::collections::{HashMap, HashSet};

use crate::close::PauseCause;
use crate::peer::ConnectionId;
use crate::reactor::Query;
use crate::status::ConnectionInfo;

/// What was ordered last for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ordered {
    Pause,
    Resume,
    Close,
}

#[derive(Debug, Default)]
pub(super) struct Orders {
    given: u64,
    /// The last order for each connection, and how many orders went before it.
    last: HashMap<ConnectionId, (Ordered, u64)>,
    /// Lists that were asked for, each with the number of orders that went before.
    lists: Vec<(u64, Query<ConnectionInfo>)>,
    /// What had been read of who was held, and after how many orders.
    held: HashMap<ConnectionId, (u64, u64)>,
}

impl Orders {
    /// `known`: the reactors took the order, all of them.
    fn give(&mut self, ids: &[ConnectionId], order: Ordered, known: bool) {
        self.given += 1;
        for id in ids {
            match (known, self.last.get(id)) {
                (_, Some((Ordered::Close, _))) => {}
                (true, _) => _ = self.last.insert(*id, (order, self.given)),
                (false, _) => _ = self.last.remove(id),
            }
        }
    }

    pub(super) fn pause(&mut self, ids: &[ConnectionId], pauses: bool, known: bool) {
        let order = if pauses {
            Ordered::Pause
        } else {
            Ordered::Resume
        };
        self.give(ids, order, known);
    }

    pub(super) fn close(&mut self, id: ConnectionId, known: bool) {
        self.give(&[id], Ordered::Close, known);
    }

    pub(super) fn list(&mut self, list: Query<ConnectionInfo>) {
        self.lists.push((self.given, list));
    }

    /// Takes the lists that are whole by now. Returns how many are not.
    pub(super) fn look(&mut self) -> usize {
        let lists = std::mem::take(&mut self.lists);
        for (given, mut list) in lists {
            match list.try_take() {
                Some(rows) => self.compare(&rows, given),
                None => self.lists.push((given, list)),
            }
        }
        self.lists.len()
    }

    fn compare(&mut self, rows: &[ConnectionInfo], given: u64) {
        let mut ids = HashSet::new();
        for row in rows {
            let id = row.id;
            assert!(ids.insert(id), "{id}: twice in one list");
            assert!(row.books.balanced(), "{row:?}");
            let is_held = row.causes.contains(&PauseCause::Operator);
            let is_closing = row.closing.is_some();
            // What was ordered after the list was asked for may be obeyed already.
            let last = self.last.get(&id).filter(|(_, at)| *at <= given);
            let is_obeyed = match last {
                _ if is_closing => !is_held,
                None => true,
                Some((Ordered::Pause, _)) => is_held,
                Some((Ordered::Resume, _)) => !is_held,
                Some((Ordered::Close, _)) => false,
            };
            assert!(is_obeyed, "{id}: last ordered was {last:?}: {row:?}");
            let Some((Ordered::Pause, at)) = last.filter(|_| !is_closing) else {
                self.held.remove(&id);
                continue;
            };
            let read = (*at, row.books.received);
            let before = self
                .held
                .insert(id, read)
                .filter(|(given, _)| *given == read.0);
            let still = before.is_none_or(|before| before == read);
            assert!(still, "{id}: was read while an operator held it: {row:?}");
        }
    }
}
