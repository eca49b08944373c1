//! What is spoilt on purpose, seen from both ends.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use snorkel_lab::LabSpec;

use crate::common::{LONGEST, lab, target};
use crate::kit::{Tap, ask, attempt, connect, inside};

#[test]
fn a_connection_that_stalls_is_open_and_nothing_passes() {
    let lab = lab(LabSpec::default());
    let mut tap = Tap::start(&[&format!("{}:80", target(&lab, "web")), "--stall"]);
    let mut stream = connect(&lab, "client", "198.19.0.2:80");
    let request = b"GET / HTTP/1.1\r\n\r\n";
    stream.write_all(request).unwrap();
    // It is there, where the tap could take it, and is left there.
    stream.set_nonblocking(true).unwrap();
    let begun = Instant::now();
    loop {
        let sockets = inside(&lab, "web", &["ss", "-Htn", "state", "established", "sport", "=", ":80"]);
        let unread = sockets.lines().filter_map(|line| line.split_whitespace().next());
        if unread.into_iter().any(|count| count == request.len().to_string()) {
            break;
        }
        let answer = stream.read(&mut [0; 64]);
        assert_eq!(answer.unwrap_err().kind(), ErrorKind::WouldBlock);
        assert!(begun.elapsed() < LONGEST, "{sockets}");
    }
    tap.signal(libc::SIGINT);
    tap.wait(1, "1 may go on");
    tap.signal(libc::SIGINT);
    let ran = tap.finish();
    assert!(ran.stdout.contains("0 B out, 0 B back") && ran.stdout.contains("cut: "), "{ran:?}");
    stream.set_nonblocking(false).unwrap();
    assert_eq!(stream.read(&mut [0; 64]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_connection_is_reset_when_its_time_is_over_and_not_before_it_was_used() {
    let lab = lab(LabSpec::default());
    let tap = Tap::start(&[&format!("{}:80", target(&lab, "web")), "--reset-after", "1s"]);
    let begun = Instant::now();
    let mut stream = connect(&lab, "client", "198.19.0.2:80");
    ask(&mut stream);
    assert_eq!(stream.read(&mut [0; 64]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!(begun.elapsed() >= Duration::from_secs(1));
    let ran = tap.stop();
    assert!(ran.stdout.contains("cut: reset by --reset-after"), "{ran:?}");
}

#[test]
fn a_request_that_matches_is_reset_before_the_application_sees_it_and_others_are_not() {
    let lab = lab(LabSpec::default());
    let web = format!("{}:80", target(&lab, "web"));
    let tap = Tap::start(&[&web, "-v", "--match", "POST /pay*", "--match", "GET /b", "--reset"]);
    let curl = |words: &[&str]| attempt(&lab, "client", &[&["curl", "-sS4"], words].concat());
    for words in [&["-d", "x", "http://web/pay/1"][..], &["http://web/b"]] {
        let ran = curl(words);
        assert!(ran.status == 56 && ran.stderr.contains("reset by peer"), "{ran:?}");
    }
    for words in [&["http://web/pay/1"][..], &["http://web/bb"], &["-d", "x", "http://web/b"]] {
        assert_eq!(curl(words).status, 0);
    }
    let ran = tap.stop();
    for cut in ["cut: reset, matching 'POST /pay*'", "cut: reset, matching 'GET /b'"] {
        let lines: Vec<&str> = ran.stdout.lines().filter(|line| line.contains(cut)).collect();
        assert!(lines.len() == 1 && lines[0].contains("0 B out, 0 B back"), "{cut}: {ran:?}");
    }
}

#[test]
fn a_slow_line_carries_no_more_bytes_than_it_may_and_loses_none() {
    const RATE: f64 = 20_000.0;
    const SENT: usize = 30_000;
    let lab = lab(LabSpec::default());
    let tap = Tap::start(&[&format!("{}:7", target(&lab, "db")), "--bandwidth", "160kbit"]);
    let mut stream = connect(&lab, "client", "198.19.0.3:7");
    let begun = Instant::now();
    let sent: Vec<u8> = (0..SENT).map(|number| number as u8).collect();
    stream.write_all(&sent).unwrap();
    let mut got = Vec::new();
    while got.len() < SENT {
        let mut some = [0; 4096];
        let read = stream.read(&mut some).unwrap();
        assert!(read > 0);
        got.extend_from_slice(&some[..read]);
        // A machine that is slow has fewer by now, never more.
        let most = begun.elapsed().as_secs_f64() * RATE;
        assert!(got.len() as f64 <= most, "{} bytes where {most:.0} may have come", got.len());
    }
    assert_eq!(got, sent);
    drop(stream);
    let ran = tap.stop();
    assert!(ran.stdout.contains("30.0 kB out, 30.0 kB back"), "{ran:?}");
}
