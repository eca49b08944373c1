//! `snorkel cut`, `block`, `partition`, `impair`, `apply`, `faults` and `heal` in a lab: what they do, and that nothing
//! stays, however they end. Needs root.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "the helpers of a test fail as the test does")]

mod common;
#[path = "disturb/killed.rs"]
mod killed;
#[path = "disturb/kit.rs"]
mod kit;

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
