//! The lab's name server: A, AAAA and PTR of its nodes, and nothing else; it forwards nothing to anybody.
//!
//! RFC 1035 over UDP and TCP. Of a query only the header and its one question are read: the counts of the other
//! sections are taken for zero before the parser sees them, so that no record a stranger sends is ever parsed.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpStream, UdpSocket};

use simple_dns::rdata::{A, AAAA, PTR, RData};
use simple_dns::{CLASS, Name, OPCODE, Packet, PacketFlag, QCLASS, QTYPE, RCODE, ResourceRecord, TYPE};

use crate::plan::{DOMAIN, Plan, SWITCH};

/// How long an answer may be kept: not at all, a lab is short-lived.
const TTL: u32 = 0;
/// A query is much shorter (RFC 1035, 4.2.1: 512 over UDP).
const MAX_QUERY: usize = 4096;
/// The header's length (RFC 1035, 4.1.1).
const HEADER: usize = 12;
/// More addresses than this would not fit into 512 bytes; no node has so many links that it matters.
const MAX_ANSWERS: usize = 16;

/// Names and addresses of a lab.
#[derive(Debug, Default)]
pub(crate) struct Zone {
    addresses: HashMap<String, Vec<IpAddr>>,
    names: HashMap<IpAddr, String>,
}

impl Zone {
    /// The nodes of a lab and its switch.
    pub(crate) fn new(plan: &Plan) -> Zone {
        let mut zone = Zone::default();
        zone.add(SWITCH, &[IpAddr::V4(plan.spec.address), IpAddr::V6(plan.spec.address6)], true);
        for node in &plan.nodes {
            zone.add(&node.spec.name, &plan.addresses(node), node.owner.is_none());
        }
        zone
    }

    /// An address that several names have belongs to the owner of the namespace when it is asked backwards.
    fn add(&mut self, name: &str, addresses: &[IpAddr], owns: bool) {
        self.addresses.insert(name.to_owned(), addresses.to_vec());
        if owns {
            self.names.extend(addresses.iter().map(|&address| (address, name.to_owned())));
        }
    }

    /// What the zone says about a name; `None` if there is no such name.
    fn look_up(&self, labels: &[Vec<u8>], qtype: QTYPE) -> Option<Vec<RData<'static>>> {
        let wants = |kind: TYPE| qtype == QTYPE::ANY || qtype == QTYPE::TYPE(kind);
        if let Some(address) = reverse(labels) {
            let name = self.names.get(&address)?;
            // A name that was checked to be a host name, and the domain, are a name.
            let target = Name::new_unchecked(&format!("{name}.{DOMAIN}")).into_owned();
            return Some(if wants(TYPE::PTR) { vec![RData::PTR(PTR(target))] } else { Vec::new() });
        }
        let name = match labels {
            [name] => name,
            [name, domain] if domain == DOMAIN.as_bytes() => name,
            _ => return None,
        };
        let addresses = self.addresses.get(std::str::from_utf8(name).ok()?)?;
        let records = addresses.iter().filter_map(|address| match address {
            IpAddr::V4(v4) if wants(TYPE::A) => Some(RData::A(A { address: u32::from(*v4) })),
            IpAddr::V6(v6) if wants(TYPE::AAAA) => Some(RData::AAAA(AAAA { address: u128::from(*v6) })),
            _ => None,
        });
        Some(records.take(MAX_ANSWERS).collect())
    }

    /// The answer to a message; `None` if it deserves none (too short for a header, or an answer itself).
    pub(crate) fn answer(&self, message: &[u8]) -> Option<Vec<u8>> {
        let header = message.get(..HEADER)?;
        let (id, flags) = (u16::from_be_bytes([*header.first()?, *header.get(1)?]), header.get(2)?);
        if flags & 0x80 != 0 {
            return None;
        }
        let mut reply = Packet::new_reply(id);
        let mut question_only = message.to_vec();
        question_only.get_mut(6..HEADER)?.fill(0);
        // The reserved bit of the header is not a reason to say nothing about the rest.
        *question_only.get_mut(3)? &= !0x40;
        match Packet::parse(&question_only) {
            Ok(query) => {
                *reply.opcode_mut() = query.opcode();
                if query.has_flags(PacketFlag::RECURSION_DESIRED) {
                    reply.set_flags(PacketFlag::RECURSION_DESIRED);
                }
                self.fill(&query, &mut reply);
                reply.build_bytes_vec_compressed().ok()
            }
            Err(_) => {
                *reply.rcode_mut() = RCODE::FormatError;
                reply.build_bytes_vec().ok()
            }
        }
    }

    fn fill<'a>(&self, query: &Packet<'a>, reply: &mut Packet<'a>) {
        *reply.rcode_mut() = match query.questions.as_slice() {
            _ if query.opcode() != OPCODE::StandardQuery => RCODE::NotImplemented,
            [question] => {
                reply.questions.push(question.clone());
                let here = matches!(question.qclass, QCLASS::ANY | QCLASS::CLASS(CLASS::IN));
                let labels: Vec<Vec<u8>> =
                    question.qname.as_bytes().map(|label| label.to_ascii_lowercase()).collect();
                if !here {
                    RCODE::Refused
                } else if let Some(records) = self.look_up(&labels, question.qtype) {
                    reply.set_flags(PacketFlag::AUTHORITATIVE_ANSWER);
                    reply.answers.extend(
                        records
                            .into_iter()
                            .map(|data| ResourceRecord::new(question.qname.clone(), CLASS::IN, TTL, data)),
                    );
                    RCODE::NoError
                } else {
                    reply.set_flags(PacketFlag::AUTHORITATIVE_ANSWER);
                    RCODE::NameError
                }
            }
            _ => RCODE::FormatError,
        };
    }
}

