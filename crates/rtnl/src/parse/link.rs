//! RTM_NEWLINK: `struct ifinfomsg` and `IFLA_*` (linux/if_link.h).

use super::{Refusal, check_namespace, index, mac};
use crate::name::escape;
use crate::wire::{Attribute, Malformed, attributes, take};
use crate::{IfIndex, Link, LinkFlags, MacvlanMode, NsId, OperState};

/// `IFLA_MACVLAN_MODE` of linux/if_link.h.
pub(crate) const IFLA_MACVLAN_MODE: u16 = 1;

/// Reads a link of the namespace that was asked about, the socket's own if `None`.
pub(crate) fn link(payload: &[u8], asked: Option<NsId>) -> Result<Option<Link>, Refusal> {
    let (fixed, rest) = take::<16>(payload, "a link ends within its header")?;
    let [family, _, _, _, i0, i1, i2, i3, f0, f1, f2, f3, ..] = fixed;
    if libc::c_int::from(family) != libc::AF_UNSPEC {
        // What a bridge says of its ports (AF_BRIDGE) comes in the same kind of message.
        return Ok(None);
    }
    let own = index(u32::from_ne_bytes([i0, i1, i2, i3]))?;
    let mut link = Link {
        index: own,
        name: String::new(),
        alt_names: Vec::new(),
        kind: None,
        flags: LinkFlags::from_raw(u32::from_ne_bytes([f0, f1, f2, f3])),
        operstate: OperState::Unknown,
        mtu: 0,
        mac: None,
        master: None,
        link: None,
        link_nsid: None,
        macvlan_mode: None,
    };
    let mut answered = None;
    for attribute in attributes(rest) {
        let attribute = attribute?;
        match attribute.kind {
            libc::IFLA_IFNAME => link.name = escape(attribute.text()),
            libc::IFLA_PROP_LIST => link.alt_names = alt_names(&attribute)?,
            libc::IFLA_OPERSTATE => link.operstate = OperState::from(attribute.u8()?),
            libc::IFLA_MTU => link.mtu = attribute.u32()?,
            libc::IFLA_ADDRESS => link.mac = mac(&attribute)?,
            libc::IFLA_MASTER => link.master = IfIndex::new(attribute.u32()?),
            libc::IFLA_LINK => link.link = IfIndex::new(attribute.u32()?),
            libc::IFLA_LINK_NETNSID => link.link_nsid = Some(NsId::new(attribute.i32()?)),
            libc::IFLA_TARGET_NETNSID => answered = Some(attribute.i32()?),
            libc::IFLA_LINKINFO => info(&attribute, &mut link)?,
            _ => (),
        }
    }
    check_namespace(asked, answered)?;
    if link.name.is_empty() {
        return Err(Refusal::Malformed("a link has no name"));
    }
    if link.link_nsid.is_some() && link.link.is_none() {
        // Kernels before 5.8 leave the number out where it is the link's own, though the namespace is another.
        link.link = Some(own);
    }
    Ok(Some(link))
}

fn alt_names(list: &Attribute<'_>) -> Result<Vec<String>, Malformed> {
    list.nested()
        .filter(|name| name.as_ref().map_or(true, |name| name.kind == libc::IFLA_ALT_IFNAME))
        .map(|name| Ok(escape(name?.text())))
        .collect()
}

