//! The account of a capture: the counters while it runs, the table when it has ended.

use std::sync::Arc;

use snorkel_capture::dissect::{self, Base, Printer};
use snorkel_capture::file::Written;
use snorkel_capture::pair::{Sample, Tally};
use snorkel_capture::ring::Ledger;
use snorkel_capture::{Interface, Packet};

use super::style::Style;
use super::table::{Cell, table};
use super::text::printable;
use crate::commands::capture::captured::Captured;
use crate::commands::capture::live::Outcome;

/// One line of counters, without its end.
pub(crate) fn counters(all: &Ledger, taken: u64, written: Option<Written>) -> String {
    let mut line =
        format!("{} packets, {}, {} lost", thousands(taken), bytes(all.bytes), thousands(all.dropped));
    if let Some(written) = written {
        line.push_str(&format!("; file {}", bytes(written.bytes)));
    }
    line
}

/// What became of the packets of each link, what vanished between two ends, and what was written.
///
/// From left to right a packet gets further: seen by the link (its own counter), matched by the filter, not lost for want
/// of room in the ring, captured.
pub(crate) fn summary(outcome: &Outcome) -> String {
    let mut rows = Vec::new();
    for (ring, captured) in &outcome.captured {
        let ledger = &captured.ledger;
        rows.push(vec![
            Cell::new(&captured.spot.interface.name),
            Cell::new(ledger.on_link.map_or("-".to_owned(), |on_link| thousands(on_link.packets))),
            Cell::new(thousands(captured.matched())),
            Cell::new(thousands(ledger.dropped)),
            Cell::new(thousands(captured.taken())),
            Cell::new(bytes(captured.taken_bytes())),
            Cell::new(remarks(captured, outcome.unwritten.of(*ring))),
        ]);
    }
    let head = ["LINK", "SEEN", "MATCHED", "LOST", "CAPTURED", "SIZE", "REMARKS"];
    let mut out = table(&head, &rows, Style::PLAIN);
    if let Some(written) = outcome.sink.written() {
        out.push_str(&format!("{} packets written, {}", thousands(written.packets), bytes(written.bytes)));
        let unwritten = outcome.unwritten.total();
        if unwritten > 0 {
            out.push_str(&format!("; {} could not be written", thousands(unwritten)));
        }
        out.push('\n');
    }
    for (container, host, tallies) in &outcome.pairs {
        let interface = |ring| outcome.captured.get(ring).map(|captured| &captured.spot.interface);
        if let (Some(container), Some(host)) = (interface(container), interface(host)) {
            out.push_str(&pair(container, host, tallies));
        }
    }
    out
}

fn remarks(captured: &Captured, unwritten: u64) -> String {
    let Captured { ledger, surplus, ring, .. } = captured;
    let mut remarks = Vec::new();
    if *surplus > 0 {
        remarks.push(format!("{} after the last one that was wanted", thousands(*surplus)));
    }
    // With a filter the difference is the filter's.
    let unseen = ledger.on_link.map_or(0, |on_link| on_link.packets.saturating_sub(ledger.received));
    if captured.spot.interface.filter.is_none() && unseen > 0 {
        remarks.push(format!("{} passed while it began or ended", thousands(unseen)));
    }
    if let Some(on_link) = ledger.on_link.filter(|on_link| on_link.dropped > 0) {
        remarks.push(format!("{} dropped by the link itself", thousands(on_link.dropped)));
    }
    if ledger.dropped > 0 {
        let (size, times) = (bytes(*ring as u64), thousands(ledger.full));
        remarks.push(format!("its ring of {size} was full {times} times; a larger --buffer helps"));
    }
    if unwritten > 0 {
        remarks.push(format!("{} could not be written", thousands(unwritten)));
    }
    if ledger.pending() > 0 {
        remarks
            .push(format!("{} left in the ring, since it was to end at once", thousands(ledger.pending())));
    }
    if ledger.truncated > 0 {
        remarks.push(format!("{} cut by the snap length", thousands(ledger.truncated)));
    }
    if ledger.clamped > 0 {
        remarks.push(format!("{} were larger than the ring's blocks", thousands(ledger.clamped)));
    }
    if ledger.late > 0 {
        remarks.push(format!("{} out of order", thousands(ledger.late)));
    }
    if ledger.unreadable > 0 {
        remarks.push(format!("{} unreadable", thousands(ledger.unreadable)));
    }
    if remarks.is_empty() { "-".to_owned() } else { remarks.join("; ") }
}

/// What became of the packets between two ends of a link.
fn pair(container: &Interface, host: &Interface, [out, back]: &[Tally; 2]) -> String {
    let mut text = String::new();
    for (from, to, tally) in [(container, host, out), (host, container, back)] {
        text.push_str(&format!(
            "{} → {}: {} the same, {} rewritten, {} vanished",
            printable(&from.name),
            printable(&to.name),
            thousands(tally.same),
            thousands(tally.rewritten),
            thousands(tally.vanished)
        ));
        if tally.from_nowhere > 0 {
            text.push_str(&format!(", {} seen at the second end only", thousands(tally.from_nowhere)));
        }
        if tally.uncertain > 0 {
            text.push_str(&format!(
                ", {} seen at one end only while the other end's ring was full",
                thousands(tally.uncertain)
            ));
        }
        if tally.undecided > 0 {
            text.push_str(&format!(", {} too late to say", thousands(tally.undecided)));
        }
        text.push('\n');
        for (field, count) in &tally.changes {
            text.push_str(&format!("  rewritten: {field} in {}\n", thousands(*count)));
        }
        for sample in &tally.samples {
            text.push_str(&format!("  vanished: {}", line(from, sample)));
        }
    }
    text
}

/// A packet's line, of which only the first bytes were kept.
fn line(interface: &Interface, sample: &Sample) -> String {
    let style = dissect::Style { link: false, direction: false, ..dissect::Style::default() };
    let mut printer = Printer::new(style, Arc::default());
    printer.interface(interface);
    let packet = Packet {
        time: sample.time,
        interface: 0,
        direction: None,
        original_length: sample.length,
        data: &sample.start,
    };
    let mut line = Vec::new();
    printer.line(&packet, Base::default(), &mut line);
    String::from_utf8_lossy(&line).into_owned()
}

/// 1234567 as `1,234,567`.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number of bytes in the largest unit that leaves a digit before the point.
pub(crate) fn bytes(number: u64) -> String {
    let units = ["kB", "MB", "GB", "TB", "PB"];
    if number < 1000 {
        return format!("{number} B");
    }
    let mut value = number as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_at_a_glance() {
        assert_eq!(["0", "999", "1,000", "1,234,567"], [0, 999, 1000, 1_234_567].map(thousands).as_slice());
        assert_eq!(
            ["999 B", "1.0 kB", "1.0 MB", "64.0 GB"],
            [999, 1000, 999_999, 64_000_000_000].map(bytes).as_slice()
        );
    }
}
