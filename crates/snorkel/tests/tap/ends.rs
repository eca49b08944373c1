//! How a tap begins and ends, and what is there afterwards: nothing.

use std::io::Read;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use snorkel_lab::{LabSpec, Scoped};

use crate::common::{fifo, lab, run, target, wait_until};
use crate::kit::{Tap, ask, attempt, inside};

fn greeting(lab: &Scoped) -> String {
    inside(lab, "client", &["curl", "-s4", "http://web/"])
}

/// What of snorkel can be seen from within.
fn traces(lab: &Scoped) -> String {
    let sockets = inside(lab, "web", &["ss", "-Haxtunp"]);
    let found = sockets.lines().filter(|line| line.contains("snorkel-tap") || line.contains("\"snorkel\""));
    found.collect::<Vec<_>>().join("\n")
}

/// A connection from the client to web's port.
fn connect(lab: &Scoped) -> TcpStream {
    crate::kit::connect(lab, "client", "198.19.0.2:80")
}

#[test]
fn after_a_kill_the_next_connection_reaches_the_application_and_nothing_is_left() {
    let lab = lab(LabSpec::default());
    let mut tap = Tap::start(&[&format!("{}:80", target(&lab, "web"))]);
    greeting(&lab);
    tap.wait(0, "closed");
    assert!(traces(&lab).contains(&format!("pid={},", tap.pid())), "{}", traces(&lab));
    let mut led = connect(&lab);
    ask(&mut led);
    tap.signal(libc::SIGKILL);
    assert_eq!(tap.finish().status, 128 + 9);
    assert_eq!(greeting(&lab), "hello from web, you are 198.19.0.4\n");
    assert_eq!(traces(&lab), "");
    // Its own connection went with it.
    assert!(matches!(led.read(&mut [0; 8]), Ok(0) | Err(_)));
    // And the port can be tapped again.
    let tap = Tap::start(&[&format!("{}:80", target(&lab, "web"))]);
    greeting(&lab);
    assert_eq!(tap.stop().stdout.lines().count(), 1);
}

#[test]
fn connections_that_exist_are_not_touched_and_those_that_are_led_may_finish() {
    let lab = lab(LabSpec::default());
    let mut before = connect(&lab);
    ask(&mut before);
    let mut tap = Tap::start(&[&format!("{}:80", target(&lab, "web"))]);
    let mut led = connect(&lab);
    ask(&mut led);
    ask(&mut before);
    tap.signal(libc::SIGINT);
    tap.wait(1, "no new connections are taken; 1 may go on");
    // It ends with its last connection, and takes no new one meanwhile.
    let mut after = connect(&lab);
    ask(&mut after);
    ask(&mut led);
    drop(led);
    tap.wait(0, "closed");
    let ran = tap.finish();
    assert_eq!((ran.status, ran.stdout.lines().count()), (0, 1), "{ran:?}");
    ask(&mut before);
    ask(&mut after);
}

#[test]
fn a_port_that_nobody_listens_on_is_refused_by_the_kernel_itself() {
    let lab = lab(LabSpec::default());
    let tap = Tap::start(&[&format!("{}:81", target(&lab, "web"))]);
    let ran = attempt(&lab, "client", &["curl", "-sS4", "http://web:81/"]);
    assert_eq!(ran.status, 7, "{ran:?}");
    let ran = tap.stop();
    assert_eq!(ran.stdout, "");
    assert!(ran.stderr.contains("nobody listens on"), "{}", ran.stderr);
}

#[test]
fn the_second_tap_on_a_port_is_told_who_has_it() {
    let lab = lab(LabSpec::default());
    let web = format!("{}:80", target(&lab, "web"));
    let tap = Tap::start(&[&web]);
    let second = run(["tap", &web]);
    assert_eq!(second.status, 1);
    assert!(
        second.stderr.contains(&format!("80/tcp is tapped already, by process {}", tap.pid())),
        "{second:?}"
    );
    // The first goes on.
    greeting(&lab);
    assert_eq!(tap.stop().stdout.lines().count(), 1);
}

#[test]
fn it_ends_when_its_target_does() {
    let lab = lab(LabSpec::default());
    let mut tap = Tap::start(&[&format!("{}:80", target(&lab, "web"))]);
    let pid = lab.node("web").unwrap().pid.unwrap();
    // SAFETY: signals a process of this test's own lab.
    unsafe { libc::kill(pid.get(), libc::SIGKILL) };
    tap.wait(1, "ended");
    assert_eq!(tap.finish().status, 0);
}

