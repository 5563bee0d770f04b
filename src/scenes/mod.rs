//! One script, several networks: what Linux does, what the simulation does, and what is written down
//! must be the same, line for line.
//!
//! In: `net.txt`, scenes of a few steps and what each step shows. Out: a test for each network that fails
//! where it shows something else. Never here: a reactor's decision, but for `whole`, which plays whole
//! reactors; a fault: what the simulation may do worse than Linux is left out, so that what remains is
//! exact.

mod real;
mod simulated;
mod whole;

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use self::real::{Tcp, Unix};
use self::simulated::Simulated;
use crate::net::{Event, Net, Token, Watch};

/// What a peer does.
#[derive(Clone, Copy, Debug)]
enum Act<'a> {
    Send(&'a [u8]),
    /// Sends, and the last byte is urgent.
    Urge(&'a [u8]),
    /// FIN.
    Finish,
    /// RST.
    Reset,
}

/// Bytes that one act was able to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Acted {
    Took(usize),
    /// The connection is gone.
    Gone,
}

/// A network with its peers.
trait Ground: Sized {
    const NAME: &'static str;
    type Net: Net;
    type Peer;

    /// A ground, and what a reactor has of it.
    fn new() -> (Self, Self::Net, <Self::Net as Net>::Listener);

    fn connect(&self) -> Self::Peer;

