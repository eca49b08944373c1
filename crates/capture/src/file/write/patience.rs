//! How long it is waited for who reads a pipe: for ever while the capture runs, and no longer than a moment in its end.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// In the end a reader that takes nothing for so long is not waited for any more. One that is slow gets everything.
const GRACE: Duration = Duration::from_millis(500);
/// Who asks twice within this time asks once: timeout(1) tells the process, and then the group that it is in.
const AT_ONCE: Duration = Duration::from_millis(500);
/// A FIFO that nobody reads yet is looked at so often: no event tells a writer that a reader has come (`fifo_open` in the
/// kernel's fs/pipe.c wakes readers alone).
const LOOK: Duration = Duration::from_millis(20);

/// What ends the waiting for a reader. Shared by what writes and by what decides when it ends.
#[derive(Debug, Clone)]
pub struct Patience(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    stop: UnixStream,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When it was first asked to end.
    asked: Option<Instant>,
    /// Whether it was asked once more later.
    again: bool,
    /// When it ends of its own.
    end: Option<Instant>,
}

/// Whether it was asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// It goes on.
    No,
    /// What is under way is still taken.
    Once,
    /// Nothing is waited for.
    Again,
}

impl Patience {
    /// A byte can be read from `stop` each time it is asked to end.
    pub fn new(stop: UnixStream) -> Patience {
        // It is a socket, which lets itself be told so.
        let _ = stop.set_nonblocking(true);
        Patience(Arc::new(Inner { stop, state: Mutex::default() }))
    }

    /// Whether it has been asked to end by now.
    pub fn asked(&self) -> Asked {
        let mut bytes = [0; 64];
        let mut came = false;
        while (&self.0.stop).read(&mut bytes).is_ok_and(|read| read > 0) {
            came = true;
        }
        let mut state = self.state();
        if came {
            let now = Instant::now();
            state.again |= now > *state.asked.get_or_insert(now) + AT_ONCE;
        }
        match (state.asked, state.again) {
            (None, _) => Asked::No,
            (Some(_), false) => Asked::Once,
            (Some(_), true) => Asked::Again,
        }
    }

    /// It ends at this moment, if it is not asked to end before.
    pub fn end_at(&self, end: Option<Instant>) {
        self.state().end = end;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No holder of it can panic.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When one that has taken nothing since this moment is given up; `None`: not as far as is known now.
    fn until(&self, since: Instant) -> Option<Instant> {
        match self.asked() {
            Asked::Again => return Some(since),
            Asked::No | Asked::Once => {}
        }
        let state = self.state();
        let end = state.asked.into_iter().chain(state.end).min()?;
        Some(since.max(end) + GRACE)
    }
}

impl AsFd for Patience {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.stop.as_fd()
    }
}

/// Waits until `pipe` takes bytes, or until it is to end; then the error is [`io::ErrorKind::TimedOut`].
///
/// `unread`: nobody has read from it yet, which is no error but to be waited for.
pub(super) fn wait(pipe: impl AsFd, patience: Option<&Patience>, unread: bool) -> io::Result<()> {
    let since = Instant::now();
    loop {
        if unread && is_read(&pipe)? {
            return Ok(());
        }
        let until = patience.and_then(|patience| patience.until(since));
        let now = Instant::now();
        let left = until.map(|until| until.saturating_duration_since(now));
        let left = if unread { Some(left.map_or(LOOK, |left| left.min(LOOK))) } else { left };
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        // Without a reader there is an error on it all the time, which cannot be waited for.
        let pipe = (!unread).then(|| PollFd::new(&pipe, PollFlags::OUT));
        let stop = patience.map(|patience| PollFd::new(patience, PollFlags::IN));
        let mut both: Vec<PollFd<'_>> = pipe.into_iter().chain(stop).collect();
        match poll(&mut both, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        // What is wrong with the pipe is told by the writing.
        if !unread && !both[0].revents().is_empty() {
            return Ok(());
        }
        if until.is_some_and(|until| until <= Instant::now()) {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
}

/// Whether somebody has a pipe open for reading, whose end for writing this is.
fn is_read(pipe: impl AsFd) -> io::Result<bool> {
    let mut pipe = [PollFd::new(&pipe, PollFlags::OUT)];
    poll(&mut pipe, Some(&Timespec::default()))?;
    Ok(!pipe[0].revents().contains(PollFlags::ERR))
}
