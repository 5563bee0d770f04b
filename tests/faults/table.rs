//! Which call of which thread can fail with which errno, and what may come of it.
//!
//! From the manual pages: accept(2) with the errors of the network that Linux passes on, epoll_ctl(2),
//! epoll_wait(2), recv(2), writev(2), send(2), ppoll(2), fsync(2), socket(2) and so on. Not `EFAULT` and
//! `ENOTSOCK`: only a bug of ours could bring them about. `EBADF` stands for what is broken for good. Not
//! close(2) either: Linux closes whatever it says, and a call that did not happen would be a leak. Names
//! are those of x86-64: a row that is never reached is an error.

use rustix::io::Errno as Raw;

/// What the program is, and what goes through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scene {
    /// Its start, with strace around it, then a line to a file.
    Start,
    /// Six peers, to a file.
    File,
    /// The same, to a standard output that is a socket.
    Socket,
    /// The same, to a server.
    Server,
    /// Two peers, to a pipe that is full.
    Blocked,
}

/// What may come of a call that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// Nobody notices.
    Unharmed,
    /// Nobody loses anything, and it is told.
    Explained,
    /// `EAGAIN` is a promise of another edge, and this one was a lie. It takes until the next, or until the
    /// end, and what is unread then is counted.
    Late,
    /// A peer is not told of the end, and goes on sending beyond it.
    Untold,
    /// For each failure, one peer may be turned away, which is counted.
    Refuses,
    /// Nobody is taken any more, and nobody spins.
    Starves,
    /// For each failure, one connection may end with `system` as its reason, and this errno: unless it was
    /// ending already, for another one.
    EndsConnection,
    /// The same, with `reset` as its reason.
    Resets,
    /// The sink's connection is made anew, and nothing is lost.
    Reconnects,
    /// The program ends with 1, and says why; what it has delivered is known to the byte.
    Fails,
    /// All is delivered, but there is no report: 1 if it is the last, and it says why.
    FailsToReport,
    /// The program does not start: this code, and it says why. Later failures may do no harm.
    Refused(i32),
}

/// How often it fails from its n-th time on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    Once,
    /// An interruption or `EAGAIN` ends at some time.
    Twenty,
    Ever,
}

pub(crate) struct Row {
    pub(crate) scene: Scene,
    /// The first one is called `fanin`.
    pub(crate) thread: &'static str,
    pub(crate) call: &'static str,
    /// The first time that counts: before it the same call is for something else.
    pub(crate) first: usize,
    /// Only calls on the report's file.
    pub(crate) on_report: bool,
    /// Errnos, the commonest first, or `retval=N`.
    pub(crate) told: &'static [(&'static str, Repeat, Expect)],
}

use Expect::*;
use Repeat::*;

const REACTOR: &str = "fanin-reactor-0";
const SINK: &str = "fanin-sink-0";
const MAIN: &str = "fanin";

const fn row(
    scene: Scene,
    thread: &'static str,
    call: &'static str,
    told: &'static [(&'static str, Repeat, Expect)],
) -> Row {
    Row {
        scene,
        thread,
        call,
        first: 1,
        on_report: false,
        told,
    }
}

