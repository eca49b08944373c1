//! The gate of a tap on what a network namespace's own processes open to somebody else.
//!
//! A detour of nftables (`snorkel_rtnl::Detour`) leads the connection to a listener on the loopback. The packet that opens
//! it waits until the peer has taken a connection of the tap's own, from the same source address; then it goes on, and
//! the connection finds its other half ready. Where the peer refuses, so does the kernel here, in the peer's name. The
//! tap's own packets carry a mark by which they go straight on.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, getsockname, socket_with, sockopt};
use snorkel_netns::Netns;
use snorkel_rtnl::{Detour, Hold, Nftables, Prefix, Queue, Ruling};

use super::claim::claim;
use super::inbound::{Notes, listener};
use super::{option, syn};
use crate::event::{End, Ends};
use crate::relay::{Gate, Turn};
use crate::{Error, Result};

/// How often the queue is read before others have their turn.
const TURN: usize = 64;
/// How many connections to peers may be under way at once.
const MOST: usize = 1024;
/// How many ports are tried that both families are to have free.
const TRIES: usize = 16;
/// How long a connection to a peer waits for its other half, which is on its way when the peer has taken it.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked whether one has waited too long.
const LOOK: Duration = Duration::from_secs(5);
/// What epoll says of the queue; attempts count from 0.
const QUEUE: u64 = u64::MAX;

