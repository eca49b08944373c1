//! Signals that reach snorkel while it waits for a command: the command gets them, and never outlives it. Needs root.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "the helpers of a test fail as the test does")]

mod common;

use std::io::{BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ExitStatus, Stdio};

use common::{end_of, lab, snorkel, target, wait_until, with_variable};
use snorkel_lab::{Kind, LabSpec, NodeSpec, Scoped};

/// A run of snorkel whose processes can be told from all others.
struct Run {
    child: Child,
    mark: String,
}

impl Run {
    /// Starts it, and waits for so many lines of its output.
    fn new(name: &str, lines: usize, words: &[&str]) -> Run {
        let mark = format!("MARK={name}-{}", std::process::id());
        let mut command = snorkel(words);
        // SAFETY: one system call between fork and exec.
        unsafe {
            command.pre_exec(|| {
                // Whoever runs the tests may ignore it (nohup(1)), which is handed on.
                libc::signal(libc::SIGHUP, libc::SIG_DFL);
                Ok(())
            });
        }
        let mut child = command.env("MARK", &mark[5..]).stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.as_mut().unwrap());
        for _ in 0..lines {
            let mut line = String::new();
            out.read_line(&mut line).unwrap();
            assert!(line.ends_with("ready\n"), "{line}");
        }
        Run { child, mark }
    }

    /// Sends it a signal, alone; how it ended, with nothing of it left.
    #[track_caller]
    fn end_by(mut self, signal: i32) -> ExitStatus {
        // SAFETY: signals a child of this test that has not been reaped.
        unsafe { libc::kill(self.child.id().cast_signed(), signal) };
        let mut ended = None;
        wait_until("snorkel ends", || {
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        });
        wait_until("its commands end", || with_variable(&self.mark).is_empty());
        ended.unwrap()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        for pid in with_variable(&self.mark) {
            // SAFETY: signals a process that carries this test's mark.
            unsafe { libc::kill(pid.parse().unwrap(), libc::SIGKILL) };
        }
        let _ = self.child.wait();
    }
}

const SLEEP: &str = "echo ready; exec sleep 1000";

fn two() -> (Scoped, String, String) {
    let lab = lab(LabSpec::of(vec![NodeSpec::new("one", Kind::Idle), NodeSpec::new("two", Kind::Idle)]));
    let (one, two) = (target(&lab, "one"), target(&lab, "two"));
    (lab, one, two)
}

#[test]
fn a_command_in_another_process_namespace_is_ended_by_what_snorkel_is_sent() {
    let (_lab, one, _) = two();
    for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGINT, libc::SIGUSR1] {
        let run = Run::new("pid", 1, &["exec", "--ns", "net,pid", &one, "--", "sh", "-c", SLEEP]);
        assert_eq!(run.end_by(signal).signal(), Some(signal));
    }
}

#[test]
fn a_command_in_another_process_namespace_may_answer_a_signal_itself() {
    let (_lab, one, _) = two();
    let script = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.1; done";
    let run = Run::new("trap", 1, &["exec", "--ns", "net,pid", &one, "--", "sh", "-c", script]);
    assert_eq!(run.end_by(libc::SIGTERM).code(), Some(9));
}

#[test]
fn a_command_in_another_process_namespace_dies_with_snorkel_whoever_it_runs_as() {
    let (_lab, one, _) = two();
    for user in ["root", "nobody"] {
        let words = ["exec", "--ns", "net,pid", "-u", user, &one, "--", "sh", "-c", SLEEP];
        let run = Run::new(user, 1, &words);
        assert_eq!(run.end_by(libc::SIGKILL).signal(), Some(libc::SIGKILL), "{user}");
    }
}