/// A FIFO from both ends, so that it has a reader.
fn open(fifo: &Path) -> OwnedFd {
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NONBLOCK;
    rustix::fs::open(fifo, flags, rustix::fs::Mode::empty()).unwrap()
}

fn wait_until_full(pipe: &OwnedFd) {
    wait_until("the FIFO is full", || {
        poll(&mut [PollFd::new(pipe, PollFlags::OUT)], Some(&Timespec::default())) == Ok(0)
    });
}

#[test]
fn the_target_s_end_is_one_too_where_nobody_reads_the_file() {
    let lab = lab(LabSpec::default());
    let dir = tempfile::tempdir().unwrap();
    let fifo = fifo(dir.path());
    let mut tap = Tap::start(&[&format!("{}:80", target(&lab, "web")), "-w", fifo.to_str().unwrap()]);
    // SAFETY: signals a process of this test's own lab.
    unsafe { libc::kill(lab.node("web").unwrap().pid.unwrap().get(), libc::SIGKILL) };
    tap.wait(1, "ended");
    assert_eq!(tap.finish().status, 1);
}

#[test]
fn who_reads_only_once_the_connections_have_ended_gets_all() {
    let lab = lab(LabSpec::default());
    let dir = tempfile::tempdir().unwrap();
    let fifo = fifo(dir.path());
    let pipe = open(&fifo);
    let words = [&format!("{}:80", target(&lab, "web")), "-w", fifo.to_str().unwrap(), "--drain", "3s"];
    let tap = Tap::start(&words);
    let mut held = connect(&lab);
    ask(&mut held);
    inside(&lab, "client", &["curl", "-sf4", "http://web/[1-200]"]);
    wait_until_full(&pipe);
    tap.signal(libc::SIGINT);
    // It is cut in the end.
    assert!(held.read(&mut [0]).is_err());
    let mut read = 0;
    let mut bytes = vec![0; 1 << 20];
    let ran = std::thread::scope(|scope| {
        let ended = scope.spawn(|| tap.finish());
        while !ended.is_finished() {
            read += rustix::io::read(&pipe, &mut bytes[..]).unwrap_or(0);
        }
        ended.join().unwrap()
    });
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(!ran.stderr.contains("nobody read"), "{ran:?}");
    // More than waited in the FIFO.
    assert!(read > 80 << 10, "{read} bytes: {ran:?}");
}

#[test]
fn the_host_is_not_tapped_and_mistakes_are_told() {
    let lab = lab(LabSpec::default());
    let host = run(["tap", &format!("pid:{}:80", std::process::id())]);
    assert!(host.status == 1 && host.stderr.contains("is not tapped"), "{host:?}");
    let web = target(&lab, "web");
    for (words, told) in [
        (vec!["tap", &web], "TARGET:PORT is wanted"),
        (vec!["tap", "web:80", "--match", "GET *"], "--match needs something to do"),
        (vec!["tap", "web:80", "--as", "gopher"], "no decoder 'gopher'"),
    ] {
        let ran = run(words.clone());
        assert!(ran.status != 0 && ran.stderr.contains(told), "{words:?}: {ran:?}");
    }
}

#[test]
fn a_pipe_that_nobody_reads_holds_up_no_end() {
    let lab = lab(LabSpec::default());
    let dir = tempfile::tempdir().unwrap();
    let fifo = fifo(dir.path());
    let path = fifo.to_str().unwrap();
    for what in ["-w", "--har"] {
        let words = ["tap", &format!("{}:80", target(&lab, "web")), what, path];
        // Nobody has it open.
        let tap = Tap::start(&words[1..]);
        assert!(greeting(&lab).starts_with("hello from web"), "{what}");
        let ran = tap.stop();
        assert_eq!(ran.status, 1, "{what}: {ran:?}");
        assert!(ran.stderr.contains(&format!("nobody reads {path} yet")), "{what}: {ran:?}");
        assert!(ran.stderr.contains("nobody read "), "{what}: {ran:?}");
        assert!(ran.stdout.contains(" \u{2192} "), "{what}: {ran:?}");
        // It is open, and full.
        let pipe = open(&fifo);
        let tap = Tap::start(&words[1..]);
        inside(&lab, "client", &["curl", "-sf4", "http://web/[1-200]"]);
        wait_until_full(&pipe);
        let ran = tap.stop();
        assert_eq!(ran.status, 1, "{what}: {ran:?}");
        assert!(ran.stderr.contains("nobody read"), "{what}: {ran:?}");
        assert!(ran.stdout.contains(" \u{2192} "), "{what}: {ran:?}");
    }
}
