//! Looking a name up as its user would: its hosts file, then the name servers of its resolv.conf (hosts(5),
//! resolv.conf(5), RFC 1035), asked from inside its network. getaddrinfo(3) is out of reach of a static binary.
//!
//! It takes a few seconds at most, and what it reads is data: an answer is believed as far as it answers the question.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, Question, RCODE, TYPE};

/// How long one server may take for one question.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long it may take in all.
const LIMIT: Duration = Duration::from_secs(5);
/// As many as glibc asks.
const MOST_SERVERS: usize = 3;
const MOST_SUFFIXES: usize = 6;
const DNS_PORT: u16 = 53;

/// What a resolv.conf says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Conf {
    servers: Vec<IpAddr>,
    search: Vec<String>,
    ndots: usize,
}

/// Looks up the addresses of a name, IPv4 and IPv6, from the network that the calling thread is in.
pub fn look_up(name: &str, hosts: &str, resolv_conf: &str) -> Result<Vec<IpAddr>, String> {
    let known = in_hosts(name, hosts);
    if !known.is_empty() {
        return Ok(known);
    }
    let conf = conf(resolv_conf);
    if conf.servers.is_empty() {
        return Err("there is no name server to ask".to_owned());
    }
    let end = Instant::now() + LIMIT;
    let mut last = "it does not exist".to_owned();
    for whole in candidates(name, &conf) {
        for server in &conf.servers {
            match ask(&whole, *server, end) {
                Ok(found) if found.is_empty() => {}
                Ok(found) => return Ok(found),
                Err(why) => {
                    last = format!("{server} {why}");
                    continue;
                }
            }
            // One that says no speaks for all.
            break;
        }
        if Instant::now() >= end {
            break;
        }
    }
    Err(last)
}

fn in_hosts(name: &str, hosts: &str) -> Vec<IpAddr> {
    let line = |line: &str| {
        let mut words = line.split('#').next()?.split_ascii_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
    };
    hosts.lines().filter_map(line).collect()
}

fn conf(text: &str) -> Conf {
    let mut conf = Conf { ndots: 1, ..Conf::default() };
    for line in text.lines().filter(|line| !line.starts_with(['#', ';'])) {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("nameserver") => {
                // A zone behind a link-local address names a link; only the address is kept, and such a server fails.
                let address: Option<IpAddr> =
                    words.next().and_then(|word| word.split('%').next()?.parse().ok());
                conf.servers.extend(address.filter(|_| conf.servers.len() < MOST_SERVERS));
            }
            Some("search" | "domain") => {
                conf.search = words.take(MOST_SUFFIXES).map(str::to_owned).collect();
            }
            Some("options") => {
                let ndots = words.filter_map(|word| word.strip_prefix("ndots:")?.parse().ok()).next_back();
                conf.ndots = ndots.unwrap_or(conf.ndots);
            }
            _ => {}
        }
    }
    conf
}

/// The names that are asked for, in this order.
fn candidates(name: &str, conf: &Conf) -> Vec<String> {
    if let Some(whole) = name.strip_suffix('.') {
        return vec![whole.to_owned()];
    }
    let with = conf.search.iter().map(|suffix| format!("{name}.{}", suffix.trim_matches('.')));
    if name.matches('.').count() >= conf.ndots {
        std::iter::once(name.to_owned()).chain(with).collect()
    } else {
        with.chain([name.to_owned()]).collect()
    }
}

