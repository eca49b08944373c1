//! UDP ports.

use std::net::{SocketAddr, UdpSocket};

use snorkel_lab::{Kind, LabSpec, NodeSpec, Scoped};
use snorkel_netns::{Netns, Process};

use crate::common::{LONGEST, lab, run, target, wait_until};
use crate::kit::{Tap, in_order, inside, needs};

pub(crate) const SERVER: &str = "198.19.0.2:7000";

pub(crate) fn pair() -> Scoped {
    lab(LabSpec::of(vec![NodeSpec::new("server", Kind::Idle), NodeSpec::new("client", Kind::Idle)]))
}

fn network(lab: &Scoped, node: &str) -> Netns {
    Process::open(lab.node(node).unwrap().pid.unwrap()).unwrap().netns().unwrap()
}

pub(crate) fn socket(lab: &Scoped, node: &str, at: &str) -> UdpSocket {
    let socket = network(lab, node).run(|| UdpSocket::bind(at).unwrap()).unwrap();
    socket.set_read_timeout(Some(LONGEST)).unwrap();
    socket
}

/// A client that takes answers only from whom it asked.
pub(crate) fn client(lab: &Scoped, node: &str, to: &str) -> UdpSocket {
    let any = if to.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
    let client = socket(lab, node, any);
    client.connect(to).unwrap();
    client
}

/// An application that says to whoever asks who that is, until it is told to stop.
pub(crate) fn serve(socket: UdpSocket) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = [0; 65536];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            if &buffer[..length] == b"stop" {
                return;
            }
            let who = SocketAddr::new(from.ip().to_canonical(), from.port());
            socket.send_to(who.to_string().as_bytes(), from).unwrap();
        }
    })
}

