//! The forms of what is printed: JSON, and a terminal that is drawn over again. Needs root, for the lab.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "the helpers of a test fail as the test does")]

mod common;

use std::io::Read;
use std::process::{Command, Stdio};

use common::{SNORKEL, good, lab, run, target};
use serde_json::Value;
use snorkel_lab::LabSpec;

#[test]
fn every_json_says_its_schema() {
    let lab = lab(LabSpec::default());
    let (web, db) = (target(&lab, "web"), target(&lab, "db"));
    for words in [
        &["ls", "--json"][..],
        &["which", "--json", "lo", "no-such-link"],
        &["doctor", "--json"],
        &["lab", "ls", "--json"],
    ] {
        let json: Value = serde_json::from_str(&run(words).stdout).unwrap();
        assert_eq!(json["schema"], 1, "{words:?}: {json:#}");
    }
    let labs: Value = serde_json::from_str(&good(["lab", "ls", "--json"])).unwrap();
    let names: Vec<&str> =
        labs["labs"].as_array().unwrap().iter().filter_map(|l| l["lab"].as_str()).collect();
    assert!(names.contains(&lab.name.as_str()), "{labs:#}");
    let lines = good(["exec", "--each", "--json", &web, &db, "--", "true"]);
    let schemas: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["schema"].clone()).collect();
    assert_eq!(schemas, [1, 1]);
}

#[test]
fn a_watch_on_a_terminal_neither_clears_nor_wraps_nor_scrolls() {
    let _lab = lab(LabSpec::idle(20));
    // script(1) gives it a terminal; timeout(1) ends it should it not come to draw.
    let line = format!("stty cols 40 rows 8; exec {SNORKEL} ls --watch --engine lab");
    let mut child = Command::new("timeout")
        .args(["120", "script", "-qec", &line, "/dev/null"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let (mut seen, mut part) = (String::new(), [0; 4096]);
    while !seen.contains("more lines") {
        let length = stdout.read(&mut part).unwrap();
        assert!(length > 0, "it ended: {seen:?}");
        seen.push_str(&String::from_utf8_lossy(&part[..length]));
    }
    // SAFETY: signals a child of this test that has not been reaped.
    unsafe { libc::kill(child.id().cast_signed(), libc::SIGTERM) };
    child.wait().unwrap();
    assert!(!seen.contains("\x1b[2J"), "{seen:?}");
    let drawn = seen.rsplit("\x1b[H").next().unwrap();
    assert!(drawn.matches('\n').count() < 8, "{drawn:?}");
    let plain =
        drawn.replace("\x1b[K", "").replace("\x1b[J", "").replace("\x1b[1m", "").replace("\x1b[0m", "");
    let plain = plain.replace("\x1b[32m", "").replace("\x1b[31m", "").replace("\x1b[2m", "");
    for line in plain.lines() {
        assert!(line.trim_end().chars().count() <= 40, "{line:?}");
    }
}
