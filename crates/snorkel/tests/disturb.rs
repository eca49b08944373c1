//! `snorkel cut`, `block`, `partition`, `impair`, `apply`, `faults` and `heal` in a lab: what they do, and that nothing
//! stays, however they end. Needs root.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "the helpers of a test fail as the test does")]

mod common;
#[path = "disturb/docker.rs"]
mod docker;
#[path = "disturb/killed.rs"]
mod killed;
#[path = "disturb/kit.rs"]
mod kit;
#[path = "disturb/many.rs"]
mod many;
#[path = "disturb/terminal.rs"]
mod terminal;

use common::{good, run, wait_until};
use kit::{DB, Held, Site, WEB};

#[test]
fn a_cut_takes_the_carrier_and_leaves_addresses_and_routes() {
    let site = Site::new();
    let addresses =
        || good(["exec", &site.client, "--", "ip", "-o", "addr", "show", "eth0", "scope", "global"]);
    let routes = || good(["exec", &site.client, "--", "ip", "route"]);
    let (had, led) = (addresses(), routes());
    let held = Held::start(&["cut", &site.client]);
    assert_eq!(good(["exec", &site.client, "--", "cat", "/sys/class/net/eth0/carrier"]).trim(), "0");
    // The kernel marks what stands on a link without carrier; the rest is as it was.
    assert_eq!(addresses(), had);
    assert_eq!(routes().replace(" linkdown", ""), led);
    assert!(!site.pings());
    held.interrupt();
    wait_until("the network works again", || site.pings());
    site.assert_unchanged();
}

#[test]
fn each_kind_does_what_it_says_and_ends_with_ctrl_c() {
    let site = Site::new();
    for words in site.every_kind() {
        let held = Held::start(&words);
        assert!(!site.is_well(), "{words:?}");
        let said = held.interrupt();
        assert!(said.contains("is healed"), "{words:?}: {said}");
        assert!(site.is_well(), "{words:?}");
        site.assert_unchanged();
    }
}

#[test]
fn only_the_peer_that_is_named_is_blocked() {
    let site = Site::new();
    let held = Held::start(&["block", &site.client, "--with", &site.web, "--proto", "icmp"]);
    assert!(!site.pings());
    assert!(site.reaches(DB));
    assert!(site.fetches(), "another protocol is not meant");
    held.interrupt();
    assert!(site.pings());
}

#[test]
fn a_rejected_client_hears_that_it_is_refused() {
    let site = Site::new();
    let held = Held::start(&["block", &site.client, "--to", &format!("{}:80", site.web), "--how", "reject"]);
    let ran = run(["exec", &site.client, "--", "curl", "-sS", "-m", "20", &format!("http://{WEB}/")]);
    // Refused (CURLE_COULDNT_CONNECT), and not timed out.
    assert_eq!(ran.status, 7, "{ran:?}");
    held.interrupt();
    assert!(site.fetches());
}

#[test]
fn a_partition_may_have_one_way_only() {
    let site = Site::new();
    let both = Held::start(&["partition", &site.client, &site.web]);
    assert!(!site.pings());
    assert!(site.reaches(DB));
    both.interrupt();
    let one = Held::start(&["partition", &format!("{},{}", site.client, site.db), "->", &site.web]);
    // What the client sends does not arrive, so no answer can come either; that it was sent shows at the other's end.
    assert!(!site.pings());
    one.interrupt();
    assert!(site.pings());
}

#[test]
fn a_command_has_the_fault_for_its_length_and_its_own_status() {
    let site = Site::new();
    let ran = run(["impair", &site.client, "--delay", "30ms", "--", "sh", "-c", "exit 7"]);
    assert_eq!(ran.status, 7, "{ran:?}");
    let ping = ["exec", &site.client, "--", "ping", "-q", "-c", "3", WEB];
    let snorkel = common::SNORKEL;
    let ran = run(["impair", &site.client, "--delay", "30ms", "--", snorkel].into_iter().chain(ping));
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(kit::least_round_trip(&ran.stdout) >= 30.0, "{ran:?}");
    assert_eq!(run(["cut", &site.client, "--", "/no/such/command"]).status, 127);
    assert!(site.is_well());
    site.assert_unchanged();
}

#[test]
fn a_detached_fault_is_listed_and_healed_from_elsewhere() {
    let site = Site::new();
    let id = good(["cut", &site.client, "--how", "drop", "--detach"]).trim().to_owned();
    let listed: serde_json::Value = serde_json::from_str(&good(["faults", "--json"])).unwrap();
    let faults = listed["faults"].as_array().unwrap();
    assert!(faults.iter().any(|fault| fault["id"] == id.as_str() && fault["kind"] == "cut"), "{listed}");
    assert!(!site.pings());
    let said = good(["heal", &id]);
    assert!(said.contains(&id), "{said}");
    wait_until("the network works again", || site.pings());
    assert_eq!(run(["heal", &id]).status, 0, "what is healed needs no healing");
    site.assert_unchanged();
}

