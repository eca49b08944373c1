//! What a link is to a packet socket: its kind, and from which byte its packets are to be read.
//!
//! The kinds are the `ARPHRD_` numbers of linux/if_arp.h. Which of them carry a header that is worth having is libpcap's
//! experience (`map_arphrd_to_dlt` of its pcap-linux.c): where it trusts the link's own header so does this; everything
//! else is read "cooked", without it, and gets a `LINUX_SLL2` header in its place.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use snorkel_rtnl::IfIndex;

use super::{Error, Result};
use crate::LinkType;

/// `ARPHRD_RAWIP` of linux/if_arp.h.
const ARPHRD_RAWIP: u16 = 519;

/// Which link of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link<'a> {
    /// By its name.
    Name(&'a str),
    /// By its index.
    Index(IfIndex),
}

impl fmt::Display for Link<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Link::Name(name) => name.fmt(f),
            Link::Index(index) => write!(f, "number {index}"),
        }
    }
}

/// From where on packets of a link are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// With their Ethernet header; a VLAN tag belongs behind the addresses.
    Ethernet,
    /// They begin with the network header.
    Raw,
    /// The link's header is left out, a `LINUX_SLL2` one is made.
    Cooked,
}

impl Framing {
    /// The framing for a kind of link.
    pub(super) fn of(kind: u16) -> Framing {
        match kind {
            libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK => Framing::Ethernet,
            libc::ARPHRD_NONE
            | ARPHRD_RAWIP
            | libc::ARPHRD_TUNNEL
            | libc::ARPHRD_SIT
            | libc::ARPHRD_SLIP
            | libc::ARPHRD_CSLIP
            | libc::ARPHRD_SLIP6
            | libc::ARPHRD_CSLIP6
            | libc::ARPHRD_ADAPT
            | libc::ARPHRD_RAWHDLC => Framing::Raw,
            _ => Framing::Cooked,
        }
    }

    /// What a file calls packets of this framing.
    pub(super) fn link_type(self) -> LinkType {
        match self {
            Framing::Ethernet => LinkType::ETHERNET,
            Framing::Raw => LinkType::RAW,
            Framing::Cooked => LinkType::LINUX_SLL2,
        }
    }
}

/// What the kernel says of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) index: IfIndex,
    pub(super) name: String,
    /// Its `ARPHRD_` number.
    pub(super) kind: u16,
    pub(super) mac: Option<[u8; 6]>,
}

impl Facts {
    /// Whether each packet that it sends it also receives.
    pub(super) fn is_loopback(&self) -> bool {
        self.kind == libc::ARPHRD_LOOPBACK
    }
}

/// Asks the kernel for a link of the socket's namespace (netdevice(7)).
pub(super) fn facts(socket: BorrowedFd<'_>, link: Link<'_>) -> Result<Facts> {
    let no_link = || Error::NoLink { link: link.to_string() };
    let mut request = empty_request();
    let index = match link {
        Link::Index(index) => index,
        Link::Name(name) => {
            set_name(&mut request, name).ok_or_else(no_link)?;
            ask(socket, libc::SIOCGIFINDEX, &mut request, link)?;
            // SAFETY: SIOCGIFINDEX has filled in this member of the union.
            let index = unsafe { request.ifr_ifru.ifru_ifindex };
            u32::try_from(index).ok().and_then(IfIndex::new).ok_or_else(no_link)?
        }
    };
    request = empty_request();
    // The index fits the kernel's int: that is what an IfIndex is.
    request.ifr_ifru.ifru_ifindex = index.get() as libc::c_int;
    ask(socket, libc::SIOCGIFNAME, &mut request, link)?;
    let name: Vec<u8> = request.ifr_name.iter().map(|&c| c as u8).take_while(|&c| c != 0).collect();
    let name = String::from_utf8_lossy(&name).into_owned();
    // The name is still in the request.
    ask(socket, libc::SIOCGIFHWADDR, &mut request, link)?;
    // SAFETY: SIOCGIFHWADDR has filled in this member of the union.
    let address = unsafe { request.ifr_ifru.ifru_hwaddr };
    let kind = address.sa_family;
    let mut mac = [0; 6];
    for (to, from) in mac.iter_mut().zip(address.sa_data) {
        *to = from as u8;
    }
    let mac = (kind == libc::ARPHRD_ETHER).then_some(mac);
    Ok(Facts { index, name, kind, mac })
}

fn empty_request() -> libc::ifreq {
    // SAFETY: a request is plain numbers; zeroes are an empty name and no value.
    unsafe { std::mem::zeroed() }
}

/// `None` if no link can have that name.
fn set_name(request: &mut libc::ifreq, name: &str) -> Option<()> {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes.len() >= request.ifr_name.len() || bytes.contains(&0) {
        return None;
    }
    for (to, from) in request.ifr_name.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    Some(())
}

fn ask(socket: BorrowedFd<'_>, what: libc::Ioctl, request: &mut libc::ifreq, link: Link<'_>) -> Result<()> {
    // SAFETY: these requests read and write one ifreq; the socket is open.
    if unsafe { libc::ioctl(socket.as_raw_fd(), what, request) } == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENODEV | libc::ENXIO) => Err(Error::NoLink { link: link.to_string() }),
        _ => Err(Error::os(format!("ask for the link {link}"), error)),
    }
}
