//! The forms of what is printed: JSON, and a terminal that is drawn over again. Needs root, for the lab.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "the helpers of a test fail as the test does")]

mod common;

use std::fs::File;
use std::io::Read;
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::{Command, Stdio};

use common::{Limit, SNORKEL, good, lab, run, target};
use rustix::termios::{Winsize, tcsetwinsize};
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
    let long = good(["exec", "--each", "--json", &web, "--", "head", "-c", "5000000", "/dev/zero"]);
    let long: Value = serde_json::from_str(&long).unwrap();
    assert_eq!((&long["truncated"], long["stdout"].as_str().unwrap().len()), (&true.into(), 4 << 20));
    assert!(lines.lines().all(|line| line.contains("\"truncated\":false")), "{lines}");
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

/// A terminal of its own: the side that sees what is drawn, and the side to run in.
fn terminal(columns: u16, rows: u16) -> (File, OwnedFd) {
    let (mut outside, mut inside) = (-1, -1);
    // SAFETY: writes two numbers to live locals; name, settings and size are left out.
    let made = unsafe {
        libc::openpty(
            &raw mut outside,
            &raw mut inside,
            std::ptr::null_mut(),
            std::ptr::null(),
            std::ptr::null(),
        )
    };
    assert_eq!(made, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the call above made both descriptors, and nobody else has them.
    let (outside, inside) = unsafe { (File::from_raw_fd(outside), OwnedFd::from_raw_fd(inside)) };
    resize(&outside, columns, rows);
    (outside, inside)
}

fn resize(terminal: &File, columns: u16, rows: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).unwrap();
}

#[test]
fn a_watch_draws_anew_as_soon_as_its_terminal_has_another_size() {
    let _lab = lab(LabSpec::idle(20));
    let (mut outside, inside) = terminal(120, 40);
    let mut child = Command::new("setsid")
        .args(["--ctty", SNORKEL, "ls", "--watch", "--engine", "lab", "--engine", "pid"])
        .stdin(inside.try_clone().unwrap())
        .stdout(inside)
        .spawn()
        .unwrap();
    let _limit = Limit::on(&child);
    let mut seen = String::new();
    let mut until = |wanted: &str, part: &mut File| {
        let mut bytes = [0; 4096];
        while !seen.contains(wanted) {
            // An error is the end of the one who draws (EIO).
            let length = part.read(&mut bytes).unwrap_or(0);
            assert!(length > 0, "it ended: {seen:?}");
            seen.push_str(&String::from_utf8_lossy(&bytes[..length]));
        }
        seen.clear();
    };
    until("n0020", &mut outside);
    // Nothing happens from now on but this.
    resize(&outside, 60, 8);
    until("more lines", &mut outside);
    resize(&outside, 120, 40);
    until("n0020", &mut outside);
    child.kill().unwrap();
    child.wait().unwrap();
}
