//! The relay: takes connections, reaches the application for each, and passes on what both say, until both are done.
//!
//! One thread, one epoll(7), no waiting anywhere else. Sockets are watched for edges, so that a connection costs two
//! calls to be watched and none to be slowed down. What one side does the other one sees: an end of its words
//! (shutdown(2)), a reset, an urgent byte, slowness. A relay can be told to end by its control socket: `s` takes no new
//! connections and lets those finish that there are, `k` ends them; so does the socket's end.

mod connection;
mod gate;
mod half;
mod observer;
mod pipes;
mod slab;
mod urgent;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with, sockopt};

pub use gate::{Gate, Turn};

use crate::decode;
use crate::event::{ConnectionId, Direction, End, Ends, Summary, Teller, Time, What, Word};
use crate::proxy::Proxy;
use crate::spoil::{self, Instead, Spoil};
use connection::{Connection, Side, Socket};
use half::{Course, Fault, Half, Step};
use observer::{Observer, tell};
use pipes::Pipes;
use slab::{Key, Slab};

/// How many steps a direction may take before others have their turn.
const TURN: usize = 16;
/// How many bytes are read into memory at once.
const SCRATCH: usize = 128 << 10;
/// Descriptors that are not for connections: the program's own, and some to spare.
const SPARE: usize = 64;

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
    /// Whether bytes go through memory.
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
    timers: BinaryHeap<Reverse<(Instant, Key)>>,
    /// How many descriptors the process may have.
    limit: usize,
    /// There are too few descriptors for a further connection.
    short: bool,
    said_short: bool,
    /// When all that is left is cut.
    ending: Option<Instant>,
    /// When the gate looks at the world again.
    look: Option<Instant>,
    report: Report,
}

/// What an event of epoll is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Control,
    Gate,
    Listener(usize),
    Socket(Key, Side),
}

impl Token {
    const CONTROL: u64 = u64::MAX;
    const GATE: u64 = u64::MAX - 1;
    /// Above all keys: a place has 31 bits and a side.
    const LISTENERS: u64 = u64::MAX - 1024;

    fn number(self) -> u64 {
        match self {
            Token::Control => Token::CONTROL,
            Token::Gate => Token::GATE,
            Token::Listener(at) => Token::LISTENERS + at as u64,
            Token::Socket(key, side) => {
                u64::from(key.generation) << 32 | u64::from(key.place) << 1 | side.index() as u64
            }
        }
    }

    fn read(number: u64) -> Token {
        match number {
            Token::CONTROL => Token::Control,
            Token::GATE => Token::Gate,
            Token::LISTENERS.. => Token::Listener((number - Token::LISTENERS) as usize),
            _ => {
                let side = if number & 1 == 0 { Side::Client } else { Side::Server };
                let place = (number as u32) >> 1;
                Token::Socket(Key { place, generation: (number >> 32) as u32 }, side)
            }
        }
    }
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
            events.clear();
            let timeout = self.timeout();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
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

    /// Does what the control socket says.
    fn obey(&mut self) {
        let mut word = [0];
        match rustix::io::read(&self.control, &mut word) {
            Ok(1) if word[0] == b's' => self.stop(),
            Err(Errno::AGAIN | Errno::INTR) => {}
            _ => {
                self.stop();
                self.cut_all("the tap was told to end at once");
                self.ending = Some(Instant::now());
                // Nothing more can come from there.
                let _ = epoll::delete(&self.epoll, &self.control);
            }
        }
    }

    /// Takes no more connections.
    fn stop(&mut self) {
        if self.ending.is_some() {
            return;
        }
        self.gate.close();
        // Those that the kernel has taken for it already are its own to serve.
        for at in 0..self.listeners.len() {
            self.accept(at);
        }
        self.listeners.clear();
        if self.connections.len() > 0 {
            self.teller.tell(Word::Note(format!(
                "no new connections are taken; {} may go on for {:?}, the next Ctrl-C ends them",
                self.connections.len(),
                self.options.drain
            )));
        }
        self.ending = Some(Instant::now() + self.options.drain);
    }

