//! The loop under the floor and the bare hand-off: epoll, accept, one call for each event.

use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll::{self, EventFlags};
use rustix::io::Errno;
use rustix::net::SocketFlags;
use slab::Slab;

use crate::common::framing::Place;

/// What one connection is here.
pub(super) struct Conn {
    pub(super) stream: OwnedFd,
    pub(super) place: Place,
}

/// What is done with a connection that can be read.
pub(super) trait Reader {
    /// One recv, of at most so many bytes as were asked for: how many came, and how many were asked for.
    fn read(&mut self, key: usize, conn: &mut Conn) -> Result<(usize, usize), Errno>;
    /// After the events of one wait.
    fn end_turn(&mut self);
}

const LISTENER: u64 = u64::MAX;

/// Never returns.
pub(super) fn run(listener: TcpListener, edges: bool, mut reader: impl Reader) {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("epoll");
    let whom = epoll::EventData::new_u64;
    epoll::add(&poll, &listener, whom(LISTENER), EventFlags::IN).expect("added");
    let interest = if edges {
        EventFlags::IN | EventFlags::RDHUP | EventFlags::ET
    } else {
        EventFlags::IN
    };
    let mut conns: Slab<Conn> = Slab::new();
    let mut events = Vec::with_capacity(1024);
    loop {
        events.clear();
        match epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => panic!("{error}"),
        }
        for event in &events {
            let (key, flags) = (event.data.u64(), event.flags);
            if key == LISTENER {
                let options = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
                while let Ok(stream) = rustix::net::accept_with(&listener, options) {
                    let place = Place::default();
                    let key = conns.insert(Conn { stream, place });
                    let stream = conns[key].stream.as_fd();
                    epoll::add(&poll, stream, whom(key as u64), interest).expect("added");
                }
                continue;
            }
            let key = key as usize;
            // Level-triggered, what is left is told again. By edges it is not: a short read has drained,
            // but for the end that the event told.
            loop {
                let goes_on = match reader.read(key, &mut conns[key]) {
                    Ok((0, _)) => {
                        conns.remove(key);
                        false
                    }
                    Ok((n, asked)) => n == asked || flags.intersects(EventFlags::RDHUP),
                    Err(Errno::AGAIN) => false,
                    Err(error) => panic!("{error}"),
                };
                if !(edges && goes_on) {
                    break;
                }
            }
        }
        reader.end_turn();
    }
}
