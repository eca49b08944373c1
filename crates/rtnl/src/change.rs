//! Changes to the socket's own namespace, each acknowledged by the kernel (rtnetlink(7)).
//!
//! Which namespace that is, is the caller's care: nothing here looks whether it is the host's.

use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

use snorkel_netns::Netns;

use crate::name::{NAME_MAX, unescape};
use crate::parse::IFLA_MACVLAN_MODE;
use crate::wire::Request;
use crate::{Error, Family, IfIndex, Mac, MacvlanMode, Result, Socket};

pub(crate) const CHANGE: u16 = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
pub(crate) const CREATE: u16 = CHANGE | (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
/// `VETH_INFO_PEER` of linux/veth.h.
const VETH_INFO_PEER: u16 = 1;
/// `IFLA_INET6_ADDR_GEN_MODE` and `IN6_ADDR_GEN_MODE_NONE` of linux/if_link.h.
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
/// `IFLA_VXLAN_ID` of linux/if_link.h.
const IFLA_VXLAN_ID: u16 = 1;

impl Socket {
    /// Makes a veth pair: `name` here, its peer in `peer_ns`, here too if `None`. Gives the index of `name`.
    pub fn add_veth(&mut self, name: &str, peer_name: &str, peer_ns: Option<&Netns>) -> Result<IfIndex> {
        let what = format!("create the veth pair {name}/{peer_name}");
        let peer_bytes = link_name(&what, peer_name)?;
        self.add_link(
            &what,
            name,
            "veth",
            |_| (),
            |data| {
                data.nest(VETH_INFO_PEER, |peer| {
                    peer.raw(&ifinfomsg(None, 0, 0)).put_text(libc::IFLA_IFNAME, &peer_bytes);
                    if let Some(netns) = peer_ns {
                        peer.put_i32(libc::IFLA_NET_NS_FD, netns.as_fd().as_raw_fd());
                    }
                });
            },
        )
    }

    /// Makes a bridge, and gives its index.
    pub fn add_bridge(&mut self, name: &str) -> Result<IfIndex> {
        self.add_link(&format!("create the bridge {name}"), name, "bridge", |_| (), |_| ())
    }

    /// Makes an ifb, which takes in what is redirected to it, and gives its index.
    ///
    /// If that loads the kernel's module, the module makes links of its own in the host's namespace (`numifbs` of the
    /// kernel's drivers/net/ifb.c).
    pub fn add_ifb(&mut self, name: &str) -> Result<IfIndex> {
        self.add_link(&format!("create the ifb {name}"), name, "ifb", |_| (), |_| ())
    }

    /// Makes a vxlan with this network identifier, of 24 bits, and gives its index.
    pub fn add_vxlan(&mut self, name: &str, vni: u32) -> Result<IfIndex> {
        self.add_link(
            &format!("create the vxlan {name}"),
            name,
            "vxlan",
            |_| (),
            |data| {
                data.put_u32(IFLA_VXLAN_ID, vni);
            },
        )
    }

    /// Makes an ipvlan on top of `parent`, and gives its index. A link cannot be under an ipvlan and a macvlan.
    pub fn add_ipvlan(&mut self, name: &str, parent: IfIndex) -> Result<IfIndex> {
        self.add_link(
            &format!("create the ipvlan {name} on link {parent}"),
            name,
            "ipvlan",
            |link| {
                link.put_u32(libc::IFLA_LINK, parent.get());
            },
            |_| (),
        )
    }

    /// Makes a macvlan on top of `parent`, and gives its index. [`Socket::move_to`] puts it where it is wanted.
    pub fn add_macvlan(&mut self, name: &str, parent: IfIndex, mode: MacvlanMode) -> Result<IfIndex> {
        let what = format!("create the macvlan {name} on link {parent}");
        self.add_link(
            &what,
            name,
            "macvlan",
            |link| {
                link.put_u32(libc::IFLA_LINK, parent.get());
            },
            |data| {
                data.put_u32(IFLA_MACVLAN_MODE, mode.raw());
            },
        )
    }

    fn add_link(
        &mut self,
        what: &str,
        name: &str,
        kind: &str,
        link: impl FnOnce(&mut Request),
        data: impl FnOnce(&mut Request),
    ) -> Result<IfIndex> {
        let mut request = Request::new(libc::RTM_NEWLINK, CREATE);
        request.raw(&ifinfomsg(None, 0, 0)).put_text(libc::IFLA_IFNAME, &link_name(what, name)?);
        link(&mut request);
        request.nest(libc::IFLA_LINKINFO, |info| {
            info.put_text(libc::IFLA_INFO_KIND, kind.as_bytes()).nest(libc::IFLA_INFO_DATA, data);
        });
        self.netlink.change(what, &request)?;
        let gone = || Error::os(what, std::io::Error::from_raw_os_error(libc::ENODEV));
        self.index_of(name)?.ok_or_else(gone)
    }

    /// Sets a link up.
    pub fn set_up(&mut self, link: IfIndex) -> Result<()> {
        self.set_flags(&format!("set link {link} up"), link, libc::IFF_UP as u32)
    }

    /// Sets a link down. Its routes and IPv6 addresses go with that.
    pub fn set_down(&mut self, link: IfIndex) -> Result<()> {
        self.set_flags(&format!("set link {link} down"), link, 0)
    }

    /// Has a link never ask for hardware addresses (`IFF_NOARP`).
    pub fn set_no_arp(&mut self, link: IfIndex) -> Result<()> {
        let mut request = Request::new(libc::RTM_SETLINK, CHANGE);
        request.raw(&ifinfomsg(Some(link), libc::IFF_NOARP as u32, libc::IFF_NOARP as u32));
        self.netlink.change(&format!("turn ARP of link {link} off"), &request)
    }

    /// Has a link give itself no IPv6 address when it comes up. [`Error::is_unsupported`] where there is no IPv6.
    pub fn set_no_own_address(&mut self, link: IfIndex) -> Result<()> {
        self.set_attribute(&format!("keep link {link} from giving itself an address"), link, |request| {
            request.nest(libc::IFLA_AF_SPEC, |families| {
                families.nest(libc::AF_INET6 as u16, |inet6| {
                    inet6.put(IFLA_INET6_ADDR_GEN_MODE, &[IN6_ADDR_GEN_MODE_NONE]);
                });
            });
        })
    }

    fn set_flags(&mut self, what: &str, link: IfIndex, flags: u32) -> Result<()> {
        let mut request = Request::new(libc::RTM_SETLINK, CHANGE);
        request.raw(&ifinfomsg(Some(link), flags, libc::IFF_UP as u32));
        self.netlink.change(what, &request)
    }

    /// Makes a link a port of `master`, a bridge; takes it out if `None`.
    pub fn set_master(&mut self, link: IfIndex, master: Option<IfIndex>) -> Result<()> {
        let what = match master {
            Some(master) => format!("put link {link} into bridge {master}"),
            None => format!("take link {link} out of its bridge"),
        };
        self.set_attribute(&what, link, |request| {
            request.put_u32(libc::IFLA_MASTER, master.map_or(0, IfIndex::get));
        })
    }

    /// Moves a link into another namespace. It may have another index there, and is down.
    pub fn move_to(&mut self, link: IfIndex, netns: &Netns) -> Result<()> {
        let what = format!("move link {link} to the network namespace net:[{}]", netns.inode());
        self.set_attribute(&what, link, |request| {
            request.put_i32(libc::IFLA_NET_NS_FD, netns.as_fd().as_raw_fd());
        })
    }

    /// Gives a link another name. It must be down on kernels before 6.2.
    pub fn rename(&mut self, link: IfIndex, name: &str) -> Result<()> {
        let what = format!("rename link {link} to {name}");
        let bytes = link_name(&what, name)?;
        self.set_attribute(&what, link, |request| {
            request.put_text(libc::IFLA_IFNAME, &bytes);
        })
    }

    /// Gives a link another hardware address.
    pub fn set_mac(&mut self, link: IfIndex, mac: &Mac) -> Result<()> {
        self.set_attribute(&format!("give link {link} the hardware address {mac}"), link, |request| {
            request.put(libc::IFLA_ADDRESS, mac.as_bytes());
        })
    }

    /// Sets the largest packet of a link, in bytes.
    pub fn set_mtu(&mut self, link: IfIndex, mtu: u32) -> Result<()> {
        self.set_attribute(&format!("set the MTU of link {link} to {mtu}"), link, |request| {
            request.put_u32(libc::IFLA_MTU, mtu);
        })
    }

    fn set_attribute(&mut self, what: &str, link: IfIndex, put: impl FnOnce(&mut Request)) -> Result<()> {
        let mut request = Request::new(libc::RTM_SETLINK, CHANGE);
        request.raw(&ifinfomsg(Some(link), 0, 0));
        put(&mut request);
        self.netlink.change(what, &request)
    }

    /// Gives a link an address, in a network of `prefix` bits.
    ///
    /// An IPv6 address can be used at once: that no other host has it is not found out first.
    pub fn add_address(&mut self, link: IfIndex, address: IpAddr, prefix: u8) -> Result<()> {
        let what = format!("give link {link} the address {address}/{prefix}");
        let family = Family::of(address);
        let flags = match family {
            Family::Inet => 0,
            // Below 256: it fits the byte of the header.
            Family::Inet6 => libc::IFA_F_NODAD as u8,
        };
        let mut request = Request::new(libc::RTM_NEWADDR, CREATE);
        request
            .raw(&[family.raw(), prefix, flags, libc::RT_SCOPE_UNIVERSE])
            .raw(&link.get().to_ne_bytes())
            .put_ip(libc::IFA_LOCAL, address)
            .put_ip(libc::IFA_ADDRESS, address);
        self.netlink.change(&what, &request)
    }

    /// Adds a route to the main table: to `dst`, everywhere if `None`, by way of the router `via`.
    pub fn add_route(&mut self, dst: Option<(IpAddr, u8)>, via: IpAddr) -> Result<()> {
        let what = match dst {
            Some((address, length)) => format!("add the route to {address}/{length} via {via}"),
            None => format!("add the default route via {via}"),
        };
        let family = Family::of(via);
        if dst.is_some_and(|(address, _)| Family::of(address) != family) {
            return Err(Error::Invalid { what, why: "the router is of another family than the destination" });
        }
        let length = dst.map_or(0, |(_, length)| length);
        let mut request = Request::new(libc::RTM_NEWROUTE, CREATE);
        request.raw(&[family.raw(), length, 0, 0]).raw(&[
            libc::RT_TABLE_MAIN,
            libc::RTPROT_STATIC,
            libc::RT_SCOPE_UNIVERSE,
            libc::RTN_UNICAST,
        ]);
        request.raw(&[0; 4]);
        if let Some((address, _)) = dst {
            request.put_ip(libc::RTA_DST, address);
        }
        request.put_ip(libc::RTA_GATEWAY, via);
        self.netlink.change(&what, &request)
    }

    /// Removes a link; of a veth pair, both ends.
    pub fn remove(&mut self, link: IfIndex) -> Result<()> {
        let mut request = Request::new(libc::RTM_DELLINK, CHANGE);
        request.raw(&ifinfomsg(Some(link), 0, 0));
        self.netlink.change(&format!("remove link {link}"), &request)
    }
}

/// `struct ifinfomsg`: no family, no type.
fn ifinfomsg(link: Option<IfIndex>, flags: u32, change: u32) -> [u8; 16] {
    let mut fixed = [0; 16];
    fixed[4..8].copy_from_slice(&link.map_or(0, IfIndex::get).to_ne_bytes());
    fixed[8..12].copy_from_slice(&flags.to_ne_bytes());
    fixed[12..].copy_from_slice(&change.to_ne_bytes());
    fixed
}

/// The bytes of a name, unless the kernel would take them for another name. What it refuses itself is left to it.
fn link_name(what: &str, name: &str) -> Result<Vec<u8>> {
    let bytes = unescape(name);
    let why = if bytes.is_empty() {
        "the name of a link must not be empty"
    } else if bytes.len() > NAME_MAX {
        "the name of a link has at most 15 bytes"
    } else if bytes.contains(&0) {
        "the name of a link has no zero byte"
    } else if bytes.contains(&b'%') {
        "the kernel takes a name with a percent sign for a pattern"
    } else {
        return Ok(bytes);
    };
    Err(Error::Invalid { what: what.into(), why })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_kernel_would_read_differently_are_not_sent() {
        for wrong in ["", "sixteen-bytes-xx", r"a\x00b", "veth%d"] {
            let error = link_name("create", wrong).unwrap_err();
            assert!(matches!(error, Error::Invalid { .. }), "{wrong}");
        }
        assert_eq!(link_name("create", r"a\x1bb").unwrap(), b"a\x1bb");
        assert_eq!(link_name("create", "fifteen-bytes-x").unwrap(), b"fifteen-bytes-x");
    }
}
