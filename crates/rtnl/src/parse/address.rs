//! RTM_NEWADDR: `struct ifaddrmsg` and `IFA_*` (linux/if_addr.h).

use super::{Refusal, check_namespace, index};
use crate::name::escape;
use crate::wire::{attributes, ip, take};
use crate::{Address, Family, NsId, Scope};

/// `IFA_FLAGS` of linux/if_addr.h: all the flags; the header has room for eight only.
const IFA_FLAGS: u16 = 8;
/// `IFA_TARGET_NETNSID` of linux/if_addr.h.
pub(crate) const IFA_TARGET_NETNSID: u16 = 10;

/// Reads an address of the namespace that was asked about, the socket's own if `None`.
pub(crate) fn address(payload: &[u8], asked: Option<NsId>) -> Result<Option<Address>, Refusal> {
    let (fixed, rest) = take::<8>(payload, "an address ends within its header")?;
    let [family, prefix, flags, scope, i0, i1, i2, i3] = fixed;
    let Some(family) = Family::from_raw(family) else {
        return Ok(None);
    };
    if prefix > family.bits() {
        return Err(Refusal::Malformed("an address has a longer prefix than it has bits"));
    }
    let mut flags = u32::from(flags);
    let (mut local, mut address, mut label, mut answered) = (None, None, None, None);
    for attribute in attributes(rest) {
        let attribute = attribute?;
        match attribute.kind {
            libc::IFA_LOCAL => local = Some(ip(family, attribute.payload)?),
            libc::IFA_ADDRESS => address = Some(ip(family, attribute.payload)?),
            libc::IFA_LABEL => label = Some(escape(attribute.text())),
            IFA_FLAGS => flags = attribute.u32()?,
            IFA_TARGET_NETNSID => answered = Some(attribute.i32()?),
            _ => (),
        }
    }
    check_namespace(asked, answered)?;
    // On a point-to-point link IFA_ADDRESS is the other side's; IPv6 leaves IFA_LOCAL out where there is none.
    let Some(own) = local.or(address) else {
        // Anycast and multicast addresses are none that a link has.
        return Ok(None);
    };
    Ok(Some(Address {
        index: index(u32::from_ne_bytes([i0, i1, i2, i3]))?,
        family,
        address: own,
        peer: address.filter(|&other| other != own),
        prefix,
        scope: Scope::from(scope),
        label,
        tentative: flags & libc::IFA_F_TENTATIVE != 0,
        dad_failed: flags & libc::IFA_F_DADFAILED != 0,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::IfIndex;
    use crate::wire::{Request, messages};
    use proptest::prelude::*;
    use std::net::{IpAddr, Ipv6Addr};

    /// Encodes an address as the kernel does.
    fn encode(address: &Address, target: Option<i32>) -> Vec<u8> {
        let mut message = Request::new(libc::RTM_NEWADDR, 0);
        let scope = match address.scope {
            Scope::Global => 0,
            Scope::Site => 200,
            Scope::Link => 253,
            Scope::Host => 254,
            Scope::Nowhere => 255,
            Scope::Other(other) => other,
        };
        message
            .raw(&[address.family.raw(), address.prefix, 0, scope])
            .raw(&address.index.get().to_ne_bytes());
        let flags = [(address.tentative, libc::IFA_F_TENTATIVE), (address.dad_failed, libc::IFA_F_DADFAILED)];
        message.put_u32(IFA_FLAGS, flags.iter().filter(|(set, _)| *set).fold(0, |all, (_, flag)| all | flag));
        if address.family == Family::Inet || address.peer.is_some() {
            message.put_ip(libc::IFA_LOCAL, address.address);
        }
        message.put_ip(libc::IFA_ADDRESS, address.peer.unwrap_or(address.address));
        if let Some(label) = &address.label {
            message.put_text(libc::IFA_LABEL, &crate::name::unescape(label));
        }
        if let Some(target) = target {
            message.put_i32(IFA_TARGET_NETNSID, target);
        }
        let bytes = message.with_sequence(1);
        messages(&bytes).next().unwrap().unwrap().payload.to_vec()
    }

    fn arbitrary() -> impl Strategy<Value = Address> {
        let index = (1..=i32::MAX as u32).prop_map(|raw| IfIndex::new(raw).unwrap());
        let label =
            prop::option::of(prop::collection::vec(1u8..=255, 1..16).prop_map(|bytes| escape(&bytes)));
        let addresses = prop_oneof![
            any::<([u8; 4], Option<[u8; 4]>)>().prop_map(|(a, b)| (IpAddr::from(a), b.map(IpAddr::from))),
            any::<([u8; 16], Option<[u8; 16]>)>().prop_map(|(a, b)| (IpAddr::from(a), b.map(IpAddr::from))),
        ];
        (index, addresses, 0u8..=128, any::<u8>(), label, any::<(bool, bool)>()).prop_map(
            |(index, (address, peer), prefix, scope, label, (tentative, dad_failed))| Address {
                index,
                family: Family::of(address),
                address,
                peer: peer.filter(|&other| other != address),
                prefix: prefix.min(Family::of(address).bits()),
                scope: Scope::from(scope),
                label,
                tentative,
                dad_failed,
            },
        )
    }

    #[test]
    fn the_local_address_wins_over_the_peers() {
        let wanted = Address {
            index: IfIndex::new(2).unwrap(),
            family: Family::Inet6,
            address: Ipv6Addr::LOCALHOST.into(),
            peer: Some("fe80::2".parse().unwrap()),
            prefix: 64,
            scope: Scope::Global,
            label: None,
            tentative: true,
            dad_failed: false,
        };
        assert_eq!(address(&encode(&wanted, None), None), Ok(Some(wanted.clone())));
        assert_eq!(address(&encode(&wanted, None), Some(NsId::new(1))), Err(Refusal::WrongNamespace));
    }

    #[test]
    fn addresses_of_other_families_are_left_out() {
        assert_eq!(address(&[libc::AF_PHONET as u8, 0, 0, 0, 1, 0, 0, 0], None), Ok(None));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_no_harm(mut bytes: Vec<u8>, family in prop::sample::select(vec![2u8, 10, 7])) {
            let _ = address(&bytes, None);
            if let Some(first) = bytes.first_mut() {
                *first = family;
                let _ = address(&bytes, None);
            }
        }

        #[test]
        fn what_is_encoded_is_decoded(wanted in arbitrary(), asked in prop::option::of(any::<i32>())) {
            let got = address(&encode(&wanted, asked), asked.map(NsId::new));
            prop_assert_eq!(got, Ok(Some(wanted)));
        }

        #[test]
        fn no_change_of_a_byte_does_harm(wanted in arbitrary(), place: prop::sample::Index, value: u8) {
            let mut payload = encode(&wanted, Some(1));
            let place = place.index(payload.len());
            payload[place] = value;
            let _ = address(&payload, Some(NsId::new(1)));
        }
    }
}
