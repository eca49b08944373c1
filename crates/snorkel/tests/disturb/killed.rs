//! Whoever holds a fault is killed, in every stage: traffic flows as before, and nothing stays.

use crate::common::{good, run, wait_until, with_variable};
use crate::kit::{Held, Site, bpf_links, is_stopped, signal};

/// The word of the environment that makes snorkel stand still at a stage.
const STOP_AT: &str = "SNORKEL_FAULT_STOP_AT";

#[test]
fn every_kind_ends_with_its_killed_process() {
    let site = Site::new();
    for words in site.every_kind() {
        let held = Held::start(&words);
        assert!(!site.is_well(), "{words:?}");
        let links = bpf_links(held.pid());
        assert_eq!(links.is_empty(), words.len() == 2, "{words:?}: only a cut cable needs no program");
        held.kill();
        wait_until("the network works again", || site.is_well());
        wait_until("no program stays", || {
            let all = snorkel_bpf::probe::links().unwrap();
            !links.iter().any(|link| all.contains(link))
        });
        site.assert_unchanged();
    }
}

#[test]
fn a_cable_is_put_back_when_its_holder_is_killed_at_any_stage() {
    let site = Site::new();
    for stage in ["before-journal", "journalled", "guarded", "down"] {
        let held = Held::spawn(&["cut", &site.client], &[(STOP_AT, stage)]);
        held.wait_stopped();
        held.kill();
        wait_until("the network works again", || site.pings());
        site.assert_unchanged();
    }
    let held = Held::spawn(&["cut", &site.client, "--for", "100ms"], &[(STOP_AT, "before-heal")]);
    held.wait_stopped();
    // Who stands still with the journal in his hands keeps nobody waiting for ever.
    assert!(run(["lab", "ls"]).stderr.contains("lock"));
    held.kill();
    wait_until("the network works again", || site.pings());
    site.assert_unchanged();
}

#[test]
fn with_holder_and_guardian_killed_the_next_command_of_any_kind_puts_the_cable_back() {
    let site = Site::new();
    for command in [&["heal", "--all"][..], &["lab", "ls"], &["faults"]] {
        let mark = format!("all-{}-{}", std::process::id(), command[0]);
        let held = Held::spawn(&["cut", &site.client], &[("MARK", &mark), (STOP_AT, "down")]);
        held.wait_stopped();
        let mut all = with_variable(&format!("MARK={mark}"));
        all.retain(|pid| *pid != held.pid().to_string());
        assert_eq!(all.len(), 1, "holder and guardian: {all:?}");
        // The guardian first, so that it cannot do its work; the holder stands still meanwhile.
        signal(all[0].parse().unwrap(), libc::SIGKILL);
        held.kill();
        wait_until("both are gone", || with_variable(&format!("MARK={mark}")).is_empty());
        good(command.iter().copied());
        assert!(site.pings(), "{command:?}");
        site.assert_unchanged();
    }
}

#[test]
fn a_guardian_that_is_killed_alone_is_missed_and_the_cable_comes_back_all_the_same() {
    let site = Site::new();
    let mark = format!("guardian-{}", std::process::id());
    let held = Held::spawn(&["cut", &site.client], &[("MARK", &mark), (STOP_AT, "down")]);
    held.wait_stopped();
    let guardian =
        with_variable(&format!("MARK={mark}")).into_iter().find(|pid| *pid != held.pid().to_string());
    let guardian: u32 = guardian.expect("there is a guardian").parse().unwrap();
    assert!(!is_stopped(guardian));
    signal(guardian, libc::SIGKILL);
    signal(held.pid(), libc::SIGCONT);
    wait_until("the cable is out", || !site.pings());
    signal(held.pid(), libc::SIGINT);
    let _ = held.end();
    wait_until("the network works again", || site.pings());
    site.assert_unchanged();
}
