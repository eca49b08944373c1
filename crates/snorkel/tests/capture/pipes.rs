//! Pipes that nobody reads: whoever asks for the end of a capture gets it, and its account.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use snorkel_lab::{LabSpec, Scoped};

use crate::common::{Ran, fifo, lab, snorkel, target};
use crate::kit::{Capture, PACKET, blocks, row, send};

/// Only what [`send`] sends.
const NUMBERED: &str = "udp dst port 9";

/// More than a pipe takes, and less than a ring.
const MANY: u32 = 500;

/// A capture of all that client sends to port 9, into a pipe.
fn into_pipe(lab: &Scoped, words: &[&str], pipe: impl Into<OwnedFd>) -> Capture {
    let client = target(lab, "client");
    let mut command = snorkel([&["capture", &client, "-w", "-"], words, &["--", NUMBERED]].concat());
    command.stdout(pipe.into());
    Capture::into(command)
}

/// Waits until so many bytes lie in a pipe or a socket.
fn wait_until_full(pipe: impl std::os::fd::AsFd, bytes: u64) {
    while rustix::io::ioctl_fionread(&pipe).unwrap() < bytes {
        std::thread::yield_now();
    }
}

/// Asks a capture to end, and reads its pipe from then on; it sees both at once, however long either takes.
fn read_from_the_end_on(capture: &Capture, mut pipe: std::io::PipeReader) -> Vec<u8> {
    capture.signal(libc::SIGSTOP);
    capture.signal(libc::SIGINT);
    let watched = pipe.try_clone().unwrap();
    let reading = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).map(|_| bytes).unwrap()
    });
    while rustix::io::ioctl_fionread(&watched).unwrap() > 0 {
        std::thread::yield_now();
    }
    drop(watched);
    capture.signal(libc::SIGCONT);
    reading.join().unwrap()
}

/// Every packet is accounted for: in the pipe, or told not to be.
#[track_caller]
fn adds_up(lab: &Scoped, ran: &Ran, written: u64) {
    let [matched, lost, captured] = row(ran, &format!("{}/client/eth0", lab.name));
    let words: Vec<&str> = ran.stderr.split_whitespace().collect();
    let surplus = words.windows(4).find(|some| some[1..] == ["after", "the", "last"]);
    let surplus = surplus.map_or(0, |some| some[0].parse::<u64>().unwrap());
    assert_eq!(matched, lost + captured + surplus, "{ran:?}");
    let line = ran.stderr.lines().find(|line| line.contains(" packets written, "));
    let line = line.unwrap_or_else(|| panic!("{ran:?}"));
    let number =
        |text: &str| text.split_whitespace().next().unwrap().replace(',', "").parse::<u64>().unwrap();
    assert_eq!(number(line), written, "{ran:?}");
    let unwritten = line.split("; ").nth(1).map_or(0, number);
    assert_eq!(written + unwritten, captured, "{ran:?}");
}

/// The packets that are whole in what was read from a pipe.
fn packets(bytes: &[u8]) -> u64 {
    blocks(bytes).0.iter().filter(|(kind, _)| *kind == PACKET).count() as u64
}

#[test]
fn a_signal_ends_a_capture_into_a_pipe_that_nobody_reads() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let lab = lab(LabSpec::default());
        let (mut read, write) = std::io::pipe().unwrap();
        let capture = into_pipe(&lab, &[], write);
        send(&lab, "client", 9, 0..MANY, 1000);
        wait_until_full(&read, 60_000);
        capture.signal(signal);
        let ran = capture.finish();
        assert_eq!(ran.status, 1, "{ran:?}");
        assert!(ran.stderr.contains("nobody read standard output in the end"), "{ran:?}");
        let mut bytes = Vec::new();
        read.read_to_end(&mut bytes).unwrap();
        adds_up(&lab, &ran, packets(&bytes));
    }
}

#[test]
fn a_socket_that_nobody_reads_is_no_different() {
    let lab = lab(LabSpec::default());
    let (mut read, write) = UnixStream::pair().unwrap();
    let capture = into_pipe(&lab, &[], write);
    send(&lab, "client", 9, 0..MANY, 1000);
    wait_until_full(&read, 60_000);
    let ran = capture.stop();
    assert_eq!(ran.status, 1, "{ran:?}");
    let mut bytes = Vec::new();
    read.read_to_end(&mut bytes).unwrap();
    adds_up(&lab, &ran, packets(&bytes));
}

