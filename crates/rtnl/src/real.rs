//! Tests with the real kernel that need to reach into the socket. They need root, and fail without.

use rustix::net::SendFlags;
use rustix::net::netlink::SocketAddrNetlink;
use snorkel_netns::Netns;

use crate::netlink::{ROUTE, netlink_socket};
use crate::query::links_request;
use crate::wire::Request;
use crate::{Error, Socket, fuzz_decode};

fn private() -> Netns {
    Netns::private()
        .expect("this test makes network namespaces: run it as root (CAP_SYS_ADMIN and CAP_NET_ADMIN)")
}

/// A namespace with a few links of every kind, addresses and routes, and a socket in it.
fn furnished() -> (Netns, Netns, Socket) {
    let (here, there) = (private(), private());
    let mut socket = Socket::open_in(&here).unwrap();
    let veth = socket.add_veth("eth0", "eth0", Some(&there)).unwrap();
    let bridge = socket.add_bridge("br0").unwrap();
    socket.add_macvlan("mv0", bridge, crate::MacvlanMode::Bridge).unwrap();
    for link in [veth, bridge] {
        socket.set_up(link).unwrap();
    }
    socket.add_address(veth, [10, 1, 0, 1].into(), 24).unwrap();
    socket.add_address(veth, "fd00::1".parse().unwrap(), 64).unwrap();
    socket.add_route(None, [10, 1, 0, 2].into()).unwrap();
    (here, there, socket)
}

#[test]
fn every_prefix_of_a_real_dump_does_no_harm() {
    let (_here, _there, mut socket) = furnished();
    let dump = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    let request = |kind, length| {
        let mut request = Request::new(kind, dump);
        request.raw(&vec![0; length]);
        request
    };
    let requests = [
        links_request(None, true),
        links_request(None, false),
        request(libc::RTM_GETADDR, 8),
        request(libc::RTM_GETROUTE, 12),
        request(libc::RTM_GETNEIGH, 12),
    ];
    for request in requests {
        let datagrams = socket.netlink.datagrams(&request);
        assert!(datagrams.iter().map(Vec::len).sum::<usize>() > 100);
        for datagram in datagrams {
            for end in 0..=datagram.len() {
                fuzz_decode(&datagram[..end]);
            }
        }
    }
}

#[test]
fn what_does_not_come_from_the_kernel_is_passed_over() {
    let here = private();
    let mut socket = Socket::open_in(&here).unwrap();
    let forger = here.run(|| netlink_socket("forge", ROUTE)).unwrap().unwrap();
    let mut forged = Request::new(libc::NLMSG_DONE as u16, 0);
    forged.raw(&[0; 4]);
    // The number of the request that will be next: an empty list, had the kernel sent it.
    let to = SocketAddrNetlink::new(socket.netlink.port(), 0);
    rustix::net::sendto(&forger, &forged.with_sequence(1), SendFlags::empty(), &to).unwrap();
    assert_eq!(socket.links(None).unwrap().len(), 1);
}

#[test]
fn what_does_not_fit_the_buffer_is_asked_for_again() {
    let (_here, _there, mut socket) = furnished();
    let whole = socket.links(None).unwrap();
    for size in [0, 16, 100, 1000] {
        socket.netlink.shrink(size);
        assert_eq!(socket.links(None).unwrap(), whole, "{size}");
        socket.netlink.shrink(size);
        assert_eq!(
            socket.index_of("eth0").unwrap(),
            whole.iter().find(|l| l.name == "eth0").map(|l| l.index)
        );
    }
}

#[test]
fn a_long_list_that_does_not_fit_the_buffer_is_asked_for_again() {
    let here = private();
    let mut socket = Socket::open_in(&here).unwrap();
    for number in 0..200 {
        socket.add_bridge(&format!("br{number}")).unwrap();
    }
    for size in [16, 4000] {
        socket.netlink.shrink(size);
        assert_eq!(socket.links(None).unwrap().len(), 201, "{size}");
    }
}

#[test]
fn a_kernel_that_passes_over_the_namespace_is_caught() {
    let (_here, there, mut socket) = furnished();
    let id = socket.nsid(&there).unwrap();
    assert_eq!(socket.addresses(Some(id)).unwrap(), []);
    // Without strict checking the kernel ignores the attribute, and lists the addresses of the socket's own namespace.
    socket.netlink.be_lax();
    assert!(matches!(socket.addresses(Some(id)), Err(Error::Unsupported { .. })));
    socket.strict = false;
    assert!(matches!(socket.addresses(Some(id)), Err(Error::Unsupported { .. })));
    assert!(!socket.addresses(None).unwrap().is_empty());
}
