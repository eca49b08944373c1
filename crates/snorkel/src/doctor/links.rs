//! Trials with rtnetlink: kinds of links, queueing disciplines, other namespaces seen from one socket.
//!
//! All of them happen in the private network namespace of the examination. Sources: rtnetlink(7),
//! Documentation/netlink/specs/{rt-link,tc}.yaml of the kernel.

use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use rustix::io::Errno;
use snorkel_netns::Netns;

use super::netlink::{ACK, CREATE, EXCLUSIVE, Message, REQUEST, Socket, attribute, nested};
use super::trial::{During, Ground, Outcome, Trouble, trouble};

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWQDISC: u16 = 36;
const RTM_NEWNSID: u16 = 88;
const IFLA_LINK: u16 = 5;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_TARGET_NETNSID: u16 = 46;
/// The size of `struct ifinfomsg`.
const IFINFO: usize = 16;
/// The loopback interface's index: 1 in every namespace, for it is made first.
const LOOPBACK: i32 = 1;

/// A kind of link that can be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Veth,
    Bridge,
    Macvlan,
    Ipvlan,
    Ifb,
    Vxlan,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Veth => "veth",
            Kind::Bridge => "bridge",
            Kind::Macvlan => "macvlan",
            Kind::Ipvlan => "ipvlan",
            Kind::Ifb => "ifb",
            Kind::Vxlan => "vxlan",
        }
    }

    /// The index of a veth to be made as parent; one link cannot be parent of both kinds at once.
    fn parent(self) -> Option<i32> {
        match self {
            Kind::Macvlan => Some(1001),
            Kind::Ipvlan => Some(1002),
            _ => None,
        }
    }

    /// IFLA_INFO_DATA, for kinds that cannot do without.
    fn data(self) -> Vec<u8> {
        const IFLA_VXLAN_ID: u16 = 1;
        match self {
            Kind::Vxlan => nested(&[(IFLA_VXLAN_ID, &1_u32.to_ne_bytes())]),
            _ => Vec::new(),
        }
    }
}

/// `struct ifinfomsg` for the link of this index; 0 for none in particular.
fn ifinfo(index: i32) -> [u8; IFINFO] {
    let mut fixed = [0; IFINFO];
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    fixed
}

fn add(socket: &Socket, kind: Kind, index: i32, parent: Option<i32>) -> Result<(), Trouble> {
    let mut message = Message::new(RTM_NEWLINK, REQUEST | ACK | CREATE | EXCLUSIVE, &ifinfo(index));
    if let Some(parent) = parent {
        message = message.attribute(IFLA_LINK, &parent.to_ne_bytes());
    }
    let info = nested(&[(IFLA_INFO_KIND, kind.name().as_bytes()), (IFLA_INFO_DATA, &kind.data())]);
    let asked = socket.ask(vec![message.attribute(IFLA_LINKINFO, &info)]);
    asked.map(drop).during(format!("make a link of the kind {}", kind.name()))
}

/// Makes a link of this kind.
pub(super) fn link(ground: &Ground<'_>, kind: Kind) -> Outcome {
    if kind == Kind::Ifb && may_load("ifb") {
        return Outcome::Not("not loaded, and not tried: loading it would make links on the host".into());
    }
    let netns = match ground.netns() {
        Ok(netns) => netns,
        Err(outcome) => return outcome,
    };
    let tried = Socket::open_in(netns, None).and_then(|socket| {
        if let Some(parent) = kind.parent() {
            // Said of the parent, EOPNOTSUPP would be taken for an answer about the child.
            add(&socket, Kind::Veth, parent, None)
                .map_err(|e| Trouble { what: format!("{} as parent", e.what), errno: Errno::NODEV })?;
        }
        add(&socket, kind, 0, kind.parent())?;
        Ok("can be made".to_owned())
    });
    match tried {
        Err(Trouble { errno: Errno::OPNOTSUPP, .. }) => none(kind.name()),
        tried => ground.judge(tried, &[]),
    }
}

/// Whether to try would, as far as can be seen, have a module loaded.
///
/// That matters for ifb: to load it makes ifb0 and ifb1 in the host's namespace (`numifbs` of the kernel's
/// drivers/net/ifb.c).
fn may_load(module: &str) -> bool {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let loaded = || Path::new("/sys/module").join(module).exists();
    let built_in = || {
        let list = read(&format!("/lib/modules/{release}/modules.builtin"));
        list.lines().any(|line| line.ends_with(&format!("/{module}.ko")))
    };
    // No modules at all, or no program to load them.
    let cannot_load = || {
        !Path::new("/proc/modules").exists()
            || read("/proc/sys/kernel/modules_disabled").trim() == "1"
            || !Path::new(read("/proc/sys/kernel/modprobe").trim()).exists()
    };
    !(loaded() || built_in() || cannot_load())
}

/// The kernel's word for a kind that it neither has nor finds a module for, in ours.
fn none(kind: &str) -> Outcome {
    Outcome::Not(format!("the kernel has no {kind} and found no module for it"))
}

/// A queueing discipline that can be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Qdisc {
    Netem,
    Tbf,
    Clsact,
}

