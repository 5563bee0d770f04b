//! A listener as text: an address, and its own settings behind it, as in a URL.
//!
//! In: text. Out: a [`Listen`], or what is wrong with which part of it.

use std::str::FromStr;

use super::{ConfigError, Listen, ListenAddr, Rate};
use crate::bytes::Bytes;
use crate::words::nearest;

/// What may stand behind the `?`.
const SETTINGS: [&str; 4] = [
    "framing",
    "max-connections",
    "listener-bytes",
    "listener-messages",
];

/// A listener without settings of its own.
impl From<ListenAddr> for Listen {
    fn from(address: ListenAddr) -> Self {
        Self {
            address,
            framing: None,
            max_connections: None,
            rate: Rate::default(),
        }
    }
}

/// `tcp://ADDRESS:PORT` or `unix://PATH`, and its settings: `?framing=octet`, `max-connections=500`,
/// `listener-bytes=10MiB` and `listener-messages=5000` (a second), parted by `&`. A path with a `?` cannot be
/// said here.
impl FromStr for Listen {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let refuse = |reason| ConfigError {
            setting: "listen",
            value: text.into(),
            reason,
        };
        let Some((address, settings)) = text.split_once('?') else {
            return Ok(text.parse::<ListenAddr>()?.into());
        };
        let address: ListenAddr = address.parse().map_err(|e: ConfigError| refuse(e.reason))?;
        if settings.contains('?') {
            let reason = "a second `?`: settings are parted by `&`";
            return Err(refuse(reason.to_owned()));
        }
        let mut listen = Self::from(address);
        let mut set = Vec::new();
        for setting in settings.split('&') {
            let (name, value) = setting.split_once('=').unwrap_or((setting, ""));
            if set.contains(&name) {
                return Err(refuse(format!("{name} is set twice")));
            }
            set.push(name);
            listen.set(name, value).map_err(refuse)?;
        }
        Ok(listen)
    }
}

const NOBODY_READ: &str = "nobody would ever be read; at least 1";

impl Listen {
    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let wrong = |why: String| format!("{name}={value}: {why}");
        match name {
            "framing" => {
                let framing = value.parse().map_err(|e| wrong(format!("{e}")))?;
                self.framing = Some(framing);
            }
            "max-connections" => match value.parse() {
                Ok(0) => return Err(wrong("nobody could connect; at least 1".into())),
                Ok(most) => self.max_connections = Some(most),
                Err(_) => return Err(wrong("is no number of connections, like 500".into())),
            },
            "listener-bytes" => match value.parse() {
                Ok(Bytes(0)) => return Err(wrong(NOBODY_READ.into())),
                Ok(Bytes(most)) => self.rate.bytes_per_sec = Some(most),
                Err(error) => return Err(wrong(error.to_string())),
            },
            "listener-messages" => match value.parse() {
                Ok(0) => return Err(wrong(NOBODY_READ.into())),
                Ok(most) => self.rate.messages_per_sec = Some(most),
                Err(_) => return Err(wrong("is no number of messages, like 5000".into())),
            },
            _ => return Err(unknown(name)),
        }
        Ok(())
    }
}

/// An address that two listeners have: the second could not be bound.
pub(super) fn twice(listeners: &[Listen]) -> Option<String> {
    let is_same = |one: &Listen, other: &Listen| match (&one.address, &other.address) {
        // Each gets a port of its own.
        (ListenAddr::Tcp(one), ListenAddr::Tcp(_)) if one.port() == 0 => false,
        (ListenAddr::Tcp(one), ListenAddr::Tcp(other)) => one == other,
        (ListenAddr::Unix(one), ListenAddr::Unix(other)) => one == other,
        _ => false,
    };
    let second = listeners.iter().enumerate().find(|(place, listen)| {
        let before = &listeners[..*place];
        before.iter().any(|other| is_same(other, listen))
    });
    second.map(|(_, listen)| listen.address.to_string())
}