#[test]
fn a_limit_ends_a_capture_into_a_pipe_that_nobody_reads() {
    let lab = lab(LabSpec::default());
    for words in [&["--for", "1s"][..], &["-c", "1"], &["-c", "1", "--compress"]] {
        let (mut read, mut write) = std::io::pipe().unwrap();
        // Nothing goes in any more.
        let size = rustix::pipe::fcntl_getpipe_size(&write).unwrap();
        write.write_all(&vec![0; size]).unwrap();
        let capture = into_pipe(&lab, words, write);
        send(&lab, "client", 9, 0..MANY, 1000);
        let ran = capture.finish();
        assert_eq!(ran.status, 1, "{words:?}: {ran:?}");
        let mut bytes = Vec::new();
        read.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len(), size, "{words:?}");
        adds_up(&lab, &ran, 0);
    }
}

#[test]
fn what_comes_with_the_trigger_is_accounted_for_though_nobody_reads_what_came_before() {
    let lab = lab(LabSpec::default());
    let (mut read, write) = std::io::pipe().unwrap();
    // By the number that each packet carries. Those before it more than fill the pipe.
    let trigger = format!("udp[8:4] = {}", MANY / 2);
    let words = ["--ring", "10m", "--ring-size", "16MiB", "--trigger", &trigger, "--after", "10m"];
    let capture = into_pipe(&lab, &words, write);
    send(&lab, "client", 9, 0..MANY, 1000);
    wait_until_full(&read, 60_000);
    let ran = capture.stop();
    assert_eq!(ran.status, 1, "{ran:?}");
    let mut bytes = Vec::new();
    read.read_to_end(&mut bytes).unwrap();
    adds_up(&lab, &ran, packets(&bytes));
}

#[test]
fn a_reader_that_begins_in_the_end_gets_everything() {
    let lab = lab(LabSpec::default());
    let (read, write) = std::io::pipe().unwrap();
    let capture = into_pipe(&lab, &[], write);
    send(&lab, "client", 9, 0..MANY, 1000);
    wait_until_full(&read, 60_000);
    let bytes = read_from_the_end_on(&capture, read);
    let ran = capture.finish();
    assert_eq!((ran.status, packets(&bytes), blocks(&bytes).1), (0, u64::from(MANY), 0), "{ran:?}");
    adds_up(&lab, &ran, u64::from(MANY));
}

#[test]
fn a_fifo_that_nobody_has_open_holds_up_neither_the_beginning_nor_the_end() {
    let lab = lab(LabSpec::default());
    let dir = tempfile::tempdir().unwrap();
    let path = fifo(dir.path());
    let words = ["capture", &target(&lab, "client"), "-w", path.to_str().unwrap()];
    for (limit, signal) in [
        (&[][..], Some(libc::SIGINT)),
        (&[], Some(libc::SIGTERM)),
        (&["--for", "1s"], None),
        (&["-c", "1"], None),
    ] {
        let capture = Capture::start(&[&words[1..], limit, &["--", NUMBERED]].concat());
        send(&lab, "client", 9, 0..5, 32);
        signal.into_iter().for_each(|signal| capture.signal(signal));
        let ran = capture.finish();
        assert_eq!(ran.status, 1, "{limit:?}: {ran:?}");
        assert!(ran.stderr.contains(&format!("nobody reads {} yet", path.display())), "{ran:?}");
        adds_up(&lab, &ran, 0);
    }
}

#[test]
fn a_reader_that_comes_later_gets_everything_from_a_fifo() {
    let lab = lab(LabSpec::default());
    let dir = tempfile::tempdir().unwrap();
    let path = fifo(dir.path());
    let client = target(&lab, "client");
    let capture = Capture::start(&[&client, "-w", path.to_str().unwrap(), "-c", "500", "--", NUMBERED]);
    send(&lab, "client", 9, 0..MANY - 1, 1000);
    // It has a writer already: to open it does not wait.
    let mut reader = fs::File::open(path).unwrap();
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map(|_| bytes).unwrap()
    });
    send(&lab, "client", 9, MANY - 1..MANY, 1000);
    let ran = capture.finish();
    let bytes = reader.join().unwrap();
    assert_eq!((ran.status, packets(&bytes), blocks(&bytes).1), (0, u64::from(MANY), 0), "{ran:?}");
}

