//! What the nodes of the default lab answer, asked from inside the client's namespace.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where something is not as it must be"
)]

mod common;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use common::{in_private, inside, scoped};
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, Question, RCODE, TYPE};
use snorkel_lab::LabSpec;

const PATIENCE: Option<Duration> = Some(Duration::from_secs(20));

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address.parse::<SocketAddr>().unwrap()).unwrap();
    stream.set_read_timeout(PATIENCE).unwrap();
    stream
}

fn udp(own: &str, to: &str) -> UdpSocket {
    let socket = UdpSocket::bind(own.parse::<SocketAddr>().unwrap()).unwrap();
    socket.set_read_timeout(PATIENCE).unwrap();
    socket.connect(to.parse::<SocketAddr>().unwrap()).unwrap();
    socket
}

fn get(address: &str, request: &str) -> String {
    let mut stream = connect(address);
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn web_greets_over_both_protocols_as_soon_as_up_returns() {
    in_private(|| {
        let lab = scoped(LabSpec::default());
        inside(&lab, "client", || {
            let close = "GET /any/path HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n";
            let four = get("198.19.0.2:80", close);
            assert!(four.starts_with("HTTP/1.1 200 OK\r\n"), "{four}");
            assert!(four.contains("Content-Type: text/plain\r\n"), "{four}");
            assert!(four.ends_with("\r\n\r\nhello from web, you are 198.19.0.4\n"), "{four}");
            let six = get("[fd88::2]:80", close);
            assert!(six.ends_with("\r\n\r\nhello from web, you are fd88::4\n"), "{six}");
        });
    });
}

#[test]
fn web_keeps_a_connection_alive_and_survives_garbage() {
    in_private(|| {
        let lab = scoped(LabSpec::default());
        inside(&lab, "client", || {
            let two = "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello";
            let last = "HEAD / HTTP/1.1\r\nConnection: close\r\n\r\n";
            let answer = get("198.19.0.2:80", &format!("{two}{two}{last}"));
            assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 3, "{answer}");
            assert_eq!(answer.matches("hello from web").count(), 2, "{answer}");
            assert!(get("198.19.0.2:80", "\0\u{1}garbage\r\n\r\n").starts_with("HTTP/1.1 400 "));
            assert!(get("198.19.0.2:80", "GET / HTTP/1.0\r\n\r\n").contains("200 OK"));
        });
    });
}

#[test]
fn db_echoes_over_tcp_and_udp() {
    in_private(|| {
        let lab = scoped(LabSpec::default());
        inside(&lab, "client", || {
            for address in ["198.19.0.3:7", "198.19.0.3:5432", "[fd88::3]:7", "[fd88::3]:5432"] {
                let mut stream = connect(address);
                stream.write_all(b"over and out").unwrap();
                stream.shutdown(std::net::Shutdown::Write).unwrap();
                let mut back = String::new();
                stream.read_to_string(&mut back).unwrap();
                assert_eq!(back, "over and out", "{address}");
            }
            for (own, address) in [("0.0.0.0:0", "198.19.0.3:7"), ("[::]:0", "[fd88::3]:7")] {
                let socket = udp(own, address);
                socket.send(b"ping").unwrap();
                let mut back = [0; 16];
                assert_eq!(socket.recv(&mut back).unwrap(), 4, "{address}");
                assert_eq!(&back[..4], b"ping");
            }
        });
    });
}

fn query(name: &str, kind: TYPE) -> Vec<u8> {
    let mut packet = Packet::new_query(99);
    packet.questions.push(Question::new(Name::new(name).unwrap(), kind.into(), CLASS::IN.into(), false));
    packet.build_bytes_vec().unwrap()
}

fn read(answer: &[u8]) -> (RCODE, Vec<String>) {
    let packet = Packet::parse(answer).unwrap();
    assert_eq!(packet.id(), 99);
    let data = packet.answers.iter().map(|record| match &record.rdata {
        RData::A(a) => Ipv4Addr::from(a.address).to_string(),
        RData::AAAA(a) => Ipv6Addr::from(a.address).to_string(),
        RData::PTR(name) => name.0.to_string(),
        other => panic!("{other:?}"),
    });
    (packet.rcode(), data.collect())
}

fn over_udp(server: &str, name: &str, kind: TYPE) -> (RCODE, Vec<String>) {
    let socket = udp(if server.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" }, server);
    socket.send(&query(name, kind)).unwrap();
    let mut answer = [0; 512];
    let count = socket.recv(&mut answer).unwrap();
    read(&answer[..count])
}

fn over_tcp(server: &str, name: &str, kind: TYPE) -> (RCODE, Vec<String>) {
    let mut stream = connect(server);
    let message = query(name, kind);
    stream.write_all(&u16::try_from(message.len()).unwrap().to_be_bytes()).unwrap();
    stream.write_all(&message).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).unwrap();
    read(&answer)
}

#[test]
fn the_switch_knows_the_names_of_its_nodes_and_no_other() {
    in_private(|| {
        let lab = scoped(LabSpec::default());
        inside(&lab, "client", || {
            for ask in [over_udp, over_tcp] {
                for server in ["198.19.0.1:53", "[fd88::1]:53"] {
                    assert_eq!(ask(server, "web", TYPE::A), (RCODE::NoError, vec!["198.19.0.2".into()]));
                    assert_eq!(ask(server, "web.lab", TYPE::AAAA), (RCODE::NoError, vec!["fd88::2".into()]));
                    assert_eq!(ask(server, "3.0.19.198.in-addr.arpa", TYPE::PTR).1, ["db.lab"]);
                    assert_eq!(ask(server, "example.org", TYPE::A), (RCODE::NameError, vec![]));
                }
            }
        });
    });
}

#[test]
fn garbage_does_not_take_the_name_server_away() {
    in_private(|| {
        let lab = scoped(LabSpec::default());
        inside(&lab, "client", || {
            let socket = udp("0.0.0.0:0", "198.19.0.1:53");
            let mut garbage = query("web", TYPE::A);
            socket.send(b"").unwrap();
            socket.send(b"short").unwrap();
            socket.send(&[0xff; 500]).unwrap();
            socket.send(&[0xc0; 100]).unwrap();
            for place in 0..garbage.len() {
                garbage[place] ^= 0xff;
                socket.send(&garbage).unwrap();
            }
            let mut stream = connect("198.19.0.1:53");
            stream.write_all(&[0xff; 1000]).unwrap();
            drop(stream);
            drop(socket);
            assert_eq!(over_udp("198.19.0.1:53", "web", TYPE::A).0, RCODE::NoError);
            assert_eq!(over_tcp("198.19.0.1:53", "web", TYPE::A).0, RCODE::NoError);
        });
        assert!(snorkel_lab::find(&lab.name).is_ok());
    });
}
