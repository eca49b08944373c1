//! The programs' side of things: the layouts of c/fault.h, and rules in them.

use aya::Pod;

use super::rule::{Protocol, Rule, Verdict};

pub(super) const MAX_RULES: usize = 16;
pub(super) const MAX_WIRES: usize = 16;
/// How many buckets a histogram of delays has.
pub const HISTOGRAM: usize = 32;
/// The mark of a packet that is made to try a gate on; the number of the rule takes the place of its lower half.
pub(super) const PROBE: u32 = 0x534f_ffff;
pub(super) const MARK_KIND: u32 = 0xffff_0000;

const ASKS_PEERS: u8 = 1;
const ASKS_PROTOCOL: u8 = 2;
const ASKS_PEER_PORT: u8 = 4;
const ASKS_OWN_PORT: u8 = 8;
const ASKS_OPENING: u8 = 16;

/// `struct rule`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RawRule {
    pub(super) asks: u8,
    verdict: u8,
    wire: u8,
    protocol: u8,
    peer_port: u16,
    own_port: u16,
    set: u32,
}

/// `struct wire`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RawWire {
    pub(super) public: u32,
    pub(super) private: u32,
    pub(super) direction: u32,
    pub(super) kernel_queue: u32,
}

/// `struct state`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RawState {
    pub(super) link: u32,
    pub(super) armed: u32,
    pub(super) rank: [u32; 2],
    pub(super) back: [u32; 2],
}

/// `struct count`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RawCount {
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

/// `struct wire_count`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RawWireCount {
    pub(super) entered: u64,
    pub(super) returned: u64,
    pub(super) stamped: u64,
    pub(super) samples: u64,
    pub(super) sum: u64,
    pub(super) squares: u64,
    pub(super) min: u64,
    pub(super) max: u64,
    pub(super) histogram: [u64; HISTOGRAM],
}

// SAFETY: the layouts are those of the C structures, without padding, and any bytes are a value of them.
unsafe impl Pod for RawRule {}
// SAFETY: as above.
unsafe impl Pod for RawWire {}
// SAFETY: as above.
unsafe impl Pod for RawState {}
// SAFETY: as above.
unsafe impl Pod for RawCount {}
// SAFETY: as above.
unsafe impl Pod for RawWireCount {}

impl RawRule {
    /// A rule whose peers are in this set.
    pub(super) fn new(rule: &Rule, set: u32) -> RawRule {
        let mut raw = RawRule { set, ..RawRule::default() };
        if !rule.peers.is_empty() {
            raw.asks |= ASKS_PEERS;
        }
        if let Some(protocol) = rule.protocol {
            raw.asks |= ASKS_PROTOCOL;
            raw.protocol = number(protocol);
        }
        if let Some(port) = rule.ports.peer {
            raw.asks |= ASKS_PEER_PORT;
            raw.peer_port = port;
        }
        if let Some(port) = rule.ports.own {
            raw.asks |= ASKS_OWN_PORT;
            raw.own_port = port;
        }
        if rule.opening {
            raw.asks |= ASKS_OPENING;
        }
        (raw.verdict, raw.wire) = match rule.verdict {
            Verdict::Pass => (0, 0),
            Verdict::Drop => (1, 0),
            Verdict::Wire(wire) => (2, wire.0),
        };
        raw
    }
}

/// The number that IANA gave a protocol; ICMP's for both kinds.
fn number(protocol: Protocol) -> u8 {
    let number = match protocol {
        Protocol::Tcp => libc::IPPROTO_TCP,
        Protocol::Udp => libc::IPPROTO_UDP,
        Protocol::Icmp => libc::IPPROTO_ICMP,
    };
    // All are below 256: the field of a header is one byte.
    number as u8
}
