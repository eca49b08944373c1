//! Trials with rtnetlink: kinds of links, queueing disciplines, other namespaces seen from one socket.
//!
//! All of them happen in private network namespaces of the examination.

use std::path::Path;

use rustix::io::Errno;
use snorkel_netns::Netns;
use snorkel_rtnl::{IfIndex, MacvlanMode, Qdisc, Socket};

use super::trial::{Ground, Outcome, Trouble};

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

    fn make(self, socket: &mut Socket) -> Result<(), Trouble> {
        let name = self.name();
        match self {
            Kind::Veth => socket.add_veth(name, "veth-peer", None),
            Kind::Bridge => socket.add_bridge(name),
            Kind::Macvlan => {
                let parent = parent(socket, "macvlan-under")?;
                socket.add_macvlan(name, parent, MacvlanMode::Private)
            }
            Kind::Ipvlan => {
                let parent = parent(socket, "ipvlan-under")?;
                socket.add_ipvlan(name, parent)
            }
            Kind::Ifb => socket.add_ifb(name),
            Kind::Vxlan => socket.add_vxlan(name, 1),
        }?;
        Ok(())
    }
}

/// Makes a link for another to stand on; one link cannot be parent of two kinds at once.
fn parent(socket: &mut Socket, name: &str) -> Result<IfIndex, Trouble> {
    socket.add_veth(name, &format!("{name}-p"), None).map_err(|e| {
        // Said of the parent, EOPNOTSUPP would be taken for an answer about the child.
        let trouble = Trouble::from(e);
        Trouble { what: format!("{} as parent", trouble.what), errno: Errno::NODEV }
    })
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
    let tried = || kind.make(&mut Socket::open_in(netns)?);
    match tried() {
        Err(Trouble { errno: Errno::OPNOTSUPP, .. }) => none(kind.name()),
        tried => ground.judge(tried.map(|()| "can be made".to_owned()), &[]),
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

/// Puts a queueing discipline on the loopback of a private namespace; each time a new one, for there is one root only.
pub(super) fn qdisc(ground: &Ground<'_>, qdisc: Qdisc) -> Outcome {
    if let Err(outcome) = ground.netns() {
        return outcome;
    }
    let tried = || {
        let mut socket = Socket::open_in(&Netns::private()?)?;
        let loopback = loopback(&mut socket)?;
        socket.add_qdisc(loopback, qdisc)?;
        Ok("can be attached".to_owned())
    };
    match tried() {
        Err(Trouble { errno: Errno::NOENT, .. }) => none(qdisc.kind()),
        tried => ground.judge(tried, &[Errno::OPNOTSUPP]),
    }
}

/// Reads a link by rtnetlink; in the caller's own namespace if there is no private one, for it needs no rights.
pub(super) fn rtnetlink(ground: &Ground<'_>) -> Outcome {
    let tried = ground.inside(|| loopback(&mut Socket::open()?));
    ground.judge(tried.map(|_| "links can be read".to_owned()), &[Errno::PROTONOSUPPORT, Errno::AFNOSUPPORT])
}

/// The loopback, which every namespace has.
fn loopback(socket: &mut Socket) -> Result<IfIndex, Trouble> {
    let found = socket.index_of("lo")?;
    found.ok_or_else(|| Trouble { what: "find the loopback".into(), errno: Errno::NODEV })
}

/// Reads the links of another namespace through a socket of this one.
pub(super) fn target_netnsid(ground: &Ground<'_>) -> Outcome {
    let netns = match ground.netns() {
        Ok(netns) => netns,
        Err(outcome) => return outcome,
    };
    let tried = || {
        let other = Netns::private()?;
        let mut socket = Socket::open_in(netns)?;
        let id = socket.nsid(&other)?;
        socket.links(Some(id))?;
        Ok("links of other namespaces can be read through one socket".to_owned())
    };
    ground.judge(tried(), &[Errno::OPNOTSUPP, Errno::INVAL])
}