/// Whom connections are opened to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Peer {
    /// One address or a block of them.
    pub to: Prefix,
    /// The port there; all if it is not said.
    pub port: Option<u16>,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Prefix { address, length } = self.to;
        match (address, length) {
            (IpAddr::V4(address), 32) => write!(f, "{address}")?,
            (IpAddr::V6(address), 128) if self.port.is_some() => write!(f, "[{address}]")?,
            (IpAddr::V6(address), 128) => write!(f, "{address}")?,
            _ => write!(f, "{}", self.to)?,
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// Who is to be connected with whom.
type Pair = (SocketAddr, SocketAddr);

/// A connection to a peer that is being opened, and the packet that waits for it.
#[derive(Debug)]
struct Attempt {
    ends: Ends,
    packet: u32,
    socket: OwnedFd,
    begun: Instant,
}

/// One that the peer has taken.
#[derive(Debug)]
struct Ready {
    socket: OwnedFd,
    since: Instant,
}

/// The gate.
#[derive(Debug)]
pub struct Outbound {
    /// Before the sockets, so that what they still have to say finds its way.
    attempts: HashMap<u64, Attempt>,
    pairs: HashMap<Pair, u64>,
    ready: HashMap<Pair, Ready>,
    next: u64,
    nftables: Nftables,
    detour: Detour,
    hold: Hold,
    queue: Queue,
    epoll: OwnedFd,
    closed: bool,
    said_full: bool,
    _claims: Vec<OwnedFd>,
}

impl Outbound {
    /// Makes the detour in `netns`, which must be the calling thread's. The sockets are the relay's to listen on.
    pub fn open(netns: &Netns, peers: &[Peer]) -> Result<(Outbound, Vec<OwnedFd>, Notes)> {
        let claims = peers.iter().map(|peer| claim(&format!("to {peer}"))).collect::<Result<Vec<_>>>()?;
        let (listeners, port, peers) = listeners(peers)?;
        let queue = Queue::open_in(netns)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|e| Error::os("begin to wait", e))?;
        epoll::add(&epoll, &queue, epoll::EventData::new_u64(QUEUE), epoll::EventFlags::IN)
            .map_err(|e| Error::os("watch a queue of packets", e))?;
        let detour = Detour {
            table: format!("snorkel-tap-{}", std::process::id()),
            peers: peers.iter().map(|peer| (peer.to, peer.port)).collect(),
            queue: queue.number(),
            listener: port,
        };
        let mut nftables = Nftables::open_in(netns)?;
        nftables.add_detour_tables(&detour).map_err(|error| {
            if error.is_invalid() || error.is_unsupported() { Error::NoOwner(error) } else { error.into() }
        })?;
        // From here on connections come.
        let hold = nftables.add_detour(&detour)?;
        let mut remarks =
            vec!["meanwhile the kernel tracks the connections of this network (conntrack)".to_owned()];
        if hold == Hold::Not {
            remarks.push("this kernel cannot hold a connection until the peer has taken it (nft_queue): what the peer refuses is reset".to_owned());
        }
        let outbound = Outbound {
            attempts: HashMap::new(),
            pairs: HashMap::new(),
            ready: HashMap::new(),
            next: 0,
            nftables,
            detour,
            hold,
            queue,
            epoll,
            closed: false,
            said_full: false,
            _claims: claims,
        };
        Ok((outbound, listeners, Notes { remarks, ..Notes::default() }))
    }

    /// Takes what waits in the queue.
    fn take(&mut self, turns: &mut Vec<Turn>) {
        for _ in 0..TURN {
            let held = match self.queue.take() {
                Ok(held) if held.is_empty() => return,
                Ok(held) => held,
                Err(error) => {
                    tracing::warn!("{}", snorkel_netns::chain(&error));
                    return;
                }
            };
            for packet in held {
                match syn::ends(&packet.bytes) {
                    Some(ends) => self.begin(ends, packet.id, turns),
                    None => self.decide(packet.id, Ruling::Mark(Detour::OWN)),
                }
            }
        }
    }

    /// Opens a connection to the peer.
    fn begin(&mut self, ends: Ends, packet: u32, turns: &mut Vec<Turn>) {
        let begun = Instant::now();
        let pair = (ends.client, ends.server);
        if self.ready.contains_key(&pair) {
            return self.decide(packet, Ruling::Accept);
        }
        if self.pairs.contains_key(&pair) {
            // The same once more, because the peer takes its time.
            return self.decide(packet, Ruling::Drop);
        }
        if self.closed || self.attempts.len() >= MOST {
            if !self.closed && !std::mem::replace(&mut self.said_full, true) {
                turns.push(Turn::Warning(format!(
                    "{MOST} connections wait for their peers: further ones go straight to theirs until some have ended"
                )));
            }
            return self.decide(packet, Ruling::Mark(Detour::OWN));
        }
        let token = self.next;
        let opened = open(&ends).and_then(|socket| {
            let data = epoll::EventData::new_u64(token);
            epoll::add(&self.epoll, &socket, data, epoll::EventFlags::OUT)?;
            Ok(socket)
        });
        match opened {
            Ok(socket) => {
                self.next += 1;
                self.pairs.insert(pair, token);
                self.attempts.insert(token, Attempt { ends, packet, socket, begun });
            }
            Err(error) => self.missed(ends, packet, begun, error, turns),
        }
    }

    /// Looks what has become of an attempt.
    fn look_at(&mut self, token: u64, turns: &mut Vec<Turn>) {
        let Some(attempt) = self.attempts.remove(&token) else { return };
        let pair = (attempt.ends.client, attempt.ends.server);
        self.pairs.remove(&pair);
        // It is the relay's to watch, or nobody's.
        let _ = epoll::delete(&self.epoll, &attempt.socket);
        match sockopt::socket_error(&attempt.socket) {
            Ok(Ok(())) => {
                self.ready.insert(pair, Ready { socket: attempt.socket, since: Instant::now() });
                self.decide(attempt.packet, Ruling::Accept);
            }
            Ok(Err(error)) | Err(error) => {
                self.missed(attempt.ends, attempt.packet, attempt.begun, error, turns);
            }
        }
    }

    /// The peer did not take it: the client sees what it would have seen.
    fn missed(&mut self, ends: Ends, packet: u32, begun: Instant, error: Errno, turns: &mut Vec<Turn>) {
        let ruling = match error {
            Errno::CONNREFUSED => Ruling::Mark(Detour::REFUSED),
            Errno::HOSTUNREACH | Errno::NETUNREACH => Ruling::Mark(Detour::UNREACHABLE),
            // The client's own attempt is as old.
            Errno::TIMEDOUT => Ruling::Drop,
            // It is the tap that has no room for it, or knows too little of the way there.
            _ => return self.decide(packet, Ruling::Mark(Detour::OWN)),
        };
        self.decide(packet, ruling);
        let error = io::Error::from(error).to_string();
        let end = match ruling {
            Ruling::Mark(Detour::REFUSED) => End::Refused { error },
            _ => End::Failed { error },
        };
        turns.push(Turn::Missed { ends, begun, end });
    }

    fn decide(&mut self, packet: u32, ruling: Ruling) {
        if let Err(error) = self.queue.decide(packet, ruling) {
            tracing::debug!("{}", snorkel_netns::chain(&error));
        }
    }

    /// Lets all that waits go straight on.
    fn let_go(&mut self) {
        self.pairs.clear();
        for (_, attempt) in std::mem::take(&mut self.attempts) {
            self.decide(attempt.packet, Ruling::Mark(Detour::OWN));
        }
    }
}

