//! Docker's containers: their names and networks, those that stop, start again or are new, and what stays (nothing).

use std::fs;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, pidfd_open};
use snorkel_netns::Pid;
use snorkel_testbed::{Docker, Image, Machine, finish};

use crate::common::{Ran, SNORKEL};
use crate::kit::{Capture, PATIENCE, capinfos, inside_of, numbers, row, tshark};

/// A capture on the machine.
#[track_caller]
fn capture(machine: &Machine, words: &[&str]) -> Capture {
    let mut command = machine.command(SNORKEL);
    command.arg("capture").args(words);
    Capture::run(command)
}

#[track_caller]
fn ran(machine: &Machine, words: &[&str]) -> Ran {
    let ran = finish(machine.command(SNORKEL).arg("capture").args(words));
    Ran { stdout: ran.stdout, stderr: ran.stderr, status: ran.status.unwrap_or(-1) }
}

/// So many numbered datagrams from a container to another's port 9. When this returns they have been on the sender's link.
#[track_caller]
fn send(docker: &Docker<'_>, from: &str, to: &str, numbers: std::ops::Range<u32>) {
    let address = docker.inspect(to, "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}");
    let to = SocketAddr::new(address.parse().unwrap(), 9);
    inside_of(Pid::new(docker.pid(from)).unwrap(), || {
        // Nobody listens there; but once that has been said the way is known, and no packet waits for ARP's answer.
        let refused = TcpStream::connect(SocketAddr::new(to.ip(), 9)).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        for number in numbers {
            socket.send_to(&number.to_be_bytes(), to).unwrap();
        }
    });
}

#[test]
fn containers_are_called_by_their_names() {
    let machine = Machine::shared();
    let docker = machine.docker();
    docker.run("c-web", &["-l", "app=c-shop"], Image::Busybox, &["httpd", "-f", "-p", "80", "-h", "/www"]);
    docker.run("c-cli", &[], Image::Busybox, &[]);
    docker.run("c-host", &["--network", "host"], Image::Busybox, &[]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.pcapng");

    let get = "printf 'GET /index.html HTTP/1.0\\r\\n\\r\\n' | nc \"$0\" 80";
    let address = docker.inspect("c-web", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}");
    let lines = capture(machine, &["c-web", "--", "host c-cli and tcp port 80"]);
    let written = capture(machine, &["c-web", "c-cli", "--side", "both", "-w", file.to_str().unwrap()]);
    assert!(docker.exec("c-cli", &["sh", "-c", get, &address]).contains("hello from inside"));
    let (lines, written) = (lines.stop(), written.stop());
    assert_eq!((lines.status, written.status), (0, 0), "{lines:?} {written:?}");
    for word in ["c-web/eth0 in  c-cli:", "> c-web:80 TCP [S]", "HTTP GET /index.html", "HTTP 200"] {
        assert!(lines.stdout.contains(word), "{word}: {lines:?}");
    }
    let infos = capinfos(&file);
    assert!(infos.contains("Number of interfaces in file: 4"), "{infos}");
    for name in ["c-web", "c-cli"] {
        let id = docker.inspect(name, "{{.Id}}");
        let line = infos.lines().find(|line| line.contains("Description") && line.contains(&id));
        let line = line.unwrap_or_else(|| panic!("{id}: {infos}"));
        assert!(line.contains(&format!("docker:{name}")) && line.contains("peer veth"), "{line}");
    }
    assert!(infos.contains("on bridge docker0"), "{infos}");
    // One packet, seen at four places: it leaves and comes.
    let syn = tshark(
        &file,
        &[
            "-Y",
            "tcp.flags.syn == 1 && tcp.flags.ack == 0 && tcp.dstport == 80",
            "-T",
            "fields",
            "-e",
            "frame.interface_name",
        ],
    );
    let places: Vec<&str> = syn.lines().collect();
    assert_eq!(places.len(), 4, "{syn}");
    assert_eq!((places[0], places[3]), ("c-cli/eth0", "c-web/eth0"), "{syn}");
    assert!(places[1..3].iter().all(|place| place.starts_with("host/veth")), "{syn}");

    // By label, by id, by a pattern of its qualified name.
    let id = docker.inspect("c-web", "{{.Id}}");
    for words in [&["--label", "app=c-shop"][..], &[&id], &["docker:c-w*"], &["docker:c-web"]] {
        let ran = ran(machine, &[words, &["--for", "1ms"]].concat());
        assert!(ran.status == 0 && ran.stderr.contains("capturing on c-web/eth0;"), "{words:?}: {ran:?}");
    }
    // The host's network is no container's.
    let refused = ran(machine, &["c-host", "--for", "1ms"]);
    assert!(refused.status == 1 && refused.stderr.contains("shares the host's"), "{refused:?}");
    let named = ran(machine, &["c-host", "-i", "lo", "--for", "1ms"]);
    assert!(named.status == 0 && named.stderr.contains("capturing on"), "{named:?}");
}

#[test]
fn a_container_that_stops_is_told_and_with_the_last_one_the_capture_ends() {
    let machine = Machine::shared();
    let docker = machine.docker();
    for name in ["e-one", "e-two", "e-three"] {
        docker.run(name, &[], Image::Busybox, &[]);
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("e.pcapng");
    let words = ["e-one", "e-two", "e-three", "-w", file.to_str().unwrap(), "--", "udp dst port 9"];
    let mut capture = capture(machine, &words);
    send(&docker, "e-one", "e-two", 0..3);
    docker.cli(&["stop", "-t", "0", "e-one"]);
    capture.wait_for_word("docker:e-one ended");
    send(&docker, "e-two", "e-three", 3..6);
    docker.remove("e-three");
    capture.wait_for_word("docker:e-three ended");
    docker.cli(&["kill", "e-two"]);
    let ran = capture.finish();
    assert_eq!(ran.status, 0, "{ran:?}");
    assert_eq!(row(&ran, "e-one/eth0"), [3, 0, 3], "{ran:?}");
    assert_eq!(row(&ran, "e-two/eth0"), [6, 0, 6], "{ran:?}");
    assert_eq!(row(&ran, "e-three/eth0"), [3, 0, 3], "{ran:?}");
    let mut numbers = numbers(&file);
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]);
}

