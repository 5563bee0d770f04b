//! What somebody writes into a pipe or socket, taken by a thread of its own, so that the writer never
//! waits and a test can look at it at any time.

use std::io::Read;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::{PATIENCE, wait_for};

pub(crate) struct Tap {
    bytes: Arc<Mutex<Vec<u8>>>,
    thread: JoinHandle<()>,
}

impl Tap {
    pub(crate) fn on(mut source: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let theirs = Arc::clone(&bytes);
        let thread = std::thread::spawn(move || {
            let mut part = vec![0; 64 << 10];
            while let Ok(n @ 1..) = source.read(&mut part) {
                theirs.lock().unwrap().extend_from_slice(&part[..n]);
            }
        });
        Self { bytes, thread }
    }

    pub(crate) fn so_far(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }

    #[track_caller]
    pub(crate) fn wait_for(&self, what: &str, fits: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        wait_for(what, PATIENCE, || Some(self.so_far()).filter(|b| fits(b)))
    }

    /// Everything, when the writer has ended.
    #[track_caller]
    pub(crate) fn to_the_end(&self) -> Vec<u8> {
        wait_for("the writer's end", PATIENCE, || {
            self.thread.is_finished().then_some(())
        });
        self.so_far()
    }
}
