//! What a link loses when it is set down comes back as it was, with the real kernel. Needs root.

#![allow(clippy::unwrap_used, reason = "what cannot be done fails the test")]

mod common;

use common::{index_of, private};
use snorkel_netns::Netns;
use snorkel_rtnl::{Address, IfIndex, Route, Socket};

/// What the administrator would see: addresses and routes, without how they stand at the moment.
fn seen(socket: &mut Socket) -> (Vec<Address>, Vec<Route>) {
    let mut addresses = socket.addresses(None).unwrap();
    for address in &mut addresses {
        address.tentative = false;
    }
    addresses.sort_by_key(|address| (address.index.get(), address.address));
    let mut routes = socket.routes().unwrap();
    routes.retain(|route| route.table != 255);
    for route in &mut routes {
        route.dead = false;
    }
    routes.sort_by_key(|route| format!("{route:?}"));
    (addresses, routes)
}

/// The kernel gives two links an address of their own each once it has noticed that both are up, and that is later.
fn until_they_have_given_themselves_addresses(socket: &mut Socket) {
    for _ in 0..1_000_000 {
        if socket.addresses(None).unwrap().len() == 2 {
            return;
        }
        std::thread::yield_now();
    }
    panic!("they never did: {:?}", socket.addresses(None));
}

fn furnished() -> (Netns, Socket, IfIndex) {
    let (netns, mut socket) = private();
    let link = socket.add_veth("a", "b", None).unwrap();
    let peer = index_of(&mut socket, "b");
    socket.set_up(link).unwrap();
    socket.set_up(peer).unwrap();
    until_they_have_given_themselves_addresses(&mut socket);
    socket.add_address(link, [10, 1, 0, 1].into(), 24).unwrap();
    socket.add_address(link, "fd00::1".parse().unwrap(), 64).unwrap();
    socket.add_route(Some(([10, 9, 0, 0].into(), 16)), [10, 1, 0, 2].into()).unwrap();
    socket.add_route(Some(("fd09::".parse().unwrap(), 64)), "fd00::2".parse().unwrap()).unwrap();
    (netns, socket, link)
}

#[test]
fn addresses_and_routes_come_back() {
    let (_netns, mut socket, link) = furnished();
    let before = seen(&mut socket);
    let kept = socket.keep(link).unwrap();
    socket.set_down(link).unwrap();
    assert_ne!(seen(&mut socket), before, "a link that goes down loses something");
    socket.set_up(link).unwrap();
    for thing in &kept {
        socket.give_back(thing).unwrap();
    }
    assert_eq!(seen(&mut socket), before);
    // Once more does nothing.
    for thing in &kept {
        socket.give_back(thing).unwrap();
    }
    assert_eq!(seen(&mut socket), before);
}

#[test]
fn another_links_things_are_not_kept() {
    let (_netns, mut socket, _) = furnished();
    let other = socket.add_veth("c", "d", None).unwrap();
    assert_eq!(socket.keep(other).unwrap(), []);
}