#[test]
fn the_same_fault_a_second_time_is_refused_and_names_the_first() {
    let site = Site::new();
    let held = Held::start(&["cut", &site.client]);
    let ran = run(["cut", &site.client, "--for", "5s"]);
    assert_ne!(ran.status, 0, "{ran:?}");
    assert!(ran.stderr.contains(held.id()), "{ran:?}");
    held.interrupt();
    assert!(site.pings());
}

#[test]
fn two_faults_on_one_target_end_in_any_order() {
    let site = Site::new();
    for first_first in [true, false] {
        let first = Held::start(&["cut", &site.client]);
        let second = Held::start(&["cut", &site.client, "--how", "drop"]);
        let (one, other) = if first_first { (first, second) } else { (second, first) };
        one.interrupt();
        assert!(!site.pings(), "the other one is still in force");
        other.interrupt();
        wait_until("the network works again", || site.pings());
        site.assert_unchanged();
    }
}

#[test]
fn wires_on_one_target_add_up_and_end_in_any_order() {
    let site = Site::new();
    for first_first in [true, false] {
        let first = Held::start(&["impair", &site.client, "--delay", "60ms"]);
        let second = Held::start(&["impair", &site.client, "--delay", "200ms", "--with", &site.web]);
        assert!(site.round_trip() >= 260.0);
        if first_first {
            first.interrupt();
            assert!(site.round_trip() >= 200.0, "the second is in force");
            second.interrupt();
        } else {
            second.interrupt();
            let took = site.round_trip();
            assert!((60.0..200.0).contains(&took), "the first is in force, and it alone: {took}");
            first.interrupt();
        }
        assert!(site.is_well());
        site.assert_unchanged();
    }
}

#[test]
fn some_tens_of_faults_one_after_another_leave_nothing() {
    let site = Site::new();
    for round in 0..30 {
        let words: &[&str] = match round % 3 {
            0 => &["cut", &site.client, "--how", "drop"],
            1 => &["impair", &site.client, "--delay", "5ms", "--direction", "both"],
            _ => &["cut", &site.client],
        };
        let ran = run([words, &["--", "true"]].concat());
        assert_eq!(ran.status, 0, "{ran:?}");
    }
    wait_until("the network works again", || site.pings());
    site.assert_unchanged();
}

#[test]
fn the_same_impairment_again_is_refused_whatever_chance_has_drawn() {
    let site = Site::new();
    let words = ["impair", &site.client, "--loss", "1%"];
    let held = Held::start(&words);
    let ran = run(words.into_iter().chain(["--for", "5s"]));
    assert_ne!(ran.status, 0, "{ran:?}");
    assert!(ran.stderr.contains(held.id()), "{ran:?}");
    let other = run(["impair", &site.client, "--loss", "2%", "--", "true"]);
    assert_eq!(other.status, 0, "another loss is another fault: {other:?}");
    held.interrupt();
}

#[test]
fn programs_of_others_at_the_link_stay_and_see_what_passes() {
    let site = Site::new();
    // Its own traffic control: a filter that matches everything, and counts.
    let switch = |script: &str| good(["exec", &site.switch, "--", "sh", "-c", script]);
    let link = site.far_end();
    switch(&format!(
        "tc qdisc add dev {link} clsact && tc filter add dev {link} ingress prio 7 protocol ip u32 match u32 0 0"
    ));
    let filters = || switch(&format!("tc qdisc show dev {link}; tc filter show dev {link} ingress"));
    let before = filters();
    assert!(before.contains("u32"), "{before}");
    for variables in [&[][..], &[("SNORKEL_FAULT_CLSACT", "1")]] {
        for words in [&["impair", "--delay", "150ms"][..], &["cut", "--how", "drop"]] {
            let words: Vec<&str> = words.iter().copied().chain([site.client.as_str()]).collect();
            let held = Held::spawn(&words, variables).in_force();
            assert!(!site.is_well(), "{words:?}");
            held.interrupt();
            assert!(site.is_well());
            assert_eq!(filters(), before, "{words:?} {variables:?}");
        }
    }
}

#[test]
fn where_packets_have_no_ethernet_header_only_what_needs_none_is_done() {
    let site = Site::new();
    good(["exec", &site.client, "--", "ip", "tuntap", "add", "dev", "tun7", "mode", "tun"]);
    for words in [
        &["impair", "--delay", "1ms"][..],
        &["cut", "--how", "reject", "--all"],
        &["block", "--with", "192.0.2.1"],
    ] {
        let ran = run(words.iter().copied().chain([site.client.as_str()]));
        assert_ne!(ran.status, 0, "{ran:?}");
        assert!(ran.stderr.contains("tun7") && ran.stderr.contains("--link"), "{ran:?}");
    }
    for words in [&["impair", "-i", "eth0", "--delay", "1ms"][..], &["cut", "-i", "tun7", "--how", "drop"]] {
        let ran = run(words.iter().copied().chain([site.client.as_str(), "--", "true"]));
        assert_eq!(ran.status, 0, "{words:?}: {ran:?}");
    }
}

