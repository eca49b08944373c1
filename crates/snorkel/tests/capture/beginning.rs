//! Signals that come while a capture is still looking for its targets, and an engine keeps it waiting.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;

use rustix::process::{Pid, Signal, kill_process};
use snorkel_lab::LabSpec;

use crate::common::fake::Fake;
use crate::common::{LONG, SNORKEL, end_of, lab, snorkel, target, wait_until, with_variable};

/// Starts what waits for an engine that says nothing for longer than any test takes.
#[track_caller]
fn waits(mut command: Command) -> (Child, Fake) {
    let (tell, told) = channel();
    let engine = Fake::new(move |path| {
        // Once it was asked nobody listens any more.
        let _ = tell.send(path.to_owned());
        None
    });
    command.args(["--timeout", "1h"]).env("DOCKER_HOST", engine.host());
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    told.recv_timeout(LONG).expect("the engine is asked");
    (child, engine)
}

/// Nothing that was started to ask this engine goes on.
#[track_caller]
fn nothing_goes_on(engine: &Fake) {
    let variable = format!("DOCKER_HOST={}", engine.host());
    wait_until("the end of what was started", || with_variable(&variable).is_empty());
}

#[test]
fn a_signal_ends_what_still_waits_for_an_engine() {
    let lab = lab(LabSpec::default());
    let client = target(&lab, "client");
    for signal in [Signal::INT, Signal::TERM] {
        for words in [
            &["capture", client.as_str()][..],
            &["capture", &client, "--follow"],
            &["capture", "no-such-*", "--follow", "--for", "1h"],
            &["ls", "--watch"],
        ] {
            let (mut child, engine) = waits(snorkel(words));
            kill_process(Pid::from_child(&child), signal).unwrap();
            let status = end_of(&mut child).unwrap_or_else(|| panic!("{words:?} goes on after {signal:?}"));
            // There is nothing yet that would have to be kept or told.
            assert_eq!(status.signal(), Some(signal.as_raw()), "{words:?}: {status:?}");
            nothing_goes_on(&engine);
        }
    }
}

#[test]
fn a_signal_ends_the_first_process_of_a_container_that_still_waits_for_an_engine() {
    for words in [&["no-such"][..], &["no-such-*", "--follow"]] {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--mount-proc", SNORKEL, "capture"]).args(words);
        let (mut unshare, engine) = waits(command);
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", unshare.id())).unwrap();
        let first = Pid::from_raw(children.trim().parse().unwrap()).unwrap();
        kill_process(first, Signal::INT).unwrap();
        let status = end_of(&mut unshare).unwrap_or_else(|| panic!("{words:?} goes on"));
        assert_eq!(status.code(), Some(128 + Signal::INT.as_raw()), "{words:?}: {status:?}");
        nothing_goes_on(&engine);
    }
}
