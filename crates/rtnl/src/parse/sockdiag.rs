//! A socket of a sock_diag dump: `struct inet_diag_msg` and `INET_DIAG_*` (linux/inet_diag.h).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Refusal;
use crate::WaitingSocket;
use crate::wire::{attributes, take};

/// The length of `struct inet_diag_msg`, whose last four bytes are the socket's inode.
const MESSAGE: usize = 72;
/// `INET_DIAG_SKV6ONLY`: told of sockets that wait.
const SKV6ONLY: u16 = 11;

/// Reads a socket; its inode if it takes no IPv4.
pub(crate) fn v6_only(payload: &[u8]) -> Result<Option<u64>, Refusal> {
    let (message, rest) = take::<MESSAGE>(payload, "a socket ends within its header")?;
    let [.., i0, i1, i2, i3] = message;
    let inode = u32::from_ne_bytes([i0, i1, i2, i3]);
    for attribute in attributes(rest) {
        let attribute = attribute?;
        if attribute.kind == SKV6ONLY {
            return Ok((attribute.u8()? != 0).then_some(u64::from(inode)));
        }
    }
    Ok(None)
}

/// Reads a socket that waits: family, state, timer and retransmissions in a byte each, its port and its peer's in
/// network order, its address in sixteen bytes.
pub(crate) fn waiting(payload: &[u8]) -> Result<Option<WaitingSocket>, Refusal> {
    let (message, _) = take::<MESSAGE>(payload, "a socket ends within its header")?;
    let [family, _, _, _, high, low, _, _, address @ ..] = message;
    let port = u16::from_be_bytes([high, low]);
    let address: [u8; 16] = std::array::from_fn(|at| address[at]);
    let [a, b, c, d, ..] = address;
    let address = match i32::from(family) {
        libc::AF_INET => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
        libc::AF_INET6 => IpAddr::V6(Ipv6Addr::from(address)),
        _ => return Ok(None),
    };
    let v6_only = address.is_ipv6() && v6_only(payload)?.is_some();
    Ok(Some(WaitingSocket { at: SocketAddr::new(address, port), v6_only }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Request;
    use proptest::prelude::*;

    fn encode(inode: u32, only: u8) -> Vec<u8> {
        let mut message = Request::new(0, 0);
        message.raw(&[0xff; MESSAGE - 4]).raw(&inode.to_ne_bytes()).put(SKV6ONLY, &[only]);
        message.with_sequence(1)[16..].to_vec()
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_no_harm(bytes: Vec<u8>) {
            let _ = (v6_only(&bytes), waiting(&bytes));
        }

        #[test]
        fn what_is_encoded_is_decoded(inode: u32) {
            prop_assert_eq!(v6_only(&encode(inode, 1)), Ok(Some(u64::from(inode))));
            prop_assert_eq!(v6_only(&encode(inode, 0)), Ok(None));
        }
    }
}
