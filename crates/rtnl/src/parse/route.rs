//! RTM_NEWROUTE: `struct rtmsg` and `RTA_*` (linux/rtnetlink.h).

use std::net::IpAddr;

use super::Refusal;
use crate::wire::{ALIGNMENT, Attribute, Malformed, attributes, ip, take};
use crate::{Family, IfIndex, NextHop, Prefix, Route, RouteKind, RouteProtocol, Scope};

/// `RTNH_F_DEAD` and `RTNH_F_LINKDOWN` of linux/rtnetlink.h.
const DEAD: u32 = 1 | 16;

/// Reads a route of that family. Cached routes (clones, path MTUs) are none of the administrator's: `None`.
pub(crate) fn route(payload: &[u8], wanted: Family) -> Result<Option<Route>, Refusal> {
    let (fixed, rest) = take::<12>(payload, "a route ends within its header")?;
    let [family, to, from, _tos, table, protocol, scope, kind, f0, f1, f2, f3] = fixed;
    let flags = u32::from_ne_bytes([f0, f1, f2, f3]);
    if Family::from_raw(family) != Some(wanted) || flags & libc::RTM_F_CLONED != 0 {
        return Ok(None);
    }
    if to > wanted.bits() || from > wanted.bits() {
        return Err(Refusal::Malformed("a route has a longer prefix than an address has bits"));
    }
    let mut route = Route {
        family: wanted,
        destination: None,
        source: None,
        gateway: None,
        link: None,
        hops: Vec::new(),
        metric: None,
        table: u32::from(table),
        protocol: RouteProtocol::from(protocol),
        kind: RouteKind::from(kind),
        scope: Scope::from(scope),
        preferred_source: None,
        dead: flags & DEAD != 0,
    };
    let (mut destination, mut source) = (None, None);
    for attribute in attributes(rest) {
        let attribute = attribute?;
        match attribute.kind {
            libc::RTA_DST => destination = Some(ip(wanted, attribute.payload)?),
            libc::RTA_SRC => source = Some(ip(wanted, attribute.payload)?),
            libc::RTA_GATEWAY => route.gateway = Some(ip(wanted, attribute.payload)?),
            libc::RTA_VIA => route.gateway = via(&attribute)?,
            libc::RTA_OIF => route.link = IfIndex::new(attribute.u32()?),
            libc::RTA_PRIORITY => route.metric = Some(attribute.u32()?),
            libc::RTA_PREFSRC => route.preferred_source = Some(ip(wanted, attribute.payload)?),
            // Numbers above 255 do not fit the header.
            libc::RTA_TABLE => route.table = attribute.u32()?,
            libc::RTA_MULTIPATH => route.hops = hops(attribute.payload, wanted)?,
            _ => (),
        }
    }
    route.destination = block(wanted, destination, to);
    route.source = block(wanted, source, from);
    Ok(Some(route))
}

/// The block of a destination or a source; `None` is everything.
fn block(family: Family, address: Option<IpAddr>, length: u8) -> Option<Prefix> {
    let all_zero = match family {
        Family::Inet => IpAddr::from([0; 4]),
        Family::Inet6 => IpAddr::from([0; 16]),
    };
    match (address, length) {
        (Some(address), _) => Some(Prefix { address, length }),
        (None, 0) => None,
        (None, _) => Some(Prefix { address: all_zero, length }),
    }
}

/// `struct rtvia`: a gateway of another family than the route's.
fn via(attribute: &Attribute<'_>) -> Result<Option<IpAddr>, Malformed> {
    let (family, address) = take::<2>(attribute.payload, "a gateway ends within its header")?;
    let family = u8::try_from(u16::from_ne_bytes(family)).ok().and_then(Family::from_raw);
    family.map(|family| ip(family, address)).transpose()
}

