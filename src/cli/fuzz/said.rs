//! Settings as they would be typed.
//!
//! In: what was understood. Out: options that say it. Never here: what the library makes of it.

use std::path::PathBuf;

use clap::ValueEnum;
use fanin::{Coalesce, Listen};

use super::super::args::Serve;
use super::super::units::{Brief, Deadline};

/// The options that say these settings. A new one that is not among them does not compile.
pub(super) fn said_again(serve: &Serve) -> Vec<String> {
    let Serve {
        config,
        listen,
        framing,
        max_message,
        on_oversize,
        sink,
        output,
        consumers,
        reactors,
        ring,
        staging,
        receive_buffer,
        coalesce,
        read_budget,
        byte_budget,
        accept_budget,
        max_connections,
        at_max_connections,
        backlog,
        idle_timeout,
        message_timeout,
        least_rate,
        least_rate_window,
        stall_timeout,
        max_age,
        linger,
        keepalive,
        user_timeout,
        source_connections,
        source_connects,
        source_prefix,
        connection_bytes,
        connection_messages,
        source_bytes,
        source_messages,
        listener_bytes,
        listener_messages,
        burst,
        drain_timeout,
        on_full,
        pressure_timeout,
        on_pressure,
        consumer_stall_timeout,
        on_consumer_stall,
        report,
        verbose,
    } = serve;
    let receive_buffer = match receive_buffer {
        0 => "auto".to_owned(),
        bytes => bytes.to_string(),
    };
    let coalesce = match coalesce {
        Coalesce::Apart(time) => Brief(*time).to_string(),
        Coalesce::Off => "off".to_owned(),
        _ => "auto".to_owned(),
    };
    let options = [
        ("config", path(config)),
        ("framing", Some(framing.to_string())),
        ("max-message", Some(max_message.to_string())),
        ("on-oversize", on_oversize.as_ref().map(policy)),
        ("sink", Some(sink.to_string())),
        ("output", Some(policy(output))),
        ("consumers", Some(consumers.to_string())),
        ("reactors", Some(reactors.to_string())),
        ("ring", ring.map(|bytes| format!("{bytes}b"))),
        ("staging", Some(staging.to_string())),
        ("receive-buffer", Some(receive_buffer)),
        ("coalesce", Some(coalesce)),
        ("read-budget", Some(read_budget.to_string())),
        ("byte-budget", Some(byte_budget.to_string())),
        ("accept-budget", Some(accept_budget.to_string())),
        ("max-connections", number(max_connections)),
        ("at-max-connections", Some(policy(at_max_connections))),
        ("backlog", Some(backlog.to_string())),
        ("idle-timeout", Some(deadline(*idle_timeout))),
        ("message-timeout", Some(deadline(*message_timeout))),
        ("least-rate", number(least_rate)),
        (
            "least-rate-window",
            Some(Brief(*least_rate_window).to_string()),
        ),
        ("stall-timeout", Some(deadline(*stall_timeout))),
        ("max-age", Some(deadline(*max_age))),
        ("linger", Some(Brief(*linger).to_string())),
        ("keepalive", Some(deadline(*keepalive))),
        ("user-timeout", Some(deadline(*user_timeout))),
        ("source-connections", number(source_connections)),
        ("source-connects", number(source_connects)),
        ("source-prefix", Some(source_prefix.to_string())),
        ("connection-bytes", number(connection_bytes)),
        ("connection-messages", number(connection_messages)),
        ("source-bytes", number(source_bytes)),
        ("source-messages", number(source_messages)),
        ("listener-bytes", number(listener_bytes)),
        ("listener-messages", number(listener_messages)),
        ("burst", Some(Brief(*burst).to_string())),
        ("drain-timeout", Some(Brief(*drain_timeout).to_string())),
        ("on-full", Some(policy(on_full))),
        ("pressure-timeout", Some(deadline(*pressure_timeout))),
        ("on-pressure", Some(policy(on_pressure))),
        (
            "consumer-stall-timeout",
            Some(deadline(*consumer_stall_timeout)),
        ),
        ("on-consumer-stall", Some(policy(on_consumer_stall))),
        ("report", path(report)),
    ];
    let listen = listen
        .iter()
        .map(|listen| ("listen", Some(listener(listen))));
    let said = listen
        .chain(options)
        .filter_map(|(option, value)| Some(format!("--{option}={}", value?)));
    said.chain(verbose.then(|| "-v".to_owned())).collect()
}

fn number(value: &Option<impl ToString>) -> Option<String> {
    value.as_ref().map(ToString::to_string)
}

fn path(value: &Option<PathBuf>) -> Option<String> {
    value.as_ref().map(|path| path.display().to_string())
}

fn policy(value: &impl ValueEnum) -> String {
    let typed = value.to_possible_value().expect("none is hidden");
    typed.get_name().to_owned()
}

fn deadline(value: Deadline) -> String {
    value
        .0
        .map_or("off".to_owned(), |time| Brief(time).to_string())
}

/// A listener with its own settings.
fn listener(listen: &Listen) -> String {
    let own = [
        ("framing", number(&listen.framing)),
        ("max-connections", number(&listen.max_connections)),
        ("listener-bytes", number(&listen.rate.bytes_per_sec)),
        ("listener-messages", number(&listen.rate.messages_per_sec)),
    ];
    let own = own
        .into_iter()
        .filter_map(|(name, value)| Some(format!("{name}={}", value?)));
    let said = own.collect::<Vec<_>>().join("&");
    match said.is_empty() {
        true => listen.address.to_string(),
        false => format!("{}?{said}", listen.address),
    }
}
