//! One link's ring: opened inside its namespace, read from anywhere, its packets accounted for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use snorkel_netns::Netns;
use snorkel_rtnl::{IfIndex, LinkCounters};

use super::block::{self, Cursor, HEADROOM, Source};
use super::budget::{Budget, Plan};
use super::counters::Counters;
use super::link::{self, Facts, Framing, Link};
use super::mapping::{Closed, Mapping};
use super::program::{self, Wants};
use super::socket::Socket;
use super::{Error, Ledger, Result};
use crate::{Direction, LinkType, Packet};

/// What a ring is to be like.
#[derive(Debug, Clone, Copy)]
pub struct Settings<'a> {
    /// Bytes kept of each packet; 0: all.
    pub snaplen: u32,
    /// Which packets are wanted, as classic BPF for the link's [`LinkType`] (for `LINUX_SLL2` the offsets count from that
    /// header); what it keeps of a packet is limited to the snaplen. `None`: all.
    pub filter: Option<&'a [libc::sock_filter]>,
    /// Only packets that went this way; `None`: both.
    pub direction: Option<Direction>,
    /// Have the link accept packets for other addresses than its own as long as the ring is open. It can be seen from
    /// inside (`ip -d link`), and the kernel logs it.
    pub promiscuous: bool,
    /// Memory for it, in bytes ([`Budget::share`]). A ring is never smaller than [`Budget::LEAST`], and can turn out
    /// smaller than asked ([`Ring::bytes`]).
    pub bytes: usize,
    /// After this time at the latest packets are handed out, even few. A block that is handed over because of it is used
    /// up, so a ring with little traffic lasts for so many times as it has blocks while its reader is held up. `None`: as
    /// its blocks are few or many, 10 to 60 ms.
    pub retire: Option<Duration>,
}

impl Default for Settings<'_> {
    /// Everything, whole, with the whole default budget.
    fn default() -> Self {
        Settings {
            snaplen: 0,
            filter: None,
            direction: None,
            promiscuous: false,
            bytes: Budget::default().total,
            retire: None,
        }
    }
}

/// A ring on a link, capturing.
pub struct Ring {
    // Unmapped before the socket is closed, though the order does not matter to the kernel.
    mapping: Mapping,
    socket: Socket,
    facts: Facts,
    framing: Framing,
    snaplen: u32,
    wanted: usize,
    retire: Duration,
    ledger: Ledger,
    /// The link's own, until they were read for the last time.
    counters: Option<Counters>,
}

/// What is to be known of an open ring beside its descriptor.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Handed {
    index: IfIndex,
    name: String,
    kind: u16,
    mac: Option<[u8; 6]>,
    block: usize,
    count: usize,
    snaplen: u32,
    wanted: usize,
    /// Milliseconds.
    retire: u32,
    /// What the link had counted, if a second descriptor comes along to go on counting with.
    counted: Option<LinkCounters>,
}

impl Handed {
    /// How many descriptors come along at most.
    pub const DESCRIPTORS: usize = 2;
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring")
            .field("link", &self.facts)
            .field("ledger", &self.ledger)
            .finish_non_exhaustive()
    }
}

impl Ring {
    /// Opens a ring on a link of a namespace; from then on packets gather in it.
    ///
    /// A link that is down is no error: its packets come when it is up.
    pub fn open(netns: &Netns, link: Link<'_>, settings: &Settings<'_>) -> Result<Ring> {
        netns.run(|| Ring::open_here(link, settings))?
    }

    /// As [`Ring::open`], in the namespace that the calling thread is in.
    pub fn open_here(link: Link<'_>, settings: &Settings<'_>) -> Result<Ring> {
        let open = |cooked| {
            Socket::new(cooked).map_err(|source| match source.raw_os_error() {
                Some(libc::EPERM | libc::EACCES) => Error::Rights { link: link.to_string(), source },
                _ => Error::os(format!("open a packet socket for {link}"), source),
            })
        };
        let mut socket = open(false)?;
        let facts = link::facts(socket.as_fd(), link)?;
        let framing = Framing::of(facts.kind);
        let cooked = framing == Framing::Cooked;
        if cooked {
            socket = open(true)?;
        }
        let name = facts.name.as_str();
        let loopback = facts.is_loopback();
        let wants = Wants { snaplen: settings.snaplen, direction: settings.direction, loopback, cooked };
        socket.prepare(HEADROOM).map_err(|e| Error::os(format!("prepare a ring on {name}"), e))?;
        if let Some(program) = program::build(settings.filter, wants, name)? {
            socket.filter(&program).map_err(|e| Error::os(format!("attach the filter to {name}"), e))?;
        }
        let plan = Plan::of(settings.bytes);
        let retire = settings.retire.unwrap_or_else(|| plan.retire());
        let mapping = largest(plan, name, |plan| {
            socket.ring(plan, retire)?;
            Mapping::new(socket.as_fd(), plan).inspect_err(|_| drop(socket.no_ring()))
        })?;
        // The index fits the kernel's int: that is what an IfIndex is.
        let index = facts.index.get() as libc::c_int;
        if settings.promiscuous {
            socket.promiscuous(index).map_err(|e| Error::os(format!("have {name} accept all packets"), e))?;
        }
        let counters = Counters::begin(facts.index, loopback);
        socket.start(index).map_err(|source| match source.raw_os_error() {
            Some(libc::ENODEV) => Error::NoLink { link: link.to_string() },
            _ => Error::os(format!("begin to capture on {name}"), source),
        })?;
        Ok(Ring {
            mapping,
            socket,
            framing,
            snaplen: settings.snaplen,
            wanted: settings.bytes,
            retire,
            ledger: Ledger::default(),
            counters,
            facts,
        })
    }

