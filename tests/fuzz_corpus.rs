//! Every file of the fuzzers' corpus, without a fuzzer: what was found once stays found.
//! How to fuzz: fuzz/README.md. The command line's corpus is replayed where its targets are.

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use fanin::fuzz::TARGETS;

/// Those whose bodies are the program's (`src/cli/fuzz/`).
const OF_THE_PROGRAM: [&str; 3] = ["command_line", "config_file", "quantities"];

fn inside(directory: &str) -> Vec<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let mut files: Vec<_> = fs::read_dir(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    files
}

fn names(directory: &str) -> BTreeSet<String> {
    let stem = |path: PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
    inside(directory).into_iter().map(stem).collect()
}

#[test]
fn every_file_of_the_corpus_holds() {
    for (name, target) in TARGETS {
        let files = inside(&format!("fuzz/corpus/{name}"));
        let mut reached = 0;
        for file in &files {
            let data = fs::read(file).unwrap();
            let outcome = catch_unwind(|| target(&data));
            reached += outcome.map_or_else(|_| panic!("{}", file.display()), usize::from);
        }
        // A seed that reaches nothing guards nothing; some are there to be turned away.
        let share = format!("{reached} of {} reach what {name} asserts", files.len());
        assert!(reached > 0 && reached >= files.len() / 2, "{share}");
    }
}

#[test]
fn every_target_has_a_corpus_and_a_planted_bug() {
    let targets = TARGETS.iter().map(|(name, _)| *name).chain(OF_THE_PROGRAM);
    let targets: BTreeSet<String> = targets.map(str::to_owned).collect();
    assert_eq!(names("fuzz/corpus"), targets);
    assert_eq!(names("fuzz/fuzz_targets"), targets);
    assert_eq!(names("fuzz/planted"), targets);
}
