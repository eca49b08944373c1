//! A link, as RTM_GETLINK tells of it (rtnetlink(7), linux/if_link.h).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{IfIndex, Mac, NsId};

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Its number in its namespace.
    pub index: IfIndex,
    /// Its name. Bytes that a terminal might obey, and backslashes, are written `\xNN`, so no two links read alike.
    pub name: String,
    /// Its other names, written likewise.
    pub alt_names: Vec<String>,
    /// What it is: "veth", "bridge", "macvlan"; `None` for hardware and the loopback.
    pub kind: Option<String>,
    /// How it stands.
    pub flags: LinkFlags,
    /// How it stands by RFC 2863.
    pub operstate: OperState,
    /// The largest packet, in bytes, without the link's own header.
    pub mtu: u32,
    /// Its hardware address, if its kind has any.
    pub mac: Option<Mac>,
    /// The bridge (or bond, or VRF) that it is a port of, in the same namespace.
    pub master: Option<IfIndex>,
    /// What it is attached to: a veth's peer, a macvlan's parent. In the namespace `link_nsid`.
    pub link: Option<IfIndex>,
    /// The namespace of `link`, if it is not this link's own.
    ///
    /// The number is the asking socket's for it, also when the dump was of another namespace. A veth in a container
    /// whose peer is in the asking socket's own namespace therefore carries *that* namespace's number for itself,
    /// which `Socket::nsid` tells as for any other. An id that is not assigned (below zero): another namespace, and
    /// the kernel does not say which.
    pub link_nsid: Option<NsId>,
    /// How a macvlan's traffic reaches its siblings.
    pub macvlan_mode: Option<MacvlanMode>,
}

/// The flags of a link that matter (netdevice(7)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LinkFlags {
    /// It was set up (IFF_UP): the administrator's wish.
    pub up: bool,
    /// It can carry packets, by RFC 2863 (IFF_RUNNING).
    pub running: bool,
    /// Its other side is there (IFF_LOWER_UP): a cable, or a veth's peer that is up.
    pub lower_up: bool,
    /// It is the loopback (IFF_LOOPBACK).
    pub loopback: bool,
    /// It takes in all packets, not only its own (IFF_PROMISC).
    pub promiscuous: bool,
}

impl LinkFlags {
    /// From `IFF_*`; other bits are of no interest.
    pub(crate) fn from_raw(raw: u32) -> LinkFlags {
        let has = |flag: libc::c_int| raw & flag.cast_unsigned() != 0;
        LinkFlags {
            up: has(libc::IFF_UP),
            running: has(libc::IFF_RUNNING),
            lower_up: has(libc::IFF_LOWER_UP),
            loopback: has(libc::IFF_LOOPBACK),
            promiscuous: has(libc::IFF_PROMISC),
        }
    }
}

/// How a link stands by RFC 2863, `ifOperStatus` (`IF_OPER_*`, linux/if.h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OperState {
    /// Its driver does not say: the loopback's, for one.
    #[default]
    Unknown,
    /// A part of it is not there.
    NotPresent,
    /// It cannot carry packets.
    Down,
    /// The link below it cannot: a macvlan's parent, a veth's peer.
    LowerLayerDown,
    /// It is being tested.
    Testing,
    /// It waits for something from outside, as a login.
    Dormant,
    /// It can carry packets.
    Up,
}

impl From<u8> for OperState {
    fn from(raw: u8) -> OperState {
        match libc::c_int::from(raw) {
            libc::IF_OPER_NOTPRESENT => OperState::NotPresent,
            libc::IF_OPER_DOWN => OperState::Down,
            libc::IF_OPER_LOWERLAYERDOWN => OperState::LowerLayerDown,
            libc::IF_OPER_TESTING => OperState::Testing,
            libc::IF_OPER_DORMANT => OperState::Dormant,
            libc::IF_OPER_UP => OperState::Up,
            _ => OperState::Unknown,
        }
    }
}

impl fmt::Display for OperState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            OperState::Unknown => "unknown",
            OperState::NotPresent => "notpresent",
            OperState::Down => "down",
            OperState::LowerLayerDown => "lowerlayerdown",
            OperState::Testing => "testing",
            OperState::Dormant => "dormant",
            OperState::Up => "up",
        })
    }
}

/// How macvlan links of one parent reach each other (`MACVLAN_MODE_*`, linux/if_link.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MacvlanMode {
    /// Not at all.
    Private,
    /// By way of the switch that the parent is plugged into.
    Vepa,
    /// Directly.
    Bridge,
    /// There is one link only, and it has the parent to itself.
    Passthru,
    /// By a list of senders.
    Source,
}

impl MacvlanMode {
    const ALL: [MacvlanMode; 5] = [
        MacvlanMode::Private,
        MacvlanMode::Vepa,
        MacvlanMode::Bridge,
        MacvlanMode::Passthru,
        MacvlanMode::Source,
    ];

    /// The kernel's number for it.
    pub(crate) fn raw(self) -> u32 {
        match self {
            MacvlanMode::Private => 1,
            MacvlanMode::Vepa => 2,
            MacvlanMode::Bridge => 4,
            MacvlanMode::Passthru => 8,
            MacvlanMode::Source => 16,
        }
    }

    /// The mode of this number; `None` for one that is not known yet.
    pub(crate) fn from_raw(raw: u32) -> Option<MacvlanMode> {
        MacvlanMode::ALL.into_iter().find(|mode| mode.raw() == raw)
    }
}

impl fmt::Display for MacvlanMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            MacvlanMode::Private => "private",
            MacvlanMode::Vepa => "vepa",
            MacvlanMode::Bridge => "bridge",
            MacvlanMode::Passthru => "passthru",
            MacvlanMode::Source => "source",
        })
    }
}