    /// Gives the ring away to another process, which has to be sent the descriptors (unix(7), `SCM_RIGHTS`; at most
    /// [`Handed::DESCRIPTORS`]) and what is to be known of them. Packets gather in it meanwhile.
    pub fn hand_over(self) -> (Vec<OwnedFd>, Handed) {
        let Plan { block, count } = self.mapping.plan();
        let Facts { index, name, kind, mac } = self.facts;
        let retire = u32::try_from(self.retire.as_millis()).unwrap_or(u32::MAX);
        let mut descriptors = vec![self.socket.into()];
        let counted = self.counters.map(|counters| {
            let (socket, counted) = counters.hand_over();
            descriptors.push(socket);
            counted
        });
        let handed = Handed {
            index,
            name,
            kind,
            mac,
            block,
            count,
            snaplen: self.snaplen,
            wanted: self.wanted,
            retire,
            counted,
        };
        (descriptors, handed)
    }

    /// Takes over a ring that another process has opened and nobody has read.
    pub fn adopt(descriptors: Vec<OwnedFd>, handed: Handed) -> Result<Ring> {
        let Handed { index, name, kind, mac, block, count, snaplen, wanted, retire, counted } = handed;
        let what = || format!("map the ring on {name}");
        let mut descriptors = descriptors.into_iter();
        let none = || Error::os(what(), io::ErrorKind::UnexpectedEof);
        let socket = Socket::from(descriptors.next().ok_or_else(none)?);
        let mapping =
            Mapping::new(socket.as_fd(), Plan { block, count }).map_err(|e| Error::os(what(), e))?;
        let facts = Facts { index, name, kind, mac };
        let counters = descriptors
            .next()
            .zip(counted)
            .and_then(|(socket, counted)| Counters::adopt(socket, counted, index, facts.is_loopback()));
        Ok(Ring {
            mapping,
            socket,
            framing: Framing::of(kind),
            snaplen,
            wanted,
            retire: Duration::from_millis(retire.into()),
            ledger: Ledger::default(),
            counters,
            facts,
        })
    }

    /// The link's index in its namespace.
    pub fn index(&self) -> IfIndex {
        self.facts.index
    }

    /// The link's name when the ring was opened.
    pub fn name(&self) -> &str {
        &self.facts.name
    }

    /// The link's hardware address when the ring was opened, if it has one of Ethernet's.
    pub fn mac(&self) -> Option<[u8; 6]> {
        self.facts.mac
    }

    /// What its packets begin with.
    pub fn link_type(&self) -> LinkType {
        self.framing.link_type()
    }

    /// Bytes of memory that it has.
    pub fn bytes(&self) -> usize {
        self.mapping.plan().bytes()
    }

    /// Whether it has clearly less memory than it was to have: the kernel had no more.
    pub fn shrunk(&self) -> bool {
        self.bytes() < Plan::of(self.wanted).bytes()
    }

    /// Bytes kept of each packet; 0: all.
    pub fn snaplen(&self) -> u32 {
        self.snaplen
    }

    /// The account so far; asks the kernel for its part.
    pub fn ledger(&mut self) -> Result<Ledger> {
        self.ask_the_kernel()?;
        Ok(self.ledger)
    }

    fn ask_the_kernel(&mut self) -> Result<()> {
        let read = self
            .socket
            .take_statistics()
            .map_err(|e| Error::os(format!("read the statistics of the ring on {}", self.facts.name), e))?;
        self.ledger.received += u64::from(read.packets);
        self.ledger.dropped += u64::from(read.drops);
        self.ledger.full += u64::from(read.freezes);
        Ok(())
    }

    pub(super) fn retire(&self) -> Duration {
        self.retire
    }

    pub(super) fn blocks(&self) -> usize {
        self.mapping.plan().count
    }

    /// What the block with this number says, if it has been handed over.
    pub(super) fn closed(&self, number: usize) -> Option<Closed> {
        self.mapping.closed(number)
    }

    /// See [`Mapping::still_empty`].
    pub(super) fn still_empty(&self, number: usize) -> bool {
        self.mapping.still_empty(number)
    }

    /// When the first packet of a block came that was handed over.
    pub(super) fn first_time(&self, number: usize, closed: Closed) -> Option<u64> {
        // SAFETY: whoever has a `Closed` has seen that the block was handed over; it is released through `&mut self` only
        // after its last use.
        unsafe { block::first_time(self.mapping.block(number), self.mapping.plan().block, closed) }
    }

