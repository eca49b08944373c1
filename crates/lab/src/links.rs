//! The links of a lab: the bridge in the switch, the veth pairs and macvlans to the nodes, the nested pairs.
//!
//! All netlink work is done by sockets made inside the lab's namespaces; the host's namespace is never spoken to, so
//! it sees no link and hands out no nsid. Addresses are set without duplicate address detection (rtnl sees to that),
//! so they are usable as soon as they are there.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use rustix::event::{PollFd, PollFlags};
use snorkel_netns::Netns;
use snorkel_rtnl::{Groups, IfIndex, MacvlanMode, OperState, Socket, Subscription};

use crate::plan::{BRIDGE, Plan, PlannedNode, UPLINK};
use crate::{Error, Result};

/// What a nested pair is called in the node, and its addresses there and beyond.
const NESTED: (&str, Ipv4Addr, Ipv4Addr) =
    ("veth0", Ipv4Addr::new(10, 89, 0, 1), Ipv4Addr::new(10, 89, 0, 2));

/// What a node has to know of the switch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Switch {
    /// IPv6 is there (a kernel can be started with `ipv6.disable=1`).
    pub(crate) v6: bool,
    bridge: IfIndex,
    /// What macvlans sit on, if there are any.
    uplink: Option<IfIndex>,
}

/// Builds the bridge in the network namespace of the calling thread, which becomes the switch. It is still down.
pub(crate) fn build_switch(plan: &Plan) -> Result<(Switch, Socket)> {
    let v6 = Path::new("/proc/sys/net/ipv6/conf").exists();
    if v6 {
        no_detection()?;
    }
    let mut socket = Socket::open()?;
    loopback(&mut socket)?;
    let bridge = socket.add_bridge(BRIDGE)?;
    if v6 {
        // The ports that come now only carry frames: without IPv6 each of them says less to all the others.
        sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
    }
    let mut uplink = None;
    if plan.has_uplink() {
        let (name, port) = UPLINK;
        let port = socket.add_veth(port, name, None)?;
        into_bridge(&mut socket, port, bridge)?;
        let top = index(&mut socket, name)?;
        socket.set_up(top)?;
        uplink = Some(top);
    }
    Ok((Switch { v6, bridge, uplink }, socket))
}

/// Listens for changes of the links of the calling thread's namespace.
pub(crate) fn watch() -> Result<Subscription> {
    Ok(Subscription::open(Groups::LINKS, false)?)
}

/// Waits until every port is ready and sets the bridge up.
///
/// A port's carrier comes with the node's end, its queue is started by the kernel's link watch, which does its work
/// later (net/core/link_watch.c). The bridge comes last for two reasons: one without live ports loses its carrier and
/// would get it back only after the link watch's second of patience; and what a thousand new links say to all the
/// others is not said to a thousand ports.
pub(crate) fn open_bridge(
    plan: &Plan,
    switch: Switch,
    socket: &mut Socket,
    events: &mut Subscription,
) -> Result<()> {
    let mut waiting: HashSet<String> = plan.bridge_ports().into_iter().collect();
    for port in &waiting {
        // To ask for one link makes the link watch do its work on it (since 6.8). Otherwise a port whose index is by
        // chance that of its peer is taken for a link that can wait a second.
        index(socket, port)?;
    }
    while !waiting.is_empty() {
        for link in socket.links(None)?.iter().filter(|link| link.operstate == OperState::Up) {
            waiting.remove(&link.name);
        }
        if waiting.is_empty() {
            break;
        }
        match rustix::event::poll(&mut [PollFd::new(events, PollFlags::IN)], None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(Error::os("wait for the ports of the switch", e)),
        }
        // What happened does not matter, nor whether some of it was lost: the next listing shows what holds.
        while let Ok(Some(_)) = events.next() {}
    }
    let spec = &plan.spec;
    socket.set_up(switch.bridge)?;
    socket.add_address(switch.bridge, IpAddr::V4(spec.address), spec.prefix)?;
    if switch.v6 {
        socket.add_address(switch.bridge, IpAddr::V6(spec.address6), spec.prefix6)?;
    }
    Ok(())
}

