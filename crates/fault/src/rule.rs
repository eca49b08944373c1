//! The rules of a gate: what is done with which packets, first match first.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A packet's way, as the target sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The target sends it.
    Out,
    /// The target gets it.
    In,
}

/// What a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP and ICMPv6.
    Icmp,
}

/// Addresses that begin alike. Never IPv4 in the form of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network {
    /// Its first address, or any in it.
    pub address: IpAddr,
    /// How many bits are the same for all.
    pub prefix: u8,
}

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Network {
        let address = address.to_canonical();
        Network { address, prefix: if address.is_ipv4() { 32 } else { 128 } }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Network, String> {
        let wrong = || format!("'{text}' is neither an address nor a network");
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse::<u8>().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let whole = Network::from(address.parse::<IpAddr>().map_err(|_| wrong())?);
        match prefix {
            None => Ok(whole),
            Some(prefix) if prefix <= whole.prefix => Ok(Network { prefix, ..whole }),
            Some(prefix) => Err(format!("an address has only {} bits, not {prefix}", whole.prefix)),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.prefix == Network::from(self.address).prefix {
            self.address.fmt(f)
        } else {
            write!(f, "{}/{}", self.address, self.prefix)
        }
    }
}

/// Ports that are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ports {
    /// The other side's.
    pub peer: Option<u16>,
    /// The target's own.
    pub own: Option<u16>,
}

/// The place of a wire among those of its gate.
pub type WireNumber = usize;

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It is spared.
    Pass,
    /// It is dropped.
    Drop,
    /// It goes through this wire.
    Wire(WireNumber),
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Packets that go this way.
    pub direction: Direction,
    /// To or from these; none: whatever there is, also what is not IP if nothing else is asked.
    pub peers: Vec<Network>,
    /// Of this protocol.
    pub protocol: Option<Protocol>,
    /// With these ports.
    pub ports: Ports,
    /// Only those that open a TCP connection: SYN without ACK.
    pub opening: bool,
    /// What becomes of them.
    pub verdict: Verdict,
}
