//! Writing all of a batch, or saying how much of it was accepted.
//!
//! In: slices. Out: how many bytes the kernel took, and why not more.
//! Never here: a busy wait. A full pipe, slow disk or slow peer is the normal case: we sleep in `poll`
//! until it takes more or until `Stop` says that the time is up, and use no CPU meanwhile.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

/// Linux takes no more slices at once (`UIO_MAXIOV`).
const MOST_SLICES: usize = 1024;

/// Says, once and for all, that the sinks' time is up, and wakes those that wait for a kernel.
#[derive(Debug)]
pub(crate) struct Stop {
    stopped: AtomicBool,
    wake: OwnedFd,
}

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    Ready,
    TimedOut,
    Stopped,
}

impl Stop {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            stopped: AtomicBool::new(false),
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        })
    }

    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        // Never read again, so it stays readable for every sink.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Until `fd` is ready for that (or has failed, which the next call will tell).
    pub(crate) fn wait_for(
        &self,
        fd: BorrowedFd<'_>,
        what: PollFlags,
        time: Option<Duration>,
    ) -> io::Result<Woken> {
        let mut fds = [
            PollFd::new(&self.wake, PollFlags::IN),
            PollFd::from_borrowed_fd(fd, what),
        ];
        self.wait(&mut fds, time)
    }

    pub(crate) fn sleep(&self, time: Duration) -> io::Result<Woken> {
        self.wait(&mut [PollFd::new(&self.wake, PollFlags::IN)], Some(time))
    }

    fn wait(&self, fds: &mut [PollFd<'_>], time: Option<Duration>) -> io::Result<Woken> {
        let time = time.map(|time| Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(time.subsec_nanos()),
        });
        loop {
            let ready = match poll(fds, time.as_ref()) {
                Err(Errno::INTR) => continue,
                other => other?,
            };
            return Ok(match ready {
                _ if self.is_stopped() => Woken::Stopped,
                0 => Woken::TimedOut,
                _ => Woken::Ready,
            });
        }
    }
}

/// What a sink writes into.
pub(crate) trait Outlet {
    fn write_slices(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize>;
    fn wait_writable(&mut self, stop: &Stop) -> io::Result<Woken>;
}

impl<T: AsFd> Outlet for T {
    fn write_slices(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(rustix::io::writev(&*self, slices)?)
    }
    fn wait_writable(&mut self, stop: &Stop) -> io::Result<Woken> {
        stop.wait_for(self.as_fd(), PollFlags::OUT, None)
    }
}

/// Why not all was written.
#[derive(Debug)]
pub(crate) enum Cause {
    Failed(io::Error),
    /// The time is up.
    Stopped,
}

/// Writes all slices; on failure, how many bytes were accepted before it.
pub(crate) fn write_all(
    outlet: &mut impl Outlet,
    mut slices: &mut [IoSlice<'_>],
    stop: &Stop,
) -> Result<(), (u64, Cause)> {
    let mut accepted = 0;
    while !slices.is_empty() {
        if stop.is_stopped() {
            return Err((accepted, Cause::Stopped));
        }
        let window = &slices[..slices.len().min(MOST_SLICES)];
        match outlet.write_slices(window) {
            Ok(0) => {
                let error = io::Error::from(io::ErrorKind::WriteZero);
                return Err((accepted, Cause::Failed(error)));
            }
            Ok(n) => {
                accepted += n as u64;
                IoSlice::advance_slices(&mut slices, n);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if let Err(error) = outlet.wait_writable(stop) {
                    return Err((accepted, Cause::Failed(error)));
                }
            }
            Err(error) => return Err((accepted, Cause::Failed(error))),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// Takes so many bytes at each write, or fails.
    struct Script {
        steps: VecDeque<Result<usize, io::ErrorKind>>,
        taken: Vec<u8>,
        waits: usize,
    }

    impl Outlet for &mut Script {
        fn write_slices(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            let all: Vec<u8> = slices.iter().flat_map(|s| s.to_vec()).collect();
            let n = self.steps.pop_front().unwrap_or(Ok(all.len()))?;
            let n = n.min(all.len());
            self.taken.extend_from_slice(&all[..n]);
            Ok(n)
        }
        fn wait_writable(&mut self, _: &Stop) -> io::Result<Woken> {
            self.waits += 1;
            Ok(Woken::Ready)
        }
    }

    fn script(steps: impl IntoIterator<Item = Result<usize, io::ErrorKind>>) -> Script {
        Script {
            steps: steps.into_iter().collect(),
            taken: Vec::new(),
            waits: 0,
        }
    }

    #[test]
    fn partial_writes_interruptions_and_a_full_pipe_lose_nothing() {
        use io::ErrorKind::{Interrupted, WouldBlock};
        let stop = Stop::new().unwrap();
        let mut script = script([Ok(1), Err(Interrupted), Ok(4), Err(WouldBlock), Ok(2)]);
        let mut slices = [
            IoSlice::new(b"abc"),
            IoSlice::new(b""),
            IoSlice::new(b"defghi"),
        ];
        write_all(&mut &mut script, &mut slices, &stop).unwrap();
        assert_eq!(script.taken, b"abcdefghi");
        assert_eq!(script.waits, 1);
    }

    #[test]
    fn a_failure_tells_what_was_accepted_before() {
        let stop = Stop::new().unwrap();
        let mut script = script([Ok(4), Err(io::ErrorKind::StorageFull)]);
        let mut slices = [IoSlice::new(b"abc"), IoSlice::new(b"def")];
        let (accepted, cause) = write_all(&mut &mut script, &mut slices, &stop).unwrap_err();
        assert_eq!((accepted, script.taken.as_slice()), (4, b"abcd".as_slice()));
        assert!(matches!(cause, Cause::Failed(e) if e.kind() == io::ErrorKind::StorageFull));
    }

    #[test]
    fn a_stop_wakes_who_waits_for_a_full_pipe() {
        let stop = Stop::new().unwrap();
        let (reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
        writer.set_nonblocking(true).unwrap();
        let accepted = std::thread::scope(|scope| {
            let sink = scope.spawn(|| {
                let big = vec![b'x'; 4 << 20];
                write_all(&mut &writer, &mut [IoSlice::new(&big)], &stop)
            });
            // Whatever the order of the two threads: stopped before, in or after the wait.
            stop.stop();
            let (accepted, cause) = sink.join().unwrap().unwrap_err();
            assert!(matches!(cause, Cause::Stopped));
            accepted
        });
        assert!(accepted < 4 << 20);
        drop(reader);
    }
}
