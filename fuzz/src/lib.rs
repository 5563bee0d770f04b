//! What every target does around its body: it counts how many inputs reached what is asserted.

use std::sync::atomic::{AtomicU64, Ordering};

static RUNS: AtomicU64 = AtomicU64::new(0);
static REACHED: AtomicU64 = AtomicU64::new(0);

unsafe extern "C" {
    fn atexit(what: extern "C" fn()) -> i32;
}

/// libFuzzer ends by `exit` when its time is over, and by `_exit` when an input failed.
extern "C" fn report() {
    let runs = RUNS.load(Ordering::Relaxed);
    let reached = REACHED.load(Ordering::Relaxed);
    eprintln!("reached: {reached} of {runs} inputs");
}

/// Runs the body of a target.
pub fn run(body: fn(&[u8]) -> bool, data: &[u8]) {
    if RUNS.fetch_add(1, Ordering::Relaxed) == 0 {
        // SAFETY: `report` may be called at any time, and does not unwind: nothing in it panics but a
        // closed stderr.
        unsafe { atexit(report) };
    }
    if body(data) {
        REACHED.fetch_add(1, Ordering::Relaxed);
    }
}
