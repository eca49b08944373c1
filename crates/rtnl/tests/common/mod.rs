//! What the tests with the real kernel have in common.
#![allow(dead_code, reason = "each test file uses its part of it")]
#![allow(clippy::expect_used, reason = "a test that cannot be set up fails, and says why")]

use snorkel_netns::Netns;
use snorkel_rtnl::{IfIndex, Link, Socket};

/// A namespace of the test's own, and a socket in it.
pub(crate) fn private() -> (Netns, Socket) {
    let netns = Netns::private()
        .expect("this test makes network namespaces: run it as root (CAP_SYS_ADMIN and CAP_NET_ADMIN)");
    let socket = Socket::open_in(&netns).expect("a socket in the test's own namespace");
    (netns, socket)
}

/// The link of that name.
#[track_caller]
pub(crate) fn named<'a>(links: &'a [Link], name: &str) -> &'a Link {
    let mut those = links.iter().filter(|link| link.name == name);
    match (those.next(), those.next()) {
        (Some(link), None) => link,
        _ => panic!("not exactly one link {name} in {links:#?}"),
    }
}

/// The number of the link of that name in the socket's namespace.
#[track_caller]
pub(crate) fn index_of(socket: &mut Socket, name: &str) -> IfIndex {
    socket.index_of(name).expect("a search by name").expect("a link of that name")
}