/// The one process that this one has started.
#[track_caller]
fn opener(capture: &Capture) -> i32 {
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", capture.pid())).unwrap();
    children.trim().parse().unwrap_or_else(|_| panic!("one child is expected, not {children:?}"))
}

fn watch(pid: i32) -> OwnedFd {
    pidfd_open(rustix::process::Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap()
}

#[track_caller]
fn wait_for_end(process: &OwnedFd) {
    let patience = Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
    let ended = poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&patience)).unwrap();
    assert_eq!(ended, 1, "it does not end");
}

#[test]
fn those_that_start_later_or_again_join() {
    let machine = Machine::shared();
    let docker = machine.docker();
    docker.run("f-peer", &[], Image::Busybox, &[]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("f.pcapng");
    let words = [
        "f-new-*",
        "f-one",
        "-l",
        "app=f-shop",
        "--follow",
        "-w",
        file.to_str().unwrap(),
        "--",
        "udp dst port 9",
    ];
    let mut capture = capture(machine, &words);
    // What reads has no right; what opens has them.
    let effective = |pid: &str| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        status.lines().find_map(|line| line.strip_prefix("CapEff:\t")).unwrap().to_owned()
    };
    assert_eq!(effective(&capture.pid().to_string()), "0000000000000000");
    assert_ne!(effective(&opener(&capture).to_string()), "0000000000000000");

    // One that fits and has no link is said to, and keeps nobody else from joining.
    docker.run("f-new-mute", &["--network", "none"], Image::Busybox, &[]);
    capture.wait_for_word("f-new-mute has no link but its loopback");
    docker.run("f-one", &[], Image::Busybox, &[]);
    capture.wait_for_word("f-one/eth0 joins");
    send(&docker, "f-one", "f-peer", 0..2);
    docker.run("f-new-1", &[], Image::Busybox, &[]);
    capture.wait_for_word("f-new-1/eth0 joins");
    send(&docker, "f-new-1", "f-peer", 2..4);
    docker.run("f-other", &["-l", "app=f-shop"], Image::Busybox, &[]);
    capture.wait_for_word("f-other/eth0 joins");
    send(&docker, "f-other", "f-peer", 4..6);
    // The same container, another network.
    docker.cli(&["restart", "-t", "0", "f-one"]);
    capture.wait_for_word("docker:f-one ended");
    capture.wait_for_word("f-one/eth0 joins");
    send(&docker, "f-one", "f-peer", 6..8);
    let opener = watch(opener(&capture));
    let ran = capture.stop();
    assert_eq!(ran.status, 0, "{ran:?}");
    wait_for_end(&opener);
    assert_eq!(numbers(&file), (0..8).collect::<Vec<_>>());
    let links = tshark(&file, &["-T", "fields", "-e", "frame.interface_name"]);
    let expected = ["f-one/eth0", "f-new-1/eth0", "f-other/eth0", "f-one/eth0"];
    assert!(links.lines().eq(expected.iter().flat_map(|link| [*link; 2])), "{links}");
    assert!(!ran.stderr.contains("f-peer"), "{ran:?}");
}

#[test]
fn nothing_stays_of_a_capture_that_is_killed() {
    let machine = Machine::shared();
    let docker = machine.docker();
    docker.run("k-one", &[], Image::Busybox, &[]);
    let sockets = || {
        let pid = docker.pid("k-one");
        fs::read_to_string(format!("/proc/{pid}/net/packet")).unwrap().lines().count()
    };
    let before = sockets();
    for words in [&["k-one"][..], &["k-one", "--follow"]] {
        let capture = capture(machine, words);
        assert_eq!(sockets(), before + 1, "{words:?}: one socket is open");
        let child = words.contains(&"--follow").then(|| watch(opener(&capture)));
        capture.signal(libc::SIGKILL);
        assert_eq!(capture.finish().status, 128 + libc::SIGKILL);
        child.iter().for_each(wait_for_end);
        assert_eq!(sockets(), before, "{words:?}: no socket is left");
    }
}