#[test]
fn a_command_that_stops_in_another_process_namespace_stops_snorkel_too_and_both_go_on() {
    let (_lab, one, _) = two();
    let script = "echo ready; kill -STOP $$; exit 7";
    let mut run = Run::new("stop", 1, &["exec", "--ns", "net,pid", &one, "--", "sh", "-c", script]);
    let state = format!("/proc/{}/stat", run.child.id());
    wait_until("snorkel stops", || std::fs::read_to_string(&state).unwrap().contains(") T "));
    // SAFETY: signals a child of this test that has not been reaped.
    unsafe { libc::kill(run.child.id().cast_signed(), libc::SIGCONT) };
    assert_eq!(run.child.wait().unwrap().code(), Some(7));
}

#[test]
fn each_takes_its_commands_with_it() {
    let (_lab, one, two) = two();
    for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGINT, libc::SIGKILL] {
        for user in ["root", "nobody"] {
            let words = ["exec", "--each", "-u", user, &one, &two, "--", "sh", "-c", SLEEP];
            let run = Run::new("each", 2, &words);
            assert_eq!(run.end_by(signal).signal(), Some(signal), "{user}");
        }
    }
}

#[test]
fn each_ends_what_its_commands_have_started_too() {
    let (_lab, one, two) = two();
    // The inner one speaks, so that the outer one waits by then: dash forgets a SIGINT that comes while it starts a
    // command by vfork(2), from whomever.
    let script = "sh -c 'echo ready; exec sleep 1000'; echo over";
    for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGINT] {
        let words = ["exec", "--each", &one, &two, "--", "sh", "-c", script];
        let run = Run::new("group", 2, &words);
        assert_eq!(run.end_by(signal).signal(), Some(signal));
    }
}

#[test]
fn a_parent_that_ignores_the_end_of_its_children_hands_that_on_and_the_status_is_told() {
    let (_lab, one, _) = two();
    let ran = |how: &[&str], command: &[&str]| {
        let mut run = snorkel(["exec"].iter().chain(how).chain(&[one.as_str(), "--"]).chain(command));
        // SAFETY: one system call between fork and exec.
        unsafe {
            run.pre_exec(|| {
                libc::signal(libc::SIGCHLD, libc::SIG_IGN);
                Ok(())
            });
        }
        let mut child = run.stdout(Stdio::piped()).spawn().unwrap();
        let status = end_of(&mut child).unwrap_or_else(|| panic!("{how:?}: it waits for ever"));
        let mut out = String::new();
        std::io::Read::read_to_string(&mut child.stdout.take().unwrap(), &mut out).unwrap();
        (status.code(), out)
    };
    for how in [&["--ns", "net,pid"][..], &["--each"]] {
        assert_eq!(ran(how, &["sh", "-c", "exit 3"]).0, Some(3), "{how:?}");
        let (status, mask) = ran(how, &["grep", "SigIgn", "/proc/self/status"]);
        let mask = u64::from_str_radix(mask.trim_end().rsplit('\t').next().unwrap(), 16).unwrap();
        // Bit 17 of the mask, from 1 (proc_pid_status(5)).
        assert_eq!((status, mask >> (libc::SIGCHLD - 1) & 1), (Some(0), 1), "{how:?}");
    }
}

#[test]
fn each_shows_what_its_commands_say_of_their_end() {
    let (_lab, one, _) = two();
    let script = "trap 'echo bye; exit' TERM; echo ready; while :; do sleep 0.1; done";
    let mut run = Run::new("bye", 1, &["exec", "--each", &one, "--", "sh", "-c", script]);
    let mut out = run.child.stdout.take().unwrap();
    run.end_by(libc::SIGTERM);
    let mut said = String::new();
    std::io::Read::read_to_string(&mut out, &mut said).unwrap();
    assert_eq!(said, format!("{one} | bye\n"));
}

#[test]
fn each_ends_though_nobody_reads_what_it_prints() {
    let (_lab, one, two) = two();
    let words = ["exec", "--each", &one, &two, "--", "sh", "-c", "echo ready; exec yes ready"];
    let run = Run::new("yes", 2, &words);
    assert_eq!(run.end_by(libc::SIGTERM).signal(), Some(libc::SIGTERM));
}
