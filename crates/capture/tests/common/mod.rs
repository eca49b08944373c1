//! What the tests with real links have in common: namespaces, a veth pair, frames sent and packets kept.
#![allow(dead_code, reason = "each test file uses its part of it")]
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot be set up fails, and says why"
)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use snorkel_capture::ring::{Ledger, Link, LinkState, Ring, RingId, Session, Settings, Turn};
use snorkel_capture::{Direction, Packet};
use snorkel_netns::Netns;
use snorkel_rtnl::Socket;

/// The EtherType of the tests' frames (IEEE 802, for local experiments): nothing else on the links has it.
pub(crate) const OURS: u16 = 0x88b5;

/// A namespace of the test's own, and a socket in it.
pub(crate) fn private() -> (Netns, Socket) {
    let netns = Netns::private()
        .expect("this test makes network namespaces: run it as root (CAP_SYS_ADMIN and CAP_NET_ADMIN)");
    let socket = Socket::open_in(&netns).expect("a socket in the test's own namespace");
    (netns, socket)
}

/// Two namespaces with a veth pair between them, `eth0` in both, up.
pub(crate) struct Pair {
    pub(crate) a: Netns,
    pub(crate) b: Netns,
    pub(crate) at_a: Socket,
    pub(crate) at_b: Socket,
}

impl Pair {
    pub(crate) fn new() -> Pair {
        let (a, mut at_a) = private();
        let (b, mut at_b) = private();
        let near = at_a.add_veth("eth0", "eth0", Some(&b)).unwrap();
        let far = at_b.index_of("eth0").unwrap().unwrap();
        at_a.set_up(near).unwrap();
        at_b.set_up(far).unwrap();
        Pair { a, b, at_a, at_b }
    }
}

/// Sends frames on a link.
pub(crate) struct Sender(OwnedFd);

impl Sender {
    pub(crate) fn new(netns: &Netns, link: &str) -> Sender {
        let open = || {
            // SAFETY: plain calls with numbers and an address that is as long as is said; the descriptor is new.
            unsafe {
                let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
                if fd < 0 {
                    return Err(io::Error::last_os_error());
                }
                let socket = OwnedFd::from_raw_fd(fd);
                let name = std::ffi::CString::new(link).expect("a name");
                let mut address: libc::sockaddr_ll = std::mem::zeroed();
                address.sll_family = libc::AF_PACKET as u16;
                address.sll_ifindex = libc::if_nametoindex(name.as_ptr()) as i32;
                let length = size_of::<libc::sockaddr_ll>() as u32;
                if libc::bind(fd, (&raw const address).cast(), length) < 0 {
                    return Err(io::Error::last_os_error());
                }
                Ok(Sender(socket))
            }
        };
        netns.run(open).expect("inside the test's namespace").expect("a packet socket")
    }

    pub(crate) fn try_send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: the kernel reads the frame's bytes.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    pub(crate) fn send(&self, frame: &[u8]) {
        self.try_send(frame).expect("send a frame");
    }
}

/// A frame with a number in it: addresses, whatever tags, `OURS`, the number, padding.
pub(crate) fn frame(number: u32, tags: &[(u16, u16)], length: usize) -> Vec<u8> {
    let mut frame = vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1];
    for (protocol, tci) in tags {
        frame.extend(protocol.to_be_bytes());
        frame.extend(tci.to_be_bytes());
    }
    frame.extend(OURS.to_be_bytes());
    frame.extend(number.to_be_bytes());
    while frame.len() < length {
        frame.push(frame.len() as u8);
    }
    frame
}

/// The number in an untagged frame of ours.
pub(crate) fn number_of(data: &[u8]) -> Option<u32> {
    let ours = data.get(12..14)? == OURS.to_be_bytes();
    ours.then(|| u32::from_be_bytes(data[14..18].try_into().unwrap()))
}

