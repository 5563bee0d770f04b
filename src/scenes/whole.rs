//! Whole reactors, the real one and the simulated: a connection is held up by each cause, its peer goes
//! on, finishes or resets meanwhile, and what its consumer gets in the end is written in `whole.txt`.

use std::time::Duration;

use super::real::Tcp;
use super::simulated::Simulated;
use super::{Act, Acted, Ground};
use crate::close::PauseCause;
use crate::config::Config;
use crate::consumer::{Consumer, Record};
use crate::peer::ConnectionId;
use crate::policy::Seed;
use crate::reactor::{Handle, Reactor, Target, Turn};
use crate::status::{BoundAddr, ConnectionInfo};

const WHOLE: &str = include_str!("whole.txt");

/// What holds the connection up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    Ring,
    Staging,
    Operator,
    /// An operator closes it, and its ring is full.
    Leaving,
    /// The whole is draining, and its ring is full.
    Drain,
}

/// What its peer does meanwhile: bytes, then an end.
#[derive(Clone, Copy)]
struct Deed {
    bytes: &'static str,
    end: Option<Act<'static>>,
}

const DEEDS: [Deed; 6] = [
    deed("", None),
    deed("y\n", None),
    deed("", Some(Act::Finish)),
    deed("y\n", Some(Act::Finish)),
    deed("", Some(Act::Reset)),
    deed("y\n", Some(Act::Reset)),
];

const fn deed(bytes: &'static str, end: Option<Act<'static>>) -> Deed {
    Deed { bytes, end }
}

/// A reactor whose consumer takes what there is, or nothing.
struct World<G: Ground> {
    ground: G,
    reactor: Option<Reactor<G::Net>>,
    consumer: Consumer,
    handle: Handle,
    keeps_up: bool,
    /// The connection that this is about, and what its consumer got of it.
    hero: Option<ConnectionId>,
    story: Vec<String>,
}

impl<G: Ground> World<G> {
    fn new() -> Self {
        let (ground, net, listener) = G::new();
        let mut config = Config::listen("tcp://127.0.0.1:0").expect("an address");
        config.max_message = 1024;
        config.ring_bytes = Some(64 << 10);
        config.staging_bytes = 1024;
        config.deadlines.linger = Duration::from_secs(600);
        let address = BoundAddr::Tcp(([127, 0, 0, 1], 1).into());
        let fanin = config.validate().expect("legal");
        let fanin = fanin.assemble(
            vec![(net, vec![listener])],
            vec![address],
            Seed::new([0; 2]),
        );
        let mut fanin = fanin.expect("assembled");
        Self {
            ground,
            reactor: fanin.reactors.pop(),
            consumer: fanin.consumers.remove(0),
            handle: fanin.handle,
            keeps_up: true,
            hero: None,
            story: Vec::new(),
        }
    }

    fn step(&mut self) {
        if let Some(reactor) = &mut self.reactor
            && reactor.turn(Some(Duration::from_millis(1))).expect("well") == Turn::Ended
        {
            self.reactor = None;
        }
        self.ground.pass();
        if self.keeps_up {
            self.consume();
        }
    }

    fn consume(&mut self) {
        let Ok(Some(batch)) = self.consumer.try_next() else {
            return;
        };
        for record in batch.records() {
            let (who, said) = match record {
                Record::Opened { who, .. } => (who, vec!["opened".to_owned()]),
                Record::Messages(messages) => {
                    let end = if messages.is_unterminated() {
                        "..."
                    } else {
                        ""
                    };
                    let text = |text: &[u8]| format!("{}{end}", String::from_utf8_lossy(text));
                    (messages.who(), messages.iter().map(text).collect())
                }
                Record::Gap {
                    who, reason, bytes, ..
                } => (who, vec![format!("({bytes} {reason})")]),
                Record::Closed {
                    who, reason, books, ..
                } => {
                    let (received, published) = (books.received, books.published);
                    let closed = format!("closed {reason} {published}/{received}");
                    (who, vec![closed])
                }
            };
            if self.hero == Some(who) {
                self.story.extend(said);
            }
        }
        batch.release();
    }

    #[track_caller]
    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        // The ground has the patience, and it does not change by a step.
        for _ in 0..20_000 {
            if done(self) {
                return;
            }
            self.step();
        }
        panic!("never: {what}; {:#?}", self.handle.snapshot());
    }

    fn rows(&mut self) -> Vec<ConnectionInfo> {
        let mut query = self.handle.connections();
        let mut rows = None;
        self.until("the list is answered", |_| {
            rows = query.try_take();
            rows.is_some()
        });
        rows.expect("answered")
    }

    fn row(&mut self, id: ConnectionId) -> Option<ConnectionInfo> {
        self.rows().into_iter().find(|row| row.id == id)
    }

    /// Another connection, once it is there.
    fn connect(&mut self) -> (G::Peer, ConnectionId) {
        let before: Vec<_> = self.rows().iter().map(|row| row.id).collect();
        let peer = self.ground.connect();
        let mut id = None;
        self.until("accepted", |w| {
            let mut rows = w.rows().into_iter();
            id = rows.find(|row| !before.contains(&row.id)).map(|row| row.id);
            id.is_some()
        });
        (peer, id.expect("accepted"))
    }

    fn send(&self, peer: &mut G::Peer, bytes: &str) {
        let acted = self.ground.act(peer, Act::Send(bytes.as_bytes()));
        assert_eq!(acted, Acted::Took(bytes.len()));
    }

    /// Sends lines until the ring is full, and more waits for it.
    fn fill(&mut self) -> G::Peer {
        self.keeps_up = false;
        let (mut filler, id) = self.connect();
        let line = format!("{}\n", "f".repeat(99));
        let mut sent = 0;
        self.until("the ring is full", |w| {
            let rest = &line.as_bytes()[sent % line.len()..];
            if let Acted::Took(n) = w.ground.act(&mut filler, Act::Send(rest)) {
                sent += n;
            }
            sent > 56 << 10
                && w.row(id)
                    .is_some_and(|row| row.causes.contains(&PauseCause::Ring))
        });
        filler
    }
}