pub(crate) fn ask(client: &UdpSocket, what: &[u8]) -> String {
    client.send(what).unwrap();
    let mut buffer = [0; 65536];
    let length = client.recv(&mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

/// What of a tap can be seen in the server's network.
fn traces(lab: &Scoped, node: &str) -> String {
    let sockets = inside(lab, node, &["ss", "-Haunwxp"]);
    let found = sockets.lines().filter(|line| line.contains("snorkel-tap") || line.contains("\"snorkel\""));
    found.collect::<Vec<_>>().join("\n")
}

#[test]
fn dig_asks_through_it_and_is_answered_as_without_it() {
    needs("dig");
    let lab = lab(LabSpec::default());
    let dns = target(&lab, "switch");
    let questions = [
        ["@198.19.0.1", "web.lab", "A"],
        ["@198.19.0.1", "web.lab", "AAAA"],
        ["@fd88::1", "db.lab", "A"],
        ["@198.19.0.1", "nobody.lab", "A"],
    ];
    // The id and the time differ, and nothing else.
    let all = || {
        questions.map(|words| {
            inside(
                &lab,
                "client",
                &[&["dig", "+noall", "+answer", "+comments", "+qid=77"], &words[..]].concat(),
            )
        })
    };
    let without = all();
    let tap = Tap::start(&["-v", &format!("{dns}:53/udp"), &format!("{dns}:53")]);
    assert_eq!(all(), without);
    assert_eq!(inside(&lab, "client", &["dig", "+tcp", "+short", "@198.19.0.1", "web.lab"]), "198.19.0.2\n");
    let ran = tap.stop();
    let (client, server) = (format!("{}/client:", lab.name), format!("{}/switch:53", lab.name));
    in_order(
        &ran.stdout,
        &[&client, " → ", &server, "DNS (77) A web.lab\n", " ← ", "A web.lab: A 198.19.0.2, "],
    );
    in_order(
        &ran.stdout,
        &["AAAA web.lab\n", "AAAA web.lab: AAAA fd88::2", "A db.lab: A 198.19.0.3", "nobody.lab: NXDOMAIN"],
    );
    assert_eq!(ran.stdout.matches("silent since").count(), 4, "{}", ran.stdout);
    assert!(ran.stderr.contains("5 connections"), "{}", ran.stderr);
}

#[test]
fn without_v_there_is_a_line_for_each_answer_and_one_for_a_question_that_has_none() {
    needs("dig");
    let lab = lab(LabSpec::default());
    let tap = Tap::start(&[&format!("{}:53/udp", target(&lab, "switch"))]);
    inside(&lab, "client", &["dig", "+short", "@198.19.0.1", "web.lab"]);
    // A question of which the length is cut off is not answered, and no DNS.
    client(&lab, "client", "198.19.0.1:53").send(b"\x12\x34\x01").unwrap();
    inside(&lab, "client", &["dig", "+short", "@198.19.0.1", "db.lab", "AAAA"]);
    let ran = tap.stop();
    assert_eq!(ran.stdout.lines().count(), 3, "{}", ran.stdout);
    in_order(&ran.stdout, &["switch:53  DNS", "A web.lab: A 198.19.0.2, ", "AAAA db.lab: AAAA fd88::3"]);
    in_order(&ran.stdout, &["switch:53  3 B out, 0 B back, ", "silent since"]);
}

#[test]
fn the_application_is_told_the_client_s_address_wherever_it_listens() {
    for (at, asked) in [
        ("0.0.0.0:7000", &[("client", SERVER), ("server", "127.0.0.1:7000"), ("server", SERVER)][..]),
        ("[::]:7000", &[("client", SERVER), ("client", "[fd88::2]:7000"), ("server", "[::1]:7000")]),
        ("198.19.0.2:7000", &[("client", SERVER)]),
        ("127.0.0.1:7000", &[("server", "127.0.0.1:7000")]),
    ] {
        let lab = pair();
        let server = serve(socket(&lab, "server", at));
        let tap = Tap::start(&["-v", &format!("{}:7000/udp", target(&lab, "server"))]);
        for (node, to) in asked {
            let client = client(&lab, node, to);
            let own = client.local_addr().unwrap().to_string();
            assert_eq!(ask(&client, b"who am I?"), own, "{at} {to}");
            assert_eq!(ask(&client, &[b'x'; 20_000]), own, "{at} {to}: in fragments");
        }
        let ran = tap.stop();
        assert_eq!(ran.stdout.matches("opened").count(), asked.len(), "{}", ran.stdout);
        in_order(&ran.stdout, &["→ who am I?", " ← "]);
        let (node, to) = asked[0];
        client(&lab, node, to).send(b"stop").unwrap();
        server.join().unwrap();
    }
}

#[test]
fn a_long_answer_comes_whole() {
    let lab = pair();
    let server = socket(&lab, "server", "0.0.0.0:7000");
    let tap = Tap::start(&[&format!("{}:7000/udp", target(&lab, "server"))]);
    let client = client(&lab, "client", SERVER);
    let answer: Vec<u8> = (0..60_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    client.send(b"?").unwrap();
    let (_, from) = server.recv_from(&mut [0; 8]).unwrap();
    assert_eq!(from, client.local_addr().unwrap());
    server.send_to(&answer, from).unwrap();
    let mut got = vec![0; 65536];
    let length = client.recv(&mut got).unwrap();
    assert!(got[..length] == answer);
    let ran = tap.stop();
    assert!(ran.stdout.contains("1 B out, 60.0 kB back"), "{}", ran.stdout);
}

#[test]
fn an_application_that_connects_to_its_client_goes_on_without_the_tap() {
    let lab = pair();
    let server = socket(&lab, "server", SERVER);
    let tap = Tap::start(&[&format!("{}:7000/udp", target(&lab, "server"))]);
    let client = client(&lab, "client", SERVER);
    client.send(b"?").unwrap();
    let (_, from) = server.recv_from(&mut [0; 8]).unwrap();
    server.connect(from).unwrap();
    for answer in [b"1", b"2"] {
        server.send(answer).unwrap();
        let mut got = [0; 8];
        assert_eq!(client.recv(&mut got).unwrap(), 1);
        assert_eq!(&got[..1], answer);
        client.send(b"?").unwrap();
        server.recv(&mut got).unwrap();
    }
    tap.stop();
}

#[test]
fn after_a_kill_the_next_datagram_reaches_the_application_and_nothing_is_left() {
    let lab = pair();
    let server = serve(socket(&lab, "server", "0.0.0.0:7000"));
    let at = format!("{}:7000/udp", target(&lab, "server"));
    let tap = Tap::start(&[&at]);
    let client = client(&lab, "client", SERVER);
    let own = client.local_addr().unwrap().to_string();
    assert_eq!(ask(&client, b"?"), own);
    assert!(traces(&lab, "server").contains(&format!("pid={},", tap.pid())));
    tap.signal(libc::SIGKILL);
    assert_eq!(tap.finish().status, 128 + 9);
    assert_eq!(ask(&client, b"?"), own);
    assert_eq!(traces(&lab, "server"), "");
    client.send(b"stop").unwrap();
    server.join().unwrap();
}

#[test]
fn a_flow_ends_when_it_has_been_silent_and_its_next_datagram_begins_another() {
    let lab = pair();
    let server = serve(socket(&lab, "server", "0.0.0.0:7000"));
    let mut tap = Tap::start(&["--udp-idle", "200ms", &format!("{}:7000/udp", target(&lab, "server"))]);
    let client = client(&lab, "client", SERVER);
    for _ in 0..2 {
        ask(&client, b"?");
        let line = tap.wait(0, "silent since");
        assert!(line.contains("1 B out"), "{line}");
    }
    assert!(tap.stop().stderr.contains("2 connections"));
    client.send(b"stop").unwrap();
    server.join().unwrap();
}

#[test]
fn more_flows_than_there_is_room_for_end_old_ones_and_this_is_said() {
    let lab = pair();
    let server = serve(socket(&lab, "server", "0.0.0.0:7000"));
    let mut tap = Tap::start_limited(96, &[&format!("{}:7000/udp", target(&lab, "server"))]);
    // They stay open, so that no two have the same port.
    let clients: Vec<_> = (0..200).map(|_| client(&lab, "client", SERVER)).collect();
    for client in &clients {
        assert_eq!(ask(client, b"?"), client.local_addr().unwrap().to_string());
    }
    tap.wait(1, "no room for more");
    let ran = tap.stop();
    assert_eq!(ran.stderr.matches("no room for more").count(), 1, "{}", ran.stderr);
    assert_eq!(ran.stdout.lines().count(), 200, "{}", ran.stdout);
    assert!(ran.stdout.contains("cut: there were too many flows"), "{}", ran.stdout);
    client(&lab, "client", SERVER).send(b"stop").unwrap();
    server.join().unwrap();
}

#[test]
fn where_nobody_receives_the_kernel_refuses_and_an_application_that_comes_later_is_found() {
    let lab = pair();
    let at = format!("{}:7000/udp", target(&lab, "server"));
    let mut tap = Tap::start(&["-v", &at]);
    tap.wait(1, "nobody listens on");
    let client = client(&lab, "client", SERVER);
    client.send(b"?").unwrap();
    let refused = client.recv(&mut [0; 8]).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    let server = serve(socket(&lab, "server", "0.0.0.0:7000"));
    wait_until("the tap finds it", || {
        ask(&client, b"?");
        inside(&lab, "server", &["ss", "-Haun"]).contains("ESTAB")
    });
    client.send(b"stop").unwrap();
    server.join().unwrap();
    in_order(&tap.stop().stdout, &["opened", "→ ?"]);
    let spoilt = run(["tap", &at, "--latency", "1s"]);
    assert!(spoilt.status == 1 && spoilt.stderr.contains("not spoilt"), "{spoilt:?}");
}
