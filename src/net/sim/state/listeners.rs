//! Listening sockets: opened, watched, closed, and opened again.
//!
//! In: what reactors call. Out: what Linux would have answered. Never here: a connection's bytes.

use std::collections::VecDeque;
use std::io;

use super::{Closed, Fault, Listening, Source, State, errno};
use crate::net::Token;

const EADDRINUSE: i32 = 98;

impl State {
    pub(in crate::net::sim) fn add_listener(&mut self, place: usize, reactor: usize) -> usize {
        self.listeners.push(Listening {
            place,
            reactor,
            is_open: true,
            backlog: VecDeque::new(),
            token: None,
            is_ready: false,
        });
        self.listeners.len() - 1
    }

    pub(in crate::net::sim) fn may_listen_again(&mut self, place: usize) -> io::Result<()> {
        let is_taken = self.strikes(Fault::PortTaken) || self.has_open(place);
        self.say(|| format!("listens again at {place}: {}", !is_taken));
        if is_taken { errno(EADDRINUSE) } else { Ok(()) }
    }

    pub(super) fn has_open(&self, place: usize) -> bool {
        self.listeners.iter().any(|l| l.place == place && l.is_open)
    }

    pub(in crate::net::sim) fn watch_listener(&mut self, listener: usize, token: Token) {
        self.listeners[listener].token = Some(token);
        self.edge(Source::Listener(listener));
    }

    pub(in crate::net::sim) fn close_listener(&mut self, listener: usize) {
        let listening = &mut self.listeners[listener];
        listening.is_open = false;
        listening.token = None;
        let waiting = std::mem::take(&mut listening.backlog);
        self.check_forgotten(&waiting);
        for key in waiting {
            let left = self.sockets[key].queue.len() as u64;
            self.sockets[key].end = Some(Closed { left: left.max(1) });
        }
    }
}