    /// Appends the next packets of a block that was handed over, at most so many; see [`block::read`].
    ///
    /// # Safety
    /// The cursor is the block's own. The packets are used no longer than until the block is released, the ring's value
    /// may move meanwhile.
    pub(super) unsafe fn read(
        &mut self,
        number: usize,
        cursor: &mut Cursor,
        most: u32,
        interface: usize,
        into: &mut Vec<Packet<'static>>,
    ) {
        let source = Source { interface, framing: self.framing, snaplen: self.snaplen };
        let (block, length) = (self.mapping.block(number), self.mapping.plan().block);
        // SAFETY: as in `first_time`; the cursor sees to it that each packet is read once, and they end with the release.
        unsafe { block::read(block, length, cursor, most, source, &mut self.ledger, into) };
    }

    /// Packets were dropped when a block was handed over that says so. The mark stays until the statistics are read; that
    /// they cannot be read now is no loss, they add up later.
    pub(super) fn losing(&mut self) {
        let _ = self.ask_the_kernel();
    }

    pub(super) fn release(&self, number: usize) {
        self.mapping.release(number);
    }

    pub(super) fn late(&mut self) {
        self.ledger.late += 1;
    }

    /// What has become of the link after the socket had an error.
    pub(super) fn look_at_link(&self) -> Trouble {
        if self.is_gone() {
            return Trouble::Gone;
        }
        match self.socket.take_error() {
            Ok(Some(error)) if error.raw_os_error() == Some(libc::ENETDOWN) => Trouble::Down,
            Ok(None) => Trouble::None,
            Ok(Some(error)) | Err(error) => Trouble::Other(error),
        }
    }

    /// Whether there is no such link any more.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self.socket.bound_to(), Ok((index, _)) if index < 0)
    }

    /// No packet comes in any more; those that are in stay until they are read.
    pub(super) fn stop(&mut self) -> Result<()> {
        let stopped = self.socket.stop(self.facts.index.get() as libc::c_int);
        if let Some(mut counters) = self.counters.take() {
            self.ledger.on_link = counters.since();
        }
        match stopped {
            // Where there is no link there are no packets.
            Err(error) if error.raw_os_error() != Some(libc::ENODEV) => {
                Err(Error::os(format!("end the capture on {}", self.facts.name), error))
            }
            _ => Ok(()),
        }
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What a socket's error means.
pub(super) enum Trouble {
    /// Nothing (any more).
    None,
    /// The link is down; packets come again when it is up.
    Down,
    /// There is no such link any more.
    Gone,
    /// Something else.
    Other(io::Error),
}

/// What the packets of a link begin with: what a filter has to be compiled for before the ring is opened.
pub fn link_type(netns: &Netns, link: Link<'_>) -> Result<LinkType> {
    netns.run(|| {
        let socket = std::net::UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0))
            .map_err(|e| Error::os(format!("ask for the link {link}"), e))?;
        Ok(Framing::of(link::facts(socket.as_fd(), link)?.kind).link_type())
    })?
}

/// Makes the largest ring there is memory for.
fn largest<T>(plan: Plan, link: &str, mut attempt: impl FnMut(Plan) -> io::Result<T>) -> Result<T> {
    let mut next = Some(plan);
    let mut bytes = plan.bytes();
    while let Some(plan) = next {
        bytes = plan.bytes();
        match attempt(plan) {
            Ok(ring) => return Ok(ring),
            Err(e) if e.raw_os_error() == Some(libc::ENOMEM) => next = plan.smaller(),
            Err(e) => return Err(Error::os(format!("make a ring of {bytes} bytes on {link}"), e)),
        }
    }
    Err(Error::NoMemory { link: link.to_owned(), bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_shrinks_until_there_is_memory_for_it() {
        let no_memory = || io::Error::from_raw_os_error(libc::ENOMEM);
        let up_to = |limit: usize| {
            largest(Plan::of(64 << 20), "eth0", |plan| {
                if plan.bytes() > limit { Err(no_memory()) } else { Ok(plan.bytes()) }
            })
        };
        assert_eq!(up_to(64 << 20).unwrap(), 64 << 20);
        assert_eq!(up_to(20 << 20).unwrap(), 16 << 20);
        assert_eq!(up_to(Budget::LEAST).unwrap(), Budget::LEAST);
        let error = up_to(100).unwrap_err();
        assert!(matches!(error, Error::NoMemory { bytes: Budget::LEAST, .. }), "{error}");
    }

    #[test]
    fn another_error_than_want_of_memory_is_not_tried_again() {
        let mut tries = 0;
        let error = largest::<()>(Plan::of(64 << 20), "eth0", |_| {
            tries += 1;
            Err(io::Error::from_raw_os_error(libc::EINVAL))
        });
        assert!(matches!(error, Err(Error::Os { .. })));
        assert_eq!(tries, 1);
    }
}
