//! What a link loses when it is set down, kept as the kernel told it and given back word for word.
//!
//! A link that goes down loses its IPv6 addresses (net/ipv6/addrconf.c, `addrconf_ifdown`), every route through it that
//! an administrator made (net/ipv4/fib_frontend.c, `fib_disable_ip`), and its permanent neighbours (net/core/neighbour.c,
//! `neigh_ifdown`); the kernel makes again only what follows from its addresses. The message that lists such a thing is
//! also the one that makes it, as ip-route(8) does with `save` and `restore`.

use serde::{Deserialize, Serialize};

use crate::change::CREATE;
use crate::parse::{self, Refusal};
use crate::query::{addresses_request, neighbours_request, routes_request};
use crate::wire::Request;
use crate::{Family, IfIndex, NeighbourState, Result, Route, RouteProtocol, Socket};

/// Where `struct rtmsg` has its flags; of them only `RTNH_F_ONLINK` says how a route is to be, the rest how it stands.
const RTM_FLAGS: std::ops::Range<usize> = 8..12;
const RTNH_F_ONLINK: u32 = 4;
/// The table of what is this host's own, which the kernel keeps.
const LOCAL: u32 = libc::RT_TABLE_LOCAL as u32;

/// An address, a route or a neighbour that goes with its link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The kind of the message that makes it: `RTM_NEWADDR`, `RTM_NEWROUTE`, `RTM_NEWNEIGH`.
    kind: u16,
    /// The message without its header.
    #[serde(with = "hex")]
    payload: Vec<u8>,
}

impl Kept {
    fn new(kind: u16, payload: &[u8]) -> Kept {
        Kept { kind, payload: payload.to_vec() }
    }

    /// What it is: "an address", "a route", "a neighbour".
    pub fn word(&self) -> &'static str {
        match self.kind {
            libc::RTM_NEWADDR => "an address",
            libc::RTM_NEWROUTE => "a route",
            _ => "a neighbour",
        }
    }
}

impl Socket {
    /// What this link of the socket's own namespace would lose if it were set down now, in the order in which it is to
    /// be given back.
    pub fn keep(&mut self, link: IfIndex) -> Result<Vec<Kept>> {
        let mut kept = self.netlink.dump(
            &format!("list the addresses of link {link}"),
            &addresses_request(),
            libc::RTM_NEWADDR,
            |payload| {
                let address = parse::address(payload, None)?;
                let goes = address.is_some_and(|a| a.index == link && a.family == Family::Inet6);
                Ok::<_, Refusal>(goes.then(|| Kept::new(libc::RTM_NEWADDR, payload)))
            },
        )?;
        for gateways in [false, true] {
            // Routes by way of a router come last: the router must be reachable first.
            for family in [Family::Inet, Family::Inet6] {
                kept.extend(self.netlink.dump(
                    &format!("list the routes of link {link}"),
                    &routes_request(family),
                    libc::RTM_NEWROUTE,
                    |payload| {
                        let route = parse::route(payload, family)?;
                        let goes = route.is_some_and(|r| is_lost(&r, link) && is_by_router(&r) == gateways);
                        Ok::<_, Refusal>(goes.then(|| Kept::new(libc::RTM_NEWROUTE, payload)))
                    },
                )?);
            }
        }
        kept.extend(self.netlink.dump(
            &format!("list the neighbours of link {link}"),
            &neighbours_request(),
            libc::RTM_NEWNEIGH,
            |payload| {
                let neighbour = parse::neighbour(payload)?;
                let goes =
                    neighbour.is_some_and(|n| n.index == link && n.state == NeighbourState::Permanent);
                Ok::<_, Refusal>(goes.then(|| Kept::new(libc::RTM_NEWNEIGH, payload)))
            },
        )?);
        Ok(kept)
    }

    /// Gives back what was kept. What is there already is left alone.
    pub fn give_back(&mut self, kept: &Kept) -> Result<()> {
        let mut payload = kept.payload.clone();
        if kept.kind == libc::RTM_NEWROUTE
            && let Some(flags) = payload.get_mut(RTM_FLAGS).and_then(|flags| flags.first_chunk_mut::<4>())
        {
            *flags = (u32::from_ne_bytes(*flags) & RTNH_F_ONLINK).to_ne_bytes();
        }
        let mut request = Request::new(kept.kind, CREATE);
        request.raw(&payload);
        match self.netlink.change(&format!("give {} back to its link", kept.word()), &request) {
            Err(error) if error.already_exists() => Ok(()),
            done => done,
        }
    }
}

/// Whether a route goes with the link and does not come again by itself.
fn is_lost(route: &Route, link: IfIndex) -> bool {
    let through = route.link == Some(link) || route.hops.iter().any(|hop| hop.link == Some(link));
    through && route.table != LOCAL && route.protocol != RouteProtocol::Kernel
}

fn is_by_router(route: &Route) -> bool {
    route.gateway.is_some() || !route.hops.is_empty()
}

/// Bytes as text.
mod hex {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        let digit = |d: &u8| char::from(*d).to_digit(16).and_then(|d| u8::try_from(d).ok());
        let pairs = text.as_bytes().chunks(2);
        let bytes: Option<Vec<u8>> = pairs
            .map(|pair| match pair {
                [high, low] => Some(digit(high)? << 4 | digit(low)?),
                _ => None,
            })
            .collect();
        bytes.ok_or_else(|| serde::de::Error::custom("no hexadecimal digits in pairs"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_written_and_read_the_same() {
        let kept = Kept::new(libc::RTM_NEWROUTE, &[0, 10, 0xff]);
        let text = serde_json::to_string(&kept).unwrap();
        assert_eq!(text, r#"{"kind":24,"payload":"000aff"}"#);
        assert_eq!(serde_json::from_str::<Kept>(&text).unwrap(), kept);
        for wrong in ["0", "0x", "äö"] {
            assert!(serde_json::from_str::<Kept>(&format!(r#"{{"kind":24,"payload":"{wrong}"}}"#)).is_err());
        }
    }
}
