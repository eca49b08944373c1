//! The relay of datagrams: each goes on as it came, by flows that end when nobody has said anything for a while.
//!
//! One thread, one epoll(7). Nothing is kept: what cannot be passed on at once is lost, as it would be in a network, and
//! counted. There are only so many flows; one more ends the one whose time is over first. A relay can be told to end
//! by its control socket: `s` takes no new datagrams and waits for answers that are due, `k` waits for nothing; so does
//! the socket's end.

mod flow;
pub(crate) mod socket;

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::decode;
use crate::event::{ConnectionId, Direction, End, Ends, Event, Teller, What, Word};
use crate::relay::{Options, Report, now};
use crate::steer::Datagrams;
use flow::Flow;

/// How many flows there are at most; fewer, if the process may have fewer descriptors.
const MOST: usize = 16384;
/// Descriptors that are not for flows.
const SPARE: usize = 64;
/// An answer that has not come by then does not come.
const ANSWER: Duration = Duration::from_secs(2);
/// How many datagrams of one socket are passed on before others have their turn.
const TURN: usize = 64;
/// No datagram is longer (RFC 768).
const SCRATCH: usize = 65536;

/// A relay of one network namespace.
#[derive(Debug)]
pub struct Relay {
    epoll: OwnedFd,
    sockets: Vec<OwnedFd>,
    control: OwnedFd,
    gate: Datagrams,
    teller: Teller,
    options: Options,
    idle: Duration,
    flows: HashMap<ConnectionId, Flow>,
    by_ends: HashMap<(SocketAddr, SocketAddr), ConnectionId>,
    /// When flows end, in that order.
    due: BTreeSet<(Instant, ConnectionId)>,
    most: usize,
    said_most: bool,
    scratch: Vec<u8>,
    look: Option<Instant>,
    ending: Option<Instant>,
    lost: u64,
    report: Report,
}

impl Relay {
    const CONTROL: u64 = u64::MAX;
    /// Above all flows, which count from 1.
    const SOCKETS: u64 = u64::MAX - 16;

