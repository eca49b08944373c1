//! What a gate is told: rules over packets, in the words of the target.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The direction of a packet, seen from the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// What the target sends.
    Out,
    /// What the target receives.
    In,
}

impl Direction {
    /// Both.
    pub const ALL: [Direction; 2] = [Direction::Out, Direction::In];

    /// The index in the programs' arrays (`OUT` and `IN` of c/fault.h).
    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Direction::Out => "out",
            Direction::In => "in",
        })
    }
}

/// What a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP over IPv4, ICMPv6 over IPv6, neighbour discovery with it.
    Icmp,
}

/// A network of addresses; one of a single address has all its bits in the prefix. Bits behind the prefix do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network {
    /// An address of it; never IPv4 mapped into IPv6.
    pub address: IpAddr,
    /// How many leading bits its addresses have in common.
    pub prefix: u8,
}

/// What is wrong with the text of a network.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is not a network: {why}")]
pub struct BadNetwork {
    text: String,
    why: &'static str,
}

impl Network {
    /// How many bits an address of this family has.
    pub fn bits(address: IpAddr) -> u8 {
        match address {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        }
    }

    /// Whether an address belongs to it.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let differ = own.to_bits() ^ other.to_bits();
                differ.checked_shr(u32::from(32 - self.prefix.min(32))).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let differ = own.to_bits() ^ other.to_bits();
                differ.checked_shr(u32::from(128 - self.prefix.min(128))).unwrap_or(0) == 0
            }
            _ => false,
        }
    }

    /// The same network, with zeroes behind its prefix.
    pub(crate) fn masked(self) -> Network {
        let address = match self.address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(u32::from(32 - self.prefix.min(32))).unwrap_or(0);
                Ipv4Addr::from_bits(address.to_bits() & mask).into()
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(u32::from(128 - self.prefix.min(128))).unwrap_or(0);
                Ipv6Addr::from_bits(address.to_bits() & mask).into()
            }
        };
        Network { address, ..self }
    }
}

impl From<IpAddr> for Network {
    /// The network of this address alone.
    fn from(address: IpAddr) -> Network {
        let address = address.to_canonical();
        Network { address, prefix: Network::bits(address) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.address, self.prefix))
    }
}

impl FromStr for Network {
    type Err = BadNetwork;

    /// `ADDRESS` or `ADDRESS/PREFIX` (RFC 4632, RFC 4291). An IPv4-mapped address is the IPv4 address.
    fn from_str(text: &str) -> Result<Network, BadNetwork> {
        let bad = |why| BadNetwork { text: text.to_owned(), why };
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let given: IpAddr = address.parse().map_err(|_| bad("it does not begin with an address"))?;
        let address = given.to_canonical();
        let most = Network::bits(address);
        let Some(prefix) = prefix else {
            return Ok(Network { address, prefix: most });
        };
        // The mapped form has its own 96 bits before those of the IPv4 address.
        let before = Network::bits(given) - most;
        let digits = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
        let prefix = digits.then(|| prefix.parse::<u8>().ok()).flatten();
        match prefix.and_then(|prefix| prefix.checked_sub(before)) {
            Some(prefix) if prefix <= most => Ok(Network { address, prefix }),
            _ => Err(bad("the prefix is not a number of bits that its addresses have")),
        }
    }
}

/// Ports of TCP and UDP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ports {
    /// The port at the peer's end.
    pub peer: Option<u16>,
    /// The port at the target's end.
    pub own: Option<u16>,
}

/// The number of a wire: its place in the list that [`Gate::load`](super::Gate::load) is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WireNumber(pub u8);

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// It goes on as if the gate were not there.
    Pass,
    /// It is gone.
    Drop,
    /// It goes into a wire.
    Wire(WireNumber),
}

/// One rule: the first that a packet matches decides. All that is asked for must hold; a rule that asks for nothing
/// matches every frame, also ARP. One that asks for something matches IP only.
///
/// Later fragments of an IP datagram go the way of the first one. Where that was not seen, their ports are unknown, and
/// no rule that asks for ports or openings matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Which way the packet goes.
    pub direction: Direction,
    /// Where it comes from or goes to: any of these, anywhere if empty.
    pub peers: Vec<Network>,
    /// What it carries.
    pub protocol: Option<Protocol>,
    /// Its ports; asking for one makes the rule one of TCP and UDP.
    pub ports: Ports,
    /// Only TCP segments that open a connection: SYN without ACK.
    pub opening: bool,
    /// What becomes of it.
    pub verdict: Verdict,
}

impl Rule {
    /// A rule that matches every frame of a direction.
    pub fn all(direction: Direction, verdict: Verdict) -> Rule {
        Rule {
            direction,
            peers: Vec::new(),
            protocol: None,
            ports: Ports::default(),
            opening: false,
            verdict,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_network_is_read_as_it_is_written() {
        for text in ["10.0.0.0/8", "0.0.0.0/0", "10.1.2.3/32", "fd00::/8", "::/0", "fd00::1/128"] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
        }
        assert_eq!("10.0.0.1".parse::<Network>().unwrap().prefix, 32);
        assert_eq!("::ffff:10.0.0.0/104".parse::<Network>().unwrap().to_string(), "10.0.0.0/8");
        for wrong in
            ["", "/8", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "fd00::/129", "::ffff:10.0.0.0/8", "a/8"]
        {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_network_contains_what_shares_its_prefix() {
        let within = |network: &str, address: &str| {
            network.parse::<Network>().unwrap().contains(address.parse().unwrap())
        };
        assert!(within("10.1.2.3/8", "10.255.0.1"));
        assert!(!within("10.0.0.0/8", "11.0.0.0"));
        assert!(within("0.0.0.0/0", "255.255.255.255") && within("::/0", "ffff::"));
        assert!(!within("0.0.0.0/0", "::1"), "the families are apart");
        assert!(within("fd00::/127", "fd00::1") && !within("fd00::/127", "fd00::2"));
    }

    proptest! {
        #[test]
        fn every_network_comes_back(address: IpAddr, prefix in 0u8..=128) {
            let address = address.to_canonical();
            let network = Network { address, prefix: prefix.min(Network::bits(address)) };
            prop_assert_eq!(network.to_string().parse::<Network>(), Ok(network));
        }
    }
}
