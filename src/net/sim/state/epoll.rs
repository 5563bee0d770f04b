//! Edges: when a source becomes ready, and what a poll finds when it looks again.
//!
//! In: what happened to a source. Out: events. Never here: a level.

use super::{Socket, Source, State};
use crate::net::sim::Fault;
use crate::net::{Event, Token, Watch};

impl State {
    pub(super) fn edge(&mut self, source: Source) {
        let (reactor, is_ready) = match source {
            Source::Listener(at) => {
                let listening = &mut self.listeners[at];
                if listening.token.is_none() || listening.backlog.is_empty() {
                    return;
                }
                (listening.reactor, &mut listening.is_ready)
            }
            Source::Socket(key) => {
                let socket = &mut self.sockets[key];
                let Some((reactor, _, watch)) = socket.watched else {
                    return;
                };
                if watch == Watch::HangUp && !socket.fin && !socket.is_reset {
                    return;
                }
                (reactor, &mut socket.is_ready)
            }
        };
        if !std::mem::replace(is_ready, true) {
            self.epolls[reactor].ready.push_back(source);
        }
    }

    /// What epoll finds when it looks at a source again, before it tells of it.
    pub(super) fn look(&self, source: Source) -> Option<Event> {
        match source {
            Source::Listener(at) => {
                let listening = &self.listeners[at];
                let token = listening.token?;
                (!listening.backlog.is_empty()).then_some(Event {
                    token,
                    readable: true,
                    read_closed: false,
                    error: false,
                })
            }
            Source::Socket(key) => {
                let socket = &self.sockets[key];
                let (_, token, watch) = socket.watched?;
                let ended = socket.fin || socket.is_reset;
                let readable = watch == Watch::Read && (!socket.queue.is_empty() || ended);
                (readable || ended).then_some(Event {
                    token,
                    readable,
                    read_closed: ended,
                    // A read that has failed took it.
                    error: socket.reset.is_some(),
                })
            }
        }
    }

    /// Would a poll of this reactor return at once?
    pub(in crate::net::sim) fn is_ready(&mut self, reactor: usize) -> bool {
        if self.strikes(Fault::WakeForNothing) {
            self.epolls[reactor].is_roused = true;
        }
        let epoll = &self.epolls[reactor];
        let mut ready = epoll.ready.iter();
        epoll.is_roused || ready.any(|source| self.look(*source).is_some())
    }

    pub(in crate::net::sim) fn poll(&mut self, reactor: usize, events: &mut Vec<Event>) {
        self.epolls[reactor].is_roused = false;
        if self.strikes(Fault::PollInterrupted) {
            return;
        }
        for socket in &mut self.sockets {
            if socket.watched.is_some_and(|(of, ..)| of == reactor) {
                socket.polled = socket.arrived;
            }
        }
        let mut ready = std::mem::take(&mut self.epolls[reactor].ready);
        if ready.len() > 1 && self.strikes(Fault::PollInPart) {
            let told = self.random.within(1..=ready.len() - 1);
            self.epolls[reactor].ready = ready.split_off(told);
        }
        let from = events.len();
        for source in ready {
            match source {
                Source::Listener(at) => self.listeners[at].is_ready = false,
                Source::Socket(key) => self.sockets[key].is_ready = false,
            }
            events.extend(self.look(source));
        }
        if self.strikes(Fault::SpuriousEvent) {
            let mine = |socket: &Socket| match socket.watched {
                Some((r, token, Watch::Read)) if r == reactor => Some(token),
                _ => None,
            };
            let listeners = self.listeners.iter().filter(|l| l.reactor == reactor);
            let tokens = self.sockets.iter().filter_map(mine);
            let tokens = tokens.chain(listeners.filter_map(|l| l.token));
            let told = |token: Token| events.iter().any(|event| event.token == token);
            let free: Vec<Token> = tokens.filter(|token| !told(*token)).collect();
            if !free.is_empty() {
                let token = self.random.one_of(&free);
                events.push(readable(token));
            }
        }
        if !self.epolls[reactor].dead.is_empty() && self.strikes(Fault::StaleEvent) {
            let at = self.random.below(self.epolls[reactor].dead.len());
            events.push(Event {
                error: self.random.permille(300),
                read_closed: self.random.permille(300),
                ..readable(self.epolls[reactor].dead[at])
            });
        }
        if events.len() - from > 1 && self.strikes(Fault::EventsShuffled) {
            for at in (from + 1..events.len()).rev() {
                let other = self.random.within(from..=at);
                events.swap(at, other);
            }
        }
        let told = events.len() - from;
        self.say(|| format!("reactor {reactor} polls: {told} events"));
    }
}

fn readable(token: Token) -> Event {
    Event {
        token,
        readable: true,
        read_closed: false,
        error: false,
    }
}
