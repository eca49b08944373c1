//! From a packet's bytes to the line that says what it is.
//!
//! [`Layers`] walks over a packet's headers and gives each as a value; [`Printer`] writes them as a line of text,
//! [`Summary`] holds them for JSON. None of them keeps anything of one packet for the next, so that parts of a file can
//! be shown on several threads; the one thing that depends on earlier packets, relative sequence numbers, is asked of
//! [`Sequences`] beforehand.
//!
//! Packets are written by strangers: everything is read through one cursor that knows its bounds, and no byte of a
//! packet reaches a line unless it is printable.

mod arp;
mod bytes;
mod clock;
mod dns;
mod ether;
mod hex;
mod http;
mod icmp;
mod icmp6;
mod igmp;
mod ip;
mod layers;
mod line;
mod link;
mod printer;
mod sctp;
mod sequence;
mod summary;
mod tcp;
mod text;
mod tls;
mod tunnel;
mod udp;

pub use arp::Arp;
pub use clock::{Clock, TimeFormat, Zone};
pub use dns::{Dns, Name, Question, Record};
pub use ether::{Control, Ethernet, Llc, MacAddress};
pub use hex::Hex;
pub use http::Http;
pub use icmp::{Icmp, Quoted};
pub use icmp6::{Hardware, Icmp6};
pub use igmp::Igmp;
pub use ip::{Esp, Extension, Fragment, Ipv4, Ipv6};
pub use layers::{Layer, Layers, NumberOf};
pub use link::{Cooked, Mpls, Ppp, Pppoe, Vlan};
pub use printer::{Printer, Style};
pub use sctp::{Chunk, Chunks, Sctp};
pub use sequence::{Base, Sequences};
pub use summary::{ArpHeader, Frame, IpHeader, Summary};
pub use tcp::{Tcp, TcpFlags, TcpOption, TcpOptions};
pub use tls::Tls;
pub use tunnel::Tunnel;
pub use udp::Udp;

/// Text of unknown origin as it may be shown on a terminal: printable ASCII as it is, a backslash doubled, every other
/// byte as `\xNN`.
pub fn escaped(text: &str) -> Box<str> {
    text::string(|out| text::escaped(out, text.as_bytes())).into()
}
