//! The thread that serves a wire: it works as long as there is something to do, then sleeps until a packet comes, one is
//! due, or it is told to end.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::counts::{Counts, Shared};
use super::socket::Ring;

/// What a wire's thread does.
pub(super) trait Work: Send + 'static {
    /// Where packets come from.
    fn ring(&self) -> &Ring;
    /// Does what there is to do now, up to some bounded amount.
    fn turn(&mut self) -> Next;
    /// What was counted so far.
    fn counts(&self) -> &Counts;
    /// Called when there is nothing to do, before the thread sleeps.
    fn rest(&mut self);
}

/// When a thread has its next turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// At once.
    Again,
    /// When a packet comes; at the latest after this time, if there is one.
    Listen(Option<Duration>),
    /// After this time, whatever comes: packets that come meanwhile need nothing before.
    Pause(Duration),
}

/// A wire's thread. It ends with the value.
#[derive(Debug)]
pub(super) struct Worker {
    counts: Arc<Shared>,
    bell: Arc<Bell>,
    thread: Option<JoinHandle<()>>,
}

/// How a thread is told to end.
#[derive(Debug)]
struct Bell {
    rung: AtomicBool,
    wakes: OwnedFd,
}

impl Worker {
    /// Has a thread do this work.
    pub(super) fn start(mut work: impl Work) -> io::Result<Worker> {
        let counts = Arc::new(Shared::default());
        let wakes = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let bell = Arc::new(Bell { rung: AtomicBool::new(false), wakes });
        let (shared, end) = (Arc::clone(&counts), Arc::clone(&bell));
        let thread = std::thread::Builder::new().name("snorkel-wire".into()).spawn(move || {
            be_punctual();
            serve(&mut work, &shared, &end);
        })?;
        Ok(Worker { counts, bell, thread: Some(thread) })
    }

    /// What was counted so far.
    pub(super) fn counts(&self) -> Counts {
        self.counts.read()
    }

    /// Whether the thread is at work.
    pub(super) fn is_alive(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.bell.rung.store(true, Ordering::Release);
        // The counter of an eventfd that nobody reads has room for one.
        let _ = rustix::io::write(&self.bell.wakes, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was a bug that it has told of; its work is over none the less.
            let _ = thread.join();
        }
    }
}

fn serve(work: &mut impl Work, counts: &Shared, bell: &Bell) {
    while !bell.rung.load(Ordering::Acquire) {
        let next = work.turn();
        counts.write(work.counts());
        let (wait, listens) = match next {
            Next::Again => continue,
            Next::Listen(wait) => (wait, true),
            Next::Pause(wait) => (Some(wait), false),
        };
        work.rest();
        counts.write(work.counts());
        let timeout = wait.map(|wait| Timespec {
            tv_sec: wait.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: wait.subsec_nanos().into(),
        });
        let mut watched = [
            PollFd::from_borrowed_fd(bell.wakes.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(work.ring().as_fd(), PollFlags::IN),
        ];
        let watched = if listens { &mut watched[..] } else { &mut watched[..1] };
        // Whatever wakes it, an error of the link also: the next turn sees.
        let _ = poll(watched, timeout.as_ref());
        if watched.get(1).is_some_and(|ring| ring.revents().intersects(PollFlags::ERR | PollFlags::HUP)) {
            // The link went down or away. Asking takes the error out of the socket, or this would not sleep any more.
            let _ = rustix::net::sockopt::socket_error(work.ring());
        }
    }
}

/// Has the calling thread wake when it asked to, and run when it wakes: timers to the nanosecond (`PR_SET_TIMERSLACK`), and
/// the lowest real-time priority, before all that are not of real time (sched(7)). Without CAP_SYS_NICE it goes without.
fn be_punctual() {
    // SAFETY: the option takes a number; it concerns the calling thread only.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong) };
    let parameters = libc::sched_param { sched_priority: 1 };
    let policy = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
    // By its number, since musl's function of this name only fails.
    // SAFETY: the kernel reads the parameters; 0 is the calling thread.
    let set = unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const parameters) };
    if set != 0 {
        tracing::debug!(error = %io::Error::last_os_error(), "the wire has no real-time priority");
    }
}