/// Listeners on one port of the loopback, of those families that there are peers of and that the network has.
fn listeners(peers: &[Peer]) -> Result<(Vec<OwnedFd>, u16, Vec<Peer>)> {
    let failed = |e| Error::os("listen on the loopback of the target (is it up?)", e);
    let is_wanted = |v4: bool| peers.iter().any(|peer| peer.to.address.is_ipv4() == v4);
    for _ in 0..TRIES {
        let mut listeners: Vec<OwnedFd> = Vec::new();
        let (mut port, mut usable) = (0, peers.to_vec());
        for (v4, loopback) in
            [(true, IpAddr::from(Ipv4Addr::LOCALHOST)), (false, IpAddr::from(Ipv6Addr::LOCALHOST))]
        {
            match listener(SocketAddr::new(loopback, port)) {
                _ if !is_wanted(v4) => {}
                Ok(socket) => {
                    port =
                        SocketAddr::try_from(getsockname(&socket).map_err(failed)?).map_err(failed)?.port();
                    listeners.push(socket);
                }
                // Another try is for another port.
                Err(Errno::ADDRINUSE) => break,
                // Without IPv6 nothing is opened to anybody over it.
                Err(Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT) if !v4 && is_wanted(true) => {
                    usable.retain(|peer| peer.to.address.is_ipv4());
                }
                Err(error) => return Err(failed(error)),
            }
        }
        let families = [true, false].map(|v4| usable.iter().any(|peer| peer.to.address.is_ipv4() == v4));
        if listeners.len() == families.iter().filter(|wanted| **wanted).count() {
            return Ok((listeners, port, usable));
        }
    }
    Err(failed(Errno::ADDRINUSE))
}

/// Begins a connection that goes straight to the peer, from the client's address.
fn open(ends: &Ends) -> rustix::io::Result<OwnedFd> {
    let family = if ends.server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    let os = |error: io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    option::set_mark(&socket, Detour::OWN).map_err(os)?;
    option::choose_port_late(&socket).map_err(os)?;
    // A peer that is gone without a word is gone for the process as well (socket(7)), whose own probes end here.
    sockopt::set_socket_keepalive(&socket, true)?;
    bind(&socket, &SocketAddr::new(ends.client.ip(), 0))?;
    match connect(&socket, &ends.server) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}

impl Gate for Outbound {
    fn meant(&mut self, socket: BorrowedFd<'_>) -> io::Result<SocketAddr> {
        let here = SocketAddr::try_from(getsockname(socket)?)?;
        Ok(match here {
            SocketAddr::V4(_) => sockopt::ip_original_dst(socket)?.into(),
            SocketAddr::V6(_) => sockopt::ipv6_original_dst(socket)?.into(),
        })
    }

    fn connect(&mut self, meant: &Ends) -> io::Result<(OwnedFd, SocketAddr)> {
        let socket = match self.ready.remove(&(meant.client, meant.server)) {
            Some(ready) => ready.socket,
            // Somebody found the listener itself.
            None if meant.server.ip().is_loopback() && meant.server.port() == self.detour.listener => {
                return Err(Errno::CONNREFUSED.into());
            }
            // It was not held: the kernel cannot, or had no room for it.
            None => open(meant)?,
        };
        let own = SocketAddr::try_from(getsockname(&socket)?)?;
        Ok((socket, own))
    }

    fn ended(&mut self, _own: SocketAddr) {}

    fn refused(&mut self, _server: SocketAddr) {}

    fn set_open(&mut self, open: bool) {
        if let Err(error) = self.nftables.set_detour(&self.detour, self.hold, open && !self.closed) {
            tracing::warn!("{}", snorkel_netns::chain(&error));
        }
        if !open {
            self.let_go();
        }
    }

    fn close(&mut self) {
        self.closed = true;
        // What waits in the queue meanwhile goes on as well.
        let mut turns = Vec::new();
        self.take(&mut turns);
        self.set_open(false);
    }

    fn look(&mut self) -> Option<Duration> {
        let now = Instant::now();
        self.ready.retain(|_, ready| now.duration_since(ready.since) < PATIENCE);
        Some(LOOK)
    }

    fn watch(&self) -> Option<BorrowedFd<'_>> {
        Some(self.epoll.as_fd())
    }

    fn turn(&mut self) -> Vec<Turn> {
        let mut turns = Vec::new();
        let mut events: Vec<epoll::Event> = Vec::with_capacity(64);
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let waited = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&at_once));
        if let Err(error) = waited.map(drop)
            && error != Errno::INTR
        {
            tracing::warn!("cannot wait for peers: {error}");
        }
        for event in events {
            match event.data.u64() {
                QUEUE => self.take(&mut turns),
                token => self.look_at(token, &mut turns),
            }
        }
        turns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_says_nothing_is_probed() {
        let peer = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let ends = Ends { client: "127.0.0.1:1".parse().unwrap(), server: peer.local_addr().unwrap() };
        assert!(sockopt::socket_keepalive(open(&ends).unwrap()).unwrap());
    }
}
