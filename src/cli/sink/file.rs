//! Stdout or a file, shared by all sinks: one lock for a whole batch, so that no line of one consumer
//! breaks into a line of another.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use fanin::Batch;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::write::write_all;
use super::{Cause, Failure, Progress, Renderer, Sink, Stop, texts};

/// What is written into, and by how many.
#[derive(Debug)]
pub(crate) struct Shared {
    path: Option<PathBuf>,
    reopen: AtomicBool,
    target: Mutex<Target>,
}

#[derive(Debug)]
struct Target {
    fd: OwnedFd,
    /// Somebody's batch ended inside a message: whatever came after it would be part of a forged one.
    broken: bool,
}

impl Shared {
    pub(crate) fn stdout() -> io::Result<Self> {
        let stdout = io::stdout();
        let fd = match of_our_own(stdout.as_fd()) {
            Some(fd) => fd,
            None => stdout.as_fd().try_clone_to_owned()?,
        };
        Ok(Self::new(None, fd))
    }

    pub(crate) fn file(path: &Path) -> io::Result<Self> {
        Ok(Self::new(Some(path.to_owned()), append(path)?))
    }

    fn new(path: Option<PathBuf>, fd: OwnedFd) -> Self {
        Self {
            path,
            reopen: AtomicBool::new(false),
            target: Mutex::new(Target { fd, broken: false }),
        }
    }

    pub(crate) fn reopen(&self) {
        self.reopen.store(true, Ordering::Release);
    }
}

fn append(path: &Path) -> io::Result<OwnedFd> {
    let file = fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)?;
    Ok(file.into())
}

/// A pipe as an open file description of our own: a non-blocking one, so that a full pipe can be waited
/// for together with `Stop`. Setting the flag on the inherited one would change it for everybody.
fn of_our_own(fd: BorrowedFd<'_>) -> Option<OwnedFd> {
    let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(fd).ok()?.st_mode);
    if kind != rustix::fs::FileType::Fifo {
        return None;
    }
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open("/proc/self/fd/1", flags, rustix::fs::Mode::empty()).ok()
}

/// One consumer's way to it.
#[derive(Debug)]
pub(crate) struct File {
    shared: Arc<Shared>,
    renderer: Renderer,
    stop: Arc<Stop>,
}

impl File {
    pub(crate) fn new(shared: Arc<Shared>, renderer: Renderer, stop: Arc<Stop>) -> Self {
        Self {
            shared,
            renderer,
            stop,
        }
    }
}

impl Sink for File {
    fn deliver(&mut self, batch: &Batch<'_>) -> Result<u64, Failure> {
        let nothing = |cause| Failure {
            delivered: None,
            messages: 0,
            cause,
        };
        // A panic under the lock leaves nothing half done that `broken` does not tell.
        let mut target = self
            .shared
            .target
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if target.broken {
            return Err(nothing(Cause::Stopped));
        }
        if let Some(path) = &self.shared.path
            && self.shared.reopen.swap(false, Ordering::AcqRel)
        {
            sync(target.fd.as_fd())
                .and_then(|()| append(path))
                .map(|fd| target.fd = fd)
                .map_err(|error| nothing(Cause::Failed(error)))?;
        }
        let mut texts = texts(batch);
        let mut progress = Progress::default();
        loop {
            let rendered = self.renderer.render(&mut texts);
            if rendered.is_empty() {
                return Ok(progress.messages);
            }
            match write_all(&mut target.fd, &mut rendered.slices(0), &self.stop) {
                Ok(()) => progress.add(&rendered),
                Err((accepted, cause)) => {
                    let boundary = rendered.boundary(accepted);
                    target.broken = accepted > boundary.end || matches!(cause, Cause::Failed(_));
                    return Err(progress.failure(&rendered, &boundary, cause));
                }
            }
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        if self.shared.path.is_none() {
            return Ok(());
        }
        let target = self
            .shared
            .target
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        sync(target.fd.as_fd())
    }
}

fn sync(fd: BorrowedFd<'_>) -> io::Result<()> {
    match rustix::fs::fsync(fd) {
        // A device or pipe that cannot be synced has nothing to sync.
        Ok(()) | Err(Errno::INVAL | Errno::ROFS | Errno::NOTSUP) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
