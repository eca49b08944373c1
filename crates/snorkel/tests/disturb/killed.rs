//! Whoever holds a fault is killed, in every stage: traffic flows as before, and nothing stays.

use std::fs;
use std::io::Write;

use tempfile::TempDir;

use crate::common::{Ran, snorkel, wait_until, with_variable};
use crate::kit::{Held, Site, bpf_links, is_stopped, signal};

/// The word of the environment that makes snorkel stand still at a stage.
const STOP_AT: &str = "SNORKEL_FAULT_STOP_AT";
/// The word for where the journal is.
const RUN: &str = "SNORKEL_RUN";

/// The word for gates as filters, as kernels without tcx have them.
const OLD_WAY: (&str, &str) = ("SNORKEL_FAULT_CLSACT", "1");

/// A journal of a test's own: who stands still has its lock, and nobody else is to wait for that.
struct OwnJournal(TempDir);

impl OwnJournal {
    fn new() -> OwnJournal {
        OwnJournal(tempfile::tempdir().unwrap())
    }

    /// A fault that is written down here.
    fn spawn(&self, words: &[&str], variables: &[(&str, &str)]) -> Held {
        let place = (RUN, self.0.path().to_str().unwrap());
        let variables: Vec<_> = variables.iter().copied().chain([place]).collect();
        Held::spawn(words, &variables)
    }

    /// How many entries it has.
    fn entries(&self) -> usize {
        fs::read_dir(self.0.path().join("faults")).map_or(0, Iterator::count)
    }

    /// Cuts the target off up to a stage, where the process stands still; the environment has this mark.
    fn cut(&self, target: &str, more: &[&str], stage: &str, mark: &str) -> Held {
        let words: Vec<&str> = ["cut", target].into_iter().chain(more.iter().copied()).collect();
        let held = self.spawn(&words, &[(STOP_AT, stage), ("MARK", mark)]);
        held.wait_stopped();
        held
    }

    /// Runs another command, which looks into the same journal.
    fn run(&self, words: &[&str]) -> Ran {
        snorkel(words).env(RUN, self.0.path()).output().unwrap().into()
    }
}

/// A mark that no other process has.
fn mark(of: &str) -> String {
    format!("{of}-{}", std::process::id())
}

/// The guardian of a holder that has this mark.
fn guardian(held: &Held, mark: &str) -> u32 {
    let mut all = with_variable(&format!("MARK={mark}"));
    all.retain(|pid| *pid != held.pid().to_string());
    assert_eq!(all.len(), 1, "holder and guardian: {all:?}");
    all[0].parse().unwrap()
}

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

const STAGES: [(&str, bool); 6] = [
    ("before-wires", false),
    ("before-gate", false),
    ("attached", false),
    ("armed", true),
    ("before-disarm", true),
    ("disarmed", false),
];

#[test]
fn gates_and_wires_go_with_their_process_at_any_stage() {
    go_with_their_process_at_any_stage(&[]);
}

#[test]
fn filters_go_with_their_process_at_any_stage() {
    go_with_their_process_at_any_stage(&[OLD_WAY]);
}

fn go_with_their_process_at_any_stage(way: &[(&str, &str)]) {
    let site = Site::new();
    let journal = OwnJournal::new();
    for words in [
        &["cut", &site.client, "--how", "drop", "--for", "1ms"][..],
        &["block", &site.client, "--to", &site.web, "--how", "reject", "--for", "1ms"],
        &["impair", &site.client, "--delay", "150ms", "--direction", "both", "--for", "1ms"],
    ] {
        for (stage, in_force) in STAGES {
            let held = journal.spawn(words, &[way, &[(STOP_AT, stage)]].concat());
            held.wait_stopped();
            assert_eq!(site.is_well(), !in_force, "{words:?} at {stage}");
            held.kill();
            wait_until("the network works again", || site.is_well());
            wait_until("nothing is written down any more", || journal.entries() == 0);
            site.assert_unchanged();
        }
    }
}

#[test]
fn a_cable_is_put_back_when_its_holder_is_killed_at_any_stage() {
    let site = Site::new();
    let journal = OwnJournal::new();
    for stage in ["before-journal", "journalled", "guarded", "down"] {
        journal.cut(&site.client, &[], stage, &mark(stage)).kill();
        wait_until("the network works again", || site.pings());
        site.assert_unchanged();
    }
    let held = journal.cut(&site.client, &["--for", "100ms"], "before-heal", &mark("heal"));
    // Who stands still with the journal in his hands keeps nobody waiting for ever.
    assert!(journal.run(&["lab", "ls"]).stderr.contains("lock"));
    held.kill();
    wait_until("the network works again", || site.pings());
    site.assert_unchanged();
}

