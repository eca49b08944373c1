//! A running tap: a thread in the target's network namespace that relays until it is told to end.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::Duration;

use snorkel_netns::Netns;

use crate::event::Teller;
use crate::relay::{Gate, Options, Relay, Report};
use crate::steer::{Datagrams, Door, Inbound, Notes, Outbound, Peer};
use crate::{Error, Result, datagram};

/// A tap on connections of one network namespace.
#[derive(Debug)]
pub struct Tap {
    control: UnixStream,
    thread: JoinHandle<Result<Report>>,
    /// What is to be known of it.
    pub notes: Notes,
}

impl Tap {
    /// Begins one on ports: when this returns, new connections are led through it. What happens is told to `teller`.
    pub fn start(
        netns: Netns,
        doors: Vec<Door>,
        cgroup: Option<File>,
        options: Options,
        teller: Teller,
    ) -> Result<Tap> {
        Tap::begin(netns, options, teller, move |netns| Inbound::open(netns, &doors, cgroup.as_ref()))
    }

    /// Begins one on UDP ports; a flow ends when nobody has said anything for `idle`.
    pub fn start_datagrams(
        netns: Netns,
        doors: Vec<Door>,
        cgroup: Option<File>,
        options: Options,
        idle: Duration,
        teller: Teller,
    ) -> Result<Tap> {
        Tap::begin_any(netns, move |netns, control| {
            let (gate, sockets, notes) = Datagrams::open(netns, &doors, cgroup.as_ref())?;
            let relay = datagram::Relay::new(gate, sockets, control, teller, options, idle)
                .map_err(|e| Error::os("begin a relay", e))?;
            Ok((move || relay.run(), notes))
        })
    }

    /// Begins one on what is opened from the namespace to these.
    pub fn start_outbound(netns: Netns, peers: Vec<Peer>, options: Options, teller: Teller) -> Result<Tap> {
        Tap::begin(netns, options, teller, move |netns| Outbound::open(netns, &peers))
    }

    fn begin<G: Gate>(
        netns: Netns,
        options: Options,
        teller: Teller,
        open: impl FnOnce(&Netns) -> Result<(G, Vec<OwnedFd>, Notes)> + Send + 'static,
    ) -> Result<Tap> {
        Tap::begin_any(netns, move |netns, control| {
            let (gate, listeners, notes) = open(netns)?;
            let relay = Relay::new(gate, listeners, control, teller, options)
                .map_err(|e| Error::os("begin a relay", e))?;
            Ok((move || relay.run(), notes))
        })
    }

    /// Opens a relay inside the namespace, on a thread of its own that then runs it.
    fn begin_any<R: FnOnce() -> io::Result<Report>>(
        netns: Netns,
        open: impl FnOnce(&Netns, OwnedFd) -> Result<(R, Notes)> + Send + 'static,
    ) -> Result<Tap> {
        let failed = |e| Error::os("begin a relay", e);
        let (control, its) = UnixStream::pair().map_err(failed)?;
        its.set_nonblocking(true).map_err(failed)?;
        let (ready, begun) = channel::<Result<Notes>>();
        let inside = move |netns: &Netns| -> Result<Report> {
            match open(netns, OwnedFd::from(its)) {
                Ok((run, notes)) => {
                    run_before_others();
                    // Whoever began it waits for this.
                    let _ = ready.send(Ok(notes));
                    run().map_err(|e| Error::os("relay", e))
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                    Ok(Report::default())
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("snorkel-tap".into())
            .spawn(move || netns.run(|| inside(&netns))?)
            .map_err(failed)?;
        match begun.recv() {
            Ok(notes) => Ok(Tap { control, thread, notes: notes? }),
            Err(_) => match thread.join() {
                Ok(Err(error)) => Err(error),
                _ => Err(Error::Gone("it never began")),
            },
        }
    }

    /// A way to end it from elsewhere.
    pub fn control(&self) -> Result<Control> {
        let control = self.control.try_clone().map_err(|e| Error::os("duplicate a socket", e))?;
        Ok(Control(control))
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for its end.
    pub fn wait(self) -> Result<Report> {
        self.thread.join().unwrap_or(Err(Error::Gone("a bug: its thread panicked")))
    }
}

/// How much sooner than others a relay runs: nice(2).
const NICE: i32 = -10;

/// Has the calling thread run before others: for each moment that it waits for a processor, two sides wait for it, and
/// on a busy machine it would have to share as one with as many as there are connections. It runs only while there is
/// something to pass on.
fn run_before_others() {
    // Of the calling thread alone, as Linux has it (setpriority(2), C library/kernel differences).
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::info!("the relay runs like any other: {error}");
    }
}

/// A way to end a tap.
#[derive(Debug)]
pub struct Control(UnixStream);

impl Control {
    /// Takes no new connections; those that there are may finish, as long as the options allow.
    pub fn stop(&self) {
        self.say(b"s");
    }

    /// Ends all connections at once.
    pub fn kill(&self) {
        self.say(b"k");
    }

    fn say(&self, word: &[u8]) {
        // One that has ended by itself needs no word.
        let _ = (&self.0).write_all(word);
    }
}
