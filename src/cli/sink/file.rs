//! Stdout or a file, shared by all sinks: one lock for a whole batch, so that no line of one consumer
//! breaks into a line of another.

use std::fs;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use fanin::Batch;
use rustix::event::PollFlags;
use rustix::fs::{FileType, OFlags, SeekFrom};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};

use super::write::{Outlet, Woken, write_all};
use super::{Cause, Failure, Progress, Renderer, Sink, Stop, texts};
use crate::cli::notes::Notes;

/// What is written into, and by how many.
#[derive(Debug)]
pub(crate) struct Shared {
    path: Option<PathBuf>,
    reopen: AtomicBool,
    /// Somebody's batch ended inside a message, and whatever came after it would be part of a forged one;
    /// or nothing can be written any more. Set under the lock.
    broken: AtomicBool,
    target: Mutex<Target>,
}

#[derive(Debug)]
struct Target {
    fd: OwnedFd,
    kind: FileType,
}

impl Shared {
    pub(crate) fn stdout() -> io::Result<Self> {
        let stdout = io::stdout();
        if was_closed(stdout.as_fd()) {
            return Err(io::Error::other(
                "it is closed, or /dev/null opened for reading too (`--sink null` throws messages away)",
            ));
        }
        let fd = match of_our_own(stdout.as_fd()) {
            Some(fd) => fd,
            None => stdout.as_fd().try_clone_to_owned()?,
        };
        Self::new(None, fd)
    }

    pub(crate) fn file(path: &Path) -> io::Result<Self> {
        Self::new(Some(path.to_owned()), append(path)?)
    }

