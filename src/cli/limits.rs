//! Descriptors: how many there may be, and how many connections that is.
//!
//! In: what the configuration asks for. Out: the number of connections that fits.
//! Never here: a limit found out by running into it.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// For standard streams, files, signals and what a resolver opens.
const RESERVE: usize = 64;
/// For each reactor: its poll, its waker, its reserve and some room.
const PER_REACTOR: usize = 8;

/// The soft limit, after raising it to the hard one.
pub(crate) fn raise() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let current = match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    current.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX))
}

/// How many connections were settled on, and whether that had to be said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Settled {
    pub(crate) connections: usize,
    pub(crate) notice: Option<String>,
}

/// What the descriptors besides connections are for.
pub(crate) struct Others {
    pub(crate) listeners: usize,
    pub(crate) reactors: usize,
    pub(crate) consumers: usize,
}

impl Others {
    pub(crate) fn count(&self) -> usize {
        let listening = self.listeners.saturating_mul(self.reactors);
        let reacting = self.reactors.saturating_mul(PER_REACTOR);
        listening
            .saturating_add(reacting)
            .saturating_add(self.consumers)
            .saturating_add(RESERVE)
    }
}

/// An explicit number beyond the limit is refused; the default gives way.
pub(crate) fn settle(
    asked: Option<usize>,
    default: usize,
    limit: usize,
    others: &Others,
) -> Result<Settled, String> {
    let most = limit.saturating_sub(others.count());
    match asked {
        Some(asked) if asked > most => Err(format!(
            "--max-connections {asked}: the limit of descriptors (RLIMIT_NOFILE) is {limit}, of which \
             {} are needed otherwise; at most {most} connections fit",
            others.count()
        )),
        Some(asked) => Ok(Settled {
            connections: asked,
            notice: None,
        }),
        None if most == 0 => Err(format!(
            "--max-connections {default} (default): the limit of descriptors (RLIMIT_NOFILE) is {limit}, \
             and {} are needed before the first connection",
            others.count()
        )),
        None if default > most => Ok(Settled {
            connections: most,
            notice: Some(format!(
                "--max-connections lowered from {default} to {most}: the limit of descriptors \
                 (RLIMIT_NOFILE) is {limit}"
            )),
        }),
        None => Ok(Settled {
            connections: default,
            notice: None,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Others = Others {
        listeners: 1,
        reactors: 1,
        consumers: 1,
    };

    #[test]
    fn what_fits_is_taken_without_a_word() {
        let settled = settle(Some(18_000), 10_000, 20_000, &ONE).unwrap();
        assert_eq!((settled.connections, settled.notice), (18_000, None));
        let settled = settle(None, 10_000, usize::MAX, &ONE).unwrap();
        assert_eq!((settled.connections, settled.notice), (10_000, None));
    }

    #[test]
    fn an_explicit_number_is_refused_with_the_largest_legal_one() {
        let error = settle(Some(1024), 10_000, 1024, &ONE).unwrap_err();
        assert!(error.contains("--max-connections 1024"), "{error}");
        assert!(error.contains("at most 950 "), "{error}");
        assert!(settle(Some(950), 10_000, 1024, &ONE).is_ok());
    }

    #[test]
    fn the_default_gives_way_and_says_so() {
        let settled = settle(None, 10_000, 1024, &ONE).unwrap();
        assert_eq!(settled.connections, 950);
        assert!(settled.notice.unwrap().contains("from 10000 to 950"));
        assert!(settle(None, 10_000, 64, &ONE).is_err());
    }
}
