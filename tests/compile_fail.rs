//! Directionality: what must not compile does not, and for the reason that was meant.
//!
//! Each file of `tests/compile_fail/` is one misuse. The line that the compiler must refuse ends with
//! `//~` and the code of the error; another error, or one elsewhere, fails. What it says beside that is
//! worded by each compiler in its own way, and names private types: it is written down under
//! `target/tmp/compile_fail/` for whoever wants to read it, and compared with nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use trybuild::TestCases;

/// Where the misuses are copied to, and what the compiler says of each is written beside it.
fn copies() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("compile_fail")
}

/// Lines with the code of the error that belongs there.
type Errors = BTreeSet<(usize, String)>;

/// What a misuse says of itself.
fn meant(misuse: &str) -> Errors {
    let lines = misuse.lines().zip(1..);
    lines
        .filter_map(|(line, number)| Some((number, line.split_once("//~ ")?.1.to_owned())))
        .collect()
}

/// What a compiler said: `error[CODE]: ...`, and in the next line `--> FILE:LINE:COLUMN`. One without a code
/// (a syntax error, a missing crate) was never meant.
fn said(stderr: &str) -> Errors {
    let mut errors = Errors::new();
    let mut lines = stderr.lines();
    while let Some(line) = lines.next() {
        let Some(error) = line.strip_prefix("error") else {
            continue;
        };
        let code = error.strip_prefix('[').and_then(|e| e.split(']').next());
        let place = lines.next().and_then(|place| place.rsplit(':').nth(1));
        let number = place.and_then(|number| number.parse().ok());
        errors.insert((number.unwrap_or(0), code.unwrap_or(line).to_owned()));
    }
    errors
}

#[test]
fn misuse_does_not_compile() {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compile_fail");
    let _ = fs::remove_dir_all(copies());
    fs::create_dir_all(copies()).unwrap();
    let mut misuses = Vec::new();
    for entry in fs::read_dir(place).unwrap() {
        let misuse = entry.unwrap().path();
        let copy = copies().join(misuse.file_name().unwrap());
        fs::copy(&misuse, &copy).unwrap();
        misuses.push((misuse, copy));
    }
    // Only if its environment says so, it writes down what the compiler says.
    let child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--ignored",
            "--exact",
            "what_the_compiler_says_is_written_down",
        ])
        .env("TRYBUILD", "overwrite")
        .output()
        .unwrap();
    let report = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success(),
        "one compiles, or none could be tried:\n{report}"
    );
    for (misuse, copy) in misuses {
        let meant = meant(&fs::read_to_string(&misuse).unwrap());
        assert!(!meant.is_empty(), "{} means no error", misuse.display());
        let stderr = fs::read_to_string(copy.with_extension("stderr")).unwrap();
        assert_eq!(said(&stderr), meant, "{}:\n{stderr}", misuse.display());
    }
}

/// The part of the test above that has another environment.
#[test]
#[ignore = "`misuse_does_not_compile` runs it, in each `cargo test`, which `.ci/run` runs first"]
fn what_the_compiler_says_is_written_down() {
    TestCases::new().compile_fail(copies().join("*.rs"));
}