#[test]
fn a_command_that_a_signal_ends_is_told_as_such_and_signals_are_passed_on_to_it() {
    let site = Site::new();
    let delay = ["impair", &site.client, "--delay", "150ms", "--"];
    let own = run([&delay[..], &["sh", "-c", "kill -TERM $$"]].concat());
    assert_eq!(own.status, 128 + libc::SIGTERM, "{own:?}");
    let script = "trap 'exit 5' TERM; trap '' INT; echo ready >&2; while :; do sleep 0.1; done";
    let mut held = Held::spawn(&[&delay[..], &["sh", "-c", script]].concat(), &[]).in_force();
    held.wait_for("ready");
    kit::signal(held.pid(), libc::SIGINT);
    assert!(!site.is_well(), "what the command does not mind does not end the fault");
    kit::signal(held.pid(), libc::SIGTERM);
    let (status, said) = held.end();
    assert_eq!(status.code(), Some(5), "{said}");
    assert!(said.contains("is healed"), "{said}");
    assert!(site.is_well());
    site.assert_unchanged();
}

#[test]
fn a_file_that_is_applied_twice_changes_nothing() {
    let site = Site::new();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    use std::io::Write;
    writeln!(file, "[fault.silence]\nkind = \"cut\"\ntargets = [\"{}\"]\nhow = \"drop\"", site.client)
        .unwrap();
    let path = file.path().to_str().unwrap();
    let dry = good(["apply", path, "--dry-run"]);
    assert!(dry.contains("silence"), "{dry}");
    let id = good(["apply", path, "--detach"]).trim().to_owned();
    assert!(!site.pings());
    let again = run(["apply", path, "--detach"]);
    assert_eq!(again.status, 0, "{again:?}");
    let listed: serde_json::Value = serde_json::from_str(&good(["faults", "--json"])).unwrap();
    let mine = listed["faults"].as_array().unwrap().iter().filter(|fault| {
        fault["targets"].as_array().is_some_and(|all| all.iter().any(|one| one == site.client.as_str()))
    });
    assert_eq!(mine.count(), 1, "{listed}");
    good(["heal", &id]);
    wait_until("the network works again", || site.pings());
}

#[test]
fn a_target_that_goes_away_ends_its_fault() {
    let site = Site::new();
    let held = Held::start(&["impair", &site.client, "--delay", "10ms"]);
    drop(site);
    let (_, said) = held.end();
    assert!(said.contains("gone"), "{said}");
}

#[test]
fn the_hosts_own_network_is_refused() {
    let own = format!("pid:{}", std::process::id());
    for words in [&["cut"][..], &["impair", "--delay", "1ms"], &["block", "--to", "192.0.2.1"]] {
        let ran = run(words.iter().map(ToString::to_string).chain([own.clone()]));
        assert_ne!(ran.status, 0, "{ran:?}");
        assert!(ran.stderr.contains("host"), "{ran:?}");
    }
}

#[test]
fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let site = Site::new();
    let plan = good(["impair", &site.client, "--delay", "100ms", "--with", &site.web, "--dry-run"]);
    assert!(plan.contains("eth0") && plan.contains("100"), "{plan}");
    assert!(site.is_well());
    site.assert_unchanged();
}

#[test]
fn losses_are_as_many_as_were_asked_for() {
    let site = Site::new();
    let held = Held::start(&["impair", &site.client, "--loss", "10%", "--seed", "7", "--proto", "icmp"]);
    let pings = ["-f", "-q", "-c", "2000", "-i", "0.002", "-W", "1", WEB];
    good(["exec", &site.client, "--", "sh", "-c", &format!("ping {} || true", pings.join(" "))]);
    let listed: serde_json::Value = serde_json::from_str(&good(["faults", "--json", "--only-own"])).unwrap();
    let fault = listed["faults"].as_array().unwrap().iter().find(|f| f["id"] == held.id()).unwrap().clone();
    let wire = &fault["links"][0]["wires"][0];
    let (entered, returned) = (wire["entered"].as_u64().unwrap(), wire["returned"].as_u64().unwrap());
    assert!(entered >= 2000, "{fault}");
    // 99.9 % of all binomial draws lie within 3.29 standard deviations.
    let (n, p) = (entered as f64, 0.1);
    let bound = 3.29 * (n * p * (1.0 - p)).sqrt();
    let lost = (entered - returned) as f64;
    assert!((lost - n * p).abs() <= bound, "{lost} of {n}");
    held.interrupt();
}
