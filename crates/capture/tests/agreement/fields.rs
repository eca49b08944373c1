//! The structured form against tshark's fields: every number of every header, for the packet and for what is inside
//! of it.

use std::path::Path;

use serde_json::Value;

use crate::pcap::File;
use crate::tools::{summaries, traffic, tshark};

/// tshark's field, and the same of one of our frames: none where it does not have it.
type Field = (&'static str, fn(&Value) -> Vec<String>);

fn number(value: &Value) -> Vec<String> {
    value.as_u64().map(|number| number.to_string()).into_iter().collect()
}

fn hex(value: &Value, width: usize) -> Vec<String> {
    value.as_u64().map(|number| format!("0x{number:0width$x}")).into_iter().collect()
}

fn text(value: &Value) -> Vec<String> {
    value.as_str().map(str::to_owned).into_iter().collect()
}

fn bit(value: &Value) -> Vec<String> {
    value.as_bool().map(|set| u8::from(set).to_string()).into_iter().collect()
}

/// A value of IP's header, if it is of this version.
fn ip(frame: &Value, version: u64, key: &str) -> Value {
    if frame["ip"]["version"] == version { frame["ip"][key].clone() } else { Value::Null }
}

fn flags(frame: &Value) -> Vec<String> {
    let Some(letters) = frame["tcp"]["flags"].as_str() else { return Vec::new() };
    let bits = letters.chars().filter_map(|letter| "FSRP.UEWe".find(letter)).map(|at| 1u32 << at);
    vec![format!("0x{:04x}", if letters == "none" { 0 } else { bits.sum() })]
}

fn each(list: &Value, one: impl Fn(&Value) -> Vec<String>) -> Vec<String> {
    list.as_array().map(|list| list.iter().flat_map(one).collect()).unwrap_or_default()
}

fn name(value: &Value) -> Vec<String> {
    text(value)
        .into_iter()
        .map(|name| if name == "." { "<Root>".into() } else { name.trim_end_matches('.').into() })
        .collect()
}

fn answers(frame: &Value, kind: &str) -> Vec<String> {
    each(
        &frame["dns"]["answers"],
        |answer| if answer["type"] == kind { name(&answer["data"]) } else { Vec::new() },
    )
}

/// A value of each tag that this type announces.
fn tags(frame: &Value, tag_type: u16, key: &str) -> Vec<String> {
    each(&frame["vlan"], |tag| if tag["tag_type"] == tag_type { number(&tag[key]) } else { Vec::new() })
}

/// A word of a request's or status line.
fn word(frame: &Value, line: &str, at: usize) -> Vec<String> {
    frame["http"][line]
        .as_str()
        .and_then(|line| line.split(' ').nth(at))
        .map(str::to_owned)
        .into_iter()
        .collect()
}

pub(crate) const FIELDS: &[Field] = &[
    ("eth.src", |f| text(&f["ethernet"]["source"])),
    ("eth.dst", |f| text(&f["ethernet"]["destination"])),
    ("vlan.id", |f| tags(f, 0x8100, "id")),
    ("vlan.priority", |f| tags(f, 0x8100, "priority")),
    ("ieee8021ad.id", |f| tags(f, 0x88a8, "id")),
    ("mpls.label", |f| each(&f["mpls"], |label| number(&label["label"]))),
    ("pppoe.session_id", |f| hex(&f["pppoe"]["session"], 4)),
    ("arp.opcode", |f| number(&f["arp"]["operation"])),
    ("arp.src.proto_ipv4", |f| text(&f["arp"]["sender"])),
    ("arp.dst.proto_ipv4", |f| text(&f["arp"]["target"])),
    ("arp.src.hw_mac", |f| text(&f["arp"]["sender_mac"])),
    ("ip.src", |f| text(&ip(f, 4, "source"))),
    ("ip.dst", |f| text(&ip(f, 4, "destination"))),
    ("ip.id", |f| hex(&ip(f, 4, "id"), 4)),
    ("ip.len", |f| number(&ip(f, 4, "length"))),
    ("ip.ttl", |f| number(&ip(f, 4, "ttl"))),
    ("ip.proto", |f| number(&ip(f, 4, "protocol"))),
    ("ip.dsfield", |f| hex(&ip(f, 4, "tos"), 2)),
    ("ip.flags.df", |f| bit(&ip(f, 4, "dont_fragment"))),
    ("ipv6.src", |f| text(&ip(f, 6, "source"))),
    ("ipv6.dst", |f| text(&ip(f, 6, "destination"))),
    ("ipv6.plen", |f| number(&ip(f, 6, "length"))),
    ("ipv6.hlim", |f| number(&ip(f, 6, "ttl"))),
    ("ipv6.flow", |f| hex(&ip(f, 6, "flow"), 6)),
    ("ipv6.fraghdr.ident", |f| hex(&ip(f, 6, "fragment")["id"], 8)),
    ("tcp.srcport", |f| number(&f["tcp"]["source"])),
    ("tcp.dstport", |f| number(&f["tcp"]["destination"])),
    ("tcp.seq_raw", |f| number(&f["tcp"]["seq"])),
    ("tcp.ack_raw", |f| number(&f["tcp"]["ack"])),
    ("tcp.flags", flags),
    ("tcp.window_size_value", |f| number(&f["tcp"]["window"])),
    ("tcp.urgent_pointer", |f| number(&f["tcp"]["urgent"])),
    ("tcp.len", |f| number(&f["tcp"]["length"])),
    ("udp.srcport", |f| number(&f["udp"]["source"])),
    ("udp.dstport", |f| number(&f["udp"]["destination"])),
    ("udp.length", |f| {
        f["udp"]["length"].as_u64().map(|length| (length + 8).to_string()).into_iter().collect()
    }),
    ("sctp.srcport", |f| number(&f["sctp"]["source"])),
    ("sctp.verification_tag", |f| hex(&f["sctp"]["tag"], 8)),
    ("icmp.type", |f| number(&f["icmp"]["type"])),
    ("icmp.code", |f| number(&f["icmp"]["code"])),
    ("icmp.checksum", |f| hex(&f["icmp"]["checksum"], 4)),
    ("icmp.seq", |f| number(&f["icmp"]["seq"])),
    ("icmpv6.type", |f| number(&f["icmp6"]["type"])),
    ("icmpv6.code", |f| number(&f["icmp6"]["code"])),
    ("icmpv6.echo.identifier", |f| hex(&f["icmp6"]["id"], 4)),
    ("icmpv6.echo.sequence_number", |f| number(&f["icmp6"]["seq"])),
    ("icmpv6.nd.ns.target_address", |f| {
        if f["icmp6"]["type"] == 135 { text(&f["icmp6"]["target"]) } else { Vec::new() }
    }),
    ("igmp.type", |f| hex(&f["igmp"]["type"], 2)),
    ("esp.spi", |f| hex(&f["esp"]["spi"], 8)),
    ("esp.sequence", |f| number(&f["esp"]["sequence"])),
    ("vxlan.vni", |f| if f["tunnel"]["kind"] == "vxlan" { number(&f["tunnel"]["vni"]) } else { Vec::new() }),
    (
        "geneve.vni",
        |f| if f["tunnel"]["kind"] == "geneve" { hex(&f["tunnel"]["vni"], 6) } else { Vec::new() },
    ),
    ("gre.key", |f| if f["tunnel"]["kind"] == "gre" { hex(&f["tunnel"]["key"], 8) } else { Vec::new() }),
    ("dns.id", |f| hex(&f["dns"]["id"], 4)),
    ("dns.flags.response", |f| bit(&f["dns"]["response"])),
    ("dns.flags.recdesired", |f| bit(&f["dns"]["recursion_desired"])),
    ("dns.count.queries", |f| number(&f["dns"]["counts"][0])),
    ("dns.count.answers", |f| number(&f["dns"]["counts"][1])),
    ("dns.count.add_rr", |f| number(&f["dns"]["counts"][3])),
    ("dns.qry.name", |f| each(&f["dns"]["questions"], |question| name(&question["name"]))),
    ("dns.a", |f| answers(f, "A")),
    ("dns.aaaa", |f| answers(f, "AAAA")),
    ("dns.cname", |f| answers(f, "CNAME")),
    ("http.request.method", |f| word(f, "request", 0)),
    ("http.request.uri", |f| word(f, "request", 1)),
    ("http.response.code", |f| number(&f["http"]["code"])),
    ("http.host", |f| text(&f["http"]["host"])),
    ("tls.handshake.extensions_server_name", |f| text(&f["tls"]["sni"])),
];

/// Compares all fields of all packets; how often each was there.
pub(crate) fn compare(path: &Path) -> Vec<(&'static str, usize)> {
    let file = File::read(path);
    let names: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).collect();
    let theirs = tshark(path, &names);
    let mine = summaries(&file);
    assert_eq!(theirs.len(), mine.len());
    let mut seen: Vec<(&str, usize)> = names.iter().map(|name| (*name, 0)).collect();
    let mut wrong = String::new();
    for (at, (theirs, summary)) in theirs.iter().zip(&mine).enumerate() {
        let frames: Vec<&Value> = std::iter::successors(Some(summary), |frame| {
            Some(&frame["inner"]).filter(|inner| inner.is_object())
        })
        .collect();
        // tshark takes the packet that an error is about apart as well.
        let quotes = frames
            .iter()
            .any(|frame| !frame["icmp"]["about"].is_null() || !frame["icmp6"]["about"].is_null());
        for ((field, get), (theirs, (_, count))) in FIELDS.iter().zip(theirs.iter().zip(&mut seen)) {
            let ours = frames.iter().flat_map(|frame| get(frame)).collect::<Vec<_>>().join(",");
            *count += usize::from(!ours.is_empty());
            let same = if quotes { theirs.starts_with(&ours) } else { *theirs == ours };
            if !same {
                wrong += &format!("packet {} {field}: tshark {theirs:?}, ours {ours:?}\n", at + 1);
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{wrong}", wrong.lines().count(), path.display());
    seen
}

#[test]
fn every_field_of_real_traffic_is_as_tshark_reads_it() {
    let seen = compare(&traffic().file("web.pcap"));
    let absent: Vec<_> = seen.iter().filter(|(_, count)| *count == 0).map(|(field, _)| *field).collect();
    let expected = [
        "vlan.id",
        "vlan.priority",
        "ieee8021ad.id",
        "mpls.label",
        "pppoe.session_id",
        "sctp.srcport",
        "sctp.verification_tag",
        "esp.spi",
        "esp.sequence",
        "geneve.vni",
        "gre.key",
    ];
    assert_eq!(absent, expected, "what there is of everything else, and is built by code otherwise");
}

#[test]
fn every_field_of_a_transfer_that_loses_is_as_tshark_reads_it() {
    compare(&traffic().file("lossy.pcap"));
}
