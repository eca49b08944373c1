//! Whole lines against tcpdump's, both brought into one notation.

use snorkel_capture::dissect::Style;

use crate::pcap::File;
use crate::tools::{lines, summaries, tcpdump, traffic};

/// tcpdump's line as ours would be: `IP 10.0.0.1.80 > 10.0.0.2.81: Flags [S], seq 1, length 0` becomes
/// `10.0.0.1:80 > 10.0.0.2:81 tcp [s] seq 1 length 0`. What it says of TCP options goes, and comes back beside it.
pub(crate) fn ours(line: &str) -> (String, Option<String>) {
    let mut text = String::new();
    let mut rest = line;
    let mut inner = false;
    // One round for each packet inside of another.
    loop {
        let (prefix, body) = match rest.split_once(' ') {
            Some(("IP", body)) => (Some(4), body),
            Some(("IP6", body)) => (Some(6), body),
            _ => (None, rest),
        };
        if inner {
            text.push_str(": ");
        }
        let Some(version) = prefix else {
            text.push_str(body);
            break;
        };
        let (source, after) = body.split_once(" > ").unwrap();
        let (destination, after) = after.split_once(": ").unwrap();
        text.push_str(&endpoint(source, version));
        text.push_str(" > ");
        text.push_str(&endpoint(destination, version));
        text.push(' ');
        match after.find(" IP ").or_else(|| after.find(" IP6 ")).or_else(|| after.find(" ARP, ")) {
            Some(at) if after.starts_with("VXLAN") => {
                text.push_str(&after[..at].replace(", flags [I] (0x08), vni", " vni"));
                rest = &after[at + 1..];
                inner = true;
            }
            _ => {
                text.push_str(after);
                break;
            }
        }
    }
    let mut options = None;
    if let Some(at) = text.find(", options [") {
        let end = at + text[at..].find(']').unwrap();
        options = Some(text[at + 11..end].to_owned());
        text.replace_range(at..=end, "");
    }
    let text = text.replace("Flags [", "tcp [").replace("ARP, Request", "arp").replace(", ", " ");
    (text.replace("HBH ", "").replace("  ", " ").to_lowercase(), options)
}

fn endpoint(text: &str, version: u8) -> String {
    match text.rsplit_once('.') {
        Some((address, port)) if version == 6 => format!("[{address}]:{port}"),
        Some((address, port)) if address.matches('.').count() == 3 => format!("{address}:{port}"),
        _ => text.to_owned(),
    }
}

/// Our line without what tcpdump does not say: what a segment carries, the question in an answer, options.
pub(crate) fn reduced(line: &str) -> String {
    let mut text = line.to_owned();
    for carried in [": HTTP ", ": TLS ", ": DNS "] {
        if let Some(at) = text.find(carried) {
            text.truncate(at);
        }
    }
    if let Some(at) = text.find(" options [") {
        let end = at + text[at..].find(']').unwrap();
        text.replace_range(at..=end, "");
    }
    if let Some(at) = text.find(" DNS ") {
        text.replace_range(at..at + 5, " ");
        let counts = text.find("/0/").unwrap_or(0);
        if let (Some(mark), true) = (text.find("? "), counts > 0) {
            let start = text[..mark].rfind(' ').unwrap();
            let end = mark + 2 + text[mark + 2..].find(' ').unwrap();
            text.replace_range(start..end, "");
        }
    }
    // The hardware addresses that neighbours tell each other.
    if (text.contains(" neighbor ") || text.contains(" router "))
        && let (Some(from), Some(to)) = (text.find(" ("), text.find(')'))
    {
        text.replace_range(from..=to, "");
    }
    text.replace(", ", " ").to_lowercase()
}

fn agree(path: &std::path::Path, relative: bool) {
    let file = File::read(path);
    let theirs = tcpdump(path, if relative { &[] } else { &["-S"] });
    let mine = lines(&file, relative, Style::default());
    assert_eq!(theirs.len(), mine.len());
    assert!(mine.len() > 100, "a capture of {} packets only", mine.len());
    let wrong: Vec<String> = theirs
        .iter()
        .zip(&mine)
        .enumerate()
        .filter(|(_, (theirs, mine))| !same(&ours(theirs).0, &reduced(mine)))
        .map(|(at, (theirs, mine))| {
            format!(
                "{}: tcpdump {theirs}\n   ours    {mine}\n   {}\n   {}\n",
                at + 1,
                ours(theirs).0,
                reduced(mine)
            )
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {} lines differ:\n{}", wrong.len(), mine.len(), wrong.concat());
}

/// Fragments are written otherwise, and later ones say more here, as does IGMP. What tcpdump says of a message in a
/// segment stands behind the segment's length.
fn same(theirs: &str, mine: &str) -> bool {
    if let Some((addresses, _)) = theirs.split_once(" ip-proto-") {
        return mine.starts_with(addresses) && mine.contains(" frag ");
    }
    // IPv6: `frag (0|1448) ICMP6 ...`, and of a later one `frag (1448|1448)`.
    if let Some((addresses, rest)) = theirs.split_once(" frag (") {
        let (fragment, rest) = rest.split_once(')').unwrap();
        let (offset, length) = fragment.split_once('|').unwrap();
        let place = format!(":{length}@{offset}");
        return mine.starts_with(addresses) && mine.contains(&place) && mine.contains(rest.trim());
    }
    if theirs.contains(" igmp ") {
        return mine.starts_with(theirs) && mine[theirs.len()..].starts_with(" length ");
    }
    let mine = mine.split(" (frag ").next().unwrap();
    let theirs = match theirs.split_once(" tcp [").and_then(|(_, rest)| rest.split_once(" length ")) {
        Some((_, length)) => {
            let digits = length.find(|c: char| !c.is_ascii_digit()).unwrap_or(length.len());
            &theirs[..theirs.len() - length.len() + digits]
        }
        None => theirs,
    };
    theirs.trim_end() == mine.trim_end()
}

#[test]
fn lines_with_the_numbers_of_the_wire() {
    let traffic = traffic();
    agree(&traffic.file("web.pcap"), false);
    agree(&traffic.file("lossy.pcap"), false);
}

#[test]
fn lines_with_relative_numbers() {
    let traffic = traffic();
    agree(&traffic.file("web.pcap"), true);
    agree(&traffic.file("lossy.pcap"), true);
}

#[test]
fn tcp_options_read_as_tcpdump_writes_them() {
    let traffic = traffic();
    for path in [traffic.file("web.pcap"), traffic.file("lossy.pcap")] {
        let file = File::read(&path);
        let mut compared = 0;
        for (theirs, mine) in tcpdump(&path, &["-S"]).iter().zip(summaries(&file)) {
            let (Some(theirs), Some(mine)) = (ours(theirs).1, mine["tcp"]["options"].as_array()) else {
                continue;
            };
            let mine: Vec<&str> = mine.iter().map(|option| option.as_str().unwrap()).collect();
            assert_eq!(mine.join(","), theirs);
            compared += 1;
        }
        assert!(compared > 50, "only {compared} segments had options");
    }
}
