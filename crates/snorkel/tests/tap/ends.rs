//! How a tap begins and ends, and what is there afterwards: nothing.

use std::io::Read;
use std::net::TcpStream;

use snorkel_lab::{LabSpec, Scoped};

use crate::common::{lab, run, target};
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
