//! A target is looked up by a single question, on a connection of its own: as careful as a list, and no longer waited for.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up its fake must fail")]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use common::{Fake, LONG, SHORT, docker, inspect, names, requests};
use snorkel_engines::Endpoint;

/// What is warned of when this fake is asked for one container.
fn warning_of_lookup(fake: &Fake, timeout: Duration) -> String {
    let spec = "docker:web".parse().unwrap();
    let answer = snorkel_engines::lookup(&docker(&[fake], timeout), &spec);
    assert!(answer.containers.is_empty(), "{answer:?}");
    assert_eq!(answer.warnings.len(), 1, "{answer:?}");
    assert!(answer.warnings[0].unfinished, "{answer:?}");
    answer.warnings[0].to_string()
}

#[test]
fn a_single_question_is_as_careful_as_a_list() {
    let broken = [
        (&b"\0\x1b[31mSSH-2.0\r\n\r\n"[..], "not of its protocol"),
        (b"", "ended before its headers"),
        (b"HTTP/1.1 200 OK\r\n", "ended before its headers"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{\"Id\":", "ended before the length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}", "no number"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\n{}", "no number"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 1\r\n\r\n{}", "two lengths"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n[", "longer than"),
        (b"HTTP/1.1 200 OK\r\n\r\n{\"Id\":\"aa", "broke off"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n[", "longer than"),
        (b"HTTP/1.1 200 OK\r\n\r\n[]", "cannot make sense"),
    ];
    for (said, complaint) in broken {
        let warning = warning_of_lookup(&Fake::saying(said), LONG);
        assert!(warning.contains(complaint), "{warning}");
        assert!(!warning.contains('\u{1b}'), "{warning:?}");
    }
    let endless = |head: &'static [u8]| {
        Fake::new(move |stream| {
            requests(stream, |_, out| {
                let _ = out.write_all(head);
                while out.write_all(&[b'x'; 4096]).is_ok() {}
                false
            });
        })
    };
    let headers = endless(b"HTTP/1.1 200 OK\r\nX: ");
    assert!(warning_of_lookup(&headers, LONG).contains("no end"));
    let body = endless(b"HTTP/1.1 200 OK\r\n\r\n");
    assert!(warning_of_lookup(&body, LONG).contains("longer than"));
}

#[test]
fn a_single_question_is_waited_for_no_longer_than_the_time_out() {
    let silent = Fake::new(|stream| {
        requests(stream, |_, _| true);
    });
    assert!(warning_of_lookup(&silent, SHORT).contains("did not answer within 0.3 s"));
    // Each byte comes in time, and all of them too late.
    let slow = Fake::new(|stream| {
        requests(stream, |_, out| {
            let _ = out.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
            while out.write_all(b" ").is_ok() {
                std::thread::park_timeout(Duration::from_millis(20));
            }
            false
        });
    });
    assert!(warning_of_lookup(&slow, SHORT).contains("did not answer within 0.3 s"));
    // A queue that is full before anybody is let in.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("engine.sock");
    let full = UnixListener::bind(&path).unwrap();
    rustix::net::listen(&full, 0).unwrap();
    let _waits = UnixStream::connect(&path).unwrap();
    let mut query = docker(&[], SHORT);
    query.endpoints.docker = vec![Endpoint::new(&path)];
    let answer = snorkel_engines::lookup(&query, &"docker:web".parse().unwrap());
    assert!(answer.warnings[0].what.contains("did not answer within 0.3 s"), "{answer:?}");
}

#[test]
fn an_answer_ends_with_its_length_or_with_its_connection() {
    let web = inspect("aaaa", "web", "running", 4711);
    let told = format!("HTTP/1.0 200 OK\r\ncontent-length:  {}\r\n\r\n{web}{{and more", web.len());
    let untold = format!("HTTP/1.0 200 OK\r\nConnection: close\r\n\r\n{web}");
    for (said, stays) in [(told, true), (untold, false)] {
        let fake = Fake::new(move |stream| {
            requests(stream, |_, out| out.write_all(said.as_bytes()).is_ok() && stays);
        });
        let answer = snorkel_engines::lookup(&docker(&[&fake], LONG), &"docker:web".parse().unwrap());
        assert_eq!(names(&answer.containers), ["docker:web"], "{answer:?}");
    }
}

#[test]
fn whoever_knows_only_the_newer_http_is_asked_in_that() {
    let refuse = |out: &mut UnixStream, status: &str| {
        write!(out, "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").unwrap();
    };
    let in_pieces = |out: &mut UnixStream, body: &str| {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked";
        write!(out, "{head}\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).unwrap();
    };
    for status in ["426 Upgrade Required", "505 HTTP Version Not Supported", "103 Early Hints", ""] {
        let fake = Fake::new(move |stream| {
            let mut out = stream.try_clone().unwrap();
            let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
            while let Some(line) = lines.next() {
                let is_old = line.ends_with(" HTTP/1.0");
                while lines.next().is_some_and(|line| !line.is_empty()) {}
                if is_old && !status.is_empty() {
                    refuse(&mut out, status);
                } else {
                    assert!(line.starts_with("GET /containers/web/json "), "{line}");
                    in_pieces(&mut out, &inspect("aaaa", "web", "running", 4711));
                }
            }
        });
        let answer = snorkel_engines::lookup(&docker(&[&fake], LONG), &"docker:web".parse().unwrap());
        assert_eq!(names(&answer.containers), ["docker:web"], "{answer:?}");
    }
}

#[test]
fn what_stopped_is_found_though_the_words_for_it_do_not_come() {
    let fake = Fake::new(|stream| {
        requests(stream, |target, out| {
            if target.starts_with("/containers/old/") {
                let body = inspect("bbbb", "old", "exited", 0);
                return write!(out, "HTTP/1.1 200 x\r\nContent-Length: {}\r\n\r\n{body}", body.len()).is_ok();
            }
            false
        });
    });
    let answer = snorkel_engines::lookup(&docker(&[&fake], LONG), &"docker:old".parse().unwrap());
    assert_eq!(names(&answer.containers), ["docker:old"], "{answer:?}");
    assert_eq!(answer.warnings, []);
}
