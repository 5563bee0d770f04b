//! Misfortunes, how likely each is, and how often each happened.
//!
//! In: a seed's choice. Out: yes or no. Never here: what a misfortune does.

use super::Random;

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        /// What may go wrong, or merely otherwise than one expects.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Fault { $($(#[$doc])* $name,)+ }

        impl Fault {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];
        }
    };
}

faults! {
    /// A read gives less than there is; the rest comes with an edge of its own.
    ShortRead,
    /// A read stops at an urgent mark, and no further edge tells of what is behind it.
    UrgentMark,
    /// A read is interrupted by a signal.
    ReadInterrupted,
    /// An edge came before its bytes did: the read would block, and another edge follows.
    EarlyEdge,
    /// The system does not say what is unread.
    UnreadUnknown,
    /// A poll is interrupted, and tells nothing.
    PollInterrupted,
    /// A poll returns before its time, by a signal or because somebody else turns the reactor, and has
    /// nothing to tell.
    WakeForNothing,
    /// A poll tells some of what is ready; the rest stays ready.
    PollInPart,
    /// Events come in another order than they happened.
    EventsShuffled,
    /// An event says readable, and nothing is there: no byte, or nobody to accept.
    SpuriousEvent,
    /// An event names a connection that is gone.
    StaleEvent,
    /// A connection is gone before it is accepted (ECONNABORTED, or what the network said of it).
    AcceptAborted,
    /// accept is forbidden, by a security module for example (EPERM); who waits goes on waiting.
    AcceptForbidden,
    /// accept is interrupted by a signal.
    AcceptInterrupted,
    /// The system has no file, buffer or memory left (ENFILE, ENOBUFS, ENOMEM).
    AcceptExhausted,
    /// A listener that was closed cannot be opened again: somebody else has its port (EADDRINUSE).
    PortTaken,
    /// The process has no descriptor left (EMFILE).
    NoDescriptor,
    /// The reserve descriptor is gone to somebody else, or is not enough.
    RefuseFails,
    /// A connection cannot be watched (ENOMEM, ENOSPC).
    WatchFails,
    /// A peer's bytes find no room in the window.
    WindowFull,
    /// A peer's FIN waits behind its bytes for the window to open.
    FinHeld,
    /// A peer finishes and waits for our end.
    HalfClose,
    /// A peer closes.
    Fin,
    /// A peer resets its connection.
    Reset,
    /// A connection is found to be dead by another way than an RST: unanswered probes, no route, or somebody
    /// who killed it (ETIMEDOUT, EHOSTUNREACH, ECONNABORTED).
    FoundDead,
    /// A peer finishes in the middle of a message.
    FinInMessage,
    /// A peer sends what follows no framing.
    Garbage,
    /// A peer says nothing more, for ever.
    Vanish,
    /// A consumer takes nothing for a while.
    ConsumerStalls,
    /// A consumer is dropped.
    ConsumerDies,
    /// A batch is dropped without a release.
    BatchDropped,
    /// A batch is released in part, and dropped.
    BatchInPart,
    /// A wake takes a while to arrive.
    WakeDelayed,
    /// A call takes its time, in the middle of a turn.
    SlowCall,
    /// A timer fires late.
    TimerLate,
    /// The wall clock is set, forwards or backwards.
    WallClockSet,
    /// Nobody ran for a minute, an hour or a day: the whole machine stood still.
    TimeJumps,
    /// An operator closes a connection.
    OperatorCloses,
    /// An operator pauses connections, and resumes them later.
    OperatorPauses,
    /// Somebody lists the connections.
    OperatorLists,
    /// The whole is drained before everybody has finished.
    EarlyDrain,
    /// The whole is stopped.
    Stop,
}

/// How likely each fault is in one run, in thousandths of the occasions for it, and how often it
/// happened.
#[derive(Clone, Debug)]
pub struct Faults {
    permille: [u16; Fault::ALL.len()],
    happened: [u64; Fault::ALL.len()],
}

impl Faults {
    /// None of them.
    pub fn none() -> Self {
        Self {
            permille: [0; Fault::ALL.len()],
            happened: [0; Fault::ALL.len()],
        }
    }

    /// A swarm's member: each fault is off in half of the runs, and where it is on, rare or frequent. What
    /// hides behind a frequent fault is found where that one is off.
    pub fn swarm(random: &mut Random) -> Self {
        let mut faults = Self::none();
        for permille in &mut faults.permille {
            if random.permille(500) {
                *permille = random.one_of(&[5, 20, 100, 300]);
            }
        }
        faults
    }

    /// Sets one fault's likelihood.
    pub fn set(&mut self, fault: Fault, permille: u16) {
        self.permille[fault as usize] = permille;
    }

    /// May it happen in this run?
    pub fn may(&self, fault: Fault) -> bool {
        self.permille[fault as usize] > 0
    }

    /// Does it happen now? Counted if so.
    pub fn strikes(&mut self, fault: Fault, random: &mut Random) -> bool {
        let strikes = random.permille(self.permille[fault as usize]);
        if strikes {
            self.note(fault);
        }
        strikes
    }

    /// It happened by itself.
    pub fn note(&mut self, fault: Fault) {
        self.happened[fault as usize] += 1;
    }

    /// From now on none happens; what happened stays counted.
    pub fn calm(&mut self) {
        self.permille = [0; Fault::ALL.len()];
    }

    /// Is nothing going to happen any more?
    pub fn is_calm(&self) -> bool {
        self.permille.iter().all(|permille| *permille == 0)
    }

    /// How often it happened.
    pub fn happened(&self, fault: Fault) -> u64 {
        self.happened[fault as usize]
    }

    /// Adds what happened elsewhere.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.happened.iter_mut().zip(other.happened) {
            *mine += theirs;
        }
    }
}
