//! Headers that no link of this machine carries by itself, whole and cut off at every byte.

use std::path::PathBuf;
use std::process::Command;

use snorkel_capture::LinkType;
use snorkel_capture::dissect::{Hex, Style, TimeFormat};

use crate::built::{chunk, echo, ethernet, ipv4, ipv6, tag, tcp, udp};
use crate::fields::compare;
use crate::pcap::{self, File};
use crate::tools::{lines, run, summaries, tcpdump, timed_lines};

/// Frames of Ethernet, each with the line that it is to give.
fn frames() -> Vec<(Vec<u8>, &'static str)> {
    let ping = ipv4(1, 0, &echo());
    let init = [
        &[0x03, 0xe8, 0x07, 0xd0, 0, 0, 0, 9, 1, 2, 3, 4][..],
        &chunk(1, 0, &[0, 0, 0, 7, 0, 1, 0, 0, 0, 10, 0, 20, 0, 0, 0, 5]),
    ]
    .concat();
    let data = [
        &[0x03, 0xe8, 0x07, 0xd0, 0, 0, 0, 9, 1, 2, 3, 4][..],
        &chunk(0, 3, b"\0\0\0\x05\0\x01\0\x02\0\0\0\0hello"),
    ]
    .concat();
    let syn = tcp(2, &[2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7], &[]);
    let sack = tcp(0x10, &[1, 1, 5, 10, 0x80, 0, 0, 9, 0x80, 0, 0, 12], &[]);
    let inner = ethernet(0x0800, &ping);
    vec![
        (
            ethernet(0x8100, &tag(0x6005, 0x0800, &ping)),
            "vlan 5 p 3 10.0.0.1 > 10.0.0.2 ICMP echo request id 1 seq 5 length 8",
        ),
        (
            ethernet(0x88a8, &tag(7, 0x8100, &tag(0x1008, 0x0800, &ping))),
            "vlan 7 vlan 8 DEI 10.0.0.1 > 10.0.0.2 ICMP echo request id 1 seq 5 length 8",
        ),
        (
            ethernet(0x0800, &ipv4(6, 0x4000, &syn)),
            "10.0.0.1:40000 > 10.0.0.2:8080 TCP [S] seq 4026531841 win 502 options [mss 1460,sackOK,TS val 1 ecr 0,nop,wscale 7] length 0",
        ),
        (
            ethernet(0x86dd, &ipv6(6, &sack)),
            "[fd00::1]:40000 > [fd00::2]:8080 TCP [.] ack 2147483650 win 502 options [sack 1 {2147483657:2147483660}] length 0",
        ),
        (
            ethernet(
                0x86dd,
                &ipv6(
                    0,
                    &[&[60, 0, 1, 4, 0, 0, 0, 0, 6, 0, 1, 4, 0, 0, 0, 0][..], &tcp(0xc2, &[], b"")].concat(),
                ),
            ),
            "[fd00::1]:40000 > [fd00::2]:8080 TCP [SEW] seq 4026531841 win 502 length 0",
        ),
        (
            ethernet(0x86dd, &ipv6(44, &[&[17, 0, 0x05, 0xa8, 1, 2, 3, 4][..], &[0; 40]].concat())),
            "fd00::1 > fd00::2 UDP frag 16909060:40@1448",
        ),
        (ethernet(0x0800, &ipv4(17, 0x20b9, &[0; 24])), "10.0.0.1 > 10.0.0.2 UDP frag 4660:24@1480+"),
        (
            ethernet(0x0800, &ipv4(17, 0x2000, &udp(50000, 9, &[0; 3000])[..48])),
            "10.0.0.1:50000 > 10.0.0.2:9 UDP length 3000 (frag 4660:48@0+)",
        ),
        (
            ethernet(
                0x86dd,
                &ipv6(44, &[&[17, 0, 0, 1, 1, 2, 3, 4][..], &udp(50000, 9, &[0; 3000])[..48]].concat()),
            ),
            "[fd00::1]:50000 > [fd00::2]:9 UDP length 3000 (frag 16909060:48@0+)",
        ),
        (
            ethernet(0x0800, &ipv4(132, 0, &init)),
            "10.0.0.1:1000 > 10.0.0.2:2000 SCTP [INIT tag 7 rwnd 65536 os 10 mis 20 tsn 5]",
        ),
        (
            ethernet(0x0800, &ipv4(132, 0, &data)),
            "10.0.0.1:1000 > 10.0.0.2:2000 SCTP [DATA B E tsn 5 sid 1 sseq 2 ppid 0 length 5]",
        ),
        (
            ethernet(
                0x0800,
                &ipv4(17, 0, &udp(50000, 4789, &[&[8, 0, 0, 0, 0, 0, 42, 0][..], &inner].concat())),
            ),
            "10.0.0.1:50000 > 10.0.0.2:4789 VXLAN vni 42: 10.0.0.1 > 10.0.0.2 ICMP echo request id 1 seq 5 length 8",
        ),
        (
            ethernet(
                0x0800,
                &ipv4(
                    17,
                    0,
                    &udp(50000, 6081, &[&[1, 0, 0x65, 0x58, 0, 0, 43, 0, 1, 2, 3, 0][..], &inner].concat()),
                ),
            ),
            "10.0.0.1:50000 > 10.0.0.2:6081 Geneve vni 43: 10.0.0.1 > 10.0.0.2 ICMP echo request id 1 seq 5 length 8",
        ),
        (
            ethernet(0x0800, &ipv4(47, 0, &[&[0x20, 0, 8, 0, 0, 0, 0, 17][..], &ping].concat())),
            "10.0.0.1 > 10.0.0.2 GREv0 key 0x11: 10.0.0.1 > 10.0.0.2 ICMP echo request id 1 seq 5 length 8",
        ),
        (
            ethernet(0x0800, &ipv4(4, 0, &ping)),
            "10.0.0.1 > 10.0.0.2 IPIP: 10.0.0.1 > 10.0.0.2 ICMP echo request id 1 seq 5 length 8",
        ),
        (
            ethernet(0x0800, &ipv4(50, 0, &[0, 0, 1, 2, 0, 0, 0, 3, 9, 9, 9, 9])),
            "10.0.0.1 > 10.0.0.2 ESP spi 0x00000102 seq 3 length 12",
        ),
        (ethernet(0x0800, &ipv4(253, 0, &[0; 6])), "10.0.0.1 > 10.0.0.2 ip-proto-253 length 6"),
        (
            ethernet(0x8847, &[&[0, 1, 0x41, 61][..], &ping].concat()),
            "MPLS label 20 tc 0 [S] ttl 61: 10.0.0.1 > 10.0.0.2 ICMP echo request id 1 seq 5 length 8",
        ),
        (
            ethernet(0x8864, &[&[0x11, 0, 0, 9, 0, 30, 0, 0x21][..], &ping].concat()),
            "02:00:00:00:00:01 > 02:00:00:00:00:02 PPPoE session 0x9: 10.0.0.1 > 10.0.0.2 ICMP echo request id 1 seq 5 length 8",
        ),
        (ethernet(0x88b5, &[1, 2, 3]), "02:00:00:00:00:01 > 02:00:00:00:00:02 ethertype 0x88b5 length 3"),
        (
            ethernet(38, &[&[0x42, 0x42, 3, 0, 0, 0, 0][..], &[0; 31]].concat()),
            "02:00:00:00:00:01 > 02:00:00:00:00:02 STP config length 35",
        ),
        (
            ethernet(0x88cc, b"\x02\x07\x04\x02\0\0\0\0\x01\x04\x03\x03e0\x06\x02\0\x78\x0a\x05sw\x1b[1\0\0"),
            "02:00:00:00:00:01 > 02:00:00:00:00:02 LLDP system sw\\x1b[1 length 27",
        ),
        (
            ethernet(
                0x0806,
                &[0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2],
            ),
            "ARP who-has 10.0.0.2 tell 10.0.0.1 length 28",
        ),
        (
            ethernet(
                0x0800,
                &ipv4(6, 0, &tcp(0x18, &[], b"GET /\x1b]0;x\x07 HTTP/1.1\r\nHost: sh\xc2\x9bop\r\n\r\n")),
            ),
            "10.0.0.1:40000 > 10.0.0.2:8080 TCP [P.] seq 4026531841:4026531879 ack 2147483650 win 502 length 38: HTTP GET /\\x1b]0;x\\x07 HTTP/1.1, host sh\\xc2\\x9bop",
        ),
    ]
}

