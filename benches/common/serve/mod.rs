//! The receivers that are compared: each alone in its process, for all connections that come.

mod bare;
mod floor;
mod library;
mod listen;
mod polling;
mod tokio;

use super::framing::Framing;
use super::work::{Work, tell_at_the_end};
use super::{option, process};

/// `serve NAME --framing F [--latency] [--slow MIB] [--autotune] …`
pub(crate) fn serve(args: &[String]) {
    process::raise_descriptor_limit();
    let framing = Framing::parse(option(args, "--framing").unwrap_or("line"));
    let listener = listen::listener(args.iter().any(|arg| arg == "--autotune"));
    let work = Work::new(framing, args);
    let name = args.first().map(String::as_str);
    match name {
        Some("floor") => thread("reactor", move || floor::run(listener, work, false)),
        Some("floor-edge") => thread("reactor", move || floor::run(listener, work, true)),
        Some("bare") => bare::run(listener, work, framing),
        Some("library") => library::two_threads(listener, args, framing),
        Some("one-thread") => library::one_thread(listener, args, framing),
        Some("tokio-lines") => thread("tokio", move || tokio::lines(listener, work)),
        Some("tokio-chunks") => thread("tokio", move || tokio::chunks(listener, work)),
        other => panic!("no receiver of the benches: {other:?}"),
    }
    tell_at_the_end()
}

/// A thread that the kernel knows by name.
fn thread(name: &str, work: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().name(name.to_owned());
    // A receiver without one of its threads would be measured as a fast one.
    let whole = || {
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err() {
            std::process::exit(1);
        }
    };
    thread.spawn(whole).expect("a thread");
}
