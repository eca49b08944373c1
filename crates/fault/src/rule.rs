//! The words of gates' rules, which are those of [`snorkel_bpf::gate`].

pub use snorkel_bpf::gate::{Direction, Network, Ports, Protocol, Rule, Verdict, WireNumber};

/// A protocol as it is typed.
pub fn protocol(text: &str) -> Result<Protocol, String> {
    match text {
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        "icmp" => Ok(Protocol::Icmp),
        other => Err(format!("'{other}' is none of tcp, udp, icmp")),
    }
}