fn file(name: &str, link_type: LinkType, packets: &[(Vec<u8>, usize)]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    pcap::write(&path, link_type, packets);
    (folder, path)
}

fn whole(frames: Vec<Vec<u8>>) -> Vec<(Vec<u8>, usize)> {
    frames.into_iter().map(|frame| (frame.clone(), frame.len())).collect()
}

#[test]
fn every_kind_of_packet_has_its_line() {
    let (frames, expected): (Vec<_>, Vec<_>) = frames().into_iter().unzip();
    let (_folder, path) = file("frames.pcap", LinkType::ETHERNET, &whole(frames));
    assert_eq!(lines(&File::read(&path), false, Style::default()), expected);
}

#[test]
fn every_field_is_as_tshark_reads_it() {
    let mut frames = whole(frames().into_iter().map(|frame| frame.0).collect());
    // The last one's text is escaped here and not there.
    frames.pop();
    let (_folder, path) = file("frames.pcap", LinkType::ETHERNET, &frames);
    let seen = compare(&path);
    for field in [
        "vlan.id",
        "mpls.label",
        "pppoe.session_id",
        "sctp.verification_tag",
        "esp.spi",
        "geneve.vni",
        "gre.key",
    ] {
        assert!(seen.iter().any(|(name, count)| *name == field && *count > 0), "{field} was never there");
    }
}

