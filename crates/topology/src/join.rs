//! Joining the links of all namespaces: which veth end belongs to which, and what lies below a macvlan.
//!
//! The key is (namespace, index). An index alone proves nothing: the host's veths of two containers may both say that
//! their peer has the index 2. So a pair counts only if both ends name each other; where they do not, a peer moved or a
//! namespace changed while it was read, and the pair is left open rather than guessed.

use std::collections::HashMap;

use snorkel_netns::NetnsId;
use snorkel_rtnl::{IfIndex, NsId};

use crate::snapshot::{Address, Bridge, Link, LinkRef, Peer};

/// Which socket was asked: a number of a namespace means something to the socket alone that it was got from.
pub(crate) type AskerId = usize;

/// What was read of one namespace, before it is joined with the others.
#[derive(Debug, Clone, Default)]
pub(crate) struct RawNamespace {
    /// The socket that it was read through, and its number for that socket.
    pub(crate) nsid: Option<(AskerId, NsId)>,
    /// Its links.
    pub(crate) links: Vec<snorkel_rtnl::Link>,
    /// The addresses of its links.
    pub(crate) addresses: Vec<snorkel_rtnl::Address>,
}

/// The links of each namespace with peers, masters and lower links filled in; and a line for each veth whose ends do
/// not agree.
pub(crate) fn join(raw: &[(NetnsId, RawNamespace)]) -> (Vec<Vec<Link>>, Vec<String>) {
    let by_nsid: HashMap<(AskerId, NsId), NetnsId> =
        raw.iter().filter_map(|(id, namespace)| Some((namespace.nsid?, *id))).collect();
    let asker: HashMap<NetnsId, AskerId> =
        raw.iter().filter_map(|(id, namespace)| Some((*id, namespace.nsid?.0))).collect();
    let by_key: HashMap<(NetnsId, IfIndex), &snorkel_rtnl::Link> = raw
        .iter()
        .flat_map(|(id, namespace)| namespace.links.iter().map(|link| ((*id, link.index), link)))
        .collect();
    let other_end = |id: NetnsId, link: &snorkel_rtnl::Link| {
        let there = match link.link_nsid {
            // The kernel leaves the number out if the other link is in the same namespace.
            None => id,
            Some(nsid) => *by_nsid.get(&(*asker.get(&id)?, nsid))?,
        };
        let index = link.link?;
        let found = by_key.get(&(there, index))?;
        Some((there, *found))
    };
    let master = |id: NetnsId, link: &snorkel_rtnl::Link| {
        let index = link.master?;
        let name = by_key.get(&(id, index)).map_or_else(|| index.to_string(), |bridge| bridge.name.clone());
        Some(Bridge { index, name })
    };
    let mut disagreements = Vec::new();
    let mut joined = Vec::with_capacity(raw.len());
    for (id, namespace) in raw {
        let mut addresses: HashMap<IfIndex, Vec<Address>> = HashMap::new();
        for address in &namespace.addresses {
            let entry = Address { address: address.address, prefix: address.prefix };
            addresses.entry(address.index).or_default().push(entry);
        }
        let links = namespace.links.iter().map(|link| {
            let mut addresses = addresses.remove(&link.index).unwrap_or_default();
            addresses.sort_by_key(|address| (address.address.is_ipv6(), is_link_local(address)));
            let other = other_end(*id, link);
            let reference = |(netns, found): (NetnsId, &snorkel_rtnl::Link)| LinkRef {
                netns,
                index: found.index,
                name: found.name.clone(),
                of: String::new(),
            };
            let is_veth = link.kind.as_deref() == Some("veth");
            let agreed = other.filter(|(there, found)| {
                found.kind.as_deref() == Some("veth")
                    && other_end(*there, found)
                        .is_some_and(|(back, mine)| back == *id && mine.index == link.index)
            });
            if is_veth && agreed.is_none() && other.is_some() {
                disagreements.push(format!(
                    "the veth {} in {id} names a peer that does not name it; the pair is left open",
                    link.name
                ));
            }
            Link {
                index: link.index,
                name: link.name.clone(),
                alt_names: link.alt_names.clone(),
                kind: link.kind.clone(),
                loopback: link.flags.loopback,
                up: link.flags.up,
                carrier: link.flags.lower_up,
                state: link.operstate.to_string(),
                mtu: link.mtu,
                mac: link.mac.clone(),
                addresses,
                master: master(*id, link),
                peer: agreed.filter(|_| is_veth).map(|(there, found)| Peer {
                    link: reference((there, found)),
                    bridge: master(there, found),
                }),
                lower: other.filter(|_| !is_veth).map(reference),
            }
        });
        let mut links: Vec<Link> = links.collect();
        links.sort_by_key(|link| link.index);
        joined.push(links);
    }
    (joined, disagreements)
}

fn is_link_local(address: &Address) -> bool {
    match address.address {
        std::net::IpAddr::V4(address) => address.is_link_local(),
        std::net::IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}
