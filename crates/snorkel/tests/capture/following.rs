//! `--follow` when the world changes otherwise than by one more container: hosts of the filter, links that cannot be opened.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use snorkel_lab::{LabSpec, Scoped};

use crate::common::{good, lab, target};
use crate::ends::ip;
use crate::kit::{Capture, NAMES, address, blocks, inside, row, send};

/// A link more for client, with nobody who answers at its other end, which these addresses are behind.
#[track_caller]
fn add_link(lab: &Scoped, name: &str, behind: &[SocketAddr]) {
    let switch = lab.node("switch").unwrap().pid.unwrap().to_string();
    let far = format!("far{name}");
    ip(lab, "client", &["link", "add", name, "type", "veth", "peer", "name", &far, "netns", &switch]);
    ip(lab, "switch", &["link", "set", &far, "up"]);
    ip(lab, "client", &["link", "set", name, "arp", "off", "up"]);
    for to in behind {
        ip(lab, "client", &["route", "replace", &format!("{}/32", to.ip()), "dev", name]);
    }
}

/// So many datagrams from client to each of these.
#[track_caller]
fn send_to(lab: &Scoped, all: &[SocketAddr], times: u32) {
    inside(lab, "client", || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        for to in all {
            (0..times).for_each(|_| assert_eq!(socket.send_to(b"hello", to).unwrap(), 5));
        }
    });
}

#[test]
fn a_filter_keeps_the_last_address_of_a_host_that_is_gone() {
    let lab = lab(LabSpec::default());
    let (web, db) = (SocketAddr::new(address(&lab, "web"), 9), SocketAddr::new(address(&lab, "db"), 9));
    let filter = format!("udp dst port 9 and host \\{}/web", lab.name);
    let mut capture = Capture::start(&[&target(&lab, "client"), "--follow", "--", &filter]);
    let pid = lab.node("web").unwrap().pid.unwrap();
    // SAFETY: signals a process of this test's own lab, which holds it unreaped until it is told.
    unsafe { libc::kill(pid.get(), libc::SIGKILL) };
    add_link(&lab, "late0", &[web, db]);
    capture.wait_for_word("its last address counts on");
    capture.wait_for_word("client/late0 joins");
    send_to(&lab, &[web, db], 3);
    let ran = capture.stop();
    assert_eq!(ran.status, 0, "{ran:?}");
    assert_eq!(row(&ran, &format!("{}/client/late0", lab.name)), [3, 0, 3], "{ran:?}");
    assert_eq!(ran.stderr.matches("its last address counts on").count(), 1, "{ran:?}");
}

#[test]
fn a_host_that_has_another_address_is_told_and_links_that_join_are_filtered_by_the_new_one() {
    let lab = lab(LabSpec::default());
    let (old, new) = (SocketAddr::new(address(&lab, "web"), 9), SocketAddr::from(([198, 51, 100, 7], 9)));
    let filter = format!("udp dst port 9 and host \\{}/web", lab.name);
    let mut capture = Capture::start(&[&target(&lab, "client"), "--follow", "--", &filter]);
    ip(&lab, "web", &["addr", "del", &format!("{}/16", old.ip()), "dev", "eth0"]);
    ip(&lab, "web", &["addr", "add", &format!("{}/16", new.ip()), "dev", "eth0"]);
    add_link(&lab, "late0", &[old, new]);
    capture.wait_for_word(
        "has another address by now; links that were opened before are filtered by the old one",
    );
    capture.wait_for_word("client/late0 joins");
    send_to(&lab, &[old, new], 3);
    ip(&lab, "client", &["link", "del", "late0"]);
    let ran = capture.stop();
    assert_eq!(ran.status, 0, "{ran:?}");
    let [matched, lost, captured] = row(&ran, &format!("{}/client/late0", lab.name));
    assert_eq!([matched, lost, captured], [3, 0, 3], "{ran:?}");
    assert!(ran.stdout.lines().all(|line| !line.contains(&format!("{}:9", old.ip()))), "{ran:?}");
}

#[test]
fn a_link_that_joins_and_cannot_be_opened_is_told_and_the_others_go_on() {
    let lab = lab(LabSpec::default());
    // Hardware addresses are what a tunnel's link has not.
    let filter = "udp dst port 9 and not ether src 02:00:00:00:00:99";
    let mut capture = Capture::start(&[&target(&lab, "client"), "--follow", "--", filter]);
    ip(&lab, "client", &["tuntap", "add", "dev", "tun9", "mode", "tun"]);
    capture.wait_for_word("client/tun9: the filter: ");
    send(&lab, "client", 9, 0..3, 32);
    add_link(&lab, "late0", &[]);
    capture.wait_for_word("client/late0 joins");
    let ran = capture.stop();
    assert_eq!(ran.status, 0, "{ran:?}");
    assert_eq!(row(&ran, &format!("{}/client/eth0", lab.name)), [3, 0, 3], "{ran:?}");
    assert!(ran.stderr.matches("client/tun9").count() == 1, "{ran:?}");
}

