//! Every file of the fuzzers' corpus, without a fuzzer: what was found once stays found.
//! How to fuzz: fuzz/README.md. The command line's corpus is replayed where its targets are.

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use fanin::fuzz::TARGETS;

fn inside(directory: &str) -> Vec<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let mut files: Vec<_> = fs::read_dir(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    files
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
