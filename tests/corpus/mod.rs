//! The corpus of byte streams in `streams/`, read as its README says and no otherwise.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

/// A stream, and what becomes of it.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// `file/name`.
    pub(crate) name: String,
    pub(crate) clause: String,
    pub(crate) framing: String,
    pub(crate) max_message: usize,
    pub(crate) oversize: Option<String>,
    pub(crate) choices: Vec<String>,
    pub(crate) input: Vec<u8>,
    pub(crate) end: End,
    /// What `auto` became.
    pub(crate) settled: Option<String>,
    pub(crate) events: Vec<Event>,
    pub(crate) error: Option<Fault>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Fin,
    Reset,
    /// The stream goes on.
    Open,
}

/// What becomes of the next bytes of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Message {
        bytes: Vec<u8>,
        flag: Option<&'static str>,
        takes: u64,
    },
    Discard {
        bytes: u64,
        reason: String,
        messages: u64,
    },
    /// They wait for more.
    Held(u64),
}

#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) kind: String,
    pub(crate) at: usize,
    pub(crate) said_after: usize,
}

pub(crate) const TRUNCATED: &str = "truncated";
pub(crate) const UNTERMINATED: &str = "unterminated";

impl Event {
    /// Bytes of the input that it accounts for.
    pub(crate) fn takes(&self) -> u64 {
        match self {
            Self::Message { takes, .. } => *takes,
            Self::Discard { bytes, .. } | Self::Held(bytes) => *bytes,
        }
    }
}

/// What two programs that agree may still tell in different portions: neighbouring discards of one
/// reason are one.
pub(crate) fn merged(events: &[Event]) -> Vec<Event> {
    let mut merged: Vec<Event> = Vec::new();
    for event in events {
        if let Event::Discard {
            bytes,
            reason,
            messages,
        } = event
            && let Some(Event::Discard {
                bytes: before,
                reason: same,
                messages: also,
            }) = merged.last_mut()
            && same == reason
        {
            *before += bytes;
            *also += messages;
        } else {
            merged.push(event.clone());
        }
    }
    merged
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// The files' names without `.json`, sorted.
pub(crate) fn families() -> Vec<String> {
    let entries = std::fs::read_dir(root().join("streams")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut families: Vec<_> = names
        .filter_map(|name| name.strip_suffix(".json").map(str::to_owned))
        .collect();
    families.sort();
    families
}

pub(crate) fn all() -> Vec<Case> {
    families().iter().flat_map(|family| read(family)).collect()
}

/// The cases of one file.
#[track_caller]
pub(crate) fn read(family: &str) -> Vec<Case> {
    let path = root().join("streams").join(format!("{family}.json"));
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.is_ascii(), "{family}: not ASCII");
    let file: Value = serde_json::from_str(&text).unwrap();
    let file = Fields::new(family, &file, &["format", "cases"]);
    assert_eq!(file.get("format"), &Value::from(1), "{family}");
    let cases = file.get("cases").as_array().unwrap();
    cases.iter().map(|case| read_case(family, case)).collect()
}

const KEYS: [&str; 12] = [
    "name",
    "clause",
    "says",
    "framing",
    "max_message",
    "oversize",
    "choices",
    "input",
    "end",
    "settled",
    "events",
    "error",
];

fn read_case(family: &str, case: &Value) -> Case {
    let fields = Fields::new(family, case, &KEYS);
    let name = format!("{family}/{}", fields.text("name"));
    assert!(!fields.text("says").is_empty(), "{name}");
    let optional = |key| fields.maybe(key).and_then(Value::as_str).map(str::to_owned);
    let list = |key| fields.get(key).as_array().unwrap().iter();
    Case {
        clause: fields.text("clause"),
        framing: fields.text("framing"),
        max_message: fields.number("max_message") as usize,
        oversize: optional("oversize"),
        choices: list("choices")
            .map(|choice| choice.as_str().unwrap().to_owned())
            .collect(),
        input: bytes(fields.get("input")),
        end: match &*fields.text("end") {
            "fin" => End::Fin,
            "reset" => End::Reset,
            "open" => End::Open,
            other => panic!("{name}: no end is {other:?}"),
        },
        settled: optional("settled"),
        events: list("events")
            .map(|event| read_event(&name, event))
            .collect(),
        error: Some(fields.get("error"))
            .filter(|fault| !fault.is_null())
            .map(|fault| {
                let fault = Fields::new(&name, fault, &["kind", "at", "said_after"]);
                Fault {
                    kind: fault.text("kind"),
                    at: fault.number("at") as usize,
                    said_after: fault.number("said_after") as usize,
                }
            }),
        name,
    }
}

fn read_event(name: &str, event: &Value) -> Event {
    if event.get("message").is_some() {
        let fields = Fields::new(name, event, &["message", "takes", "flag"]);
        let flag = fields.maybe("flag").map(|flag| match flag.as_str() {
            Some(TRUNCATED) => TRUNCATED,
            Some(UNTERMINATED) => UNTERMINATED,
            _ => panic!("{name}: no flag is {flag}"),
        });
        return Event::Message {
            bytes: bytes(fields.get("message")),
            flag,
            takes: fields.number("takes"),
        };
    }
    if event.get("held").is_some() {
        return Event::Held(Fields::new(name, event, &["held"]).number("held"));
    }
    let fields = Fields::new(name, event, &["discard", "reason", "messages"]);
    Event::Discard {
        bytes: fields.number("discard"),
        reason: fields.text("reason"),
        messages: fields.number("messages"),
    }
}

/// A character is a byte; an array is its parts, one after the other.
fn bytes(value: &Value) -> Vec<u8> {
    match value {
        Value::String(text) => text
            .chars()
            .map(|c| u8::try_from(c).expect("no character beyond U+00FF"))
            .collect(),
        Value::Array(parts) => parts.iter().flat_map(bytes).collect(),
        part => {
            let fields = Fields::new("a part", part, &["repeat", "times"]);
            bytes(fields.get("repeat")).repeat(fields.number("times") as usize)
        }
    }
}

/// An object of which every key is known.
struct Fields<'v> {
    of: String,
    map: &'v Map<String, Value>,
}

impl<'v> Fields<'v> {
    fn new(of: &str, value: &'v Value, known: &[&str]) -> Self {
        let map = value.as_object().unwrap_or_else(|| panic!("{of}: {value}"));
        let known: BTreeSet<_> = known.iter().copied().collect();
        for key in map.keys() {
            assert!(known.contains(&**key), "{of}: the format has no {key:?}");
        }
        Self {
            of: of.to_owned(),
            map,
        }
    }

    fn maybe(&self, key: &str) -> Option<&'v Value> {
        self.map.get(key)
    }

    fn get(&self, key: &str) -> &'v Value {
        let value = self.maybe(key);
        value.unwrap_or_else(|| panic!("{}: has no {key:?}", self.of))
    }

    fn text(&self, key: &str) -> String {
        self.get(key).as_str().unwrap().to_owned()
    }

    fn number(&self, key: &str) -> u64 {
        self.get(key).as_u64().unwrap()
    }
}
