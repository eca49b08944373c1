//! A ring is read without any right, and before others. Needs root.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed step is a failed test")]

mod common;

use std::io::{ErrorKind, Read};
use std::net::UdpSocket;
use std::process::Command;

use common::{AtTheEnd, Over, Pair, Sender, Story, finish, frame, ring, until};
use snorkel_capture::confine::{Fence, Needs, confine};
use snorkel_capture::ring::{Error, Link, Priority, Ring, Session, Settings, run_first};

#[test]
fn an_open_ring_is_read_and_written_from_and_closed_without_rights() {
    let pair = Pair::new();
    let over = Over::default();
    let directory = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        let _end = AtTheEnd(&over);
        scope.spawn(|| {
            let sender = Sender::new(&pair.a, "eth0");
            while !over.yet() {
                sender.send(&frame(1, &[], 200));
            }
        });
        // Rights are a thread's own, so the test's others keep theirs.
        let reader = scope.spawn(|| {
            let mut session = Session::new().unwrap();
            let id = session.add(ring(&pair.b, "eth0")).unwrap();
            let open = std::fs::File::open(directory.path()).unwrap();
            // It is read later, when nothing but the directory can be opened.
            let mut about = std::fs::File::open("/proc/thread-self/status").unwrap();
            let confined = confine(&Needs { directory: Some(open.into()), ..Needs::default() }).unwrap();
            assert_eq!(confined.calls, Fence::Whole, "this kernel has no seccomp");

            let mut story = Story::default();
            until(&mut session, &mut story, |story| story.packets.len() > 1000);
            std::fs::write(directory.path().join("capture"), &story.packets[0].data).unwrap();
            finish(&mut session, &mut story);
            assert!(story.ledger(id).delivered > 1000);

            let mut status = String::new();
            about.read_to_string(&mut status).unwrap();
            for line in
                ["CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"]
            {
                assert!(status.contains(line), "{line}: {status}");
            }
            let refused = |error: std::io::Error| assert_eq!(error.kind(), ErrorKind::PermissionDenied);
            refused(UdpSocket::bind("127.0.0.1:0").unwrap_err());
            refused(Command::new("/bin/true").spawn().unwrap_err());
            let error = Ring::open_here(Link::Name("lo"), &Settings::default()).unwrap_err();
            assert!(matches!(error, Error::Rights { .. }), "{error}");
            if confined.files == Fence::Whole {
                refused(std::fs::write("/tmp/snorkel-elsewhere", "").unwrap_err());
            }
        });
        reader.join().unwrap();
    });
    assert_eq!(std::fs::read(directory.path().join("capture")).unwrap().len(), 200);
}

#[test]
fn the_reader_runs_first_and_what_it_starts_does_not() {
    let scheduling = || {
        // SAFETY: a question with a number.
        unsafe { libc::sched_getscheduler(0) & !libc::SCHED_RESET_ON_FORK }
    };
    let reader = std::thread::spawn(move || {
        let priority = run_first().expect("CAP_SYS_NICE");
        let of_its_own = std::thread::spawn(scheduling).join().unwrap();
        (priority, scheduling(), of_its_own)
    });
    let (priority, of_the_reader, of_its_thread) = reader.join().unwrap();
    let wanted = if priority == Priority::RealTime { libc::SCHED_RR } else { libc::SCHED_OTHER };
    assert_eq!((of_the_reader, of_its_thread, scheduling()), (wanted, libc::SCHED_OTHER, libc::SCHED_OTHER));
}