fn info(nest: &Attribute<'_>, link: &mut Link) -> Result<(), Malformed> {
    let mut data = None;
    for attribute in nest.nested() {
        let attribute = attribute?;
        match attribute.kind {
            libc::IFLA_INFO_KIND => link.kind = Some(escape(attribute.text())),
            libc::IFLA_INFO_DATA => data = Some(attribute),
            _ => (),
        }
    }
    // What the data mean depends on the kind.
    if let (Some("macvlan" | "macvtap"), Some(data)) = (link.kind.as_deref(), data) {
        for attribute in data.nested() {
            let attribute = attribute?;
            if attribute.kind == IFLA_MACVLAN_MODE {
                link.macvlan_mode = MacvlanMode::from_raw(attribute.u32()?);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Mac;
    use crate::wire::{Request, messages};
    use proptest::prelude::*;

    /// Encodes a link as the kernel does.
    fn encode(link: &Link, target: Option<i32>) -> Vec<u8> {
        let mut message = Request::new(libc::RTM_NEWLINK, 0);
        let flags = [
            (link.flags.up, libc::IFF_UP),
            (link.flags.running, libc::IFF_RUNNING),
            (link.flags.lower_up, libc::IFF_LOWER_UP),
            (link.flags.loopback, libc::IFF_LOOPBACK),
            (link.flags.promiscuous, libc::IFF_PROMISC),
        ];
        let flags = flags.iter().filter(|(set, _)| *set).fold(0, |all, (_, flag)| all | flag);
        message
            .raw(&[0; 4])
            .raw(&link.index.get().to_ne_bytes())
            .raw(&flags.to_ne_bytes())
            .raw(&[0; 4])
            .put_text(libc::IFLA_IFNAME, &crate::name::unescape(&link.name))
            .put_u32(libc::IFLA_MTU, link.mtu)
            .put(libc::IFLA_OPERSTATE, &[link.operstate as u8]);
        if let Some(mac) = &link.mac {
            message.put(libc::IFLA_ADDRESS, mac.as_bytes());
        }
        if let Some(master) = link.master {
            message.put_u32(libc::IFLA_MASTER, master.get());
        }
        if let Some(other) = link.link {
            message.put_u32(libc::IFLA_LINK, other.get());
        }
        if let Some(id) = link.link_nsid {
            message.put_i32(libc::IFLA_LINK_NETNSID, id.get());
        }
        if let Some(target) = target {
            message.put_i32(libc::IFLA_TARGET_NETNSID, target);
        }
        message.nest(libc::IFLA_PROP_LIST, |list| {
            for name in &link.alt_names {
                list.put_text(libc::IFLA_ALT_IFNAME, &crate::name::unescape(name));
            }
        });
        if let Some(kind) = &link.kind {
            message.nest(libc::IFLA_LINKINFO, |info| {
                info.put_text(libc::IFLA_INFO_KIND, kind.as_bytes());
                if let Some(mode) = link.macvlan_mode {
                    info.nest(libc::IFLA_INFO_DATA, |data| {
                        data.put_u32(IFLA_MACVLAN_MODE, mode.raw());
                    });
                }
            });
        }
        let bytes = message.with_sequence(1);
        messages(&bytes).next().unwrap().unwrap().payload.to_vec()
    }

    fn arbitrary() -> impl Strategy<Value = Link> {
        let name = || prop::collection::vec(1u8..=255, 1..16).prop_map(|bytes| escape(&bytes));
        let index = || (1..=i32::MAX as u32).prop_map(|raw| IfIndex::new(raw).unwrap());
        let state = (0u8..=6).prop_map(OperState::from);
        let mac = prop::collection::vec(any::<u8>(), 1..=32).prop_map(|bytes| Mac::new(&bytes).unwrap());
        let attached = prop::option::of((index(), prop::option::of(any::<i32>().prop_map(NsId::new))));
        let kind = prop_oneof![
            Just((None, None)),
            Just((Some("veth".to_owned()), None)),
            Just((Some("macvlan".to_owned()), Some(MacvlanMode::Bridge))),
            Just((Some("macvtap".to_owned()), Some(MacvlanMode::Source))),
        ];
        let flags = any::<u32>().prop_map(LinkFlags::from_raw);
        let names = (name(), prop::collection::vec(name(), 0..3));
        (
            index(),
            names,
            kind,
            flags,
            state,
            any::<u32>(),
            prop::option::of(mac),
            prop::option::of(index()),
            attached,
        )
            .prop_map(
                |(
                    index,
                    (name, alt_names),
                    (kind, macvlan_mode),
                    flags,
                    operstate,
                    mtu,
                    mac,
                    master,
                    attached,
                )| {
                    let (link, link_nsid) = attached.map_or((None, None), |(link, id)| (Some(link), id));
                    Link {
                        index,
                        name,
                        alt_names,
                        kind,
                        flags,
                        operstate,
                        mtu,
                        mac,
                        master,
                        link,
                        link_nsid,
                        macvlan_mode,
                    }
                },
            )
    }

    fn plain(name: &str) -> Link {
        let bytes = {
            let mut message = Request::new(libc::RTM_NEWLINK, 0);
            message
                .raw(&[0; 4])
                .raw(&3u32.to_ne_bytes())
                .raw(&[0; 8])
                .put_text(libc::IFLA_IFNAME, name.as_bytes());
            message.with_sequence(1)
        };
        link(messages(&bytes).next().unwrap().unwrap().payload, None).unwrap().unwrap()
    }

    #[test]
    fn an_answer_for_the_wrong_namespace_is_refused() {
        let eth0 = plain("eth0");
        let asked = Some(NsId::new(7));
        assert_eq!(link(&encode(&eth0, None), asked), Err(Refusal::WrongNamespace));
        assert_eq!(link(&encode(&eth0, Some(8)), asked), Err(Refusal::WrongNamespace));
        assert_eq!(link(&encode(&eth0, Some(7)), asked), Ok(Some(eth0)));
    }

    #[test]
    fn a_peer_elsewhere_without_a_number_has_the_links_own() {
        let mut eth0 = plain("eth0");
        eth0.link_nsid = Some(NsId::new(4));
        let got = link(&encode(&eth0, None), None).unwrap().unwrap();
        assert_eq!((got.link, got.link_nsid), (Some(eth0.index), Some(NsId::new(4))));
    }

    #[test]
    fn what_a_bridge_says_of_its_ports_is_no_link() {
        let mut payload = encode(&plain("eth0"), None);
        payload[0] = libc::AF_BRIDGE as u8;
        assert_eq!(link(&payload, None), Ok(None));
    }

    #[test]
    fn a_link_without_number_or_name_is_malformed() {
        let mut payload = encode(&plain("eth0"), None);
        payload[4..8].fill(0);
        assert!(matches!(link(&payload, None), Err(Refusal::Malformed(_))));
        assert!(matches!(link(&encode(&plain("eth0"), None)[..16], None), Err(Refusal::Malformed(_))));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_no_harm(bytes: Vec<u8>) {
            let _ = link(&bytes, None);
        }

        #[test]
        fn what_is_encoded_is_decoded(wanted in arbitrary(), asked in prop::option::of(any::<i32>())) {
            let got = link(&encode(&wanted, asked), asked.map(NsId::new));
            prop_assert_eq!(got, Ok(Some(wanted)));
        }

        #[test]
        fn a_link_comes_back_from_json(wanted in arbitrary()) {
            let text = serde_json::to_string(&wanted).unwrap();
            prop_assert_eq!(serde_json::from_str::<Link>(&text).unwrap(), wanted);
        }

        #[test]
        fn no_change_of_a_byte_does_harm(wanted in arbitrary(), place: prop::sample::Index, value: u8) {
            let mut payload = encode(&wanted, Some(1));
            let place = place.index(payload.len());
            payload[place] = value;
            let _ = link(&payload, Some(NsId::new(1)));
        }
    }
}
