//! RTM_NEWNEIGH: `struct ndmsg` and `NDA_*` (linux/neighbour.h).

use super::{Refusal, index, mac};
use crate::wire::{attributes, ip, take};
use crate::{Family, Neighbour, NeighbourState};

/// Reads an IPv4 or IPv6 neighbour. A bridge's forwarding table comes in the same kind of message: `None`.
pub(crate) fn neighbour(payload: &[u8]) -> Result<Option<Neighbour>, Refusal> {
    let (fixed, rest) = take::<12>(payload, "a neighbour ends within its header")?;
    let [family, _, _, _, i0, i1, i2, i3, s0, s1, flags, _kind] = fixed;
    let Some(family) = Family::from_raw(family) else {
        return Ok(None);
    };
    let (mut address, mut hardware) = (None, None);
    for attribute in attributes(rest) {
        let attribute = attribute?;
        match attribute.kind {
            libc::NDA_DST => address = Some(ip(family, attribute.payload)?),
            libc::NDA_LLADDR => hardware = mac(&attribute)?,
            _ => (),
        }
    }
    let Some(address) = address else {
        return Err(Refusal::Malformed("a neighbour has no address"));
    };
    Ok(Some(Neighbour {
        index: index(u32::from_ne_bytes([i0, i1, i2, i3]))?,
        address,
        mac: hardware,
        state: NeighbourState::from(u16::from_ne_bytes([s0, s1])),
        router: flags & libc::NTF_ROUTER != 0,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Request;
    use crate::{IfIndex, Mac};
    use proptest::prelude::*;
    use std::net::IpAddr;

    fn encode(neighbour: &Neighbour, state: u16) -> Vec<u8> {
        let mut message = Request::new(libc::RTM_NEWNEIGH, 0);
        let [s0, s1] = state.to_ne_bytes();
        message
            .raw(&[Family::of(neighbour.address).raw(), 0, 0, 0])
            .raw(&neighbour.index.get().to_ne_bytes())
            .raw(&[s0, s1, if neighbour.router { libc::NTF_ROUTER } else { 0 }, 0])
            .put_ip(libc::NDA_DST, neighbour.address);
        if let Some(mac) = &neighbour.mac {
            message.put(libc::NDA_LLADDR, mac.as_bytes());
        }
        message.with_sequence(1)[16..].to_vec()
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_no_harm(mut bytes: Vec<u8>) {
            let _ = neighbour(&bytes);
            if let Some(first) = bytes.first_mut() {
                *first = Family::Inet.raw();
                let _ = neighbour(&bytes);
            }
        }

        #[test]
        fn what_is_encoded_is_decoded(
            index in 1..=i32::MAX as u32,
            address: IpAddr,
            mac in prop::option::of(prop::collection::vec(any::<u8>(), 1..=32)),
            state: u16,
            router: bool,
        ) {
            let wanted = Neighbour {
                index: IfIndex::new(index).unwrap(),
                address,
                mac: mac.map(|bytes| Mac::new(&bytes).unwrap()),
                state: NeighbourState::from(state),
                router,
            };
            prop_assert_eq!(neighbour(&encode(&wanted, state)), Ok(Some(wanted)));
        }
    }

    #[test]
    fn a_bridges_forwarding_table_is_left_out() {
        assert_eq!(neighbour(&[libc::AF_BRIDGE as u8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]), Ok(None));
    }
}
