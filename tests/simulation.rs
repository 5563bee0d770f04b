//! Whole reactors over the simulated network: many seeds, all that can happen in them, and that one seed
//! is one run. Longer: `cargo run --release --example simulate -- --seconds N`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use fanin::sim::{Fault, Faults, Options, run};
use fanin::{CloseReason, Reason, Tally};

const THREADS: u64 = 2;

/// What happened in all of the seeds; panics with the first that fails.
fn runs(seeds: u64, options: Options) -> (Faults, Vec<u64>) {
    let next = AtomicU64::new(0);
    let work = || {
        let mut faults = Faults::none();
        let mut closed = vec![0; CloseReason::ALL.len()];
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return (faults, closed);
            }
            let outcome = catch_unwind(AssertUnwindSafe(|| run(seed, options)))
                .unwrap_or_else(|_| panic!("seed {seed}: repeat it by `simulate --seed {seed}`"));
            faults.add(&outcome.faults);
            add(&mut closed, &outcome.closed);
        }
    };
    let mut all = (Faults::none(), vec![0; CloseReason::ALL.len()]);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            let (faults, closed) = thread.join().expect("a seed failed, see above");
            all.0.add(&faults);
            for (sum, count) in all.1.iter_mut().zip(closed) {
                *sum += count;
            }
        }
    });
    all
}

fn add(sums: &mut [u64], tally: &Tally<CloseReason>) {
    for (sum, (_, count)) in sums.iter_mut().zip(tally.iter()) {
        *sum += count;
    }
}

#[test]
fn everything_that_can_happen_does_and_every_seed_holds() {
    let (faults, closed) = runs(2_000, Options::default());
    let never: Vec<_> = Fault::ALL
        .iter()
        .filter(|fault| faults.happened(**fault) == 0)
        .collect();
    assert!(never.is_empty(), "never happened: {never:?}");
    for (reason, count) in CloseReason::ALL.iter().zip(closed) {
        assert!(count > 0, "nobody ended by {}", reason.label());
    }
}

#[test]
fn one_seed_is_one_run() {
    for seed in [1, 20, 300] {
        let mut options = Options::default();
        options.trace = true;
        let (first, second) = (run(seed, options), run(seed, options));
        assert!(first.steps > 0 && !first.trace.is_empty());
        assert_eq!(first.steps, second.steps);
        assert!(first.trace == second.trace, "seed {seed} ran in two ways");
    }
}

#[test]
fn a_fault_that_is_switched_off_does_not_happen() {
    for fault in [
        Fault::ShortRead,
        Fault::StaleEvent,
        Fault::NoDescriptor,
        Fault::Reset,
        Fault::BatchDropped,
        Fault::OperatorPauses,
    ] {
        let happened = |options| runs(30, options).0.happened(fault);
        let mut off = Options::default();
        off.without = Some(fault);
        assert!(happened(Options::default()) > 0, "{fault:?}");
        assert_eq!(happened(off), 0, "{fault:?}");
    }
}
