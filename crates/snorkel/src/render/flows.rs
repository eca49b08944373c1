//! The table of a capture's flows.

use std::net::IpAddr;

use snorkel_capture::Interface;
use snorkel_capture::flows::{End, Flow, Report};
use snorkel_capture::names::Names;

use super::capture::{bytes, thousands};
use super::style::Style;
use super::table::{Cell, table};

/// One row a flow, the one of most bytes first, and what is in no row.
pub(crate) fn flows(report: &Report, interfaces: &[Interface], names: &Names, style: Style) -> String {
    // A column that says the same in every row says nothing.
    let links = interfaces.len() > 1;
    let rows: Vec<Vec<Cell>> =
        report.flows.iter().map(|flow| row(flow, interfaces.get(flow.interface), names, links)).collect();
    let mut head = vec!["PROTO", "CLIENT", "SERVER"];
    head.extend(links.then_some("LINK"));
    head.extend(["PKTS OUT", "SIZE OUT", "PKTS IN", "SIZE IN", "TIME", "RTT", "RESENT", "RESETS"]);
    let mut out = table(&head, &rows, style);
    if report.evicted > 0 {
        out.push_str(&format!(
            "{} more flows are not in the list, there were too many at once: {} packets, {}\n",
            thousands(report.evicted),
            thousands(report.evicted_total.packets),
            bytes(report.evicted_total.bytes)
        ));
    }
    if report.other.packets > 0 {
        out.push_str(&format!(
            "{} packets ({}) belong to no flow: ARP and the like\n",
            thousands(report.other.packets),
            bytes(report.other.bytes)
        ));
    }
    out
}

fn row(flow: &Flow, interface: Option<&Interface>, names: &Names, links: bool) -> Vec<Cell> {
    let end = |end: &End| endpoint(end, flow.interface, names);
    let mut row =
        vec![Cell::new(protocol(flow.protocol)), Cell::new(end(&flow.client)), Cell::new(end(&flow.server))];
    if links {
        row.push(Cell::new(interface.map_or("", |interface| &interface.name)));
    }
    row.extend([
        Cell::new(thousands(flow.sent.packets)),
        Cell::new(bytes(flow.sent.bytes)),
        Cell::new(thousands(flow.received.packets)),
        Cell::new(bytes(flow.received.bytes)),
        Cell::new(time(flow.duration())),
    ]);
    let count = |number: u64| Cell::new(if number == 0 { "-".to_owned() } else { thousands(number) });
    match &flow.tcp {
        Some(tcp) => row.extend([
            Cell::new(tcp.handshake.map_or_else(|| "-".to_owned(), |handshake| time(handshake.total()))),
            count(tcp.client.retransmissions + tcp.server.retransmissions),
            count(tcp.client.resets + tcp.server.resets),
        ]),
        None => row.extend(["-"; 3].map(Cell::new)),
    }
    row
}

fn endpoint(end: &End, interface: usize, names: &Names) -> String {
    let name = names.of(interface, end.address);
    match (name, end.address, end.port) {
        (Some(name), _, Some(port)) => format!("{name}:{port}"),
        (Some(name), _, None) => name.to_owned(),
        (None, IpAddr::V6(address), Some(port)) => format!("[{address}]:{port}"),
        (None, address, Some(port)) => format!("{address}:{port}"),
        (None, address, None) => address.to_string(),
    }
}

fn protocol(number: u8) -> String {
    match number {
        1 => "icmp".to_owned(),
        2 => "igmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        47 => "gre".to_owned(),
        50 => "esp".to_owned(),
        58 => "icmp6".to_owned(),
        132 => "sctp".to_owned(),
        other => other.to_string(),
    }
}

/// Nanoseconds in a unit that leaves up to three digits before the point.
pub(crate) fn time(nanoseconds: u64) -> String {
    let seconds = nanoseconds as f64 / 1e9;
    match nanoseconds {
        0..1_000_000 => format!("{:.0} µs", seconds * 1e6),
        1_000_000..1_000_000_000 => format!("{:.1} ms", seconds * 1e3),
        1_000_000_000..120_000_000_000 => format!("{seconds:.1} s"),
        _ => format!("{:.1} min", seconds / 60.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_at_a_glance() {
        let texts = [12_400, 1_250_000, 3_000_000_000, 600_000_000_000].map(time);
        assert_eq!(texts, ["12 µs", "1.2 ms", "3.0 s", "10.0 min"]);
    }
}
