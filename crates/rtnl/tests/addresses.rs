//! Addresses, routes and neighbours with the real kernel. Needs root.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod common;

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use common::{index_of, named, private};
use snorkel_netns::Netns;
use snorkel_rtnl::{Error, Family, NeighbourState, Prefix, RouteKind, RouteProtocol, Scope, Socket};

/// Two namespaces on one wire: 10.1.0.1 and fd00::1, 10.1.0.2 and fd00::2; the link is called eth0 on both sides.
fn wire() -> ((Netns, Socket), (Netns, Socket)) {
    let (mut a, mut b) = (private(), private());
    a.1.add_veth("eth0", "eth0", Some(&b.0)).unwrap();
    for (socket, last) in [(&mut a.1, 1), (&mut b.1, 2)] {
        let link = index_of(socket, "eth0");
        socket.set_up(link).unwrap();
        socket.add_address(link, [10, 1, 0, last].into(), 24).unwrap();
        socket.add_address(link, format!("fd00::{last}").parse().unwrap(), 64).unwrap();
    }
    (a, b)
}

#[test]
fn addresses_of_another_namespace_are_those_seen_inside() {
    let ((_a, mut socket), (b, mut inner)) = wire();
    let id = socket.nsid(&b).unwrap();
    let eth0 = index_of(&mut inner, "eth0");
    let seen = socket.addresses(Some(id)).unwrap();
    let find = |wanted: &str| {
        let wanted: IpAddr = wanted.parse().unwrap();
        seen.iter().find(|address| address.address == wanted).unwrap_or_else(|| panic!("{wanted}: {seen:#?}"))
    };
    let v4 = find("10.1.0.2");
    assert_eq!((v4.index, v4.family, v4.prefix, v4.scope), (eth0, Family::Inet, 24, Scope::Global));
    assert_eq!((v4.peer, v4.tentative), (None, false));
    let v6 = find("fd00::2");
    assert_eq!((v6.index, v6.family, v6.prefix, v6.scope), (eth0, Family::Inet6, 64, Scope::Global));
    assert_eq!((v6.label.as_deref(), v6.tentative, v6.dad_failed), (None, false, false));
    assert!(!seen.iter().any(|address| address.address == IpAddr::from([10, 1, 0, 1])));

    let added = |of: &[snorkel_rtnl::Address]| {
        let mut of: Vec<_> =
            of.iter().filter(|a| a.scope == Scope::Global).map(|a| (a.address, a.prefix)).collect();
        of.sort();
        of
    };
    assert_eq!(added(&seen), added(&inner.addresses(None).unwrap()));
    assert_eq!(added(&seen).len(), 2);
}

#[test]
fn routes_are_the_networks_of_addresses_and_what_was_added() {
    let ((_a, mut socket), _b) = wire();
    let eth0 = index_of(&mut socket, "eth0");
    socket.add_route(None, [10, 1, 0, 2].into()).unwrap();
    socket.add_route(Some(([10, 9, 0, 0].into(), 16)), [10, 1, 0, 2].into()).unwrap();
    socket.add_route(None, "fd00::2".parse().unwrap()).unwrap();
    let routes = socket.routes().unwrap();
    let main = |family, destination: Option<(&str, u8)>| {
        let destination = destination.map(|(a, length)| Prefix { address: a.parse().unwrap(), length });
        let mut those =
            routes.iter().filter(|r| r.table == 254 && r.family == family && r.destination == destination);
        match (those.next(), those.next()) {
            (Some(route), None) => route.clone(),
            _ => panic!("not exactly one route to {destination:?}: {routes:#?}"),
        }
    };
    let network = main(Family::Inet, Some(("10.1.0.0", 24)));
    assert_eq!((network.gateway, network.link, network.scope), (None, Some(eth0), Scope::Link));
    assert_eq!((network.protocol, network.kind), (RouteProtocol::Kernel, RouteKind::Unicast));
    assert_eq!(network.preferred_source, Some([10, 1, 0, 1].into()));

    let default = main(Family::Inet, None);
    assert_eq!((default.gateway, default.link), (Some([10, 1, 0, 2].into()), Some(eth0)));
    assert_eq!((default.protocol, default.metric), (RouteProtocol::Static, None));
    assert_eq!(main(Family::Inet, Some(("10.9.0.0", 16))).gateway, Some([10, 1, 0, 2].into()));

    let default = main(Family::Inet6, None);
    assert_eq!((default.gateway, default.link), (Some("fd00::2".parse().unwrap()), Some(eth0)));
    assert!(default.metric.is_some());
    assert!(routes.iter().any(|r| r.table == 255 && r.kind == RouteKind::Local), "{routes:#?}");
}

#[test]
fn a_route_to_nowhere_or_twice_is_an_error() {
    let ((_a, mut socket), _b) = wire();
    let error = socket.add_route(None, [192, 0, 2, 1].into()).unwrap_err();
    assert!(matches!(error, Error::Os { .. }), "{error:?}");
    assert!(error.to_string().starts_with("cannot add the default route via 192.0.2.1"), "{error}");
    socket.add_route(None, [10, 1, 0, 2].into()).unwrap();
    assert!(socket.add_route(None, [10, 1, 0, 2].into()).unwrap_err().already_exists());
    let mixed = socket.add_route(Some(("fd01::".parse().unwrap(), 64)), [10, 1, 0, 2].into());
    assert!(matches!(mixed, Err(Error::Invalid { .. })));
    let eth0 = index_of(&mut socket, "eth0");
    assert!(socket.add_address(eth0, [10, 1, 0, 1].into(), 33).is_err());
}

#[test]
fn a_host_that_answered_is_a_neighbour_with_its_hardware_address() {
    let ((a, mut socket), (b, mut inner)) = wire();
    let eth0 = index_of(&mut socket, "eth0");
    for (from, to) in [("10.1.0.1:0", "10.1.0.2:9"), ("[fd00::1]:0", "[fd00::2]:9")] {
        let sender = a.run(|| UdpSocket::bind(from)).unwrap().unwrap();
        let receiver = b.run(|| UdpSocket::bind(to)).unwrap().unwrap();
        receiver.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        sender.send_to(b"hello", to).unwrap();
        receiver.recv(&mut [0; 8]).expect("the datagram arrives, so the neighbour was found");
    }
    let far = inner.links(None).unwrap();
    let neighbours = socket.neighbours().unwrap();
    for address in ["10.1.0.2", "fd00::2"] {
        let address: IpAddr = address.parse().unwrap();
        let neighbour = neighbours
            .iter()
            .find(|neighbour| neighbour.address == address)
            .unwrap_or_else(|| panic!("{address}: {neighbours:#?}"));
        assert_eq!((neighbour.index, &neighbour.mac), (eth0, &named(&far, "eth0").mac));
        assert!(neighbour.mac.is_some());
        assert!(!matches!(neighbour.state, NeighbourState::Failed | NeighbourState::Incomplete));
    }
}