impl Qdisc {
    fn name(self) -> &'static str {
        match self {
            Qdisc::Netem => "netem",
            Qdisc::Tbf => "tbf",
            Qdisc::Clsact => "clsact",
        }
    }

    /// Handle and parent of `struct tcmsg`.
    fn place(self) -> (u32, u32) {
        const TC_H_ROOT: u32 = 0xffff_ffff;
        const TC_H_CLSACT: u32 = 0xffff_fff1;
        match self {
            Qdisc::Clsact => (0xffff_0000, TC_H_CLSACT),
            _ => (0, TC_H_ROOT),
        }
    }

    /// TCA_OPTIONS (linux/pkt_sched.h).
    fn options(self) -> Vec<u8> {
        const TCA_TBF_PARMS: u16 = 1;
        const TCA_TBF_BURST: u16 = 6;
        match self {
            // struct tc_netem_qopt: no delay, 1000 packets, nothing else.
            Qdisc::Netem => [0_u32, 1000, 0, 0, 0, 0].iter().flat_map(|word| word.to_ne_bytes()).collect(),
            Qdisc::Tbf => {
                // struct tc_tbf_qopt: the rate (with Ethernet as link layer, so that no table is needed) of 100 Mbit/s,
                // no peak rate, a limit of 1 MB; the burst comes as an attribute of its own.
                let mut parameters = vec![0, 1, 0, 0, 0, 0, 0, 0];
                for word in [12_500_000_u32, 0, 0, 0, 1_000_000, 0, 0] {
                    parameters.extend(word.to_ne_bytes());
                }
                // More than the loopback's largest packet, or the kernel grumbles in its log.
                nested(&[(TCA_TBF_PARMS, &parameters), (TCA_TBF_BURST, &200_000_u32.to_ne_bytes())])
            }
            Qdisc::Clsact => Vec::new(),
        }
    }
}

/// Puts a queueing discipline on the loopback of a private namespace; each time a new one, for there is one root only.
pub(super) fn qdisc(ground: &Ground<'_>, qdisc: Qdisc) -> Outcome {
    const TCA_KIND: u16 = 1;
    const TCA_OPTIONS: u16 = 2;
    if let Err(outcome) = ground.netns() {
        return outcome;
    }
    let tried = Netns::private().map_err(|e| trouble(&e)).and_then(|netns| {
        let (handle, parent) = qdisc.place();
        let mut tcmsg = [0; 20];
        tcmsg[4..8].copy_from_slice(&LOOPBACK.to_ne_bytes());
        tcmsg[8..12].copy_from_slice(&handle.to_ne_bytes());
        tcmsg[12..16].copy_from_slice(&parent.to_ne_bytes());
        let mut kind = qdisc.name().as_bytes().to_vec();
        kind.push(0);
        let message = Message::new(RTM_NEWQDISC, REQUEST | ACK | CREATE | EXCLUSIVE, &tcmsg)
            .attribute(TCA_KIND, &kind)
            .attribute(TCA_OPTIONS, &qdisc.options());
        let asked = Socket::open_in(&netns, None)?.ask(vec![message]);
        asked.during(format!("attach a qdisc of the kind {}", qdisc.name()))?;
        Ok("can be attached".to_owned())
    });
    match tried {
        Err(Trouble { errno: Errno::NOENT, .. }) => none(qdisc.name()),
        tried => ground.judge(tried, &[Errno::OPNOTSUPP]),
    }
}

/// Reads a link by rtnetlink; in the caller's own namespace if there is no private one, for it needs no rights.
pub(super) fn rtnetlink(ground: &Ground<'_>) -> Outcome {
    let tried = ground.inside(|| Socket::open(None)).and_then(|socket| {
        let message = Message::new(RTM_GETLINK, REQUEST | ACK, &ifinfo(LOOPBACK));
        socket.ask(vec![message]).during("read the loopback link")?;
        Ok("links can be read".to_owned())
    });
    ground.judge(tried, &[Errno::PROTONOSUPPORT, Errno::AFNOSUPPORT])
}

/// Reads a link of another namespace through a socket of this one (`IFLA_TARGET_NETNSID`).
///
/// A kernel that does not know the attribute overlooks it and answers for the socket's own namespace; so the answer
/// must carry it.
pub(super) fn target_netnsid(ground: &Ground<'_>) -> Outcome {
    const NETNSA_NSID: u16 = 1;
    const NETNSA_FD: u16 = 3;
    const OTHER: i32 = 7;
    let netns = match ground.netns() {
        Ok(netns) => netns,
        Err(outcome) => return outcome,
    };
    let tried = Netns::private().map_err(|e| trouble(&e)).and_then(|other| {
        let socket = Socket::open_in(netns, None)?;
        let fd = other.as_fd().as_raw_fd() as u32;
        // struct rtgenmsg is one byte, padded.
        let name = Message::new(RTM_NEWNSID, REQUEST | ACK | CREATE, &[0; 4])
            .attribute(NETNSA_NSID, &OTHER.to_ne_bytes())
            .attribute(NETNSA_FD, &fd.to_ne_bytes());
        socket.ask(vec![name]).during("number another network namespace")?;
        let message = Message::new(RTM_GETLINK, REQUEST | ACK, &ifinfo(LOOPBACK))
            .attribute(IFLA_TARGET_NETNSID, &OTHER.to_ne_bytes());
        let bodies = socket.ask(vec![message]).during("read a link of another namespace")?;
        let carries = |body: &Vec<u8>| {
            attribute(body, IFINFO, IFLA_TARGET_NETNSID) == Some(OTHER.to_ne_bytes().as_slice())
        };
        if bodies.iter().any(carries) {
            return Ok("links of other namespaces can be read through one socket".to_owned());
        }
        Err(Trouble { what: "read a link of another namespace".into(), errno: Errno::OPNOTSUPP })
    });
    ground.judge(tried, &[Errno::OPNOTSUPP, Errno::INVAL])
}
