//! What a target's own processes open to somebody else.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use rustix::net::{AddressFamily, SocketType, bind, connect, socket, sockopt};
use snorkel_lab::{LabSpec, Scoped};
use snorkel_netns::{Netns, Process};
use snorkel_rtnl::Nftables;

use crate::common::{LONGEST, lab, run, target};
use crate::kit::{Tap, in_order, inside};

const WEB: &str = "198.19.0.2:80";

fn network(lab: &Scoped) -> Netns {
    Process::open(lab.node("client").unwrap().pid.unwrap()).unwrap().netns().unwrap()
}

fn begin(lab: &Scoped, peer: &str) -> Tap {
    Tap::start(&["-v", &target(lab, "client"), "--to", peer])
}

/// The rules that there are in the client's network.
fn rules(lab: &Scoped) -> Vec<String> {
    let chains = Nftables::open_in(&network(lab)).unwrap().chains().unwrap();
    chains.into_iter().map(|chain| format!("{} {}", chain.table, chain.name)).collect()
}

/// A connection of the client's, from this port or any.
fn open(lab: &Scoped, to: &str, from: u16) -> std::io::Result<TcpStream> {
    let to: SocketAddr = to.parse().unwrap();
    let stream = network(lab).run(|| -> std::io::Result<TcpStream> {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        bind(&socket, &SocketAddr::from(([198, 19, 0, 4], from)))?;
        connect(&socket, &to)?;
        Ok(TcpStream::from(socket))
    });
    let stream = stream.unwrap()?;
    stream.set_read_timeout(Some(LONGEST)).unwrap();
    Ok(stream)
}

fn ask(stream: &mut TcpStream) -> String {
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = String::new();
    while !(answer.contains("hello") && answer.ends_with('\n')) {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        answer.push(char::from(byte[0]));
    }
    answer
}

/// Closes it so that nothing of it stands in the way of another from the same port.
fn forget(stream: TcpStream) {
    sockopt::set_socket_linger(&stream, Some(std::time::Duration::ZERO)).unwrap();
}

#[test]
fn connections_to_a_peer_are_shown_and_come_from_the_target_itself() {
    let lab = lab(LabSpec::default());
    let tap = begin(&lab, &format!("{}:80", target(&lab, "web")));
    assert_eq!(
        inside(&lab, "client", &["curl", "-s4", "http://web/a"]),
        "hello from web, you are 198.19.0.4\n"
    );
    assert_eq!(inside(&lab, "client", &["curl", "-s6", "http://web/b"]), "hello from web, you are fd88::4\n");
    // Somebody else's connection to the same peer is not meant.
    inside(&lab, "db", &["curl", "-s4", "http://web/c"]);
    assert_eq!(rules(&lab).len(), 6, "{:?}", rules(&lab));
    let ran = tap.stop();
    let (client, web) = (format!("{}/client:", lab.name), format!("{}/web:80", lab.name));
    in_order(
        &ran.stdout,
        &[&client, " → ", &web, "HTTP GET /a", " ← ", "200 OK", "HTTP GET /b", "200 OK", "closed"],
    );
    assert!(ran.stderr.contains("conntrack") && ran.stderr.contains("2 connections"), "{}", ran.stderr);
    assert_eq!(rules(&lab), Vec::<String>::new());
}

#[test]
fn a_name_is_resolved_as_the_target_does_and_all_ports_can_be_meant() {
    let lab = lab(LabSpec::default());
    let tap = begin(&lab, "web.lab");
    inside(&lab, "client", &["curl", "-s4", "http://web/a"]);
    let ran = tap.stop();
    in_order(&ran.stdout, &["HTTP GET /a", "200 OK"]);
    assert!(ran.stderr.contains("client to web.lab;"), "{}", ran.stderr);
}

#[test]
fn a_peer_with_both_protocols_is_tapped_in_a_network_that_has_one() {
    let lab = lab(LabSpec::default());
    inside(&lab, "client", &["sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1"]);
    let tap = begin(&lab, &target(&lab, "web"));
    inside(&lab, "client", &["curl", "-s", "http://web/a"]);
    in_order(&tap.stop().stdout, &["HTTP GET /a", "200 OK"]);
}

