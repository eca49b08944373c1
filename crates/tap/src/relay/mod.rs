//! The relay: takes connections, reaches the application for each, and passes on what both say, until both are done.
//!
//! One thread, one epoll(7), no waiting anywhere else. Sockets are watched for edges, so that a connection costs two
//! calls to be watched and none to be slowed down. What one side does the other one sees: an end of its words
//! (shutdown(2)), a reset, an urgent byte, slowness. A relay can be told to end by its control socket: `s` takes no new
//! connections and lets those finish that there are, `k` ends them; so does the socket's end.

mod accept;
mod connection;
mod eager;
mod ending;
mod gate;
mod half;
mod observer;
mod pipes;
mod pump;
mod slab;
mod token;
mod urgent;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::event::{Timespec, epoll};

pub use gate::{Gate, Turn};

use crate::decode;
use crate::event::{End, Teller, Time};
use crate::proxy::Proxy;
use crate::spoil::Spoil;
use connection::Connection;
use eager::Eagerness;
use pipes::Pipes;
use slab::{Key, Slab};
use token::Token;

/// How many bytes are read into memory at once.
const SCRATCH: usize = 256 << 10;

/// What a relay does besides passing bytes on.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Decode what is said.
    pub decode: Option<decode::Options>,
    /// Tell all bytes.
    pub bytes: bool,
    /// Spoil it.
    pub spoil: Spoil,
    /// Put the client's address before what it says.
    pub proxy: Option<Proxy>,
    /// How long connections may go on once the relay was told to end.
    pub drain: Duration,
}

impl Options {
    /// Whether there is somebody who looks, or spoils.
    fn looks(&self) -> bool {
        self.decode.is_some() || self.bytes || self.spoil.is_some()
    }
}

/// What a relay did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// Connections that were taken.
    pub connections: u64,
    /// Those that were cut when the time to finish was over.
    pub cut: u64,
    /// Words that found no room on their way to whoever shows them.
    pub untold: u64,
}

/// A relay of one network namespace.
#[derive(Debug)]
pub struct Relay<G> {
    epoll: OwnedFd,
    listeners: Vec<OwnedFd>,
    control: OwnedFd,
    gate: G,
    teller: Teller,
    options: Options,
    looks: bool,
    connections: Slab<Connection>,
    pipes: Pipes,
    scratch: Vec<u8>,
    /// Connections that had their turn and have more to do.
    queue: VecDeque<Key>,
    eagerness: Eagerness,
    timers: BinaryHeap<Reverse<(Instant, Key)>>,
    /// How many descriptors the process may have.
    limit: usize,
    /// A descriptor that stands for one when there is none left.
    reserve: Option<OwnedFd>,
    /// There are too few descriptors for a further connection.
    short: bool,
    said_short: bool,
    /// When all that is left is cut.
    ending: Option<Instant>,
    /// When the gate looks at the world again.
    look: Option<Instant>,
    report: Report,
}

impl<G: Gate> Relay<G> {
    /// A relay of what these listening sockets get. They must be non-blocking.
    pub fn new(
        gate: G,
        listeners: Vec<OwnedFd>,
        control: OwnedFd,
        teller: Teller,
        options: Options,
    ) -> io::Result<Relay<G>> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let watch = |fd: BorrowedFd<'_>, token: Token| {
            epoll::add(&epoll, fd, epoll::EventData::new_u64(token.number()), epoll::EventFlags::IN)
        };
        watch(control.as_fd(), Token::Control)?;
        if let Some(fd) = gate.watch() {
            watch(fd, Token::Gate)?;
        }
        for (at, listener) in listeners.iter().enumerate() {
            watch(listener.as_fd(), Token::Listener(at))?;
        }
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        Ok(Relay {
            looks: options.looks(),
            reserve: Some(control.try_clone()?),
            epoll,
            listeners,
            control,
            gate,
            teller,
            options,
            connections: Slab::new(),
            pipes: Pipes::default(),
            scratch: vec![0; SCRATCH],
            queue: VecDeque::new(),
            eagerness: Eagerness::default(),
            timers: BinaryHeap::new(),
            limit: limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX),
            short: false,
            said_short: false,
            ending: None,
            look: Some(Instant::now()),
            report: Report::default(),
        })
    }

    /// Relays until it is told to end, and the last connection has.
    pub fn run(mut self) -> io::Result<Report> {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(256);
        while !self.is_over() {
            let timeout = self.timeout();
            self.eagerness.wait(self.epoll.as_fd(), &mut events, timeout.as_ref())?;
            for event in &events {
                let flags = event.flags;
                match Token::read(event.data.u64()) {
                    Token::Control => self.obey(),
                    Token::Gate => self.turn_gate(),
                    Token::Listener(at) => self.accept(at),
                    Token::Socket(key, side) => self.event(key, side, flags),
                }
            }
            for _ in 0..self.queue.len() {
                let Some(key) = self.queue.pop_front() else { break };
                if let Some(connection) = self.connections.get(key) {
                    connection.queued = false;
                    self.pump(key);
                }
            }
            self.keep_time();
        }
        self.report.untold = self.teller.untold();
        Ok(self.report)
    }

    fn is_over(&self) -> bool {
        self.ending.is_some() && self.connections.len() == 0
    }

    fn timeout(&self) -> Option<Timespec> {
        if !self.queue.is_empty() {
            return Some(Timespec { tv_sec: 0, tv_nsec: 0 });
        }
        let next = self.timers.peek().map(|Reverse((due, _))| *due);
        let next = [next, self.ending, self.look].into_iter().flatten().min()?;
        let span = next.saturating_duration_since(Instant::now());
        // A little later is no harm, a little earlier would turn in circles.
        let span = span + Duration::from_micros(50);
        Timespec::try_from(span).ok()
    }

    fn keep_time(&mut self) {
        if self.timers.is_empty() && self.ending.is_none() && self.look.is_none() {
            return;
        }
        let now = Instant::now();
        while let Some(Reverse((due, key))) = self.timers.peek().copied() {
            if due > now {
                break;
            }
            self.timers.pop();
            self.timer(key, now);
        }
        if self.look.is_some_and(|look| look <= now) {
            self.look = self.gate.look().map(|span| now + span);
        }
        if self.ending.is_some_and(|end| end <= now) {
            self.cut_all("the time to finish was over");
        }
    }

    fn timer(&mut self, key: Key, now: Instant) {
        let Some(connection) = self.connections.get(key) else { return };
        if connection.spoil.as_ref().and_then(|spoil| spoil.until).is_some_and(|until| until <= now) {
            return self.end(key, End::Cut { why: "reset by --reset-after".to_owned() }, true);
        }
        self.pump(key);
    }
}

/// The time of day.
pub(crate) fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
