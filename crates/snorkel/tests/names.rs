//! What is shown can be typed, and means what it was shown for; what is not found is answered with the reason and with
//! what was probably meant. Needs root.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "the helpers of a test fail as the test does")]

mod common;

use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use common::{Ran, good, lab, run, snorkel, target};
use serde_json::Value;
use snorkel_lab::{Kind, LabSpec, NodeSpec};

/// A process in a network namespace of its own, which nobody else owns.
struct Loner(Child);

impl Loner {
    fn new() -> Loner {
        let mut command = Command::new("sleep");
        // SAFETY: one system call between fork and exec.
        unsafe {
            command.pre_exec(|| Ok(rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET)?));
        }
        Loner(command.arg("1000").spawn().unwrap())
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Loner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn netns_inside(name: &str) -> String {
    let link = good(["exec", name, "--", "readlink", "/proc/self/ns/net"]);
    link.trim_start_matches("net:[").trim_end_matches("]\n").to_owned()
}

#[test]
fn every_name_in_the_listing_means_the_target_that_it_stands_for() {
    // Two labs with the same nodes, and a process.
    let (one, two) = (lab(LabSpec::default()), lab(LabSpec::default()));
    let loner = Loner::new();
    let table = good(["ls"]);
    let snapshot: Value = serde_json::from_str(&good(["ls", "--json"])).unwrap();
    let ours = |short: &str| {
        short.starts_with(&format!("{}/", one.name))
            || short.starts_with(&format!("{}/", two.name))
            || short == loner.pid()
    };
    // Further links of a target and links that are shared stand in rows without a name.
    let named = table.lines().skip(1).filter(|line| !line.starts_with(' '));
    let shown: Vec<&str> =
        named.filter_map(|line| line.split_whitespace().next()).filter(|s| ours(s)).collect();
    assert_eq!(shown.len(), 2 * 4 + 1, "{table}");
    for short in shown {
        let targets = snapshot["targets"].as_array().unwrap();
        let meant: Vec<&Value> = targets.iter().filter(|t| t["short"] == short).collect();
        assert_eq!(meant.len(), 1, "{short}: {table}");
        let inode = meant[0]["netns"]["inode"].to_string();
        assert_eq!(netns_inside(short), inode, "{short}");
        assert_eq!(netns_inside(meant[0]["name"].as_str().unwrap()), inode, "{short}");
        assert_eq!(good(["ls", "-q", short]), format!("{}\n", meant[0]["name"].as_str().unwrap()));
    }
    let row = table.lines().find(|line| line.starts_with(&loner.pid())).unwrap();
    assert!(row.contains(&format!("{} (sleep)", loner.pid())), "{row}");
}

#[test]
fn every_completion_means_one_target() {
    let lab = lab(LabSpec::default());
    let script = "source <(snorkel completions bash); COMP_WORDBREAKS=' '; COMP_WORDS=(snorkel exec ''); COMP_CWORD=2; \
                  COMP_TYPE=9; compopt() { :; }; _snorkel snorkel '' exec; printf '%s\\n' \"${COMPREPLY[@]}\"";
    let dir = std::path::Path::new(common::SNORKEL).parent().unwrap();
    let path = format!("{}:{}", dir.display(), std::env::var("PATH").unwrap());
    let done = Command::new("bash").args(["-c", script]).env("PATH", path).output().unwrap();
    let offered = String::from_utf8(done.stdout).unwrap();
    let ours: Vec<&str> = offered.lines().map(str::trim).filter(|word| word.contains(&lab.name)).collect();
    // Each node by its short and by its whole name.
    assert_eq!(ours.len(), 2 * 4, "{offered}");
    for word in ours {
        let node = word.rsplit('/').next().unwrap();
        let pid = match node {
            "switch" => continue,
            node => lab.node(node).unwrap().pid.unwrap(),
        };
        let expected = std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
        assert_eq!(format!("net:[{}]", netns_inside(word)), expected.to_string_lossy(), "{word}");
    }
}

#[test]
fn an_engine_that_could_not_be_asked_is_said_to_be_so() {
    let dir = tempfile::tempdir().unwrap();
    let (dead, silent) = (dir.path().join("dead.sock"), dir.path().join("silent.sock"));
    drop(UnixListener::bind(&dead).unwrap());
    let _silent = UnixListener::bind(&silent).unwrap();
    for (socket, why) in [(&dead, "Connection refused"), (&silent, "did not answer within 0.2 s")] {
        let docker = |words: &[&str]| -> Ran {
            let host = format!("unix://{}", socket.display());
            let mut command = snorkel(["--timeout", "200ms"].iter().chain(words));
            command.env("DOCKER_HOST", host).stdin(Stdio::null()).output().unwrap().into()
        };
        let ran = docker(&["exec", "docker:web", "--", "true"]);
        assert_eq!(ran.status, 125, "{ran:?}");
        let first = ran.stderr.lines().next().unwrap();
        assert!(first.starts_with("snorkel: docker could not be asked") && first.contains(why), "{ran:?}");
        assert!(ran.stderr.contains("  try: ") && !ran.stderr.contains("no target"), "{ran:?}");
        // Where the engine is not named, the target may be another's.
        for words in [
            &["exec", "no-such", "--", "true"][..],
            &["exec", "--each", "no-such", "--", "true"],
            &["ls", "no-such"],
        ] {
            let ran = docker(words);
            assert!(ran.status != 0 && ran.stdout.is_empty(), "{words:?}: {ran:?}");
            let warned =
                ran.stderr.lines().any(|l| l.starts_with("snorkel: warning: docker") && l.contains(why));
            assert!(warned && ran.stderr.contains("no target 'no-such'"), "{words:?}: {ran:?}");
            assert!(ran.stderr.contains("  try: snorkel ls -a"), "{words:?}: {ran:?}");
        }
    }
}

#[test]
fn what_begins_with_the_word_or_holds_it_is_suggested() {
    let lab = lab(LabSpec::of(vec![
        NodeSpec::new("shop-web-1", Kind::Idle),
        NodeSpec::new("shop-db-1", Kind::Idle),
    ]));
    let name = |node: &str| target(&lab, node);
    for words in [&["exec", "shop", "--", "true"][..], &["ls", "shop"]] {
        let ran = run(words);
        assert!(ran.stderr.contains("did you mean ") && ran.stderr.contains(&name("shop-web-1")), "{ran:?}");
        assert!(ran.stderr.contains(&name("shop-db-1")), "{ran:?}");
    }
    let ran = run(["exec", "web-1", "--", "true"]);
    assert!(ran.stderr.contains(&name("shop-web-1")) && !ran.stderr.contains("shop-db"), "{ran:?}");
}