#[test]
fn what_was_cut_off_is_marked_where_tcpdump_marks_it() {
    let segment = ethernet(0x0800, &ipv4(6, 0, &tcp(2, &[2, 4, 5, 0xb4], b"")));
    let datagram = ethernet(0x86dd, &ipv6(17, &udp(1000, 2000, b"hello")));
    let mut packets = Vec::new();
    for frame in [segment, datagram] {
        for kept in 1..frame.len() {
            packets.push((frame[..kept].to_vec(), frame.len()));
        }
    }
    let (_folder, path) = file("cut.pcap", LinkType::ETHERNET, &packets);
    let mark = |line: &str| line.split_once("[|").map(|(_, rest)| rest.split(']').next().unwrap().to_owned());
    for (at, (theirs, mine)) in
        tcpdump(&path, &[]).iter().zip(lines(&File::read(&path), false, Style::default())).enumerate()
    {
        // Of the payload of UDP nothing is shown, so that nothing is missing.
        assert_eq!(mark(theirs), mark(&mine), "{} bytes kept: {theirs} / {mine}", packets[at].0.len());
    }
}

#[test]
fn every_link_type_leads_to_the_same_packet() {
    let ping = ipv4(1, 0, &echo());
    let ping6 = ipv6(58, &[128, 0, 0, 0, 0, 1, 0, 5]);
    let cooked = [&[0, 4, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 8, 0][..], &ping].concat();
    let cooked2 = [&[8, 0, 0, 0, 0, 0, 0, 3, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0][..], &ping].concat();
    let line = "10.0.0.1 > 10.0.0.2 ICMP echo request id 1 seq 5 length 8";
    let line6 = "fd00::1 > fd00::2 ICMP6 echo request id 1 seq 5 length 8";
    for (link_type, packet, expected) in [
        (LinkType::RAW, ping.clone(), line),
        (LinkType::RAW, ping6.clone(), line6),
        (LinkType::IPV4, ping.clone(), line),
        (LinkType::IPV6, ping6.clone(), line6),
        (LinkType::NULL, [&2u32.to_ne_bytes()[..], &ping].concat(), line),
        (LinkType::NULL, [&30u32.to_be_bytes()[..], &ping6].concat(), line6),
        (LinkType::LOOP, [&2u32.to_be_bytes()[..], &ping].concat(), line),
        (LinkType::PPP, [&[0xff, 3, 0, 0x21][..], &ping].concat(), line),
        (LinkType::PPP, [&[0x57][..], &ping6].concat(), line6),
        (LinkType::LINUX_SLL, cooked, line),
        (LinkType::LINUX_SLL2, cooked2, "if3 10.0.0.1 > 10.0.0.2 ICMP echo request id 1 seq 5 length 8"),
    ] {
        let (_folder, path) = file("link.pcap", link_type, &whole(vec![packet]));
        assert_eq!(lines(&File::read(&path), false, Style::default()), [expected], "{link_type}");
        compare(&path);
    }
}

#[test]
fn bytes_are_shown_as_tcpdump_shows_them() {
    let frames = vec![
        ethernet(0x0800, &ipv4(17, 0, &udp(1000, 2000, b"hello, \x1b[1m world"))),
        ethernet(0x88a8, &tag(7, 0x8100, &tag(8, 0x0800, &ipv4(1, 0, &echo())))),
        ethernet(
            0x0806,
            &[0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2],
        ),
    ];
    let loopback = [&2u32.to_ne_bytes()[..], &ipv4(1, 0, &echo())].concat();
    let cooked = [&[0, 4, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 8, 0][..], &ipv4(1, 0, &echo())].concat();
    for (link_type, frames) in [
        (LinkType::ETHERNET, frames),
        (LinkType::NULL, vec![loopback]),
        (LinkType::LINUX_SLL, vec![cooked]),
        (LinkType::RAW, vec![ipv4(1, 0, &echo())]),
    ] {
        let (_folder, path) = file("hex.pcap", link_type, &whole(frames));
        for (option, hex) in [("-x", Hex::Plain), ("-X", Hex::Ascii)] {
            let theirs = run(Command::new("tcpdump").args(["-nn", "-t", option, "-r"]).arg(&path));
            let theirs: Vec<&str> = theirs.lines().filter(|line| line.starts_with('\t')).collect();
            let mine = lines(&File::read(&path), false, Style { hex, ..Style::default() }).join("\n");
            let mine: Vec<&str> = mine.lines().filter(|line| line.starts_with('\t')).collect();
            assert_eq!(mine, theirs, "{link_type}");
        }
    }
}