#[test]
fn what_the_peer_refuses_is_refused_and_what_is_not_there_is_unreachable() {
    let lab = lab(LabSpec::default());
    for (to, told) in
        [("198.19.0.2:81", "refused: Connection refused"), ("198.19.0.99:80", "No route to host")]
    {
        let without = open(&lab, to, 0).unwrap_err().raw_os_error();
        let tap = begin(&lab, to);
        assert_eq!(open(&lab, to, 0).unwrap_err().raw_os_error(), without, "{to}");
        let ran = tap.stop();
        in_order(&ran.stdout, &["opened", told]);
        assert!(ran.stderr.contains("1 connection"), "{}", ran.stderr);
    }
}

#[test]
fn connections_that_exist_are_not_touched_and_those_that_are_led_may_finish() {
    let lab = lab(LabSpec::default());
    let mut before = open(&lab, WEB, 0).unwrap();
    ask(&mut before);
    let mut tap = begin(&lab, WEB);
    let mut led = open(&lab, WEB, 0).unwrap();
    ask(&mut led);
    ask(&mut before);
    tap.signal(libc::SIGINT);
    tap.wait(1, "no new connections are taken; 1 may go on");
    let mut after = open(&lab, WEB, 0).unwrap();
    ask(&mut after);
    ask(&mut led);
    drop(led);
    tap.wait(0, "closed");
    let ran = tap.finish();
    assert_eq!((ran.status, ran.stdout.matches("opened").count()), (0, 1), "{ran:?}");
    ask(&mut before);
    ask(&mut after);
    assert_eq!(rules(&lab), Vec::<String>::new());
}

#[test]
fn after_a_kill_the_next_connection_goes_straight_to_the_peer_and_nothing_is_left() {
    let lab = lab(LabSpec::default());
    let port = 23456;
    let mut tap = begin(&lab, WEB);
    let mut led = open(&lab, WEB, port).unwrap();
    ask(&mut led);
    assert_eq!(rules(&lab).len(), 3);
    tap.signal(libc::SIGKILL);
    assert_eq!(tap.finish().status, 128 + 9);
    assert_eq!(rules(&lab), Vec::<String>::new());
    ask(&mut open(&lab, WEB, 0).unwrap());
    assert!(matches!(led.read(&mut [0; 8]), Ok(0) | Err(_)));
    forget(led);
    // The very same connection once more: straight, and led by another tap.
    let mut again = open(&lab, WEB, port).unwrap();
    ask(&mut again);
    forget(again);
    tap = begin(&lab, WEB);
    ask(&mut open(&lab, WEB, port).unwrap());
    let ran = tap.stop();
    in_order(&ran.stdout, &["opened", "HTTP GET /", "closed"]);
}

#[test]
fn a_peer_that_takes_its_time_is_waited_for_and_a_tap_that_dies_meanwhile_is_in_nobody_s_way() {
    let lab = lab(LabSpec::default());
    let tap = begin(&lab, "198.19.0.99:80");
    // Nobody answers for that address yet: the first packet waits.
    let waiting = std::thread::scope(|scope| {
        let opening = scope.spawn(|| open(&lab, "198.19.0.99:80", 0));
        tap.signal(libc::SIGKILL);
        opening.join().unwrap()
    });
    assert_eq!(waiting.unwrap_err().raw_os_error(), Some(libc::EHOSTUNREACH));
    assert_eq!(rules(&lab), Vec::<String>::new());
}

#[test]
fn the_second_tap_on_a_peer_is_told_who_has_it_and_a_port_is_not_meant() {
    let lab = lab(LabSpec::default());
    let client = target(&lab, "client");
    let tap = begin(&lab, WEB);
    let second = run(["tap", &client, "--to", WEB]);
    let told = format!("to {WEB} is tapped already, by process {}", tap.pid());
    assert!(second.status == 1 && second.stderr.contains(&told), "{second:?}");
    let ported = run(["tap", &format!("{client}:80"), "--to", WEB]);
    assert!(ported.status == 1, "{ported:?}");
    tap.stop();
}