/// Connects a node, whose namespace `own` is the calling thread's, with the switch, for which `outer` speaks.
pub(crate) fn plug(
    plan: &Plan,
    node: &PlannedNode,
    switch: Switch,
    outer: &mut Socket,
    own: &Netns,
) -> Result<()> {
    if switch.v6 {
        no_detection()?;
        // There is no router to be found.
        sysctl("net/ipv6/conf/default/accept_ra", "0")?;
    }
    let mut inner = Socket::open()?;
    loopback(&mut inner)?;
    for link in &node.links {
        if link.macvlan {
            let parent =
                switch.uplink.ok_or_else(|| Error::Failed("there is no uplink for a macvlan".to_owned()))?;
            let born = outer.add_macvlan(&link.port, parent, MacvlanMode::Bridge)?;
            outer.move_to(born, own)?;
            // Its index is another one here.
            let arrived = index(&mut inner, &link.port)?;
            inner.rename(arrived, &link.name)?;
        } else {
            let port = outer.add_veth(&link.port, &link.name, Some(own))?;
            into_bridge(outer, port, switch.bridge)?;
        }
        let here = index(&mut inner, &link.name)?;
        inner.set_up(here)?;
        inner.add_address(here, IpAddr::V4(link.v4), plan.spec.prefix)?;
        if switch.v6 {
            inner.add_address(here, IpAddr::V6(link.v6), plan.spec.prefix6)?;
        }
    }
    if !node.links.is_empty() {
        inner.add_route(None, IpAddr::V4(plan.spec.address))?;
        if switch.v6 {
            inner.add_route(None, IpAddr::V6(plan.spec.address6))?;
        }
    }
    Ok(())
}

/// Connects the nested namespace, the calling thread's, with the node, for which `outer` speaks.
pub(crate) fn plug_nested(outer: &mut Socket, own: &Netns) -> Result<()> {
    let (name, here, there) = NESTED;
    let mut inner = Socket::open()?;
    loopback(&mut inner)?;
    let near = outer.add_veth(name, "eth0", Some(own))?;
    outer.set_up(near)?;
    outer.add_address(near, IpAddr::V4(here), 24)?;
    let far = index(&mut inner, "eth0")?;
    inner.set_up(far)?;
    Ok(inner.add_address(far, IpAddr::V4(there), 24)?)
}

fn index(socket: &mut Socket, name: &str) -> Result<IfIndex> {
    socket.index_of(name)?.ok_or_else(|| Error::Failed(format!("{name} was made and is not there")))
}

fn loopback(socket: &mut Socket) -> Result<()> {
    let lo = index(socket, "lo")?;
    Ok(socket.set_up(lo)?)
}

fn into_bridge(socket: &mut Socket, port: IfIndex, bridge: IfIndex) -> Result<()> {
    socket.set_master(port, Some(bridge))?;
    Ok(socket.set_up(port)?)
}

/// No duplicate address detection for any link to come in the calling thread's namespace. The lab's addresses do
/// without anyway; but a link whose link-local address is still tentative solicits no neighbour
/// (net/ipv6/ndisc.c, ndisc_solicit), and that would be so for the first two seconds.
fn no_detection() -> Result<()> {
    // Both must be 0 (accept_dad of Documentation/networking/ip-sysctl.rst).
    sysctl("net/ipv6/conf/all/accept_dad", "0")?;
    sysctl("net/ipv6/conf/default/accept_dad", "0")
}

/// Sets a value of the calling thread's network namespace.
fn sysctl(key: &str, value: &str) -> Result<()> {
    std::fs::write(format!("/proc/sys/{key}"), value).map_err(|e| Error::os(format!("set {key}"), e))
}
