//! Tables of nftables in a private namespace, with the real kernel. Needs root.

mod common;

use common::private;
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use snorkel_netns::Netns;
use snorkel_rtnl::{Error, Nftables};

#[test]
fn a_table_with_an_owner_is_his_alone_and_goes_with_him() {
    let (netns, _) = private();
    let mut owner = Nftables::open_in(&netns).unwrap();
    let mut other = Nftables::open_in(&netns).unwrap();
    assert!(!other.has_table("t").unwrap());
    owner.add_table("t", true).unwrap();
    assert!(owner.has_table("t").unwrap() && other.has_table("t").unwrap());
    assert!(other.add_table("t", false).unwrap_err().is_permission());
    drop(owner);
    assert!(!other.has_table("t").unwrap());
}

#[test]
fn a_table_without_an_owner_stays() {
    let (netns, _) = private();
    Nftables::open_in(&netns).unwrap().add_table("stays", false).unwrap();
    assert!(Nftables::open_in(&netns).unwrap().has_table("stays").unwrap());
    assert!(!Nftables::open_in(&Netns::private().unwrap()).unwrap().has_table("stays").unwrap());
}

#[test]
fn a_name_that_is_none_is_not_sent() {
    let (netns, _) = private();
    let mut nftables = Nftables::open_in(&netns).unwrap();
    for name in ["a\0b".to_owned(), "x".repeat(256), "x".repeat(70_000)] {
        assert!(matches!(nftables.add_table(&name, true), Err(Error::Invalid { .. })));
        assert!(matches!(nftables.has_table(&name), Err(Error::Invalid { .. })));
    }
    nftables.add_table(&"x".repeat(255), true).unwrap();
}

#[test]
fn a_refusal_counts_whichever_message_of_the_batch_it_names() {
    let (netns, _) = private();
    let mut nftables = Nftables::open_in(&netns).unwrap();
    // Without rights the kernel refuses the message that begins the batch, not the one that asks for an answer. This
    // thread only, which ends with the test.
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, none).unwrap();
    assert!(nftables.add_table("t", true).unwrap_err().is_permission());
}
