//! Queueing disciplines on links of a private namespace, with the real kernel. Needs root.

mod common;

use common::{index_of, private};
use std::time::Duration;

use snorkel_rtnl::{AttachedQdisc, FilterSide, Netem, Qdisc};

#[test]
fn a_token_bucket_and_a_place_for_filters_are_attached_side_by_side_and_once() {
    let (_netns, mut socket) = private();
    let lo = index_of(&mut socket, "lo");
    let bucket = Qdisc::Tbf { rate: 12_500_000, burst: 200_000, limit: 1_000_000 };
    for qdisc in [bucket, Qdisc::Clsact] {
        socket.add_qdisc(lo, qdisc).unwrap();
        let again = socket.add_qdisc(lo, qdisc).unwrap_err();
        assert!(again.already_exists(), "{again}");
        assert!(again.to_string().contains(&format!("attach a {} qdisc to link 1", qdisc.kind())), "{again}");
    }
}

#[test]
fn netem_is_attached_or_missing() {
    let (_netns, mut socket) = private();
    let lo = index_of(&mut socket, "lo");
    match socket.add_qdisc(lo, Qdisc::Netem { limit: 1000 }) {
        Ok(()) => {
            let again = socket.add_qdisc(lo, Qdisc::Netem { limit: 1000 }).unwrap_err();
            assert!(again.already_exists(), "{again}");
        }
        Err(error) => assert!(error.is_missing(), "{error}"),
    }
}

#[test]
fn what_is_attached_is_listed() {
    let (_netns, mut socket) = private();
    let lo = index_of(&mut socket, "lo");
    socket.add_qdisc(lo, Qdisc::Tbf { rate: 12_500_000, burst: 200_000, limit: 1_000_000 }).unwrap();
    let all = socket.qdiscs(None).unwrap();
    let found = all.iter().find(|qdisc| qdisc.link == lo).unwrap();
    assert_eq!((found.kind.as_str(), found.parent, found.netem.as_ref()), ("tbf", AttachedQdisc::ROOT, None));
    assert_eq!(found.statistics.drops, 0);
}

#[test]
fn a_netem_with_all_its_options_is_read_back_or_missing() {
    let (_netns, mut socket) = private();
    let lo = index_of(&mut socket, "lo");
    let netem = Netem {
        delay: Duration::from_millis(100),
        jitter: Duration::from_millis(10),
        distribution: Some(vec![-8192, 0, 8192]),
        limit: 5000,
        rate: 5_000_000_000,
        gap: 1,
        reorder: 1 << 30,
        seed: Some(7),
        ..Netem::default()
    };
    match socket.add_netem(lo, &netem) {
        Ok(()) => {
            let all = socket.qdiscs(None).unwrap();
            let found = all.iter().find(|qdisc| qdisc.link == lo).unwrap();
            assert!(found.netem.as_ref().unwrap().fulfils(&netem), "{found:?}");
        }
        Err(error) => assert!(error.is_missing(), "{error}"),
    }
}

#[test]
fn all_offloads_of_a_veth_can_be_turned_off() {
    let (_netns, mut socket) = private();
    let veth = socket.add_veth("a", "b", None).unwrap();
    let left = socket.turn_offloads_off(veth).unwrap();
    let harmful = |name: &&String| {
        name.contains("segmentation") || name.contains("checksum") || name.contains("scatter")
    };
    assert_eq!(left.iter().find(harmful), None, "{left:?}");
    assert_eq!(socket.turn_offloads_off(veth).unwrap(), left);
}

#[test]
fn a_place_for_filters_is_listed_and_removed() {
    let (_netns, mut socket) = private();
    let lo = index_of(&mut socket, "lo");
    let places = |socket: &mut snorkel_rtnl::Socket| {
        let all = socket.qdiscs(Some(lo)).unwrap();
        all.into_iter().filter(|one| one.holds_filters()).map(|one| one.kind).collect::<Vec<_>>()
    };
    assert!(places(&mut socket).is_empty());
    assert!(socket.filters(lo, FilterSide::Ingress).unwrap().is_empty());
    socket.add_qdisc(lo, Qdisc::Clsact).unwrap();
    assert_eq!(places(&mut socket), ["clsact"]);
    assert!(FilterSide::ALL.iter().all(|&side| socket.filters(lo, side).unwrap().is_empty()));
    socket.remove_clsact(lo).unwrap();
    assert!(places(&mut socket).is_empty());
    assert!(socket.remove_clsact(lo).is_err(), "it is gone");
}