/// The address that a name under `in-addr.arpa` (RFC 1035, 3.5) or `ip6.arpa` (RFC 3596, 2.5) asks for.
fn reverse(labels: &[Vec<u8>]) -> Option<IpAddr> {
    let (under, top) = labels.split_at_checked(labels.len().checked_sub(2)?)?;
    let text = |label: &Vec<u8>| std::str::from_utf8(label).ok().map(str::to_owned);
    match top {
        [zone, arpa] if arpa == b"arpa" && zone == b"in-addr" => {
            let bytes: Vec<u8> = under.iter().rev().map(|l| text(l)?.parse().ok()).collect::<Option<_>>()?;
            Some(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)))
        }
        [zone, arpa] if arpa == b"arpa" && zone == b"ip6" && under.len() == 32 => {
            let digits: String = under.iter().rev().map(text).collect::<Option<_>>()?;
            // 32 labels with 32 characters have one each.
            (digits.len() == 32).then_some(())?;
            Some(IpAddr::V6(Ipv6Addr::from(u128::from_str_radix(&digits, 16).ok()?)))
        }
        _ => None,
    }
}

/// Answers datagrams, for ever.
pub(crate) fn udp(zone: &Zone, socket: &UdpSocket) {
    let mut buffer = vec![0; MAX_QUERY];
    loop {
        // What goes wrong with one datagram concerns one peer only.
        if let Ok((count, peer)) = socket.recv_from(&mut buffer)
            && let Some(answer) = zone.answer(buffer.get(..count).unwrap_or_default())
        {
            let _ = socket.send_to(&answer, peer);
        }
    }
}

