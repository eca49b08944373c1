//! Trials of single system calls and sockets.

use std::os::fd::AsFd;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, inotify, openat2, statfs};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};
use snorkel_netns::{Pid, Process, cookie_here};

use super::sys;
use super::trial::{During, Ground, Outcome, Trouble};

/// A network namespace that only this process holds.
pub(super) fn netns(ground: &Ground<'_>) -> Outcome {
    let tried = match &ground.netns {
        // To be inside is a second step, with errors of its own.
        Ok(netns) => netns.run(|| "can be made and entered".to_owned()).map_err(Trouble::from),
        Err(trouble) => Err(trouble.clone()),
    };
    ground.judge(tried, &[Errno::INVAL, Errno::NOSYS])
}

/// The cookie that tells namespaces apart for good.
pub(super) fn cookie(ground: &Ground<'_>) -> Outcome {
    let what = "ask a socket for its namespace's cookie";
    match ground.inside(|| cookie_here().map_err(|e| Trouble::of(what.into(), &e))) {
        Ok(_) => Outcome::Works("namespaces have one".into()),
        Err(Trouble { errno: Errno::NOPROTOOPT, .. }) => {
            Outcome::Not("the kernel gives none (SO_NETNS_COOKIE, since 5.14)".into())
        }
        Err(trouble) => ground.judge(Err(trouble), &[]),
    }
}

/// A process as a descriptor.
pub(super) fn pidfd(ground: &Ground<'_>) -> Outcome {
    let tried = Process::open(Pid::own()).and_then(|own| own.check_alive());
    ground.judge(tried.map(|()| "opens and signals".to_owned()).map_err(Trouble::from), &[Errno::NOSYS])
}

/// Several namespaces of a process joined at once, by its pidfd: those that the thread is in already.
pub(super) fn setns(ground: &Ground<'_>) -> Outcome {
    let own = match Process::open(Pid::own()) {
        Ok(own) => own,
        Err(e) => return ground.judge(Err(e.into()), &[Errno::NOSYS]),
    };
    let kinds = ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION;
    // A thread of its own, that nothing is left to chance should the process not be where its threads are.
    let tried = std::thread::scope(|scope| {
        let joined = scope.spawn(|| move_into_thread_name_spaces(own.as_fd(), kinds)).join();
        joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    match tried {
        Err(Errno::INVAL) => Outcome::Partly(
            "the kernel joins the namespaces of a pidfd not at once (since 5.8)".into(),
            "namespaces are joined one by one instead, with a moment between them",
        ),
        other => {
            let tried = other.during("join the namespaces of a process by its pidfd");
            ground
                .judge(tried.map(|()| "net, uts and ipc are joined by one pidfd".to_owned()), &[Errno::NOSYS])
        }
    }
}

/// Paths that cannot lead out of a root.
pub(super) fn openat2_in_root(ground: &Ground<'_>) -> Outcome {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let tried = openat2(CWD, "/proc", flags, Mode::empty(), ResolveFlags::empty())
        .and_then(|root| {
            openat2(root, "/../self", flags | OFlags::NOFOLLOW, Mode::empty(), ResolveFlags::IN_ROOT)
        })
        .map(|_| "paths are held inside a root".to_owned())
        .during("open a path inside a root");
    ground.judge(tried, &[Errno::NOSYS])
}

/// News of files, without polling.
pub(super) fn inotify(ground: &Ground<'_>) -> Outcome {
    let tried = inotify::init(inotify::CreateFlags::CLOEXEC)
        .and_then(|fd| {
            inotify::add_watch(fd, "/", inotify::WatchFlags::CREATE | inotify::WatchFlags::ONLYDIR)
        })
        .map(|_| "directories can be watched".to_owned())
        .during("watch a directory");
    ground.judge(tried, &[Errno::NOSYS])
}

/// The packet socket with its ring; not bound to any link, so it gets nothing.
pub(super) fn af_packet(ground: &Ground<'_>) -> Outcome {
    let tried = ground.inside(|| {
        let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, None)
            .during("open a packet socket")?;
        sys::packet_ring(&socket).during("give a packet socket a ring (TPACKET_V3)")?;
        Ok("packets are read from a ring (TPACKET_V3)".to_owned())
    });
    ground.judge(tried, &[Errno::AFNOSUPPORT, Errno::INVAL])
}

/// The XDP socket, not bound either.
pub(super) fn af_xdp(ground: &Ground<'_>) -> Outcome {
    let tried = ground.inside(|| {
        socket_with(AddressFamily::XDP, SocketType::RAW, SocketFlags::CLOEXEC, None)
            .map(|_| "sockets can be opened".to_owned())
            .during("open an XDP socket")
    });
    ground.judge(tried, &[Errno::AFNOSUPPORT])
}

/// Which control groups the system uses: what names namespaces that no engine knows.
pub(super) fn cgroup(ground: &Ground<'_>) -> Outcome {
    const CGROUP2_MAGIC: u64 = 0x6367_7270;
    // f_type is signed on some architectures and unsigned on others; the magic number fits both.
    let is_v2 = |path: &str| statfs(path).map(|fs| fs.f_type as u64 == CGROUP2_MAGIC);
    match is_v2("/sys/fs/cgroup") {
        Ok(true) => Outcome::Works("version 2".into()),
        Ok(false) if is_v2("/sys/fs/cgroup/unified") == Ok(true) => {
            Outcome::Works("version 1, with version 2 beside it (hybrid)".into())
        }
        Ok(false) if std::path::Path::new("/sys/fs/cgroup/memory").is_dir() => {
            Outcome::Works("version 1".into())
        }
        Ok(false) => Outcome::Not("nothing is mounted at /sys/fs/cgroup".into()),
        Err(errno) => ground.judge(Err(errno).during("look at /sys/fs/cgroup"), &[Errno::NOENT]),
    }
}

/// Landlock, by its version.
pub(super) fn landlock(ground: &Ground<'_>) -> Outcome {
    let tried = sys::landlock_version().map(|version| format!("ABI {version}"));
    ground.judge(tried.during("ask for Landlock"), &[Errno::NOSYS, Errno::OPNOTSUPP])
}

/// Seccomp filters for oneself.
pub(super) fn seccomp(_: &Ground<'_>) -> Outcome {
    match sys::seccomp_filters() {
        true => Outcome::Works("a process can filter its own system calls".into()),
        false => Outcome::Not("the kernel takes no filters (CONFIG_SECCOMP_FILTER)".into()),
    }
}
