//! What the kernel tells unasked. Needs root.
#![allow(clippy::unwrap_used, reason = "a test whose means fail fails")]

mod common;

use std::os::fd::AsFd;

use common::private;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use snorkel_rtnl::{Event, EventKind, Groups, NsId, Subscription};

/// Waits for an event that `wanted` holds for. The time-out is for the case that it never comes.
fn wait(subscription: &mut Subscription, wanted: impl Fn(&Event) -> bool) -> Event {
    let mut others = Vec::new();
    loop {
        while let Some(event) = subscription.next().unwrap() {
            if wanted(&event) {
                return event;
            }
            others.push(event);
        }
        let patience = Timespec { tv_sec: 20, tv_nsec: 0 };
        let ready = poll(&mut [PollFd::new(&subscription.as_fd(), PollFlags::IN)], Some(&patience)).unwrap();
        assert!(ready > 0, "the event does not come; these did: {others:#?}");
    }
}

#[test]
fn nothing_happens_nothing_is_told() {
    let (netns, _) = private();
    let mut subscription = Subscription::open_in(&netns, Groups::ALL, true).unwrap();
    assert_eq!(subscription.next().unwrap(), None);
}

#[test]
fn changes_of_the_own_namespace_are_told_by_kind() {
    let (netns, mut socket) = private();
    let mut subscription = Subscription::open_in(&netns, Groups::ALL, false).unwrap();
    let link = socket.add_veth("a", "b", None).unwrap();
    wait(&mut subscription, |e| *e == Event { kind: EventKind::Link, removed: false, nsid: None });
    socket.set_up(link).unwrap();
    socket.add_address(link, [10, 1, 0, 1].into(), 24).unwrap();
    wait(&mut subscription, |e| e.kind == EventKind::Address && !e.removed);
    wait(&mut subscription, |e| e.kind == EventKind::Route && !e.removed);
    let (other, _) = private();
    socket.nsid(&other).unwrap();
    wait(&mut subscription, |e| e.kind == EventKind::Nsid && !e.removed);
    socket.remove(link).unwrap();
    wait(&mut subscription, |e| e.kind == EventKind::Link && e.removed);
}

#[test]
fn a_link_that_is_made_in_another_namespace_is_told_with_its_id() {
    let (netns, mut socket) = private();
    let (blue, mut inside_blue) = private();
    let (_green, mut inside_green) = private();
    let blue_id = socket.nsid(&blue).unwrap();
    let mut subscription = Subscription::open_in(&netns, Groups::LINKS | Groups::ADDRESSES, true).unwrap();
    // A namespace without an id here is not heard of.
    inside_green.add_bridge("br0").unwrap();
    assert_eq!(subscription.next().unwrap(), None);

    let link = inside_blue.add_bridge("br0").unwrap();
    let told = wait(&mut subscription, |e| e.kind == EventKind::Link);
    assert_eq!(told, Event { kind: EventKind::Link, removed: false, nsid: Some(blue_id) });
    inside_blue.add_address(link, [10, 1, 0, 1].into(), 24).unwrap();
    wait(&mut subscription, |e| e.kind == EventKind::Address && e.nsid == Some(blue_id));
}

#[test]
fn without_all_nsids_other_namespaces_are_not_heard_of() {
    let (netns, mut socket) = private();
    let (blue, mut inside) = private();
    let id: NsId = socket.nsid(&blue).unwrap();
    assert!(id.is_assigned());
    let mut subscription = Subscription::open_in(&netns, Groups::LINKS, false).unwrap();
    inside.add_bridge("br0").unwrap();
    assert_eq!(subscription.next().unwrap(), None);
}

#[test]
fn events_that_nobody_reads_end_in_an_overrun_and_then_it_goes_on() {
    let (netns, mut socket) = private();
    let mut subscription = Subscription::open_in(&netns, Groups::LINKS, false).unwrap();
    let link = socket.add_bridge("br0").unwrap();
    for round in 0..20_000 {
        socket.set_mtu(link, 1000 + round % 100).unwrap();
    }
    wait(&mut subscription, |e| e.kind == EventKind::Overrun);
    while subscription.next().unwrap().is_some() {}
    socket.remove(link).unwrap();
    wait(&mut subscription, |e| e.kind == EventKind::Link && e.removed);
}

#[test]
fn the_id_of_a_namespace_that_died_is_told_and_is_an_error_from_then_on() {
    let (netns, mut socket) = private();
    let (container, inside) = private();
    let id = socket.nsid(&container).unwrap();
    assert_eq!(socket.links(Some(id)).unwrap().len(), 1);
    let mut subscription = Subscription::open_in(&netns, Groups::NSIDS, false).unwrap();
    // A socket inside holds the namespace as well as its handle does.
    drop((container, inside));
    wait(&mut subscription, |e| e.kind == EventKind::Nsid && e.removed);
    assert!(socket.links(Some(id)).is_err());
    assert!(socket.addresses(Some(id)).is_err());
}