    fn act(&self, peer: &mut Self::Peer, act: Act<'_>) -> Acted;

    /// What a peer's read says: `nothing`, `FIN` or `RST`.
    fn sees(&self, peer: &Self::Peer) -> &'static str;

    /// Fills our send buffer, where there is one.
    fn fill_out(&self, stream: &<Self::Net as Net>::Stream);

    /// Whether somebody waits to be accepted, and whether an end of this kind has come. What has no way to
    /// take is there at once.
    fn has_come(&self, at: Place<'_, Self>) -> bool;

    /// Tries until it is so. `false`: it never will be.
    fn until(&self, done: impl FnMut() -> bool) -> bool;

    /// Waits a while for room to send; longer than a window takes that is about to open.
    fn await_room(&self, peer: &Self::Peer);

    /// Time passes, where it does not by itself.
    fn pass(&self);
}

/// Where something is waited for.
enum Place<'a, G: Ground> {
    Listener(&'a <G::Net as Net>::Listener),
    Fin(&'a <G::Net as Net>::Stream),
    Reset(&'a <G::Net as Net>::Stream),
}

const SCENES: &str = include_str!("net.txt");
/// Where what is seen begins in a line.
const COLUMN: usize = 28;
/// The token of the listener; a connection has the number of its name.
const LISTENER: Token = Token(0);

struct Scene {
    title: &'static str,
    lines: Vec<&'static str>,
}

impl Scene {
    /// All that are written.
    fn all() -> Vec<Self> {
        let mut scenes: Vec<Self> = Vec::new();
        for line in SCENES.lines() {
            if let Some(title) = line.strip_prefix("== ") {
                let lines = Vec::new();
                scenes.push(Self { title, lines });
            } else if let Some(scene) = scenes.last_mut().filter(|_| !line.trim().is_empty()) {
                scene.lines.push(line);
            }
        }
        scenes
    }

    /// Some ends exist in TCP alone.
    fn is_for_tcp(&self) -> bool {
        self.title.ends_with("(TCP)")
    }
}

/// One connection of a scene.
struct Connection<G: Ground> {
    peer: G::Peer,
    stream: Option<<G::Net as Net>::Stream>,
    /// Bytes that its peer sent, and that we read.
    sent: usize,
    read: usize,
    is_finished: bool,
    is_reset: bool,
    /// What its peer sends next waits for room.
    is_full: bool,
}

struct Player<G: Ground> {
    ground: G,
    net: G::Net,
    listener: <G::Net as Net>::Listener,
    cast: BTreeMap<char, Connection<G>>,
}

/// Plays a scene. Returns it with what was seen.
fn play<G: Ground>(scene: &Scene) -> Vec<String> {
    let (ground, mut net, listener) = G::new();
    net.listen(&listener, LISTENER).expect("watched");
    let mut player = Player::<G> {
        ground,
        net,
        listener,
        cast: BTreeMap::new(),
    };
    let mut log = Vec::new();
    for line in &scene.lines {
        let (step, written) = match line.split_once('|') {
            Some((step, written)) => (step.trim(), written.trim()),
            None => (line.trim(), ""),
        };
        let seen = player.step(step, written);
        log.push(match seen {
            Some(seen) => format!("{step:COLUMN$}| {seen}"),
            None => step.to_owned(),
        });
    }
    log
}

impl<G: Ground> Player<G> {
    /// Takes a step; `written` is what it should show, for which a real network may need a while.
    fn step(&mut self, step: &str, written: &str) -> Option<String> {
        let words: Vec<&str> = step.split_whitespace().collect();
        let name = |word: &str| word.chars().next().expect("a name");
        match words[..] {
            ["connect", who] => {
                let connection = Connection {
                    peer: self.ground.connect(),
                    stream: None,
                    sent: 0,
                    read: 0,
                    is_finished: false,
                    is_reset: false,
                    is_full: false,
                };
                self.cast.insert(name(who), connection);
                None
            }
            ["accept", "nobody"] => {
                let said = self.net.accept(&self.listener).map(|_| ());
                Some(said.map_or_else(|e| errno(&e), |()| "somebody".to_owned()))
            }
            ["accept", who] => Some(self.accept(name(who))),
            ["poll"] => Some(self.poll(written)),
            ["read", who, most] => Some(self.read(name(who), most.parse().expect("a number"))),
            ["drain", who] => Some(self.drain(name(who))),
            ["watch", who, what] => {
                let watch = match what {
                    "read" => Watch::Read,
                    "hangup" => Watch::HangUp,
                    other => panic!("{other}"),
                };
                let stream = self.cast[&name(who)].stream.as_ref().expect("accepted");
                let watched = self.net.watch(stream, token(name(who)), watch);
                watched.err().map(|e| errno(&e))
            }
            ["unread", who] => {
                let stream = self.cast[&name(who)].stream.as_ref().expect("accepted");
                let unread = self.net.unread(stream);
                Some(unread.expect("Linux says it").to_string())
            }
            ["finish", who] => {
                let stream = self.cast[&name(who)].stream.as_ref().expect("accepted");
                self.net.finish(stream);
                None
            }
            ["close", who] => {
                let connection = self.cast.get_mut(&name(who)).expect("in the cast");
                self.net.close(connection.stream.take().expect("accepted"));
                None
            }
            ["fill", "out", who] => {
                let stream = self.cast[&name(who)].stream.as_ref().expect("accepted");
                self.ground.fill_out(stream);
                None
            }
            [who, "sees"] => {
                let peer = &self.cast[&name(who)].peer;
                let mut seen = self.ground.sees(peer);
                if seen != written {
                    self.ground.until(|| {
                        seen = self.ground.sees(peer);
                        seen != "nothing"
                    });
                }
                Some(seen.to_owned())
            }
            [who, "fills"] => {
                self.fill(name(who));
                None
            }
            [who, "sends", text] => self.act(name(who), Act::Send(text.as_bytes())),
            [who, "urges", text] => self.act(name(who), Act::Urge(text.as_bytes())),
            [who, "finishes"] => self.act(name(who), Act::Finish),
            [who, "resets"] => self.act(name(who), Act::Reset),
            _ => panic!("no such step: {step}"),
        }
    }

    fn act(&mut self, who: char, act: Act<'_>) -> Option<String> {
        let connection = self.cast.get_mut(&who).expect("in the cast");
        let acted = self.ground.act(&mut connection.peer, act);
        match act {
            Act::Finish => connection.is_finished = true,
            Act::Reset => connection.is_reset = true,
            Act::Send(_) | Act::Urge(_) => {}
        }
        match acted {
            Acted::Took(n) => connection.sent += n,
            Acted::Gone => return Some("gone".to_owned()),
        }
        self.settle(who);
        None
    }

    /// Waits until what a peer did has arrived: a scene is about what follows.
    fn settle(&mut self, who: char) {
        let connection = &self.cast[&who];
        let Some(stream) = &connection.stream else {
            return;
        };
        if connection.is_full {
            // It has not, by intention.
            return;
        }
        let due = (connection.sent - connection.read) as u64;
        let have_come = self.ground.until(|| {
            let bytes = self.net.unread(stream) >= Some(due);
            let end = match (connection.is_reset, connection.is_finished) {
                (true, _) => self.ground.has_come(Place::Reset(stream)),
                (_, true) => self.ground.has_come(Place::Fin(stream)),
                (false, false) => true,
            };
            bytes && end
        });
        assert!(have_come, "what {who} does never comes");
    }

    fn accept(&mut self, who: char) -> String {
        let waits = || self.ground.has_come(Place::Listener(&self.listener));
        self.ground.until(waits);
        match self.net.accept(&self.listener) {
            Err(error) => errno(&error),
            Ok((stream, _)) => {
                self.cast.get_mut(&who).expect("in the cast").stream = Some(stream);
                self.settle(who);
                let stream = self.cast[&who].stream.as_ref().expect("just set");
                match self.net.open(stream, token(who)) {
                    Ok(()) => "accepted".to_owned(),
                    Err(error) => errno(&error),
                }
            }
        }
    }

    /// All events, in the order of names. What is written is waited for; more than that is not.
    fn poll(&mut self, written: &str) -> String {
        let mut events = Vec::new();
        let expected = written.split(',').filter(|w| *w != "nothing").count();
        let poll = |net: &mut G::Net, events: &mut Vec<Event>| {
            net.poll(events, Some(Duration::ZERO)).expect("a poll");
        };
        poll(&mut self.net, &mut events);
        if events.len() < expected {
            self.ground.until(|| {
                poll(&mut self.net, &mut events);
                events.len() >= expected
            });
        }
        poll(&mut self.net, &mut events);
        events.sort_by_key(|event| event.token.0);
        let said: Vec<String> = events.iter().map(say).collect();
        if said.is_empty() {
            return "nothing".to_owned();
        }
        said.join(", ")
    }

    fn read(&mut self, who: char, most: usize) -> String {
        let connection = self.cast.get_mut(&who).expect("in the cast");
        let stream = connection.stream.as_ref().expect("accepted");
        let mut buf = vec![0; most];
        match self.net.read(stream, &mut buf) {
            Ok(0) => "end".to_owned(),
            Ok(n) => {
                connection.read += n;
                String::from_utf8_lossy(&buf[..n]).into_owned()
            }
            Err(error) => errno(&error),
        }
    }

    /// Sends until there is no room for more, neither with us nor with the peer.
    fn fill(&mut self, who: char) {
        let connection = self.cast.get_mut(&who).expect("in the cast");
        let mut refused = 0;
        while refused < 2 {
            let acted = self
                .ground
                .act(&mut connection.peer, Act::Send(&[b'x'; 512]));
            match acted {
                Acted::Took(0) => {
                    refused += 1;
                    self.ground.await_room(&connection.peer);
                }
                Acted::Took(n) => {
                    connection.sent += n;
                    refused = 0;
                }
                Acted::Gone => panic!("{who} is gone"),
            }
        }
        connection.is_full = true;
    }

    /// Reads until all that was ever sent has come.
    fn drain(&mut self, who: char) -> String {
        let connection = self.cast.get_mut(&who).expect("in the cast");
        let stream = connection.stream.as_ref().expect("accepted");
        let mut failure = None;
        self.ground.until(|| {
            let mut buf = [0; 4096];
            match self.net.read(stream, &mut buf) {
                Ok(0) => failure = Some("end".to_owned()),
                Ok(n) => connection.read += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => failure = Some(errno(&error)),
            }
            connection.read == connection.sent || failure.is_some()
        });
        connection.is_full = false;
        failure.unwrap_or_else(|| "all".to_owned())
    }
}

fn token(who: char) -> Token {
    Token(u64::from(u32::from(who)))
}

fn say(event: &Event) -> String {
    let mut said = match event.token {
        LISTENER => "listener".to_owned(),
        Token(name) => char::from(name as u8).to_string(),
    };
    for (is_set, flag) in [
        (event.readable, "readable"),
        (event.read_closed, "closed"),
        (event.error, "error"),
    ] {
        if is_set {
            said = format!("{said} {flag}");
        }
    }
    said
}

fn errno(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(11) => "EAGAIN".to_owned(),
        Some(104) => "ECONNRESET".to_owned(),
        _ => error.to_string(),
    }
}

/// Plays all scenes, and compares.
fn check<G: Ground>(plays: impl Fn(&Scene) -> bool) {
    let mut wrong = Vec::new();
    let scenes = Scene::all();
    assert!(scenes.len() > 20);
    for scene in scenes.iter().filter(|scene| plays(scene)) {
        let log = play::<G>(scene);
        let written: Vec<_> = scene.lines.iter().map(|line| line.trim_end()).collect();
        if log != written {
            wrong.push(format!("== {}\n{}\n", scene.title, log.join("\n")));
        }
    }
    assert!(
        wrong.is_empty(),
        "on {} these show something else than is written:\n\n{}",
        G::NAME,
        wrong.join("\n")
    );
}

#[test]
fn the_simulation_is_as_written() {
    check::<Simulated>(|_| true);
}

#[test]
fn tcp_is_as_written() {
    check::<Tcp>(|_| true);
}

#[test]
fn unix_sockets_are_as_written() {
    check::<Unix>(|scene| !scene.is_for_tcp());
}