#[test]
fn a_fifo_whose_reader_goes_away_ends_the_capture_quietly() {
    let lab = lab(LabSpec::default());
    let dir = tempfile::tempdir().unwrap();
    let path = fifo(dir.path());
    let client = target(&lab, "client");
    let capture = Capture::start(&[&client, "-w", path.to_str().unwrap(), "--", NUMBERED]);
    let reader = fs::File::open(&path).unwrap();
    send(&lab, "client", 9, 0..5, 32);
    wait_until_full(&reader, 1);
    drop(reader);
    send(&lab, "client", 9, 5..10, 32);
    let ran = capture.finish();
    assert_eq!(ran.status, 0, "{ran:?}");
}

#[test]
fn stdout_goes_on_waiting_for_others_who_write_to_it() {
    let lab = lab(LabSpec::default());
    let (_read, write) = std::io::pipe().unwrap();
    let others = write.try_clone().unwrap();
    let capture = into_pipe(&lab, &["-c", "3"], write);
    send(&lab, "client", 9, 0..5, 32);
    let ran = capture.finish();
    assert_eq!(ran.status, 0, "{ran:?}");
    let flags = rustix::fs::fcntl_getfl(&others).unwrap();
    assert!(!flags.contains(rustix::fs::OFlags::NONBLOCK));
}

/// A capture of all that client sends to port 9, as lines or objects.
fn as_text(lab: &Scoped, words: &[&str], stdout: impl Into<Stdio>) -> Capture {
    let client = target(lab, "client");
    let mut command = snorkel([&["capture", &client], words, &["--", NUMBERED]].concat());
    command.stdout(stdout);
    Capture::into(command)
}

#[test]
fn lines_and_objects_that_nobody_reads_are_no_different() {
    let lab = lab(LabSpec::default());
    for (words, status) in [
        (&[][..], 1),
        (&["--json"], 1),
        // More than one line a packet.
        (&["-x"], 1),
        (&["--fail-on-loss"], 3),
        (&["--json", "--fail-on-loss"], 3),
    ] {
        let (mut read, write) = std::io::pipe().unwrap();
        let capture = as_text(&lab, words, write);
        send(&lab, "client", 9, 0..2 * MANY, 32);
        wait_until_full(&read, 60_000);
        let ran = capture.stop();
        assert_eq!(ran.status, status, "{words:?}: {ran:?}");
        assert!(ran.stderr.contains("nobody read standard output in the end"), "{ran:?}");
        let mut text = String::new();
        read.read_to_string(&mut text).unwrap();
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        // The dump of a packet has as many lines as the next one's.
        let each = 1 + usize::from(words.contains(&"-x")) * 4;
        adds_up(&lab, &ran, (whole.lines().count() / each) as u64);
    }
}

#[test]
fn lines_and_objects_for_which_there_is_no_room_are_counted() {
    let lab = lab(LabSpec::default());
    for words in [&[][..], &["--json"]] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let capture = as_text(&lab, words, full);
        send(&lab, "client", 9, 0..5, 32);
        let ran = capture.finish();
        assert_eq!(ran.status, 1, "{ran:?}");
        assert!(ran.stderr.contains("no room is left for standard output"), "{ran:?}");
        adds_up(&lab, &ran, 0);
    }
}

#[test]
fn a_reader_that_begins_in_the_end_gets_every_line() {
    let lab = lab(LabSpec::default());
    let (read, write) = std::io::pipe().unwrap();
    let capture = as_text(&lab, &["--fail-on-loss"], write);
    send(&lab, "client", 9, 0..2 * MANY, 32);
    wait_until_full(&read, 60_000);
    let text = String::from_utf8(read_from_the_end_on(&capture, read)).unwrap();
    let ran = capture.finish();
    assert_eq!((ran.status, text.lines().count()), (0, 2 * MANY as usize), "{ran:?}");
    assert!(!ran.stderr.contains("written"), "{ran:?}");
}