#[test]
fn times_are_written_as_tcpdump_writes_them_in_the_zone_of_this_machine() {
    let (_folder, path) = file("frames.pcap", LinkType::RAW, &whole(vec![ipv4(1, 0, &echo()); 3]));
    for (option, time) in [("-tttt", TimeFormat::Date), ("-tt", TimeFormat::Epoch), ("-v", TimeFormat::Clock)]
    {
        let theirs = run(Command::new("tcpdump").args(["-nn", option, "-r"]).arg(&path));
        let mine = timed_lines(&File::read(&path), false, Style { time, ..Style::default() });
        let theirs: Vec<&str> =
            theirs.lines().filter_map(|line| line.split_once(" IP ")).map(|both| both.0).collect();
        let mine: Vec<&str> =
            mine.iter().filter_map(|line| line.split_once(" 10.")).map(|both| both.0).collect();
        assert_eq!(mine.len(), 3);
        assert_eq!(mine, theirs);
    }
}

/// Every frame with every byte cleared, filled and flipped, with every bit flipped, and cut off behind it: lengths
/// that lie, versions that are none, options without an end.
fn spoiled() -> Vec<(Vec<u8>, usize)> {
    let mut packets = Vec::new();
    for (frame, _) in frames() {
        for at in 0..frame.len() {
            let mut with = |byte: u8| {
                let mut spoiled = frame.clone();
                spoiled[at] = byte;
                packets.push((spoiled, frame.len()));
            };
            (0..8).for_each(|bit| with(frame[at] ^ 1 << bit));
            [0, 0xff, !frame[at]].into_iter().for_each(&mut with);
            packets.push((frame[..at].to_vec(), frame.len()));
            packets.push((frame[..at].to_vec(), at));
        }
    }
    packets
}

#[test]
fn spoiled_packets_give_lines_of_printable_text() {
    for link_type in [LinkType::ETHERNET, LinkType::RAW, LinkType::LINUX_SLL2, LinkType::PPP] {
        let (_folder, path) = file("spoiled.pcap", link_type, &spoiled());
        let file = File::read(&path);
        for style in [Style::default(), Style { verbose: true, link_header: true, ..Style::default() }] {
            for line in lines(&file, true, style) {
                assert!(line.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{line:?}");
                assert!(line.len() < 2000, "{line}");
            }
        }
        for summary in summaries(&file) {
            assert!(summary.to_string().is_ascii());
        }
    }
}

#[test]
fn lines_made_on_several_threads_are_those_made_on_one() {
    use std::sync::Arc;

    use snorkel_capture::Packet;
    use snorkel_capture::dissect::{Base, Printer, Sequences};
    use snorkel_capture::names::{Names, Scope};

    let (_folder, path) = file("spoiled.pcap", LinkType::ETHERNET, &spoiled());
    let file = File::read(&path);
    let mut names = Names::new();
    names.add(Scope::FILE, [10, 0, 0, 1].into(), "web");
    let mut printer = Printer::new(Style::default(), Arc::new(names));
    printer.interface(&file.interface);
    // What depends on the order is asked in order; the rest is done anywhere.
    let mut sequences = Sequences::new(100);
    let packets: Vec<(Packet<'_>, Base)> =
        file.packets().map(|packet| (packet, sequences.base(LinkType::ETHERNET, &packet))).collect();
    let write = |packets: &[(Packet<'_>, Base)]| {
        let (mut printer, mut out) = (printer.clone(), Vec::new());
        packets.iter().for_each(|(packet, base)| printer.line(packet, *base, &mut out));
        out
    };
    let parts: Vec<Vec<u8>> = std::thread::scope(|scope| {
        let threads: Vec<_> = packets.chunks(100).map(|part| scope.spawn(move || write(part))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(parts.concat(), write(&packets));
}