const fn start(call: &'static str, told: &'static [(&'static str, Repeat, Expect)]) -> Row {
    row(Scene::Start, MAIN, call, told)
}

pub(crate) const TABLE: &[Row] = &[
    // The reactor.
    row(
        Scene::File,
        REACTOR,
        "accept4",
        &[
            ("EMFILE ENFILE ENOBUFS ENOMEM", Once, Refuses),
            ("ECONNABORTED EINTR EPROTO ETIMEDOUT", Once, Unharmed),
            ("ENETDOWN ENOPROTOOPT EHOSTDOWN ENONET", Once, Unharmed),
            ("EHOSTUNREACH EOPNOTSUPP ENETUNREACH", Once, Unharmed),
            // A security module; what is broken for good.
            ("EPERM EBADF EINVAL", Once, Unharmed),
            ("EAGAIN", Once, Late),
            ("EMFILE ENFILE ENOBUFS ENOMEM EBADF", Ever, Starves),
            ("EINTR ECONNABORTED", Twenty, Unharmed),
        ],
    ),
    row(
        Scene::File,
        REACTOR,
        "epoll_ctl",
        &[
            ("ENOMEM ENOSPC EPERM", Once, EndsConnection),
            ("ENOMEM ENOSPC", Ever, EndsConnection),
        ],
    ),
    row(
        Scene::Blocked,
        REACTOR,
        "epoll_ctl",
        &[("ENOMEM ENOENT EBADF", Once, EndsConnection)],
    ),
    row(
        Scene::File,
        REACTOR,
        "epoll_wait",
        &[
            ("EINTR", Once, Unharmed),
            ("EINTR", Twenty, Unharmed),
            ("EBADF EINVAL", Once, Fails),
        ],
    ),
    row(
        Scene::File,
        REACTOR,
        "recvfrom",
        &[
            ("ECONNRESET", Once, Resets),
            (
                "ETIMEDOUT EHOSTUNREACH ENETUNREACH EPIPE",
                Once,
                EndsConnection,
            ),
            (
                "ENOMEM ENOBUFS ECONNREFUSED ENOTCONN EBADF",
                Once,
                EndsConnection,
            ),
            ("EINTR", Once, Unharmed),
            ("EINTR", Twenty, Unharmed),
            ("EAGAIN", Once, Late),
            ("ENOMEM ENOBUFS", Ever, EndsConnection),
        ],
    ),
    row(
        Scene::Blocked,
        REACTOR,
        "recvfrom",
        &[
            ("ECONNRESET", Once, Resets),
            ("ETIMEDOUT", Once, EndsConnection),
        ],
    ),
    // How much is unread: a question whose answer decides whether a connection is read to its end.
    row(
        Scene::File,
        REACTOR,
        "ioctl",
        &[
            ("ENOMEM EINVAL", Once, Unharmed),
            ("ENOMEM", Ever, Unharmed),
        ],
    ),
    row(
        Scene::Blocked,
        REACTOR,
        "ioctl",
        &[("ENOMEM", Once, Unharmed), ("ENOMEM", Ever, Unharmed)],
    ),
    row(
        Scene::File,
        REACTOR,
        "shutdown",
        &[("ENOTCONN ENOBUFS", Once, Untold)],
    ),
    // Who a Unix peer is.
    row(
        Scene::File,
        REACTOR,
        "getsockopt",
        &[("ENOPROTOOPT ENOBUFS", Once, Unharmed)],
    ),
    // A file.
    row(
        Scene::File,
        SINK,
        "writev",
        &[
            ("ENOSPC EDQUOT EIO EFBIG EPIPE EBADF", Once, Fails),
            ("EINTR EAGAIN", Once, Unharmed),
            ("EINTR EAGAIN", Twenty, Unharmed),
            ("retval=1", Once, Unharmed),
            ("retval=0", Once, Fails),
        ],
    ),
    row(
        Scene::File,
        SINK,
        "fsync",
        &[
            ("EIO ENOSPC EDQUOT", Once, Fails),
            ("EINVAL EROFS EINTR", Once, Unharmed),
            ("EINTR", Twenty, Unharmed),
        ],
    ),
    // SIGHUP: the old file stays where the new one cannot be opened.
    row(
        Scene::File,
        SINK,
        "openat",
        &[("EMFILE ENFILE ENOENT EACCES ENOSPC EROFS", Once, Explained)],
    ),
    row(Scene::File, SINK, "fstat", &[("ENOMEM", Once, Explained)]),
    // A pipe.
    row(
        Scene::Blocked,
        SINK,
        "writev",
        &[
            ("EPIPE EIO", Once, Fails),
            ("EINTR EAGAIN", Once, Unharmed),
            ("EINTR EAGAIN", Twenty, Unharmed),
        ],
    ),
    row(
        Scene::Blocked,
        SINK,
        "ppoll",
        &[
            ("EINTR", Once, Unharmed),
            ("EINTR", Twenty, Unharmed),
            ("ENOMEM", Once, Fails),
        ],
    ),
    // A socket as standard output, as a service's is.
    row(
        Scene::Socket,
        SINK,
        "sendmsg",
        &[
            (
                "EPIPE ECONNRESET ENOTCONN ENOBUFS ENOMEM EBADF",
                Once,
                Fails,
            ),
            ("EINTR EAGAIN", Once, Unharmed),
            ("EINTR EAGAIN", Twenty, Unharmed),
        ],
    ),
    // A server.
    row(
        Scene::Server,
        SINK,
        "socket",
        &[
            ("EMFILE ENFILE ENOBUFS ENOMEM EACCES", Once, Reconnects),
            ("EMFILE ENOMEM", Twenty, Fails),
        ],
    ),
    row(
        Scene::Server,
        SINK,
        "setsockopt",
        &[("ENOBUFS ENOMEM ENOPROTOOPT", Once, Reconnects)],
    ),
    row(
        Scene::Server,
        SINK,
        "connect",
        &[
            (
                "ECONNREFUSED ETIMEDOUT ENETUNREACH EHOSTUNREACH",
                Once,
                Reconnects,
            ),
            ("EADDRNOTAVAIL EAGAIN EINTR EACCES", Once, Reconnects),
            ("ECONNREFUSED", Ever, Fails),
        ],
    ),
    row(
        Scene::Server,
        SINK,
        "getsockopt",
        &[("ENOBUFS", Once, Reconnects)],
    ),
    row(
        Scene::Server,
        SINK,
        "writev",
        &[
            ("ECONNRESET EPIPE ETIMEDOUT EHOSTUNREACH", Once, Reconnects),
            ("ENOBUFS ENOMEM EBADF", Once, Reconnects),
            ("ECONNRESET ENOBUFS", Ever, Fails),
            ("EINTR EAGAIN", Once, Unharmed),
            ("EINTR EAGAIN", Twenty, Unharmed),
        ],
    ),
    row(
        Scene::Server,
        SINK,
        "recvfrom",
        &[
            ("ECONNRESET ETIMEDOUT ENOMEM", Once, Reconnects),
            ("EINTR EAGAIN", Once, Unharmed),
            ("EINTR", Twenty, Unharmed),
        ],
    ),
    row(
        Scene::Server,
        SINK,
        "ppoll",
        &[
            // Most of its waits are naps between two attempts.
            ("ENOMEM", Once, Unharmed),
            ("EINTR", Once, Unharmed),
            ("EINTR", Twenty, Unharmed),
        ],
    ),
    row(
        Scene::Server,
        SINK,
        "shutdown",
        &[("ENOTCONN ENOBUFS", Once, Reconnects)],
    ),
    // Signals.
    row(
        Scene::File,
        "fanin-signals",
        "recvfrom",
        &[
            ("ENOMEM ECONNRESET EBADF", Once, Unharmed),
            ("EINTR EAGAIN", Once, Unharmed),
            ("EINTR", Twenty, Unharmed),
        ],
    ),
    // Lines on stderr: nobody there to read them is no reason to fail.
    row(
        Scene::File,
        "fanin-notes",
        "write",
        &[
            ("EPIPE ENOSPC EIO EAGAIN EINTR", Once, Unharmed),
            ("EPIPE EAGAIN", Ever, Unharmed),
        ],
    ),
    // The report.
    Row {
        on_report: true,
        ..row(
            Scene::File,
            MAIN,
            "write",
            &[
                ("ENOSPC EDQUOT EIO EFBIG", Once, FailsToReport),
                ("EINTR", Once, Unharmed),
            ],
        )
    },
    row(
        Scene::File,
        MAIN,
        "openat",
        &[(
            "EMFILE ENFILE ENOSPC EACCES EROFS ENOMEM",
            Once,
            FailsToReport,
        )],
    ),
    row(
        Scene::File,
        MAIN,
        "fsync",
        &[
            ("EIO ENOSPC EDQUOT", Once, FailsToReport),
            ("EINTR", Once, Unharmed),
        ],
    ),
    row(
        Scene::File,
        MAIN,
        "rename",
        &[("ENOSPC EACCES EIO EROFS", Once, FailsToReport)],
    ),
    // The start.
    start(
        "socketpair",
        &[("EMFILE ENFILE ENOMEM ENOBUFS", Once, Refused(1))],
    ),
    // pthread_create(3) makes EAGAIN of ENOMEM.
    start("clone3", &[("EAGAIN EPERM", Once, Refused(1))]),
    start(
        "openat",
        &[
            ("EMFILE ENFILE ENOMEM ENOSPC EIO", Once, Refused(1)),
            ("EACCES ENOENT EROFS ENOTDIR", Once, Refused(2)),
        ],
    ),
    start(
        "statx",
        &[
            ("EACCES ELOOP", Once, Refused(2)),
            ("ENOMEM EIO", Once, Refused(1)),
        ],
    ),
    start("fstat", &[("ENOMEM EIO", Once, Refused(1))]),
    start("eventfd2", &[("EMFILE ENFILE ENOMEM", Once, Refused(1))]),
    start(
        "socket",
        &[
            ("EMFILE ENFILE ENOBUFS ENOMEM", Once, Refused(1)),
            ("EAFNOSUPPORT EACCES EPROTONOSUPPORT", Once, Refused(2)),
        ],
    ),
    start(
        "setsockopt",
        &[
            ("ENOBUFS ENOMEM", Once, Refused(1)),
            ("ENOPROTOOPT EPERM EINVAL", Once, Refused(2)),
        ],
    ),
    start(
        "getsockopt",
        &[
            ("ENOBUFS", Once, Refused(1)),
            ("ENOPROTOOPT", Once, Refused(2)),
        ],
    ),
    start(
        "bind",
        &[
            ("EADDRINUSE ENOMEM", Once, Refused(1)),
            (
                "EADDRNOTAVAIL EACCES EPERM ENOENT ENOTDIR EROFS ELOOP",
                Once,
                Refused(2),
            ),
        ],
    ),
    start(
        "listen",
        &[
            ("EADDRINUSE", Once, Refused(1)),
            ("EOPNOTSUPP", Once, Refused(2)),
        ],
    ),
    start("getsockname", &[("ENOBUFS", Once, Refused(1))]),
    start(
        "epoll_create1",
        &[("EMFILE ENFILE ENOMEM", Once, Refused(1))],
    ),
    start("epoll_ctl", &[("ENOSPC ENOMEM", Once, Refused(1))]),
    // It may not raise its limit of descriptors: there is room for fewer connections. The first is a question.
    Row {
        first: 2,
        ..start("prlimit64", &[("EPERM", Once, Unharmed)])
    },
];

/// An errno, or a value that is returned for nothing done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Errno(pub(crate) &'static str);

impl Errno {
    pub(crate) fn injection(self) -> String {
        if self.0.starts_with("retval=") {
            self.0.to_owned()
        } else {
            format!("error={}", self.0)
        }
    }

    /// Its number, unless it is none.
    pub(crate) fn number(self) -> Option<i32> {
        let raw = match self.0 {
            "EACCES" => Raw::ACCESS,
            "EADDRINUSE" => Raw::ADDRINUSE,
            "EADDRNOTAVAIL" => Raw::ADDRNOTAVAIL,
            "EAFNOSUPPORT" => Raw::AFNOSUPPORT,
            "EAGAIN" => Raw::AGAIN,
            "EBADF" => Raw::BADF,
            "ECONNABORTED" => Raw::CONNABORTED,
            "ECONNREFUSED" => Raw::CONNREFUSED,
            "ECONNRESET" => Raw::CONNRESET,
            "EDQUOT" => Raw::DQUOT,
            "EFBIG" => Raw::FBIG,
            "EHOSTDOWN" => Raw::HOSTDOWN,
            "EHOSTUNREACH" => Raw::HOSTUNREACH,
            "EINTR" => Raw::INTR,
            "EINVAL" => Raw::INVAL,
            "EIO" => Raw::IO,
            "ELOOP" => Raw::LOOP,
            "EMFILE" => Raw::MFILE,
            "ENETDOWN" => Raw::NETDOWN,
            "ENETUNREACH" => Raw::NETUNREACH,
            "ENFILE" => Raw::NFILE,
            "ENOBUFS" => Raw::NOBUFS,
            "ENOENT" => Raw::NOENT,
            "ENOMEM" => Raw::NOMEM,
            "ENONET" => Raw::NONET,
            "ENOPROTOOPT" => Raw::NOPROTOOPT,
            "ENOSPC" => Raw::NOSPC,
            "ENOTCONN" => Raw::NOTCONN,
            "ENOTDIR" => Raw::NOTDIR,
            "EOPNOTSUPP" => Raw::OPNOTSUPP,
            "EPERM" => Raw::PERM,
            "EPIPE" => Raw::PIPE,
            "EPROTO" => Raw::PROTO,
            "EPROTONOSUPPORT" => Raw::PROTONOSUPPORT,
            "EROFS" => Raw::ROFS,
            "ETIMEDOUT" => Raw::TIMEDOUT,
            value if value.starts_with("retval=") => return None,
            other => panic!("{other} is not in the list of errnos"),
        };
        Some(raw.raw_os_error())
    }

    /// As the program has to say it.
    pub(crate) fn text(self) -> String {
        match self.number() {
            Some(number) => format!("(os error {number})"),
            None => String::new(),
        }
    }
}
