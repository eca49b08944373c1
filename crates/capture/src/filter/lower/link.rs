//! Which protocol a link's payload is.

use super::*;
use crate::LinkType;

pub(super) const ETHERTYPE_IP: u32 = 0x0800;
pub(super) const ETHERTYPE_ARP: u32 = 0x0806;
pub(super) const ETHERTYPE_RARP: u32 = 0x8035;
pub(super) const ETHERTYPE_IP6: u32 = 0x86dd;
pub(super) const ETHERTYPE_MOPDL: u32 = 0x6001;
pub(super) const ETHERTYPE_MOPRC: u32 = 0x6002;
pub(super) const ETHERTYPE_DECNET: u32 = 0x6003;
pub(super) const ETHERTYPE_LAT: u32 = 0x6004;
pub(super) const ETHERTYPE_SCA: u32 = 0x6007;
pub(super) const ETHERTYPE_BRIDGED: u32 = 0x6558;
pub(super) const ETHERTYPE_ATALK: u32 = 0x809b;
pub(super) const ETHERTYPE_AARP: u32 = 0x80f3;
pub(super) const ETHERTYPE_IPX: u32 = 0x8137;
pub(super) const ETHERTYPE_MPLS: u32 = 0x8847;
pub(super) const ETHERTYPE_PPPOE_DISCOVERY: u32 = 0x8863;
pub(super) const ETHERTYPE_PPPOE_SESSION: u32 = 0x8864;
pub(super) const ETHERTYPE_LOOPBACK: u32 = 0x9000;
/// 802.1Q, 802.1ad, and what was used for the outer tag before that.
pub(super) const ETHERTYPES_VLAN: [u32; 3] = [0x8100, 0x88a8, 0x9100];

/// Access points of 802.2; as protocols they are told from Ethernet's types by being smaller.
pub(super) const SAP_IP: u32 = 0x06;
pub(super) const SAP_STP: u32 = 0x42;
pub(super) const SAP_IPX: u32 = 0xe0;
pub(super) const SAP_NETBEUI: u32 = 0xf0;
pub(super) const SAP_ISO: u32 = 0xfe;

/// The largest value of Ethernet's type field that is a length.
const LONGEST: u32 = 1500;

pub(super) const PPP_MPLS: u32 = 0x0281;