#[test]
fn with_holder_and_guardian_killed_the_next_command_of_any_kind_puts_the_cable_back() {
    let site = Site::new();
    let journal = OwnJournal::new();
    // Not `heal --all`, which would end what others hold meanwhile.
    for command in [&["heal", &site.client][..], &["lab", "ls"], &["faults"]] {
        let mark = mark(command[0]);
        let held = journal.cut(&site.client, &[], "down", &mark);
        // The guardian first, so that it cannot do its work; the holder stands still meanwhile.
        signal(guardian(&held, &mark), libc::SIGKILL);
        held.kill();
        wait_until("both are gone", || with_variable(&format!("MARK={mark}")).is_empty());
        let ran = journal.run(command);
        assert_eq!(ran.status, 0, "{command:?}: {ran:?}");
        assert!(site.pings(), "{command:?}");
        site.assert_unchanged();
    }
}

#[test]
fn a_guardian_that_is_killed_alone_is_missed_and_the_cable_comes_back_all_the_same() {
    let site = Site::new();
    let journal = OwnJournal::new();
    let mark = mark("guardian");
    let held = journal.cut(&site.client, &[], "down", &mark);
    let guardian = guardian(&held, &mark);
    assert!(!is_stopped(guardian));
    signal(guardian, libc::SIGKILL);
    signal(held.pid(), libc::SIGCONT);
    wait_until("the cable is out", || !site.pings());
    signal(held.pid(), libc::SIGINT);
    let _ = held.end();
    wait_until("the network works again", || site.pings());
    site.assert_unchanged();
}

#[test]
fn filters_whose_guardian_was_killed_too_let_everything_pass_and_are_swept_by_the_next_command() {
    let site = Site::new();
    let journal = OwnJournal::new();
    for command in [&["lab", "ls"][..], &["heal", &site.client]] {
        let mark = mark(&format!("filters-{}", command[0]));
        let held = journal.spawn(&["cut", &site.client, "--how", "drop"], &[OLD_WAY, ("MARK", &mark)]);
        wait_until("nothing gets through", || !site.pings());
        signal(guardian(&held, &mark), libc::SIGKILL);
        held.kill();
        wait_until("both are gone", || with_variable(&format!("MARK={mark}")).is_empty());
        wait_until("the network works again", || site.pings());
        assert!(site.state().contains("snorkel:gate_out"), "nothing takes filters away but snorkel");
        let ran = journal.run(command);
        assert_eq!(ran.status, 0, "{command:?}: {ran:?}");
        site.assert_unchanged();
    }
}

#[test]
fn without_a_guardian_what_begins_later_begins_all_the_same_if_it_can_be_swept_later() {
    let site = Site::new();
    let journal = OwnJournal::new();
    let mark = mark("timeline");
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let client = &site.client;
    write!(
        file,
        "[fault.silence]\nkind = \"cut\"\ntargets = [\"{client}\"]\nhow = \"drop\"\n\
         [fault.late]\nkind = \"impair\"\ntargets = [\"{client}\"]\ndelay = \"150ms\"\nstart = \"2s\"\n",
    )
    .unwrap();
    let path = file.path().to_str().unwrap();
    let mut held = journal.spawn(&["apply", path], &[OLD_WAY, ("MARK", &mark)]);
    held.wait_for(" is in force: cut");
    signal(guardian(&held, &mark), libc::SIGKILL);
    held.wait_for(" is in force: impair");
    held.interrupt();
    site.assert_unchanged();
    assert_eq!(journal.entries(), 0);
}

#[test]
fn filters_that_a_living_process_holds_are_not_swept_and_go_with_its_fault() {
    let site = Site::new();
    let journal = OwnJournal::new();
    let held = journal.spawn(&["impair", &site.client, "--delay", "150ms"], &[OLD_WAY]);
    wait_until("packets are late", || !site.is_well());
    assert_eq!(journal.run(&["lab", "ls"]).status, 0);
    assert!(!site.is_well(), "it is still in force");
    held.interrupt();
    site.assert_unchanged();
    assert!(site.is_well());
    assert_eq!(journal.entries(), 0, "what is ended is written down no more");
}
