//! A series of files goes on when rights were dropped as the output says they can be. Needs root.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failing test says where")]

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, set_capabilities, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};
use snorkel_capture::file::{Output, OutputOptions, Owner, Rights, Rotate, WriteError};
use snorkel_capture::{Interface, LinkType, Packet, Timestamp};

const USER: u32 = 4242;

/// A series in a directory of the user's, with two files at most.
fn series(directory: &Path) -> Output {
    std::os::unix::fs::chown(directory, Some(USER), Some(USER))
        .expect("this test gives files away: run it as root");
    let mut output = Output::prepare(OutputOptions {
        path: directory.join("x.pcapng"),
        rotate: Some(Rotate::Time(Duration::from_secs(1))),
        keep: Some(2),
        owner: Some(Owner { uid: USER, gid: USER }),
        ..OutputOptions::default()
    })
    .unwrap();
    output
        .interface(Interface {
            name: "x".to_owned(),
            description: String::new(),
            link_type: LinkType::ETHERNET,
            snaplen: 0,
            mac: None,
            filter: None,
        })
        .unwrap();
    output
}

/// Writes ten packets, each into a file of its own.
fn write(output: &mut Output) -> Result<(), WriteError> {
    for second in 0..10 {
        let time = Timestamp(second * 1_000_000_000);
        output.packet(&Packet { time, interface: 0, direction: None, original_length: 1, data: b"x" })?;
    }
    output.finish()
}

/// Runs `work` on a thread of its own, with the directory's path: what it does to its rights ends with it.
fn on_a_thread(work: impl FnOnce(&Path) + Send) {
    let directory = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| work(directory.path())).join().unwrap_or_else(|e| std::panic::resume_unwind(e));
    });
    let owners: Vec<(u32, u32)> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap())
        .map(|about| (about.uid(), about.gid()))
        .collect();
    assert!(owners.iter().all(|&owner| owner == (USER, USER)), "{owners:?}");
}

fn keep_only(capabilities: CapabilitySet) {
    let sets = CapabilitySets {
        effective: capabilities,
        permitted: capabilities,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets).unwrap();
}

#[test]
fn as_the_user_who_asked_no_right_is_needed() {
    on_a_thread(|directory| {
        let mut output = series(directory);
        let user = (Uid::from_raw(USER), Gid::from_raw(USER));
        set_thread_groups(&[]).unwrap();
        set_thread_res_gid(user.1, user.1, user.1).unwrap();
        set_thread_res_uid(user.0, user.0, user.0).unwrap();
        write(&mut output).unwrap();
        assert_eq!(output.rights(), Rights::default());
        assert_eq!((output.files(), output.notes()), (10, vec![]));
        assert_eq!(std::fs::read_dir(directory).unwrap().count(), 2);
    });
}

#[test]
fn as_root_those_rights_do_that_are_named() {
    on_a_thread(|directory| {
        let mut output = series(directory);
        assert_eq!(output.rights(), Rights { dac_override: true, chown: true, fowner: false });
        keep_only(CapabilitySet::DAC_OVERRIDE | CapabilitySet::CHOWN);
        write(&mut output).unwrap();
        assert_eq!((output.files(), output.notes()), (10, vec![]));
        assert_eq!(std::fs::read_dir(directory).unwrap().count(), 2);
    });
}

#[test]
fn without_them_the_first_file_says_so() {
    on_a_thread(|directory| {
        let mut output = series(directory);
        keep_only(CapabilitySet::CHOWN);
        let error = write(&mut output).unwrap_err();
        let WriteError::Open { what, source, .. } = error else { panic!("{error}") };
        assert!(what.contains("x_00001_") && what.ends_with("for writing"), "{what}");
        assert_eq!(source.kind(), std::io::ErrorKind::PermissionDenied);
    });
}