/// Asks one server for both kinds of addresses. An empty list: it says that there are none.
fn ask(name: &str, server: IpAddr, end: Instant) -> Result<Vec<IpAddr>, String> {
    let here = match server {
        IpAddr::V4(_) => "0.0.0.0:0",
        IpAddr::V6(_) => "[::]:0",
    };
    let failed = |e: std::io::Error| format!("could not be asked: {e}");
    let socket = UdpSocket::bind(here).map_err(failed)?;
    socket.connect(SocketAddr::new(server, DNS_PORT)).map_err(failed)?;
    let mut found = Vec::new();
    for (id, kind) in [(1, TYPE::A), (2, TYPE::AAAA)] {
        let question = question(id, name, kind)?;
        socket.send(&question).map_err(failed)?;
        let stop = end.min(Instant::now() + PATIENCE);
        loop {
            let left = stop.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err("does not answer".to_owned());
            }
            socket.set_read_timeout(Some(left)).map_err(failed)?;
            let mut answer = [0; 4096];
            match socket.recv(&mut answer) {
                Ok(length) => {
                    if let Some(addresses) = read(&answer[..length], id, name)? {
                        found.extend(addresses);
                        break;
                    }
                }
                Err(e)
                    if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
                Err(e) => return Err(failed(e)),
            }
        }
    }
    Ok(found)
}

fn question(id: u16, name: &str, kind: TYPE) -> Result<Vec<u8>, String> {
    let wrong = |e: simple_dns::SimpleDnsError| format!("cannot be asked for {name}: {e}");
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(
        Name::new(name).map_err(wrong)?,
        kind.into(),
        CLASS::IN.into(),
        false,
    ));
    packet.build_bytes_vec().map_err(wrong)
}

/// The addresses in an answer; `None` if it answers something else.
fn read(bytes: &[u8], id: u16, name: &str) -> Result<Option<Vec<IpAddr>>, String> {
    let Ok(packet) = Packet::parse(bytes) else { return Ok(None) };
    let asked = packet.questions.iter().any(|question| question.qname.to_string().eq_ignore_ascii_case(name));
    if packet.id() != id || !packet.has_flags(PacketFlag::RESPONSE) || !asked {
        return Ok(None);
    }
    match packet.rcode() {
        RCODE::NoError | RCODE::NameError => {}
        other => return Err(format!("says {other:?}")),
    }
    // Aliases stand before what they lead to: all addresses are the name's.
    let address = |data: &RData<'_>| match data {
        RData::A(a) => Some(IpAddr::V4(a.address.into())),
        RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.address.into())),
        _ => None,
    };
    Ok(Some(packet.answers.iter().filter_map(|record| address(&record.rdata)).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_hosts_file_comes_first() {
        let hosts = "127.0.0.1 localhost\n10.0.0.1 DB db.example # db2\nfd00::1 db\n";
        let found = look_up("db", hosts, "").unwrap();
        assert_eq!(found, ["10.0.0.1".parse::<IpAddr>().unwrap(), "fd00::1".parse().unwrap()]);
        assert!(look_up("db2", hosts, "").unwrap_err().contains("no name server"));
    }

    #[test]
    fn names_are_asked_for_with_the_search_list() {
        let conf = conf("nameserver 10.0.0.2\nsearch a.example b.example.\noptions timeout:1 ndots:2\n");
        assert_eq!(conf.servers, ["10.0.0.2".parse::<IpAddr>().unwrap()]);
        assert_eq!(candidates("db", &conf), ["db.a.example", "db.b.example", "db"]);
        assert_eq!(candidates("x.y.z", &conf), ["x.y.z", "x.y.z.a.example", "x.y.z.b.example"]);
        assert_eq!(candidates("db.", &conf), ["db"]);
    }

    #[test]
    fn what_answers_another_question_is_passed_over() {
        let mut packet = Packet::new_reply(7);
        packet.questions.push(Question::new(
            Name::new("db.example").unwrap(),
            TYPE::A.into(),
            CLASS::IN.into(),
            false,
        ));
        let bytes = packet.build_bytes_vec().unwrap();
        assert_eq!(read(&bytes, 7, "DB.example"), Ok(Some(Vec::new())));
        assert_eq!(read(&bytes, 8, "db.example"), Ok(None));
        assert_eq!(read(&bytes, 7, "web.example"), Ok(None));
    }

    proptest! {
        #[test]
        fn no_file_and_no_answer_is_too_strange(text in "\\PC{0,200}", bytes: Vec<u8>) {
            let _ = conf(&text);
            let _ = in_hosts("db", &text);
            let _ = read(&bytes, 1, "db");
        }
    }
}