    /// A relay of what these sockets receive. A flow ends when nobody has said anything for `idle`.
    pub fn new(
        gate: Datagrams,
        sockets: Vec<OwnedFd>,
        control: OwnedFd,
        teller: Teller,
        options: Options,
        idle: Duration,
    ) -> io::Result<Relay> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let watch = |fd: &OwnedFd, token: u64| {
            epoll::add(&epoll, fd, epoll::EventData::new_u64(token), epoll::EventFlags::IN)
        };
        watch(&control, Relay::CONTROL)?;
        for (at, socket) in sockets.iter().enumerate() {
            watch(socket, Relay::SOCKETS + at as u64)?;
        }
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
        Ok(Relay {
            epoll,
            sockets,
            control,
            gate,
            teller,
            options,
            idle,
            flows: HashMap::new(),
            by_ends: HashMap::new(),
            due: BTreeSet::new(),
            most: limit.saturating_sub(SPARE).clamp(1, MOST),
            said_most: false,
            scratch: vec![0; SCRATCH],
            look: Some(Instant::now()),
            ending: None,
            lost: 0,
            report: Report::default(),
        })
    }

    /// Relays until it is told to end.
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
                match event.data.u64() {
                    Relay::CONTROL => self.obey(),
                    at @ Relay::SOCKETS.. => self.receive((at - Relay::SOCKETS) as usize),
                    id => self.answered(ConnectionId(id)),
                }
            }
            self.keep_time();
        }
        while let Some((_, id)) = self.due.first().copied() {
            self.end(id, End::Idle);
        }
        if self.lost > 0 {
            self.teller.tell(Word::Warning(format!("{} datagrams could not be passed on", self.lost)));
        }
        self.report.untold = self.teller.untold();
        Ok(self.report)
    }

    /// Told to end, and nobody waits for an answer any more, or not longer.
    fn is_over(&self) -> bool {
        self.ending.is_some_and(|end| end <= Instant::now() || !self.flows.values().any(|flow| flow.waits))
    }

    fn timeout(&self) -> Option<Timespec> {
        let next =
            [self.due.first().map(|(due, _)| *due), self.ending, self.look].into_iter().flatten().min()?;
        // A little later is no harm, a little earlier would turn in circles.
        let span = next.saturating_duration_since(Instant::now()) + Duration::from_micros(50);
        Timespec::try_from(span).ok()
    }

    fn keep_time(&mut self) {
        let now = Instant::now();
        while let Some((due, id)) = self.due.first().copied() {
            if due > now {
                break;
            }
            self.end(id, End::Idle);
        }
        if self.look.is_some_and(|look| look <= now) {
            self.look = self.gate.look().map(|span| now + span);
        }
    }

    /// Does what the control socket says.
    fn obey(&mut self) {
        let mut word = [0];
        match rustix::io::read(&self.control, &mut word) {
            Ok(1) if word[0] == b's' => self.stop(self.options.drain),
            Err(Errno::AGAIN | Errno::INTR) => {}
            _ => {
                self.stop(Duration::ZERO);
                self.ending = Some(Instant::now());
            }
        }
    }

    fn stop(&mut self, drain: Duration) {
        if self.ending.is_some() {
            return;
        }
        self.gate.close();
        // What the kernel has given to it already is its own to pass on.
        for at in 0..self.sockets.len() {
            self.receive(at);
        }
        self.sockets.clear();
        self.ending = Some(Instant::now() + drain.min(ANSWER));
    }

    /// Passes on what clients say.
    fn receive(&mut self, at: usize) {
        for _ in 0..TURN {
            let Some(socket) = self.sockets.get(at) else { return };
            let mut scratch = std::mem::take(&mut self.scratch);
            let received = socket::receive(socket.as_fd(), &mut scratch);
            let again = match received {
                Ok((length, Some(ends))) => {
                    self.ask(ends, &scratch[..length]);
                    true
                }
                Ok((_, None)) => true,
                // An error of an earlier datagram is none of this socket.
                Err(error) => error != Errno::AGAIN,
            };
            self.scratch = scratch;
            if !again {
                return;
            }
        }
    }

    fn ask(&mut self, ends: Ends, bytes: &[u8]) {
        let id = match self.by_ends.get(&(ends.client, ends.server)) {
            Some(id) => *id,
            None => match self.begin(ends) {
                Some(id) => id,
                None => {
                    self.lost += 1;
                    return;
                }
            },
        };
        let Some(flow) = self.flows.get(&id) else { return };
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let sent = match send(&flow.socket, bytes, flags) {
            // That is what became of the one before.
            Err(Errno::CONNREFUSED) => {
                self.look = Some(Instant::now());
                send(&flow.socket, bytes, flags)
            }
            sent => sent,
        };
        match sent {
            Ok(_) => self.passed(id, Direction::ToServer, bytes),
            Err(_) => self.lost += 1,
        }
    }

    /// Begins a flow.
    fn begin(&mut self, ends: Ends) -> Option<ConnectionId> {
        while self.flows.len() >= self.most {
            self.evict();
        }
        let reached = match self.gate.reach(&ends) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                self.evict();
                self.gate.reach(&ends)
            }
            reached => reached,
        };
        let (socket, own) = reached.ok()?;
        self.report.connections += 1;
        let id = ConnectionId(self.report.connections);
        let data = epoll::EventData::new_u64(id.0);
        if epoll::add(&self.epoll, &socket, data, epoll::EventFlags::IN).is_err() {
            self.gate.ended(&ends, own);
            return None;
        }
        let now = Instant::now();
        let said = self.options.decode.as_ref().map(decode::Datagrams::new);
        let (due, bytes) = (now + self.idle, [0; 2]);
        let (first_byte, waits) = (None, true);
        let flow = Flow { id, ends, socket, own, begun: now, last: now, due, first_byte, bytes, waits, said };
        if flow.said.is_some() {
            self.tell(id, ends, What::Opened);
        }
        self.due.insert((due, id));
        self.by_ends.insert((ends.client, ends.server), id);
        self.flows.insert(id, flow);
        Some(id)
    }

    /// Ends the flow whose time is over first.
    fn evict(&mut self) {
        let Some((_, id)) = self.due.first().copied() else { return };
        if !std::mem::replace(&mut self.said_most, true) {
            let text =
                format!("there are {} flows, and no room for more: each new one ends an old one", self.most);
            self.teller.tell(Word::Warning(text));
        }
        self.end(id, End::Cut { why: "there were too many flows".to_owned() });
    }

    /// Passes on what the application answers.
    fn answered(&mut self, id: ConnectionId) {
        for _ in 0..TURN {
            let Some(flow) = self.flows.get(&id) else { return };
            let ends = flow.ends;
            let mut scratch = std::mem::take(&mut self.scratch);
            let received = recv(&flow.socket, &mut scratch[..], RecvFlags::DONTWAIT);
            let mut refused = None;
            let again = match received {
                Ok((_, length)) => {
                    let bytes = &scratch[..length.min(SCRATCH)];
                    match self.gate.answer(&ends, bytes) {
                        Ok(()) => self.passed(id, Direction::ToClient, bytes),
                        Err(_) => self.lost += 1,
                    }
                    true
                }
                Err(Errno::CONNREFUSED) => {
                    refused = Some(io::Error::from(Errno::CONNREFUSED).to_string());
                    false
                }
                Err(error) => error == Errno::INTR,
            };
            self.scratch = scratch;
            if let Some(error) = refused {
                // Nobody is there any more, and the kernel will say so to the next one itself.
                self.look = Some(Instant::now());
                self.end(id, End::Refused { error });
            }
            if !again {
                return;
            }
        }
    }

    /// A datagram was passed on.
    fn passed(&mut self, id: ConnectionId, direction: Direction, bytes: &[u8]) {
        let Some(flow) = self.flows.get_mut(&id) else { return };
        let (time, mut said) = (now(), Vec::new());
        if let Some(conversation) = &mut flow.said {
            conversation.feed(direction, time, bytes, &mut said);
        }
        let before = flow.due;
        flow.passed(direction, bytes.len(), self.idle);
        let (after, ends) = (flow.due, flow.ends);
        self.due.remove(&(before, id));
        self.due.insert((after, id));
        let datagram = self.options.bytes.then(|| What::Datagram { direction, bytes: bytes.to_vec() });
        for what in datagram.into_iter().chain(said.into_iter().map(What::Said)) {
            self.teller.tell(Word::Event(Event { time, connection: id, ends, what }));
        }
    }

    fn end(&mut self, id: ConnectionId, end: End) {
        let Some(flow) = self.flows.remove(&id) else { return };
        self.due.remove(&(flow.due, id));
        self.by_ends.remove(&(flow.ends.client, flow.ends.server));
        self.gate.ended(&flow.ends, flow.own);
        self.tell(flow.id, flow.ends, What::Ended(flow.summary(end)));
    }

    fn tell(&mut self, connection: ConnectionId, ends: Ends, what: What) {
        self.teller.tell(Word::Event(Event { time: now(), connection, ends, what }));
    }
}
