//! What ends a tap from outside: signals, the end of what was tapped, and that nobody reads its lines any more.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use snorkel_netns::Process;
use snorkel_tap::Control;

use super::record::Bell;
use crate::commands::capture::signals::{Signals, drain};
use crate::commands::warn_all;

/// A process that lives in a tapped network, by the name of its target.
pub(super) struct Inhabitant {
    pub(super) name: String,
    pub(super) process: Process,
    /// Which of the taps is in that network.
    pub(super) tap: usize,
}

/// Watches, on a thread of its own, until all taps have been told to end.
pub(super) fn watch(signals: Signals, mut inhabitants: Vec<Inhabitant>, taps: Vec<Control>, bell: Bell) {
    let reader = std::io::stdout();
    let mut watch_reader = !reader.is_terminal();
    let mut asked = false;
    loop {
        let nothing = signals.stop.as_fd();
        let out = if watch_reader { reader.as_fd() } else { nothing };
        let fds: Vec<BorrowedFd<'_>> = [signals.stop.as_fd(), out]
            .into_iter()
            .chain(inhabitants.iter().map(|i| i.process.as_fd()))
            .collect();
        let mut polled: Vec<PollFd<'_>> = fds
            .iter()
            .enumerate()
            // Of the reader only its going away is wanted.
            .map(|(at, fd)| {
                PollFd::from_borrowed_fd(*fd, if at == 1 { PollFlags::empty() } else { PollFlags::IN })
            })
            .collect();
        match poll(&mut polled, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return,
        }
        let happened: Vec<PollFlags> = polled.iter().map(PollFd::revents).collect();
        drop(polled);
        if happened[0].contains(PollFlags::IN) {
            drain(&signals.stop);
            // Asked a second time: what still runs is not waited for, and who reads a file not for long.
            taps.iter().for_each(|tap| if asked { tap.kill() } else { tap.stop() });
            if asked {
                bell.ring();
            }
            asked = true;
        }
        if watch_reader && happened[1].intersects(PollFlags::ERR | PollFlags::HUP) {
            watch_reader = false;
            taps.iter().for_each(Control::stop);
            asked = true;
        }
        let ended: Vec<usize> = (0..inhabitants.len()).filter(|at| !happened[at + 2].is_empty()).collect();
        let mut told = BTreeSet::new();
        for at in ended.into_iter().rev() {
            let gone = inhabitants.swap_remove(at);
            // It may be in several taps.
            if told.insert(gone.name.clone()) {
                warn_all([&format!("{} ended", gone.name)]);
            }
            // Others may live on in the same network.
            if !inhabitants.iter().any(|other| other.tap == gone.tap) {
                taps[gone.tap].stop();
            }
        }
    }
}