    fn new(path: Option<PathBuf>, fd: OwnedFd) -> io::Result<Self> {
        let kind = kind(fd.as_fd())?;
        Ok(Self {
            path,
            reopen: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            target: Mutex::new(Target { fd, kind }),
        })
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    pub(crate) fn reopen(&self) {
        self.reopen.store(true, Ordering::Release);
    }
}

/// No write and no open waits: for a pipe that nobody reads, `Stop` could not end it.
fn append(path: &Path) -> io::Result<OwnedFd> {
    let file = fs::OpenOptions::new()
        .append(true)
        .create(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)?;
    Ok(file.into())
}

/// A closed descriptor of the first three is opened by Rust's runtime before `main`: /dev/null, for reading
/// and writing. A shell's `>/dev/null` is for writing alone; Python's `DEVNULL` cannot be told apart.
fn was_closed(fd: BorrowedFd<'_>) -> bool {
    let flags = rustix::fs::fcntl_getfl(fd).map(|flags| flags & OFlags::ACCMODE);
    let device = rustix::fs::fstat(fd).map(|stat| stat.st_rdev);
    flags == Ok(OFlags::RDWR) && device == Ok(rustix::fs::makedev(1, 3))
}

fn kind(fd: BorrowedFd<'_>) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode))
}

/// A pipe or terminal as an open file description of our own: a non-blocking one, so that it can be
/// waited for together with `Stop`. Setting the flag on the inherited one would change it for everybody.
/// (A socket cannot be opened: `Target` asks for each write.)
fn of_our_own(fd: BorrowedFd<'_>) -> Option<OwnedFd> {
    if !matches!(kind(fd).ok()?, FileType::Fifo | FileType::CharacterDevice) {
        return None;
    }
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::open("/proc/self/fd/1", flags, rustix::fs::Mode::empty()).ok()
}

impl Target {
    /// A message that a full disk cut short is no message, and the next run would go on in its line.
    fn take_back(&self, part: u64) {
        if part == 0 || self.kind != FileType::RegularFile {
            return;
        }
        // Unless somebody else has written behind us. It is as well as can be if that fails.
        let end = rustix::fs::seek(&self.fd, SeekFrom::Current(0));
        if let (Ok(end), Ok(stat)) = (end, rustix::fs::fstat(&self.fd))
            && u64::try_from(stat.st_size) == Ok(end)
            && rustix::fs::ftruncate(&self.fd, end - part).is_ok()
        {
            // A shell's `>` does not append: whoever writes next to the same description would leave a hole.
            let _ = rustix::fs::seek(&self.fd, SeekFrom::Start(end - part));
        }
    }
}

impl Outlet for Target {
    fn write_slices(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.kind == FileType::Socket {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            let nothing = &mut SendAncillaryBuffer::default();
            return Ok(sendmsg(&self.fd, slices, nothing, flags)?);
        }
        Ok(rustix::io::writev(&self.fd, slices)?)
    }
    fn wait_writable(&mut self, stop: &Stop) -> io::Result<Woken> {
        stop.wait_for(self.fd.as_fd(), PollFlags::OUT, None)
    }
}

/// One consumer's way to it.
#[derive(Debug)]
pub(crate) struct File {
    shared: Arc<Shared>,
    renderer: Renderer,
    stop: Arc<Stop>,
    notes: Notes,
}

impl File {
    pub(crate) fn new(
        shared: Arc<Shared>,
        renderer: Renderer,
        stop: Arc<Stop>,
        notes: Notes,
    ) -> Self {
        Self {
            shared,
            renderer,
            stop,
            notes,
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
        if self.shared.is_broken() {
            return Err(nothing(Cause::Stopped));
        }
        if let Some(path) = &self.shared.path
            && self.shared.reopen.swap(false, Ordering::AcqRel)
        {
            sync(target.fd.as_fd()).map_err(|error| nothing(Cause::Failed(error)))?;
            match append(path).and_then(|fd| Ok((kind(fd.as_fd())?, fd))) {
                Ok((kind, fd)) => (target.kind, target.fd) = (kind, fd),
                // Nothing is lost by it: the old file is there, whatever it is called by now.
                Err(error) => self.notes.say(format!(
                    "--sink file:{}: {error}; going on in the old file until the next SIGHUP",
                    path.display()
                )),
            }
        }
        let mut texts = texts(batch);
        let mut progress = Progress::default();
        loop {
            let rendered = self.renderer.render(&mut texts);
            if rendered.is_empty() {
                return Ok(progress.messages);
            }
            match write_all(&mut *target, &mut rendered.slices(0), &self.stop) {
                Ok(()) => progress.add(&rendered),
                Err((accepted, cause)) => {
                    let boundary = rendered.boundary(accepted);
                    if accepted > boundary.end || matches!(cause, Cause::Failed(_)) {
                        self.shared.broken.store(true, Ordering::Release);
                    }
                    target.take_back(accepted - boundary.end);
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
    match rustix::io::retry_on_intr(|| rustix::fs::fsync(fd)) {
        // A device or pipe that cannot be synced has nothing to sync.
        Ok(()) | Err(Errno::INVAL | Errno::ROFS | Errno::NOTSUP) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::sink::Cause;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_stop_wakes_who_writes_into_a_socket_that_blocks() {
        let stop = Stop::new().unwrap();
        // As a journal is: its other end's flag is everybody's, and stays.
        let (_reader, writer) = UnixStream::pair().unwrap();
        let shared = Shared::new(None, writer.into()).unwrap();
        let mut target = shared.target.into_inner().unwrap();
        let (accepted, cause) = std::thread::scope(|scope| {
            let sink = scope.spawn(|| {
                let big = vec![b'x'; 4 << 20];
                write_all(&mut target, &mut [IoSlice::new(&big)], &stop).unwrap_err()
            });
            stop.stop();
            sink.join().unwrap()
        });
        assert!(matches!(cause, Cause::Stopped));
        assert!(accepted < 4 << 20);
    }

    #[test]
    fn a_part_of_a_message_is_taken_back_unless_somebody_wrote_behind_it() {
        let path = std::env::temp_dir().join(format!("fanin-part-{}", std::process::id()));
        let ours = Shared::file(&path).unwrap();
        let mut target = ours.target.into_inner().unwrap();
        target
            .write_slices(&[IoSlice::new(b"whole\npart")])
            .unwrap();
        target.take_back(4);
        assert_eq!(fs::read(&path).unwrap(), b"whole\n");
        target.write_slices(&[IoSlice::new(b"part")]).unwrap();
        let theirs = append(&path).unwrap();
        rustix::io::write(&theirs, b" theirs\n").unwrap();
        target.take_back(4);
        assert_eq!(fs::read(&path).unwrap(), b"whole\npart theirs\n");
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn whoever_writes_next_to_the_same_description_begins_where_the_last_whole_message_ends() {
        let path = std::env::temp_dir().join(format!("fanin-next-{}", std::process::id()));
        let file = fs::File::create(&path).unwrap();
        let next = file.try_clone().unwrap();
        let ours = Shared::new(None, file.into()).unwrap();
        let mut target = ours.target.into_inner().unwrap();
        target
            .write_slices(&[IoSlice::new(b"whole\npart")])
            .unwrap();
        target.take_back(4);
        rustix::io::write(&next, b"next\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole\nnext\n");
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_pipe_that_nobody_reads_is_refused_and_not_waited_for() {
        let folder = std::env::temp_dir().join(format!("fanin-sink-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
        let refused = Shared::file(&path).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(Errno::NXIO.raw_os_error()));
        fs::remove_dir_all(&folder).unwrap();
    }
}