/// A packet that outlives its block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) time: u64,
    pub(crate) interface: usize,
    pub(crate) direction: Option<Direction>,
    pub(crate) original_length: u32,
    pub(crate) data: Vec<u8>,
}

impl From<&Packet<'_>> for Kept {
    fn from(packet: &Packet<'_>) -> Kept {
        Kept {
            time: packet.time.0,
            interface: packet.interface,
            direction: packet.direction,
            original_length: packet.original_length,
            data: packet.data.to_vec(),
        }
    }
}

/// All that a session told.
#[derive(Debug, Default)]
pub(crate) struct Story {
    pub(crate) packets: Vec<Kept>,
    pub(crate) links: Vec<(RingId, LinkState)>,
    pub(crate) ledgers: Vec<(RingId, Ledger)>,
}

impl Story {
    /// The packets with our frames' EtherType behind the addresses, of one ring.
    pub(crate) fn ours(&self, ring: RingId) -> Vec<&Kept> {
        self.packets.iter().filter(|p| p.interface == ring && number_of(&p.data).is_some()).collect()
    }

    pub(crate) fn ledger(&self, ring: RingId) -> Ledger {
        self.ledgers.iter().find(|(id, _)| *id == ring).expect("the ring was closed").1
    }

    /// The books must balance, and agree with what was handed out.
    #[track_caller]
    pub(crate) fn check(&self) {
        for (ring, ledger) in &self.ledgers {
            let kept: Vec<_> = self.packets.iter().filter(|p| p.interface == *ring).collect();
            assert_eq!(ledger.received, ledger.delivered + ledger.dropped, "ring {ring}: {ledger:?}");
            assert_eq!(ledger.pending(), 0, "ring {ring}: {ledger:?}");
            assert_eq!(ledger.delivered, kept.len() as u64, "ring {ring}: {ledger:?}");
            assert_eq!(ledger.bytes, kept.iter().map(|p| p.data.len() as u64).sum::<u64>(), "ring {ring}");
        }
    }
}

/// One turn, taken down.
pub(crate) fn turn(session: &mut Session, story: &mut Story) -> Turn {
    let turn = session.next(None).expect("a turn");
    match turn {
        Turn::Packets => story.packets.extend(session.packets().iter().map(Kept::from)),
        Turn::Link { ring, state } => story.links.push((ring, state)),
        Turn::Closed { ring, ledger } => story.ledgers.push((ring, ledger)),
        Turn::Woken(_) | Turn::Deadline | Turn::Finished => {}
    }
    turn
}

/// Takes turns until something holds.
pub(crate) fn until(session: &mut Session, story: &mut Story, mut holds: impl FnMut(&Story) -> bool) {
    while !holds(story) {
        assert_ne!(turn(session, story), Turn::Finished, "the session ended before: {story:?}");
    }
}

/// Stops all rings and takes turns to the end.
pub(crate) fn finish(session: &mut Session, story: &mut Story) {
    session.stop_all().expect("stop");
    while turn(session, story) != Turn::Finished {}
    story.check();
}

/// A small ring on a namespace's link.
pub(crate) fn ring(netns: &Netns, link: &str) -> Ring {
    let settings = Settings { bytes: 4 << 20, ..Settings::default() };
    Ring::open(netns, Link::Name(link), &settings).expect("a ring")
}

/// `ether proto 0x88b5`, in classic BPF.
pub(crate) fn only_ours() -> Vec<libc::sock_filter> {
    let instruction = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    vec![
        instruction(0x28, 0, 0, 12),
        instruction(0x15, 0, 1, u32::from(OURS)),
        instruction(0x06, 0, 0, 262_144),
        instruction(0x06, 0, 0, 0),
    ]
}

/// Set when it is dropped, also by a failed assertion: what ends the threads that a test has started.
#[derive(Default)]
pub(crate) struct Over(AtomicBool);

impl Over {
    pub(crate) fn yet(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Sets it at the end of its scope.
pub(crate) struct AtTheEnd<'a>(pub(crate) &'a Over);

impl Drop for AtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}
