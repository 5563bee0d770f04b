//! Addresses and framings by name.

use super::input::Input;
use crate::config::ListenAddr;
use crate::frame::Framing;

/// What is legal is said by a slow reader, and what parses prints as what parses to it again.
pub fn addresses(data: &[u8]) -> bool {
    let text = text(data);
    let is_address = address(&text);
    let is_framing = framing(&text);
    is_address || is_framing
}

/// The input as it is, if it begins with what can be typed. Else it is nearly an address: made of numbers
/// that the bytes say, with whatever is left of them behind it.
fn text(data: &[u8]) -> String {
    let mut input = Input::new(data);
    if data.first().is_none_or(|byte| *byte >= b' ') {
        return String::from_utf8_lossy(data).into_owned();
    }
    let mut text = match input.below(6) {
        0 | 1 => {
            let octets = [(); 4].map(|()| u16::from(input.byte()) * 256 / 250);
            let [a, b, c, d] = octets;
            let port = u32::from(input.byte()) * 258;
            format!("tcp://{a}.{b}.{c}.{d}:{port}")
        }
        2 => {
            let groups = [(); 8].map(|()| u16::from(input.byte()) * u16::from(input.byte()));
            let scope = u32::from(input.byte()) * u32::from(input.byte());
            let address = std::net::Ipv6Addr::from(groups);
            let port = u32::from(input.byte()) * 258;
            match scope {
                0 => format!("tcp://[{address}]:{port}"),
                scope => format!("tcp://[{address}%{scope}]:{port}"),
            }
        }
        3 => format!("unix://{}", "/x".repeat(input.below(60))),
        4 => format!("byte:{}", u32::from(input.byte()) * 256 / 250),
        _ => format!("byte:0x{:x}", u32::from(input.byte()) * 256 / 250),
    };
    text.push_str(&String::from_utf8_lossy(input.rest()));
    text
}

fn address(text: &str) -> bool {
    let parsed = text.parse::<ListenAddr>();
    let parsed = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            assert!(!is_ipv4(text) && !is_path(text), "{error}");
            assert_eq!((error.setting, &*error.value), ("listen", text));
            assert!(!error.reason.is_empty());
            return false;
        }
    };
    let again: ListenAddr = parsed.to_string().parse().expect("what was printed");
    match (&parsed, &again) {
        (ListenAddr::Tcp(a), ListenAddr::Tcp(b)) => {
            assert_eq!(a, b);
            assert_eq!(is_ipv4(text), a.is_ipv4());
        }
        (ListenAddr::Unix(a), ListenAddr::Unix(b)) => {
            assert_eq!(a, b);
            assert!(is_path(text));
            assert_eq!(parsed.to_string(), text);
        }
        _ => panic!("{parsed:?} became {again:?}"),
    }
    true
}

fn is_path(text: &str) -> bool {
    text.starts_with("unix://") && (8..=114).contains(&text.len())
}

/// Four numbers of a byte without leading zeros, and a port.
fn is_ipv4(text: &str) -> bool {
    let Some((address, port)) = text
        .strip_prefix("tcp://")
        .and_then(|rest| rest.rsplit_once(':'))
    else {
        return false;
    };
    let octets: Vec<&str> = address.split('.').collect();
    let is_octet = |text: &&str| number(text, 255) && (*text == "0" || !text.starts_with('0'));
    octets.len() == 4 && octets.iter().all(is_octet) && number(port, 65535)
}

/// Digits, and no more than `most`.
fn number(text: &str, most: u64) -> bool {
    let mut value = 0;
    for digit in text.bytes() {
        if !digit.is_ascii_digit() {
            return false;
        }
        value = most.min(value) * 10 + u64::from(digit - b'0');
    }
    !text.is_empty() && value <= most
}

fn framing(text: &str) -> bool {
    const NAMES: [&str; 7] = ["line", "nul", "octet", "auto", "u16", "u32", "varint"];
    let byte = text.strip_prefix("byte:").and_then(byte);
    match text.parse::<Framing>() {
        Ok(framing) => {
            assert!(NAMES.contains(&text) || byte.is_some(), "{text:?}");
            let name = framing.to_string();
            match framing {
                Framing::Byte(parsed) => assert_eq!(Some(parsed), byte),
                _ => assert_eq!(name, text),
            }
            let again: Framing = name.parse().expect("what was printed");
            assert_eq!(again.to_string(), name);
            true
        }
        Err(error) => {
            assert!(!NAMES.contains(&text) && byte.is_none(), "{error}");
            false
        }
    }
}

/// `0x` and hexadecimal digits, or decimal ones.
fn byte(text: &str) -> Option<u8> {
    let (digits, radix) = match text.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    let mut value = 0u32;
    for digit in digits.chars() {
        value = (value * radix + digit.to_digit(radix)?).min(1 << 16);
    }
    u8::try_from(value).ok().filter(|_| !digits.is_empty())
}
