//! A pipe that is full before the program has it for its standard output: from the first byte on, it
//! takes what a test lets in, and nothing else.

use std::io::{ErrorKind, PipeReader, PipeWriter, Read, Write, pipe};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::flood::{Flood, SMALL};
use super::tap::Tap;
use super::{Fanin, PATIENCE, Place, serve, wait_for};

const PAGE: usize = 4096;

pub(crate) struct FullPipe {
    reader: PipeReader,
    capacity: usize,
    /// Bytes of the filling that are still in it.
    filling: usize,
}

pub(crate) fn full_pipe() -> (FullPipe, PipeWriter) {
    let (reader, mut writer) = pipe().unwrap();
    let flags = fcntl_getfl(&writer).unwrap();
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).unwrap();
    let mut capacity = 0;
    loop {
        match writer.write(&[b'#'; PAGE]) {
            Ok(n) => capacity += n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    // As a shell makes them.
    fcntl_setfl(&writer, flags).unwrap();
    let pipe = FullPipe {
        reader,
        capacity,
        filling: capacity,
    };
    (pipe, writer)
}

impl FullPipe {
    /// Makes room for so many bytes of the program's, and waits until it has used all of it.
    #[track_caller]
    pub(crate) fn let_in(&mut self, pages: usize) -> usize {
        let bytes = pages * PAGE;
        self.drop_filling(bytes);
        wait_for("the pipe is full again", PATIENCE, || {
            let held = rustix::io::ioctl_fionread(&self.reader).unwrap();
            (held == self.capacity as u64).then_some(())
        });
        bytes
    }

    fn drop_filling(&mut self, bytes: usize) {
        self.filling -= bytes;
        self.reader.read_exact(&mut vec![0; bytes]).unwrap();
    }

    /// Reads on, all that comes.
    pub(crate) fn open(mut self) -> Tap {
        self.drop_filling(self.filling);
        Tap::on(self.reader)
    }
}

/// A program whose standard output takes nothing, and a sender that it has paused for good.
#[track_caller]
pub(crate) fn blocked(more: &[&str]) -> (Fanin, FullPipe, Flood) {
    let (pipe, writer) = full_pipe();
    let mut command = serve(&["--listen", "tcp://127.0.0.1:0"]);
    command.args(SMALL).args(more).stdout(writer);
    let fanin = Fanin::start_with(command, Place::new(), 1);
    let flood = Flood::until_paused(&fanin);
    (fanin, pipe, flood)
}