    fn cut_all(&mut self, why: &str) {
        for key in self.connections.keys() {
            self.report.cut += 1;
            self.end(key, End::Cut { why: why.to_owned() }, true);
        }
    }

    /// Takes all connections that wait.
    fn accept(&mut self, at: usize) {
        loop {
            if self.is_short() {
                return self.run_short("this process may have no more file descriptors");
            }
            let Some(listener) = self.listeners.get(at) else { return };
            match acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok((socket, Some(client))) => {
                    if let Ok(client) = SocketAddr::try_from(client) {
                        self.take(socket, client);
                    }
                }
                Ok((_, None)) => {}
                Err(Errno::AGAIN) => return,
                Err(Errno::MFILE) => return self.run_short("this process may have no more file descriptors"),
                Err(Errno::NFILE) => return self.run_short("the machine may have no more open files"),
                // The connection was gone before it was taken, or it is the network's error (accept(2)).
                Err(_) => {}
            }
        }
    }

    /// Whether there are too few descriptors left for two sockets.
    fn is_short(&self) -> bool {
        2 * self.connections.len() + self.pipes.descriptors() + SPARE + 2 > self.limit
    }

    /// Leads new connections past the relay as long as it can take no more.
    fn run_short(&mut self, why: &str) {
        if self.short {
            return;
        }
        self.short = true;
        self.gate.set_open(false);
        for listener in &self.listeners {
            // Whoever waits in it would wake the relay again and again.
            let _ = epoll::delete(&self.epoll, listener);
        }
        if !self.said_short {
            self.said_short = true;
            self.teller.tell(Word::Warning(format!(
                "{why}: with {} connections open, new ones go to the application directly until some end; those that are open live on",
                self.connections.len()
            )));
        }
    }

    fn run_on(&mut self) {
        self.short = false;
        for (at, listener) in self.listeners.iter().enumerate() {
            let data = epoll::EventData::new_u64(Token::Listener(at).number());
            let _ = epoll::add(&self.epoll, listener, data, epoll::EventFlags::IN);
        }
        self.gate.set_open(true);
    }

    /// Begins a connection.
    fn take(&mut self, socket: OwnedFd, client: SocketAddr) {
        let begun = Instant::now();
        let Ok(server) = self.gate.meant(socket.as_fd()) else { return };
        let ends = Ends { client, server };
        self.report.connections += 1;
        let id = ConnectionId(self.report.connections);
        if self.looks {
            tell((id, ends), now(), What::Opened, &mut self.teller);
        }
        let never =
            |end: End| What::Ended(Summary { bytes: [0; 2], lasted: begun.elapsed(), first_byte: None, end });
        let spoil = if self.options.spoil.is_some() {
            match spoil::Course::new(&self.options.spoil, id, begun) {
                Ok(spoil) => Some(Box::new(spoil)),
                Err(()) => {
                    let _ = half::reset_on_close(&socket);
                    let why = "dropped by --drop-connection".to_owned();
                    return tell((id, ends), now(), never(End::Cut { why }), &mut self.teller);
                }
            }
        } else {
            None
        };
        let (upstream, own) = match self.gate.connect(&ends) {
            Ok(connected) => connected,
            Err(error) => {
                let _ = half::reset_on_close(&socket);
                let short = matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE));
                let end = if error.raw_os_error() == Some(libc::ECONNREFUSED) {
                    self.gate.refused(server);
                    End::Refused { error: error.to_string() }
                } else {
                    End::Failed { error: error.to_string() }
                };
                tell((id, ends), now(), never(end), &mut self.teller);
                if short {
                    self.run_short("this process may have no more file descriptors");
                }
                return;
            }
        };
        // What the ends say small they mean to be there soon, and what is idle long may be dead (tcp(7), socket(7)).
        let _ = sockopt::set_tcp_nodelay(&socket, true);
        let _ = sockopt::set_tcp_nodelay(&upstream, true);
        let _ = sockopt::set_socket_keepalive(&socket, true);
        let mut to_server = Half::new();
        if let Some(proxy) = self.options.proxy {
            to_server.push_own(proxy.header(&ends));
        }
        let until = spoil.as_ref().and_then(|spoil| spoil.until);
        let key = self.connections.add(Connection {
            id,
            ends,
            own,
            begun,
            first_byte: None,
            sockets: [Socket::new(socket), Socket::new(upstream)],
            halves: [to_server, Half::new()],
            connected: false,
            queued: false,
            observer: Observer::new(&self.options),
            spoil,
            answered: None,
        });
        if let Some(until) = until {
            self.timers.push(Reverse((until, key)));
        }
        let Some(connection) = self.connections.get(key) else { return };
        use epoll::EventFlags as On;
        for (side, socket) in [Side::Client, Side::Server].into_iter().zip(&connection.sockets) {
            let data = epoll::EventData::new_u64(Token::Socket(key, side).number());
            let on = On::IN | On::OUT | On::RDHUP | On::PRI | On::ET;
            if let Err(error) = epoll::add(&self.epoll, &socket.fd, data, on) {
                let error = format!("cannot watch a socket: {}", io::Error::from(error));
                return self.end(key, End::Failed { error }, true);
            }
        }
    }

    /// Takes note of what a socket can do, and does it.
    fn event(&mut self, key: Key, side: Side, flags: epoll::EventFlags) {
        use epoll::EventFlags as On;
        let Some(connection) = self.connections.get(key) else { return };
        let socket = &mut connection.sockets[side.index()];
        if flags.contains(On::ERR)
            && let Ok(Err(error)) = sockopt::socket_error(&socket.fd)
        {
            return self.fail(key, side, error);
        }
        socket.readable |= flags.intersects(On::IN | On::RDHUP | On::HUP | On::ERR);
        socket.writable |= flags.intersects(On::OUT | On::HUP | On::ERR);
        if flags.contains(On::PRI) {
            connection.halves[side.speaks().index()].take_urgent(connection.sockets[side.index()].fd.as_fd());
            connection.sockets[side.index()].readable = true;
        }
        if side == Side::Server && !connection.connected && flags.contains(On::OUT) {
            connection.connected = true;
        }
        self.pump(key);
    }

    /// An error of one side ends the connection, and the other side sees a reset.
    fn fail(&mut self, key: Key, side: Side, error: Errno) {
        let Some(connection) = self.connections.get(key) else { return };
        let refused = side == Side::Server && !connection.connected && error == Errno::CONNREFUSED;
        let (end, server) = (connection.end_by(side, error), connection.ends.server);
        if refused {
            self.gate.refused(server);
        }
        self.end(key, end, true);
    }

    /// Moves what can be moved, in both directions.
    fn pump(&mut self, key: Key) {
        let mut again = false;
        for direction in Direction::BOTH {
            let Some(connection) = self.connections.get(key) else { return };
            if !connection.connected || connection.spoil.as_ref().is_some_and(|spoil| spoil.stall) {
                return;
            }
            match self.turn(key, direction) {
                Ok(more) => again |= more,
                Err((side, error)) => return self.fail(key, side, error),
            }
        }
        let Some(connection) = self.connections.get(key) else { return };
        if connection.is_done() {
            return self.end(key, End::Closed, false);
        }
        if again && !connection.queued {
            connection.queued = true;
            self.queue.push_back(key);
        }
    }

    /// One direction's turn; whether it has more to do at once.
    fn turn(&mut self, key: Key, direction: Direction) -> Result<bool, (Side, Errno)> {
        let (source, sink) = match direction {
            Direction::ToServer => (Side::Client, Side::Server),
            Direction::ToClient => (Side::Server, Side::Client),
        };
        let of = |fault: Fault| match fault {
            Fault::Source(error) => (source, error),
            Fault::Sink(error) => (sink, error),
        };
        for _ in 0..TURN {
            let Some(connection) = self.connections.get(key) else { return Ok(false) };
            let spoiled = connection.spoil.as_ref().is_some_and(|spoil| spoil.shapes());
            let [client, server] = &mut connection.sockets;
            let (from, to) = match direction {
                Direction::ToServer => (client, server),
                Direction::ToClient => (server, client),
            };
            let half = &mut connection.halves[direction.index()];
            if half.course == Course::Done {
                return Ok(false);
            }
            let mut waits = false;
            if half.waiting() > 0 || half.course == Course::Ending {
                if !to.writable {
                    return Ok(false);
                }
                match half.drain(to.fd.as_fd(), &mut self.pipes).map_err(of)? {
                    Step::Moved => {
                        self.moved(key, direction);
                        continue;
                    }
                    Step::Full => {
                        to.writable = false;
                        return Ok(false);
                    }
                    Step::Wait(due) => {
                        self.timers.push(Reverse((due, key)));
                        waits = true;
                        if !spoiled || half.waiting() >= spoil::HELD {
                            return Ok(false);
                        }
                    }
                    Step::End | Step::Empty => {}
                }
            }
            if half.course != Course::Open {
                if half.course == Course::Done {
                    self.finished(key, direction);
                }
                return Ok(false);
            }
            if connection.answered.is_some() {
                return Ok(false);
            }
            if !from.readable {
                if !waits {
                    half.release(&mut self.pipes);
                }
                return Ok(false);
            }
            if !waits && half.send_urgent(from.fd.as_fd(), to.fd.as_fd()).map_err(of)? == Step::Full {
                to.writable = false;
                return Ok(false);
            }
            let step = if self.looks || half.is_marked() {
                self.copy(key, direction).map_err(of)?
            } else {
                match half.fill(from.fd.as_fd(), &mut self.pipes) {
                    // Without a pipe bytes can still be copied.
                    Err(Fault::Source(Errno::MFILE | Errno::NFILE)) => {
                        self.copy(key, direction).map_err(of)?
                    }
                    step => step.map_err(of)?,
                }
            };
            match step {
                Step::Empty => {
                    if let Some(connection) = self.connections.get(key) {
                        connection.sockets[source.index()].readable = false;
                    }
                    return Ok(false);
                }
                Step::Full => {
                    if let Some(connection) = self.connections.get(key) {
                        connection.sockets[sink.index()].writable = false;
                    }
                    return Ok(false);
                }
                _ => {}
            }
        }
        Ok(true)
    }

    /// Reads bytes into memory, shows them, and passes them on or lets them wait.
    fn copy(&mut self, key: Key, direction: Direction) -> Result<Step, Fault> {
        let Some(connection) = self.connections.get(key) else { return Ok(Step::End) };
        let mut most = self.scratch.len();
        if let Some(left) = connection.spoil.as_ref().and_then(|spoil| spoil.left) {
            most = most.min(usize::try_from(left).unwrap_or(usize::MAX)).max(1);
        }
        let half = &mut connection.halves[direction.index()];
        let [client, server] = &connection.sockets;
        let (from, to) = match direction {
            Direction::ToServer => (client.fd.as_fd(), server.fd.as_fd()),
            Direction::ToClient => (server.fd.as_fd(), client.fd.as_fd()),
        };
        let (step, read) = half.read(from, &mut self.scratch[..most])?;
        if read == 0 {
            return Ok(step);
        }
        let bytes = &self.scratch[..read];
        let mut instead = None;
        if let Some(observer) = &mut connection.observer {
            let time = now();
            let at = (connection.id, connection.ends);
            let said: Vec<_> = observer.see(at, direction, time, bytes, &mut self.teller).collect();
            for said in said {
                if instead.is_none()
                    && let Some(rule) = self.options.spoil.instead(&said)
                {
                    instead = Some((rule.instead.clone(), rule.pattern.clone(), said.protocol));
                }
                tell(at, time, What::Said(said), &mut self.teller);
            }
        }
        if let Some((instead, pattern, protocol)) = instead {
            self.do_instead(key, instead, &pattern, protocol);
            return Ok(Step::Moved);
        }
        let Some(spoil) = &mut connection.spoil else {
            let step = half.write_through(to, bytes)?;
            self.moved(key, direction);
            return Ok(step);
        };
        if let Some(left) = &mut spoil.left {
            *left -= (read as u64).min(*left);
        }
        let step = if spoil.shapes() {
            let mut at = 0;
            for (size, due) in spoil.pieces(direction, read, Instant::now()) {
                half.push(&bytes[at..at + size], Some(due));
                at += size;
            }
            Step::Moved
        } else {
            half.write_through(to, bytes)?
        };
        self.moved(key, direction);
        Ok(step)
    }

    /// Does what a rule says instead of passing a request on.
    fn do_instead(&mut self, key: Key, instead: Instead, pattern: &str, protocol: decode::Protocol) {
        let Some(connection) = self.connections.get(key) else { return };
        let answer = match instead {
            Instead::Reset => None,
            Instead::Respond(status) => spoil::answer(protocol, status),
        };
        match answer {
            None => self.end(key, End::Cut { why: format!("reset, matching '{pattern}'") }, true),
            Some(answer) => {
                connection.answered = Some(format!("answered, matching '{pattern}'"));
                // What the application has said before is still the client's.
                connection.halves[Direction::ToClient.index()].push_own(answer);
                connection.halves[Direction::ToServer.index()].discard(&mut self.pipes);
                connection.halves[Direction::ToClient.index()].course = Course::Ending;
            }
        }
    }

    /// Bytes of a direction were passed on.
    fn moved(&mut self, key: Key, direction: Direction) {
        let Some(connection) = self.connections.get(key) else { return };
        if direction == Direction::ToClient
            && connection.first_byte.is_none()
            && connection.halves[direction.index()].passed > 0
        {
            connection.first_byte = Some(connection.begun.elapsed());
        }
        if connection.spoil.as_ref().is_some_and(|spoil| spoil.left == Some(0))
            && connection.halves.iter().all(|half| half.waiting() == 0)
        {
            self.end(key, End::Cut { why: "reset by --reset-after".to_owned() }, true);
        }
    }

    /// A direction's end was passed on.
    fn finished(&mut self, key: Key, direction: Direction) {
        let Some(connection) = self.connections.get(key) else { return };
        if let Some(why) = connection.answered.take() {
            return self.end(key, End::Cut { why }, false);
        }
        let at = (connection.id, connection.ends);
        if let Some(observer) = &mut connection.observer {
            observer.finish(at, direction, now(), &mut self.teller);
        }
    }

    /// Ends a connection; `reset`: both sides see it as reset.
    fn end(&mut self, key: Key, end: End, reset: bool) {
        let Some(mut connection) = self.connections.remove(key) else { return };
        for half in &mut connection.halves {
            half.release(&mut self.pipes);
        }
        if reset {
            for socket in &connection.sockets {
                // One that is gone needs no reset.
                let _ = half::reset_on_close(&socket.fd);
            }
        } else if let End::Cut { .. } = end {
            let _ = half::reset_on_close(&connection.sockets[Side::Server.index()].fd);
        }
        let at = (connection.id, connection.ends);
        let summary = connection.summary(end);
        let own = connection.own;
        drop(connection);
        self.gate.ended(own);
        tell(at, now(), What::Ended(summary), &mut self.teller);
        if self.short && self.ending.is_none() && !self.is_short() {
            self.run_on();
        }
    }
}

/// The time of day.
pub(crate) fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