/// Plays one row. Returns what the list shows while it is held up, and what the consumer got.
fn play<G: Ground>(hold: Hold, queued: &'static str, deed: Deed) -> (String, String) {
    let mut w = World::<G>::new();
    let (mut hero, id) = w.connect();
    w.hero = Some(id);
    w.send(&mut hero, "first\n");
    w.until("introduced", |w| w.story.len() == 2);
    // Who holds what our hero needs.
    let mut others = Vec::new();
    match hold {
        Hold::Ring | Hold::Leaving | Hold::Drain => others.push(w.fill()),
        Hold::Operator => {
            assert!(w.handle.pause(Target::Connection(id)));
            w.until("paused", |w| w.row(id).expect("here").state == "paused");
        }
        Hold::Staging => {
            // Until one waits itself: then there is no room for a single byte.
            let mut is_spent = false;
            let mut size = 900;
            while !is_spent {
                let (mut holder, holding) = w.connect();
                w.send(&mut holder, &"h".repeat(size));
                w.until("staged, or not", |w| {
                    let row = w.row(holding).expect("here");
                    is_spent = row.causes.contains(&PauseCause::Staging);
                    is_spent || row.books.staged == size as u64
                });
                others.push(holder);
                size = 1;
            }
        }
    }
    w.send(&mut hero, queued);
    w.until("its bytes wait", |w| {
        w.row(id).expect("here").unread == queued.len() as u64
    });
    if matches!(hold, Hold::Leaving | Hold::Drain) {
        match hold {
            Hold::Leaving => assert!(w.handle.close(id)),
            _ => w.handle.drain(Duration::from_secs(1200)),
        }
        w.until("told", |w| w.ground.sees(&hero) == "FIN");
    }
    w.send(&mut hero, deed.bytes);
    if let Some(end) = deed.end {
        w.ground.act(&mut hero, end);
    }
    let unread = (queued.len() + deed.bytes.len()) as u64;
    let mut seen = String::new();
    w.until("it is noticed", |w| {
        let Some(row) = w.row(id).filter(|row| row.state != "closed") else {
            seen = "gone".to_owned();
            return true;
        };
        let fin = row.fin_at.map_or("", |_| ", fin");
        let rst = row.reset_at.map_or("", |_| ", rst");
        seen = format!("{}{fin}{rst}, {} unread", row.state, row.unread);
        let ended = row.fin_at.is_some() || row.reset_at.is_some();
        let is_known = row.state != "open" || unread == 0;
        row.unread == unread && is_known && ended == deed.end.is_some()
    });

    // It goes on.
    w.keeps_up = true;
    match hold {
        Hold::Operator => assert!(w.handle.resume(Target::All)),
        Hold::Staging => others.iter_mut().for_each(|holder| w.send(holder, "\n")),
        Hold::Ring | Hold::Leaving | Hold::Drain => {}
    }
    if deed.end.is_none() {
        w.until("all is read", |w| {
            w.row(id).is_none_or(|row| row.unread == 0)
        });
        w.send(&mut hero, "z\n");
        w.ground.act(&mut hero, Act::Finish);
    }
    w.until("its end is told", |w| {
        w.story
            .last()
            .is_some_and(|last| last.starts_with("closed"))
    });
    drop(others);
    (seen, w.story.join(" "))
}

/// All rows, as text.
fn table<G: Ground>() -> String {
    let mut text = String::new();
    for hold in [
        Hold::Ring,
        Hold::Staging,
        Hold::Operator,
        Hold::Leaving,
        Hold::Drain,
    ] {
        for queued in ["", "x"] {
            if hold == Hold::Staging && queued.is_empty() {
                // It waits for staging because of these.
                continue;
            }
            for deed in DEEDS {
                let (seen, got) = play::<G>(hold, queued, deed);
                let end = match deed.end {
                    Some(Act::Finish) => "FIN",
                    Some(_) => "RST",
                    None => "",
                };
                let name = format!("{hold:?}").to_lowercase();
                let bytes = deed.bytes.trim_end();
                let row =
                    format!("{name:8} | {queued:6} | {bytes:5} | {end:3} | {seen:23} | {got}");
                text += row.trim_end();
                text += "\n";
            }
        }
    }
    text
}

fn check<G: Ground>() {
    let (_, written) = WHOLE.split_once("\n\n").expect("a heading");
    let table = table::<G>();
    assert!(table == written, "on {} this is so:\n\n{table}", G::NAME);
}

#[test]
fn the_simulated_reactor_is_as_written() {
    check::<Simulated>();
}

#[test]
fn the_real_reactor_is_as_written() {
    check::<Tcp>();
}
