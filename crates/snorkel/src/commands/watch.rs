//! The loop of `snorkel ls --watch`: it sleeps until an engine or the kernel says that something changed.
//!
//! Link events of every namespace arrive on one socket: the surveyor's private namespace has a number for each
//! namespace that it has read, and `NETLINK_LISTEN_ALL_NSID` (netlink(7)) delivers the events of all of them.

use std::io::{self, IsTerminal, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use signal_hook::consts::{SIGCONT, SIGWINCH};
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
    let terminal = io::stdout().is_terminal();
    let changes = Changes::follow(query, &surveyor)?;
    if terminal {
        changes.follow_terminal()?;
    }
    changes.follow_reader()?;
    let mut snapshot = surveyor.take()?;
    let mut last = String::new();
    loop {
        let picture = show(snapshot.clone(), terminal)?;
        if picture != last {
            print(&picture)?;
            last = picture;
        }
        let news = changes.next()?;
        if news.terminal {
            // Whatever it shows by now.
            last.clear();
        }
        if news.world {
            snapshot = surveyor.take()?;
        }
    }
}

/// What happens to engines and links, from the moment it is followed.
pub(crate) struct Changes {
    told: Receiver<Told>,
    /// For those who are to tell more.
    teller: Sender<Told>,
    _engines: snorkel_engines::Watch,
}

/// What one of those says who follow something.
enum Told {
    /// The world has changed.
    World,
    /// The terminal has to be drawn anew.
    Terminal,
    /// Nobody reads what is shown.
    Unread,
    /// The links are not followed any more, and why.
    Lost(String),
}

/// What has happened since the last time.
#[derive(Debug, Default)]
struct News {
    world: bool,
    terminal: bool,
}

impl News {
    fn add(&mut self, told: Told) -> Result<(), Failure> {
        match told {
            Told::World => self.world = true,
            Told::Terminal => self.terminal = true,
            Told::Unread => return Err(io::Error::from(io::ErrorKind::BrokenPipe).into()),
            Told::Lost(why) => {
                return Err(Failure::new(format!("the links cannot be followed any more: {why}")));
            }
        }
        Ok(())
    }
}

impl Changes {
    /// Follows everything that a surveyor's snapshots show.
    pub(crate) fn follow(query: &Query, surveyor: &Surveyor) -> Result<Changes, Failure> {
        let (teller, told) = mpsc::channel();
        let by_engines = teller.clone();
        // The receiver lives as long as the watch: a message that cannot be delivered is one that nobody needs.
        let engines = snorkel_engines::watch(query, move |_| {
            let _ = by_engines.send(Told::World);
        });
        follow_links(&Netns::current()?, false, teller.clone())?;
        if let Some(vantage) = surveyor.vantage() {
            follow_links(vantage, true, teller.clone())?;
        }
        Ok(Changes { told, teller, _engines: engines })
    }

    /// Follows the terminal, too: its size, and whether this process was stopped and goes on, after which it shows what
    /// others wrote.
    fn follow_terminal(&self) -> Result<(), Failure> {
        let (mut came, signals) = UnixStream::pair()?;
        for signal in [SIGWINCH, SIGCONT] {
            signal_hook::low_level::pipe::register(signal, signals.try_clone()?)?;
        }
        let teller = self.teller.clone();
        std::thread::Builder::new().name("snorkel-terminal".into()).spawn(move || {
            // A byte a signal; those that are there by then count as one.
            let mut bytes = [0; 64];
            while came.read(&mut bytes).is_ok_and(|read| read > 0) && teller.send(Told::Terminal).is_ok() {}
        })?;
        Ok(())
    }

    /// Follows whoever reads what is shown: with a reader that has gone there may be nothing to show for long, and no
    /// write that would fail.
    fn follow_reader(&self) -> Result<(), Failure> {
        let teller = self.teller.clone();
        std::thread::Builder::new().name("snorkel-reader".into()).spawn(move || {
            let stdout = io::stdout();
            // What is not asked for is told all the same: POLLERR, POLLHUP (poll(2)).
            let gone =
                rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(&stdout, PollFlags::empty())], None));
            if gone.is_ok() {
                let _ = teller.send(Told::Unread);
            }
        })?;
        Ok(())
    }

    /// Waits for a change, and for the end of the burst that it comes in. `false`: nobody tells of changes any more.
    pub(crate) fn wait(&self) -> bool {
        self.next().is_ok()
    }

    /// As [`Changes::wait`], but no longer than this.
    pub(crate) fn wait_at_most(&self, time: Duration) -> bool {
        match self.told.recv_timeout(time) {
            Ok(told) => self.burst(told).is_ok(),
            Err(RecvTimeoutError::Timeout) => true,
            Err(RecvTimeoutError::Disconnected) => false,
        }
    }

    /// Waits for news; if they are of the world, for the end of the burst that they come in.
    fn next(&self) -> Result<News, Failure> {
        self.burst(self.told.recv()?)
    }

    /// What was told first, and what comes with it.
    fn burst(&self, first: Told) -> Result<News, Failure> {
        let mut news = News::default();
        news.add(first)?;
        let deadline = Instant::now() + PATIENCE;
        while news.world && Instant::now() < deadline {
            match self.told.recv_timeout(QUIET) {
                Ok(told) => news.add(told)?,
                Err(_) => break,
            }
        }
        Ok(news)
    }
}

/// Follows the events of links and addresses on a thread that ends with the program.
fn follow_links(netns: &Netns, all: bool, teller: Sender<Told>) -> Result<(), Failure> {
    let mut events = Subscription::open_in(netns, Groups::LINKS | Groups::ADDRESSES | Groups::NSIDS, all)?;
    std::thread::Builder::new().name("snorkel-links".into()).spawn(move || {
        loop {
            let heard = wait(&mut events);
            let goes_on = heard.is_ok();
            let told = heard.map_or_else(|why| Told::Lost(why.to_string()), |()| Told::World);
            if teller.send(told).is_err() || !goes_on {
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