#[test]
fn links_that_join_beyond_the_memory_are_told_and_join_when_another_one_goes() {
    let lab = lab(LabSpec::default());
    // Room for eight of the smallest rings.
    let mut capture =
        Capture::start(&[&target(&lab, "client"), "--follow", "--buffer", "4MiB", "--", "udp dst port 9"]);
    for number in 1..8 {
        add_link(&lab, &format!("late{number}"), &[]);
        capture.wait_for_word(&format!("client/late{number} joins"));
    }
    add_link(&lab, "late8", &[]);
    capture.wait_for_word("client/late8 is not captured: --buffer is used up by 8 links");
    ip(&lab, "client", &["link", "del", "late1"]);
    capture.wait_for_word("client/late1 is gone");
    capture.wait_for_word("client/late8 joins");
    send(&lab, "client", 9, 0..3, 32);
    let ran = capture.stop();
    assert_eq!(ran.status, 0, "{ran:?}");
    assert_eq!(row(&ran, &format!("{}/client/eth0", lab.name)), [3, 0, 3], "{ran:?}");
}

/// A lab of nobody, which tells when it is asked: at each look at the world.
fn asked() -> Receiver<()> {
    let name = format!("asked-{}", std::process::id());
    let address = UnixAddr::from_abstract_name(format!("snorkel-lab/{name}")).unwrap();
    let listener = UnixListener::bind_addr(&address).unwrap();
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = BufReader::new(client.unwrap());
            client.read_line(&mut String::new()).unwrap();
            let _ = client.get_mut().write_all(format!("{{\"lab\":\"{name}\",\"nodes\":[]}}\n").as_bytes());
            if tell.send(()).is_err() {
                break;
            }
        }
    });
    told
}

#[test]
fn a_lab_that_comes_up_later_joins() {
    let asked = asked();
    let later = format!("lab:later-{}-*/client", std::process::id());
    let mut capture = Capture::start(&[&later, "--follow", "--", "udp dst port 9"]);
    // The first look gives networks numbers, which the kernel tells, so that there are more looks until it is still. A lab
    // that came up before would be found by them; nothing tells that there are no more, and nothing else depends on it.
    (0..50).take_while(|_| asked.recv_timeout(Duration::from_secs(1)).is_ok()).for_each(drop);
    let later = lab(LabSpec::default().named("later"));
    let link = format!("{}/client/eth0", later.name);
    capture.wait_for_word(&format!("{link} joins"));
    send(&later, "client", 9, 0..3, 32);
    let name = format!("{} ended", target(&later, "client"));
    drop(later);
    capture.wait_for_word(&name);
    let ran = capture.stop();
    assert_eq!(ran.status, 0, "{ran:?}");
    assert_eq!(row(&ran, &link), [3, 0, 3], "{ran:?}");
}

/// Whether a file says by now that the address is called so.
fn says(file: &Path, address: IpAddr, name: &str) -> bool {
    let IpAddr::V4(address) = address else { panic!("{address}") };
    let record = [&address.octets(), name.as_bytes(), &[0]].concat();
    let bytes = fs::read(file).unwrap();
    let (all, _) = blocks(&bytes);
    all.iter().any(|(kind, body)| *kind == NAMES && body.windows(record.len()).any(|part| part == record))
}

#[test]
fn names_are_in_the_file_when_they_are_known_and_those_that_did_not_hold_are_none_in_the_end() {
    let lab = lab(LabSpec::default());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("names.pcapng");
    let name = |node: &str| format!("{}/{node}", lab.name);
    let (client, web, late) =
        (address(&lab, "client"), address(&lab, "web"), IpAddr::from([198, 51, 100, 9]));
    let words = [&target(&lab, "client"), "--follow", "-w", file.to_str().unwrap(), "--", "udp dst port 9"];
    let mut capture = Capture::start(&words);
    // What is gathered is written with packets.
    let until = |address: IpAddr, node: &str| {
        while !says(&file, address, &name(node)) {
            send(&lab, "client", 9, 0..1, 32);
        }
    };
    until(client, "client");
    until(web, "web");
    ip(&lab, "web", &["addr", "add", &format!("{late}/24"), "dev", "eth0"]);
    add_link(&lab, "late0", &[]);
    until(late, "web");

    // The address moves.
    ip(&lab, "web", &["addr", "del", &format!("{web}/16"), "dev", "eth0"]);
    ip(&lab, "db", &["addr", "add", &format!("{web}/16"), "dev", "eth0"]);
    for link in ["late1", "late2"] {
        // When the second one is told, all is known that was with the first.
        add_link(&lab, link, &[]);
        capture.wait_for_word(&format!("client/{link} joins"));
    }
    send_to(&lab, &[SocketAddr::new(web, 9)], 1);
    let ran = capture.stop();
    assert_eq!(ran.status, 0, "{ran:?}");
    let read = good(["read", file.to_str().unwrap()]);
    assert!(read.contains(&format!("> {web}:9 UDP")), "{read}");
    assert!(read.contains(&format!("{}:", name("client"))) && !read.contains(&name("web")), "{read}");
}
