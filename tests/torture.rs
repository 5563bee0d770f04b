//! Each system call that the program makes fails at its first, second, ... n-th time, with each errno that
//! it can have: the program survives, or ends with the right code; descriptors are given back; the counters
//! say why; and no byte is lost without being counted.
//!
//! The table is in `faults/table.rs`. strace makes the calls fail (curl calls such a test torture).

mod faults;
mod support;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use faults::{Errno, Expect, Repeat, Row, Scene, TABLE, calls_before_the_start, run};
use support::skip;
use support::strace::{Fault, why_not};

/// A call is made to fail at its first so many times.
const MOST: usize = 20;
/// Most of a run is waiting.
const AT_ONCE: usize = 4;
/// No case is begun after it. All of them took 75 s on two cores.
const BUDGET: Duration = Duration::from_secs(240);

/// A line of the table, with one errno.
struct Case {
    row: &'static Row,
    errno: Errno,
    repeat: Repeat,
    expect: Expect,
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for row in TABLE {
        for (errnos, repeat, expect) in row.told {
            cases.extend(errnos.split(' ').map(|errno| Case {
                row,
                errno: Errno(errno),
                repeat: *repeat,
                expect: *expect,
            }));
        }
    }
    cases
}

impl Case {
    fn fault(&self, at: usize) -> Fault {
        let when = match self.repeat {
            Repeat::Once => at.to_string(),
            Repeat::Twenty => format!("{at}..{}", at + 19),
            Repeat::Ever => format!("{at}+"),
        };
        Fault {
            call: self.row.call,
            told: self.errno.injection(),
            when,
            on: None,
        }
    }
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Row {
            scene,
            thread,
            call,
            ..
        } = self.row;
        write!(
            f,
            "{scene:?}, {thread}: {call} {}, {:?}",
            self.errno.0, self.repeat
        )
    }
}

/// What came of a case.
#[derive(Default)]
struct Tally {
    runs: usize,
    reached: usize,
    wrong: Vec<String>,
}

/// Until it is not reached any more.
fn torture(case: &Case, before: &BTreeMap<String, usize>, most: usize) -> Tally {
    let mut tally = Tally::default();
    let skipped = match case.row.scene {
        Scene::Start => before.get(case.row.call).copied().unwrap_or(0),
        _ => 0,
    };
    for at in case.row.first..case.row.first + most {
        let is_first = at == case.row.first;
        let fault = case.fault(skipped + at);
        let seen = catch_unwind(AssertUnwindSafe(|| {
            let seen = run(case.row, &fault);
            let wrong = seen.verdict(case.row.scene, case.expect, case.errno, is_first);
            (seen.log.injected, wrong, seen.said)
        }));
        tally.runs += 1;
        let (injected, wrong, said) = seen.unwrap_or_else(|panic| {
            let words = panic.downcast_ref::<String>().cloned();
            (
                1,
                vec![words.unwrap_or_else(|| "panicked".to_owned())],
                String::new(),
            )
        });
        if !wrong.is_empty() {
            let wrong = wrong.join("; ");
            tally
                .wrong
                .push(format!("{case}, at {at}: {wrong}\n{said}"));
        }
        if injected == 0 {
            if is_first {
                tally
                    .wrong
                    .push(format!("{case}: never reached: the table is wrong"));
            }
            break;
        }
        tally.reached += 1;
    }
    tally
}

fn torture_all(cases: &[Case], most: usize) {
    let began = Instant::now();
    let before = calls_before_the_start();
    let (next, tallies) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if began.elapsed() > BUDGET {
                        println!("LEFT OUT, the time was up: {case}");
                        continue;
                    }
                    let began = Instant::now();
                    let tally = torture(case, &before, most);
                    let (reached, runs) = (tally.reached, tally.runs);
                    let verdict = if tally.wrong.is_empty() {
                        "ok"
                    } else {
                        "WRONG"
                    };
                    let took = began.elapsed().as_secs_f64();
                    println!("{case}: {reached} reached in {runs} runs, {took:.1} s: {verdict}");
                    tallies.lock().unwrap().push(tally);
                }
            });
        }
    });
    let tallies = tallies.into_inner().unwrap();
    let sum = |of: fn(&Tally) -> usize| tallies.iter().map(of).sum::<usize>();
    println!(
        "{} of {} lines; {} runs, {} of them with a failure that was reached; {:.0} s",
        tallies.len(),
        cases.len(),
        sum(|tally| tally.runs),
        sum(|tally| tally.reached),
        began.elapsed().as_secs_f64()
    );
    let wrong: Vec<_> = tallies.iter().flat_map(|tally| &tally.wrong).collect();
    for wrong in &wrong {
        println!("\n{wrong}");
    }
    assert!(
        wrong.is_empty(),
        "{} runs went wrong, see above",
        wrong.len()
    );
}

fn is_possible() -> bool {
    let why_not = why_not();
    if let Some(reason) = &why_not {
        skip("torture", reason);
    }
    why_not.is_none()
}

#[test]
fn each_call_fails_at_its_first_time() {
    if !is_possible() {
        return;
    }
    let mut cases = cases();
    // Of each line of the table the commonest errno.
    cases.dedup_by_key(|case| std::ptr::from_ref(case.row));
    torture_all(&cases, 1);
}

#[test]
#[ignore = "takes minutes; `.ci/run` runs it before each landing"]
fn each_call_fails_at_each_time_with_each_errno() {
    if is_possible() {
        torture_all(&cases(), MOST);
    }
}