fn unknown(name: &str) -> String {
    let legal = SETTINGS.join(", ");
    match nearest(name, &SETTINGS) {
        Some(near) => {
            format!("{name:?} is no setting of a listener; {near}, perhaps? Legal are {legal}")
        }
        None => format!("{name:?} is no setting of a listener; legal are {legal}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Framing;

    fn parse(text: &str) -> Listen {
        text.parse().unwrap()
    }

    #[test]
    fn settings_stand_behind_the_address() {
        let listen = parse("tcp://0.0.0.0:6514?framing=octet&max-connections=500");
        assert_eq!(listen.address.to_string(), "tcp://0.0.0.0:6514");
        assert!(matches!(listen.framing, Some(Framing::Octet)));
        assert_eq!(listen.max_connections, Some(500));
        let listen = parse("unix:///run/fanin?max-connections=3");
        assert_eq!(listen.address.to_string(), "unix:///run/fanin");
        assert_eq!(
            (listen.framing.is_none(), listen.max_connections),
            (true, Some(3))
        );
        let listen = parse("tcp://[::1]:1?listener-bytes=10MiB&listener-messages=5000");
        assert_eq!(listen.rate.bytes_per_sec, Some(10 << 20));
        assert_eq!(listen.rate.messages_per_sec, Some(5000));
        let listen = parse("tcp://[::1]:1?framing=byte:0x7c");
        assert!(matches!(listen.framing, Some(Framing::Byte(b'|'))));
        let listen = parse("tcp://127.0.0.1:1");
        assert!(listen.framing.is_none() && listen.max_connections.is_none());
        assert_eq!(listen.rate, Rate::default());
    }

    #[test]
    fn what_is_wrong_is_refused_with_the_name_or_the_value_that_would_do() {
        for (settings, why) in [
            ("max-conections=5", "max-connections, perhaps?"),
            ("max_connections=5", "max-connections, perhaps?"),
            ("frame=octet", "framing, perhaps?"),
            (
                "colour=red",
                "\"colour\" is no setting of a listener; legal are",
            ),
            (
                "",
                "legal are framing, max-connections, listener-bytes, listener-messages",
            ),
            ("framing=octet&", "legal are"),
            (
                "framing=octets",
                "is no framing; octet, perhaps? Legal are line, nul",
            ),
            ("framing", "\"\" is no framing"),
            ("max-connections=0", "at least 1"),
            ("max-connections=-1", "is no number"),
            ("max-connections=", "is no number"),
            ("max-connections=99999999999999999999", "is no number"),
            ("max-connections=1&max-connections=2", "is set twice"),
            ("listener-bytes=0", "nobody would ever be read"),
            ("listener-bytes=10M", "not a size: bytes, or a whole number"),
            ("listener-messages=0", "nobody would ever be read"),
            ("listener-messages=10MiB", "is no number of messages"),
            ("listener-byte=1", "listener-bytes, perhaps?"),
            ("framing=nul?max-connections=2", "a second `?`"),
            ("framing=line?", "a second `?`"),
        ] {
            let text = format!("tcp://127.0.0.1:0?{settings}");
            let error = text.parse::<Listen>().unwrap_err();
            assert_eq!((error.setting, &error.value), ("listen", &text));
            assert!(error.reason.contains(why), "{settings}: {error}");
        }
        let error = "tcp://here?framing=octet".parse::<Listen>().unwrap_err();
        assert!(error.reason.contains("names are not looked up"), "{error}");
    }

    #[test]
    fn two_that_could_not_both_be_bound_are_found() {
        let of = |all: &[&str]| twice(&all.iter().map(|text| parse(text)).collect::<Vec<_>>());
        let second = Some("tcp://127.0.0.1:7".to_owned());
        let (one, other) = ("tcp://127.0.0.1:7", "tcp://127.0.0.1:7?framing=nul");
        assert_eq!(of(&[one, "unix:///a", other]), second);
        assert_eq!(
            of(&["unix:///a", "unix:///a"]),
            Some("unix:///a".to_owned())
        );
        assert_eq!(of(&["tcp://127.0.0.1:0", "tcp://127.0.0.1:0", one]), None);
        assert_eq!(of(&[one, "tcp://127.0.0.2:7", "tcp://127.0.0.1:8"]), None);
    }
}
