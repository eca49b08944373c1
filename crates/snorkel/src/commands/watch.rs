//! The loop of `snorkel ls --watch`: it sleeps until an engine or the kernel says that something changed.
//!
//! Link events of every namespace arrive on one socket: the surveyor's private namespace has a number for each
//! namespace that it has read, and `NETLINK_LISTEN_ALL_NSID` (netlink(7)) delivers the events of all of them.

use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use snorkel_engines::Query;
use snorkel_netns::Netns;
use snorkel_rtnl::{Groups, Subscription};
use snorkel_topology::{Snapshot, Surveyor};

use crate::commands::print;
use crate::failure::{Failure, Outcome};

/// Changes come in bursts (a container's start is a dozen events): the burst's end is waited for, this long after each.
const QUIET: Duration = Duration::from_millis(60);
/// But a stream of events without a pause is not waited for longer than this.
const PATIENCE: Duration = Duration::from_millis(500);

/// Shows one snapshot after the other until it is interrupted or nobody reads any more.
pub(crate) fn run(
    query: &Query,
    mut surveyor: Surveyor,
    show: impl Fn(Snapshot, bool) -> Result<String, Failure>,
) -> Outcome {
    let changes = Changes::follow(query, &surveyor)?;
    let terminal = std::io::stdout().is_terminal();
    let mut last = String::new();
    loop {
        let picture = show(surveyor.take()?, terminal)?;
        if picture != last {
            print(&picture)?;
            last = picture;
        }
        if !changes.wait() {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// What happens to engines and links, from the moment it is followed.
pub(crate) struct Changes {
    changes: Receiver<()>,
    _engines: snorkel_engines::Watch,
}

impl Changes {
    /// Follows everything that a surveyor's snapshots show.
    pub(crate) fn follow(query: &Query, surveyor: &Surveyor) -> Result<Changes, Failure> {
        let (changed, changes) = mpsc::channel();
        let from_engines = changed.clone();
        // The receiver lives as long as the watch: a message that cannot be delivered is one that nobody needs.
        let engines = snorkel_engines::watch(query, move |_| {
            let _ = from_engines.send(());
        });
        follow_links(&Netns::current()?, false, changed.clone())?;
        if let Some(vantage) = surveyor.vantage() {
            follow_links(vantage, true, changed)?;
        }
        Ok(Changes { changes, _engines: engines })
    }

    /// Waits for a change, and for the end of the burst that it comes in. `false`: nobody tells of changes any more.
    pub(crate) fn wait(&self) -> bool {
        self.changes.recv().is_ok() && self.burst()
    }

    /// As [`Changes::wait`], but no longer than this.
    pub(crate) fn wait_at_most(&self, time: Duration) -> bool {
        match self.changes.recv_timeout(time) {
            Ok(()) => self.burst(),
            Err(RecvTimeoutError::Timeout) => true,
            Err(RecvTimeoutError::Disconnected) => false,
        }
    }

    fn burst(&self) -> bool {
        let deadline = std::time::Instant::now() + PATIENCE;
        while std::time::Instant::now() < deadline {
            match self.changes.recv_timeout(QUIET) {
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
        true
    }
}

/// Follows the events of links and addresses on a thread that ends with the program.
fn follow_links(netns: &Netns, all: bool, changed: Sender<()>) -> Result<(), Failure> {
    let mut events = Subscription::open_in(netns, Groups::LINKS | Groups::ADDRESSES | Groups::NSIDS, all)?;
    std::thread::Builder::new().name("snorkel-links".into()).spawn(move || {
        while wait(&mut events).is_ok() {
            if changed.send(()).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

/// Waits for an event; those that are there by then count as one.
fn wait(events: &mut Subscription) -> Result<(), Failure> {
    let mut heard = false;
    loop {
        while events.next()?.is_some() {
            heard = true;
        }
        if heard {
            return Ok(());
        }
        match poll(&mut [PollFd::new(&events.as_fd(), PollFlags::IN)], None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}
