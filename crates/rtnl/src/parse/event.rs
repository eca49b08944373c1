//! What the kernel tells unasked, and of which namespace.

use crate::wire::Message;
use crate::{Event, EventKind, NsId};

/// `SOL_NETLINK` of linux/socket.h.
pub(crate) const SOL_NETLINK: libc::c_int = 270;

/// What a message tells; `None` for what nobody asked to hear.
pub(crate) fn event(message: &Message<'_>, nsid: Option<NsId>) -> Option<Event> {
    let (kind, removed) = match message.kind {
        libc::RTM_NEWLINK => (EventKind::Link, false),
        libc::RTM_DELLINK => (EventKind::Link, true),
        libc::RTM_NEWADDR => (EventKind::Address, false),
        libc::RTM_DELADDR => (EventKind::Address, true),
        libc::RTM_NEWROUTE => (EventKind::Route, false),
        libc::RTM_DELROUTE => (EventKind::Route, true),
        libc::RTM_NEWNEIGH => (EventKind::Neighbour, false),
        libc::RTM_DELNEIGH => (EventKind::Neighbour, true),
        libc::RTM_NEWNSID => (EventKind::Nsid, false),
        libc::RTM_DELNSID => (EventKind::Nsid, true),
        _ => return None,
    };
    Some(Event { kind, removed, nsid })
}

/// The namespace that the control messages of a datagram name (`NETLINK_LISTEN_ALL_NSID`, netlink(7)); `None` if they
/// name none: then it is the socket's own.
///
/// A control message is its length (`size_t`), level, type and payload, at multiples of the length's size (cmsg(3)).
pub(crate) fn control(mut bytes: &[u8]) -> Option<NsId> {
    const LENGTH: usize = size_of::<usize>();
    const HEADER: usize = LENGTH + 8;
    loop {
        let (length, _) = bytes.split_first_chunk::<LENGTH>()?;
        let length = usize::from_ne_bytes(*length);
        let (header, payload) = bytes.get(..length)?.split_at_checked(HEADER)?;
        let (level, kind) = header.get(LENGTH..)?.split_first_chunk::<4>()?;
        if i32::from_ne_bytes(*level) == SOL_NETLINK && kind == libc::NETLINK_LISTEN_ALL_NSID.to_ne_bytes() {
            let (id, _) = payload.split_first_chunk::<4>()?;
            return Some(NsId::new(i32::from_ne_bytes(*id)));
        }
        bytes = bytes.get(length.checked_next_multiple_of(LENGTH)?..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(level: i32, kind: i32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = (size_of::<usize>() + 8 + payload.len()).to_ne_bytes().to_vec();
        bytes.extend(level.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(payload);
        bytes.resize(bytes.len().next_multiple_of(size_of::<usize>()), 0);
        bytes
    }

    #[test]
    fn the_namespace_is_found_behind_other_control_messages() {
        let mut bytes = encode(libc::SOL_SOCKET, 29, &[1, 2, 3]);
        assert_eq!(control(&bytes), None);
        bytes.extend(encode(SOL_NETLINK, libc::NETLINK_LISTEN_ALL_NSID, &5i32.to_ne_bytes()));
        assert_eq!(control(&bytes), Some(NsId::new(5)));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_end(bytes: Vec<u8>, length in 0usize..64) {
            let _ = control(&bytes);
            let mut lying = length.to_ne_bytes().to_vec();
            lying.extend(bytes);
            let _ = control(&lying);
        }
    }
}