/// Answers the queries of one connection; each message has its length before it (RFC 1035, 4.2.2).
pub(crate) fn tcp(zone: &Zone, mut stream: TcpStream) -> io::Result<()> {
    loop {
        let mut length = [0; 2];
        match stream.read_exact(&mut length) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(e) => return Err(e),
        }
        let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut message)?;
        let Some(answer) = zone.answer(&message) else { return Ok(()) };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend_from_slice(&answer);
        stream.write_all(&framed)?;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use simple_dns::Question;

    use super::*;
    use crate::spec::{Kind, LabSpec, NodeSpec};

    fn zone() -> Zone {
        let mut spec = LabSpec::default();
        let mut side = NodeSpec::new("side", Kind::Idle);
        side.share = Some("web".into());
        spec.nodes.push(side);
        Zone::new(&Plan::new(spec).unwrap())
    }

    fn query(name: &str, kind: TYPE) -> Vec<u8> {
        let mut packet = Packet::new_query(4711);
        packet.questions.push(Question::new(Name::new(name).unwrap(), kind.into(), CLASS::IN.into(), false));
        packet.build_bytes_vec().unwrap()
    }

    /// The response code and the data of the answers.
    fn ask(name: &str, kind: TYPE) -> (RCODE, Vec<String>) {
        let answer = zone().answer(&query(name, kind)).unwrap();
        let packet = Packet::parse(&answer).unwrap();
        assert_eq!(packet.id(), 4711);
        let data = packet.answers.iter().map(|record| match &record.rdata {
            RData::A(a) => Ipv4Addr::from(a.address).to_string(),
            RData::AAAA(a) => Ipv6Addr::from(a.address).to_string(),
            RData::PTR(name) => name.0.to_string(),
            other => panic!("{other:?}"),
        });
        (packet.rcode(), data.collect())
    }

    #[test]
    fn nodes_have_addresses_with_and_without_the_domain_in_any_case() {
        for name in ["web", "web.lab", "WEB.Lab"] {
            assert_eq!(ask(name, TYPE::A), (RCODE::NoError, vec!["198.19.0.2".to_owned()]), "{name}");
            assert_eq!(ask(name, TYPE::AAAA), (RCODE::NoError, vec!["fd88::2".to_owned()]), "{name}");
        }
        assert_eq!(ask("switch", TYPE::A).1, ["198.19.0.1"]);
        assert_eq!(ask("side.lab", TYPE::A).1, ["198.19.0.2"]);
    }

    #[test]
    fn addresses_have_the_name_of_the_owner() {
        assert_eq!(ask("2.0.19.198.in-addr.arpa", TYPE::PTR).1, ["web.lab"]);
        let v6 = format!("2.{}8.8.d.f.ip6.arpa", "0.".repeat(27));
        assert_eq!(ask(&v6, TYPE::PTR).1, ["web.lab"]);
        assert_eq!(ask("9.9.19.198.in-addr.arpa", TYPE::PTR).0, RCODE::NameError);
    }

    #[test]
    fn what_is_not_there_is_said_not_to_be_there() {
        for name in ["nobody", "nobody.lab", "web.lab.lab", "example.org", "lab"] {
            assert_eq!(ask(name, TYPE::A), (RCODE::NameError, vec![]), "{name}");
        }
        assert_eq!(ask("web", TYPE::MX), (RCODE::NoError, vec![]), "the name is there, the record is not");
    }

    #[test]
    fn an_edns_record_without_options_is_no_reason_to_fall_over() {
        let mut message = query("web", TYPE::A);
        message[11] = 1;
        message.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
        let answer = zone().answer(&message).unwrap();
        assert_eq!(Packet::parse(&answer).unwrap().answers.len(), 1);
    }

    #[test]
    fn garbage_gets_an_error_or_nothing() {
        let zone = zone();
        assert_eq!(zone.answer(b""), None);
        assert_eq!(zone.answer(b"short"), None);
        let mut own = zone.answer(&query("web", TYPE::A)).unwrap();
        assert_eq!(zone.answer(&own), None, "an answer is not answered");
        own[2] &= 0x7f;
        own[5] = 7;
        let answer = zone.answer(&own).unwrap();
        assert_eq!(Packet::parse(&answer).unwrap().rcode(), RCODE::FormatError);
        // A name that points to itself.
        let looped = [0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1];
        let answer = zone.answer(&looped).unwrap();
        assert_eq!(answer[3] & 15, 1);
    }

    proptest! {
        #[test]
        fn no_message_is_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            zone().answer(&bytes);
        }

        #[test]
        fn no_question_is_too_strange(
            counts in any::<[u8; 8]>(),
            rest in proptest::collection::vec(prop_oneof![Just(0xc0u8), 0u8..16, any::<u8>()], 0..200),
        ) {
            let mut message = vec![1, 2, 1, 0];
            message.extend_from_slice(&counts);
            message[4] = 0;
            message[5] &= 3;
            message.extend_from_slice(&rest);
            zone().answer(&message);
        }

        #[test]
        fn no_mangled_query_is_too_strange(place in 0usize..40, byte in any::<u8>()) {
            let mut message = query("client.lab", TYPE::AAAA);
            if let Some(there) = message.get_mut(place) { *there = byte; }
            zone().answer(&message);
        }
    }
}
