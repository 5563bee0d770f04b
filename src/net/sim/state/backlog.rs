//! Who waits at a listener, and who is turned away after it was accepted.
//!
//! In: questions of a reactor. Out: what the backlog holds. Never here: a connection.

use super::State;

impl State {
    pub(in crate::net::sim) fn is_awaited(&self, listener: usize) -> bool {
        !self.listeners[listener].backlog.is_empty()
    }

    /// It was accepted, and is to be no connection.
    pub(in crate::net::sim) fn turn_away(&mut self, key: usize) {
        let socket = &mut self.sockets[key];
        assert!(socket.watched.is_none(), "a connection is turned away");
        socket.accepted = false;
        socket.turned_away = true;
        self.refused += 1;
        self.say(|| format!("turns peer {key} away"));
    }
}