impl Lowering<'_> {
    /// Whether the link's payload is of this protocol: a type of Ethernet's, or an access point of 802.2.
    pub(super) fn link_type(&mut self, protocol: u32) -> Result<Fragment, Error> {
        if self.layout.labels > 0 {
            return self.labelled_type(protocol);
        }
        Ok(match self.layout.link {
            LinkType::ETHERNET => self.ethernet_type(protocol),
            LinkType::LINUX_SLL => self.cooked_type(protocol),
            LinkType::RAW => match protocol {
                ETHERTYPE_IP => self.masked(Base::LinkHeader, 0, bpf::B, 0x40, 0xf0),
                ETHERTYPE_IP6 => self.masked(Base::LinkHeader, 0, bpf::B, 0x60, 0xf0),
                _ => self.graph.always(false),
            },
            LinkType::IPV4 => self.graph.always(protocol == ETHERTYPE_IP),
            LinkType::IPV6 => self.graph.always(protocol == ETHERTYPE_IP6),
            LinkType::PPP => self.equals(Base::LinkType, 0, bpf::H, ppp_type(protocol)),
            LinkType::NULL | LinkType::LOOP => self.loopback_type(protocol),
            // LINUX_SLL2 has Ethernet's types; its frames with 802.2 headers are not looked into.
            _ => self.equals(Base::LinkType, 0, bpf::H, protocol),
        })
    }

    fn ethernet_type(&mut self, protocol: u32) -> Fragment {
        match protocol {
            SAP_ISO | SAP_IP | SAP_NETBEUI => {
                let framed = self.is_802_3();
                let both = self.equals(Base::LinkPayload, 0, bpf::H, protocol << 8 | protocol);
                self.graph.and(framed, both)
            }
            // Four encapsulations: an own type, 802.2, raw 802.3 and SNAP.
            SAP_IPX => {
                let typed = self.equals(Base::LinkType, 0, bpf::H, ETHERTYPE_IPX);
                let framed = self.is_802_3();
                let snap = self.snap(0, ETHERTYPE_IPX);
                let llc = self.equals(Base::LinkPayload, 0, bpf::B, SAP_IPX);
                let raw = self.equals(Base::LinkPayload, 0, bpf::H, 0xffff);
                let inner = self.any([snap, llc, raw]);
                let framed = self.graph.and(framed, inner);
                self.graph.or(typed, framed)
            }
            ETHERTYPE_ATALK | ETHERTYPE_AARP => {
                let typed = self.equals(Base::LinkType, 0, bpf::H, protocol);
                let framed = self.is_802_3();
                let snap = self.apple_snap(protocol);
                let framed = self.graph.and(framed, snap);
                self.graph.or(typed, framed)
            }
            0..=LONGEST => {
                let framed = self.is_802_3();
                let sap = self.equals(Base::LinkType, 2, bpf::B, protocol);
                self.graph.and(framed, sap)
            }
            _ => self.equals(Base::LinkType, 0, bpf::H, protocol),
        }
    }

    /// Whether the type field is a length, so that an 802.2 header follows.
    pub(super) fn is_802_3(&mut self) -> Fragment {
        self.compare(Base::LinkType, 0, bpf::H, Compare::Greater, LONGEST).not()
    }

    fn cooked_type(&mut self, protocol: u32) -> Fragment {
        // `LINUX_SLL_P_802_3` and `LINUX_SLL_P_802_2`
        const RAW_802_3: u32 = 1;
        const WITH_802_2: u32 = 4;
        match protocol {
            SAP_ISO | SAP_IP | SAP_NETBEUI => {
                let framed = self.equals(Base::LinkType, 0, bpf::H, WITH_802_2);
                let both = self.equals(Base::LinkPayload, 0, bpf::H, protocol << 8 | protocol);
                self.graph.and(framed, both)
            }
            SAP_IPX => {
                let typed = self.equals(Base::LinkType, 0, bpf::H, ETHERTYPE_IPX);
                let raw = self.equals(Base::LinkType, 0, bpf::H, RAW_802_3);
                let framed = self.equals(Base::LinkType, 0, bpf::H, WITH_802_2);
                let llc = self.equals(Base::LinkPayload, 0, bpf::B, SAP_IPX);
                let snap = self.snap(0, ETHERTYPE_IPX);
                let inner = self.graph.or(llc, snap);
                let framed = self.graph.and(framed, inner);
                self.any([typed, raw, framed])
            }
            ETHERTYPE_ATALK | ETHERTYPE_AARP => {
                let typed = self.equals(Base::LinkType, 0, bpf::H, protocol);
                let framed = self.equals(Base::LinkType, 0, bpf::H, WITH_802_2);
                let snap = self.apple_snap(protocol);
                let framed = self.graph.and(framed, snap);
                self.graph.or(typed, framed)
            }
            0..=LONGEST => {
                let framed = self.equals(Base::LinkType, 0, bpf::H, WITH_802_2);
                let sap = self.equals(Base::LinkHeader, self.layout.payload.constant, bpf::B, protocol);
                self.graph.and(framed, sap)
            }
            _ => self.equals(Base::LinkType, 0, bpf::H, protocol),
        }
    }

    /// Whether the address family of a loopback header is this protocol's. Families other than IPv4's have a number on
    /// each system; a file may come from any of them.
    fn loopback_type(&mut self, protocol: u32) -> Fragment {
        const LINUX: u32 = 10;
        const NETBSD: u32 = 24;
        const FREEBSD: u32 = 28;
        const DARWIN: u32 = 30;
        let families: &[u32] = match protocol {
            ETHERTYPE_IP => &[2],
            ETHERTYPE_IP6 if self.is_file() => &[NETBSD, FREEBSD, DARWIN],
            ETHERTYPE_IP6 => &[LINUX],
            _ => &[],
        };
        let host_order = self.layout.link == LinkType::NULL;
        let fragments: Vec<Fragment> = families
            .iter()
            .map(|family| {
                let mut value = *family;
                if host_order {
                    value = if self.options.swapped { value } else { value.swap_bytes() };
                    if cfg!(target_endian = "big") {
                        value = value.swap_bytes();
                    }
                }
                self.equals(Base::LinkHeader, 0, bpf::W, value)
            })
            .collect();
        self.any(fragments)
    }

    /// Whether IP comes right after the labels.
    fn labelled_type(&mut self, protocol: u32) -> Result<Fragment, Error> {
        let version = match protocol {
            ETHERTYPE_IP => 0x40,
            ETHERTYPE_IP6 => 0x60,
            _ => return Err(self.error("behind MPLS labels only IPv4 and IPv6 can be told")),
        };
        let bottom = self.masked(Base::Network, 2u32.wrapping_neg(), bpf::B, 0x01, 0x01);
        let version = self.masked(Base::Network, 0, bpf::B, version, 0xf0);
        Ok(self.graph.and(bottom, version))
    }

    /// Whether 802.2 and SNAP headers name this protocol of this organisation.
    fn snap(&mut self, organisation: u32, protocol: u32) -> Fragment {
        let [_, o0, o1, o2] = organisation.to_be_bytes();
        let [_, _, p0, p1] = protocol.to_be_bytes();
        self.bytes(Base::LinkPayload, 0, &[0xaa, 0xaa, 0x03, o0, o1, o2, p0, p1])
    }

    fn apple_snap(&mut self, protocol: u32) -> Fragment {
        let organisation = if protocol == ETHERTYPE_ATALK { 0x08_0007 } else { 0 };
        self.snap(organisation, protocol)
    }
}

/// PPP's number of a protocol; that of one that PPP does not have is its own.
fn ppp_type(protocol: u32) -> u32 {
    match protocol {
        ETHERTYPE_IP => 0x21,
        ETHERTYPE_IP6 => 0x57,
        ETHERTYPE_DECNET => 0x27,
        ETHERTYPE_ATALK => 0x29,
        // Xerox NS
        0x0600 => 0x25,
        SAP_ISO => 0x23,
        SAP_STP => 0x31,
        SAP_IPX => 0x2b,
        _ => protocol,
    }
}