/// A row of `struct rtnexthop`, each with attributes of its own.
fn hops(mut rest: &[u8], family: Family) -> Result<Vec<NextHop>, Malformed> {
    const LIES: Malformed = Malformed("a next hop is longer than its route, or shorter than its header");
    const HEADER: usize = 8;
    let mut hops = Vec::new();
    while let Some((&[l0, l1, _flags, weight, i0, i1, i2, i3], _)) = rest.split_first_chunk::<HEADER>() {
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let mut hop = NextHop {
            gateway: None,
            link: IfIndex::new(u32::from_ne_bytes([i0, i1, i2, i3])),
            // The kernel stores one less.
            weight: u16::from(weight) + 1,
        };
        for attribute in attributes(rest.get(HEADER..length).ok_or(LIES)?) {
            let attribute = attribute?;
            match attribute.kind {
                libc::RTA_GATEWAY => hop.gateway = Some(ip(family, attribute.payload)?),
                libc::RTA_VIA => hop.gateway = via(&attribute)?,
                _ => (),
            }
        }
        hops.push(hop);
        rest = rest.get(length.next_multiple_of(ALIGNMENT)..).unwrap_or(&[]);
    }
    if rest.is_empty() { Ok(hops) } else { Err(LIES) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Request, messages};
    use proptest::prelude::*;

    fn encode(route: &Route) -> Vec<u8> {
        let mut message = Request::new(libc::RTM_NEWROUTE, 0);
        let length = |block: Option<Prefix>| block.map_or(0, |block| block.length);
        let flags = if route.dead { DEAD } else { 0 };
        message
            .raw(&[route.family.raw(), length(route.destination), length(route.source), 0, 0, 4, 0, 1])
            .raw(&flags.to_ne_bytes())
            .put_u32(libc::RTA_TABLE, route.table);
        if let Some(block) = route.destination {
            message.put_ip(libc::RTA_DST, block.address);
        }
        if let Some(block) = route.source {
            message.put_ip(libc::RTA_SRC, block.address);
        }
        if let Some(gateway) = route.gateway {
            put_gateway(&mut message, route.family, gateway);
        }
        if let Some(link) = route.link {
            message.put_u32(libc::RTA_OIF, link.get());
        }
        if let Some(metric) = route.metric {
            message.put_u32(libc::RTA_PRIORITY, metric);
        }
        if let Some(source) = route.preferred_source {
            message.put_ip(libc::RTA_PREFSRC, source);
        }
        if !route.hops.is_empty() {
            let mut row = Vec::new();
            for hop in &route.hops {
                let mut inner = Request::new(0, 0);
                if let Some(gateway) = hop.gateway {
                    put_gateway(&mut inner, route.family, gateway);
                }
                let inner = &inner.with_sequence(0)[16..];
                row.extend(u16::try_from(8 + inner.len()).unwrap().to_ne_bytes());
                row.extend([0, u8::try_from(hop.weight - 1).unwrap()]);
                row.extend(hop.link.map_or(0, IfIndex::get).to_ne_bytes());
                row.extend(inner);
                row.resize(row.len().next_multiple_of(ALIGNMENT), 0);
            }
            message.put(libc::RTA_MULTIPATH, &row);
        }
        let bytes = message.with_sequence(1);
        messages(&bytes).next().unwrap().unwrap().payload.to_vec()
    }

    fn put_gateway(message: &mut Request, family: Family, gateway: IpAddr) {
        if Family::of(gateway) == family {
            message.put_ip(libc::RTA_GATEWAY, gateway);
        } else {
            let mut via = u16::from(Family::of(gateway).raw()).to_ne_bytes().to_vec();
            match gateway {
                IpAddr::V4(v4) => via.extend(v4.octets()),
                IpAddr::V6(v6) => via.extend(v6.octets()),
            }
            message.put(libc::RTA_VIA, &via);
        }
    }

    fn address(family: Family) -> BoxedStrategy<IpAddr> {
        match family {
            Family::Inet => any::<[u8; 4]>().prop_map(IpAddr::from).boxed(),
            Family::Inet6 => any::<[u8; 16]>().prop_map(IpAddr::from).boxed(),
        }
    }

    fn arbitrary() -> impl Strategy<Value = Route> {
        prop::sample::select(vec![Family::Inet, Family::Inet6]).prop_flat_map(|family| {
            let block = move || {
                prop::option::of(
                    (address(family), 0..=family.bits())
                        .prop_map(|(address, length)| Prefix { address, length }),
                )
            };
            let gateway = move || prop::option::of(prop_oneof![address(family), address(Family::Inet6)]);
            let link = || prop::option::of((1..=i32::MAX as u32).prop_map(|raw| IfIndex::new(raw).unwrap()));
            let hop = (gateway(), link(), 1u16..=256).prop_map(|(gateway, link, weight)| NextHop {
                gateway,
                link,
                weight,
            });
            let source = prop::option::of(address(family));
            (
                block(),
                block(),
                gateway(),
                link(),
                prop::collection::vec(hop, 0..4),
                any::<(Option<u32>, u32, bool)>(),
                source,
            )
                .prop_map(
                    move |(
                        destination,
                        source,
                        gateway,
                        link,
                        hops,
                        (metric, table, dead),
                        preferred_source,
                    )| Route {
                        family,
                        destination,
                        source,
                        gateway,
                        link,
                        hops,
                        metric,
                        table,
                        preferred_source,
                        dead,
                        protocol: RouteProtocol::Static,
                        kind: RouteKind::Unicast,
                        scope: Scope::Global,
                    },
                )
        })
    }

    #[test]
    fn a_cached_route_is_left_out() {
        let mut message = Request::new(libc::RTM_NEWROUTE, 0);
        message.raw(&[Family::Inet6.raw(), 128, 0, 0, 254, 2, 0, 1]).raw(&libc::RTM_F_CLONED.to_ne_bytes());
        let bytes = message.with_sequence(1);
        assert_eq!(route(&bytes[16..], Family::Inet6), Ok(None));
    }

    #[test]
    fn a_next_hop_that_lies_about_its_length_is_malformed() {
        for length in [0u16, 7, 9, 255] {
            let mut hop = [0u8; 8];
            hop[..2].copy_from_slice(&length.to_ne_bytes());
            assert!(hops(&hop, Family::Inet).is_err(), "{length}");
        }
        assert!(hops(&[8, 0, 0], Family::Inet).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_no_harm(mut bytes: Vec<u8>) {
            for family in [Family::Inet, Family::Inet6] {
                let _ = hops(&bytes, family);
                if let Some(first) = bytes.first_mut() {
                    *first = family.raw();
                }
                let _ = route(&bytes, family);
            }
        }

        #[test]
        fn what_is_encoded_is_decoded(wanted in arbitrary()) {
            prop_assert_eq!(route(&encode(&wanted), wanted.family), Ok(Some(wanted)));
        }

        #[test]
        fn no_change_of_a_byte_does_harm(wanted in arbitrary(), place: prop::sample::Index, value: u8) {
            let mut payload = encode(&wanted);
            let place = place.index(payload.len());
            payload[place] = value;
            let _ = route(&payload, wanted.family);
        }
    }
}
