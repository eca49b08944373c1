//! Blocks as they are written: little-endian, whole, at the end of a buffer.
//!
//! Source: draft-ietf-opsawg-pcapng.

use std::net::IpAddr;

use super::lost::Lost;
use crate::file::block::{BYTE_ORDER, EPB, FRAME, IDB, ISB, NRB, SHB, option, padded, record};
use crate::file::{Section, Statistics};
use crate::packet::{Direction, Interface, Packet, Timestamp};

/// What precedes a packet's bytes in its block.
pub(super) const HEADER: usize = 28;
/// What follows a packet's bytes at most: padding, flags, the end of options, the block's length.
pub(super) const TAIL: usize = 3 + 8 + 4 + 4;
/// How many names are in one block at most.
const NAMES: usize = 1000;

/// Begins a block and gives where it begins.
fn begin(out: &mut Vec<u8>, kind: u32) -> usize {
    let start = out.len();
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    start
}

/// Ends the block that begins at `start`.
fn end(out: &mut Vec<u8>, start: usize) {
    // Options are cut to 64 KiB each, and a block has a handful of them: it fits.
    let length = ((out.len() + 4 - start) as u32).to_le_bytes();
    out[start + 4..start + 8].copy_from_slice(&length);
    out.extend_from_slice(&length);
}

fn value(out: &mut Vec<u8>, code: u16, parts: [&[u8]; 2]) {
    let length = parts[0].len() + parts[1].len();
    out.extend_from_slice(&code.to_le_bytes());
    out.extend_from_slice(&(length as u16).to_le_bytes());
    out.extend_from_slice(parts[0]);
    out.extend_from_slice(parts[1]);
    out.resize(out.len() + padded(length) - length, 0);
}

fn text(out: &mut Vec<u8>, code: u16, text: &str) {
    value(out, code, [fitting(text, usize::from(u16::MAX)).as_bytes(), &[]]);
}

fn some_text(out: &mut Vec<u8>, code: u16, some: Option<&str>) {
    if let Some(some) = some.filter(|some| !some.is_empty()) {
        text(out, code, some);
    }
}

fn options_end(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0; 4]);
}

/// As much of a text as fits into so many bytes.
fn fitting(text: &str, most: usize) -> &str {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// A section header block, of a length that is not told.
pub(super) fn section(out: &mut Vec<u8>, section: &Section) {
    let start = begin(out, SHB);
    out.extend_from_slice(&BYTE_ORDER.to_le_bytes());
    out.extend_from_slice(&1u16.to_le_bytes());
    out.extend_from_slice(&0u16.to_le_bytes());
    out.extend_from_slice(&u64::MAX.to_le_bytes());
    for comment in &section.comments {
        text(out, option::COMMENT, comment);
    }
    some_text(out, option::SHB_HARDWARE, section.hardware.as_deref());
    some_text(out, option::SHB_OS, section.os.as_deref());
    some_text(out, option::SHB_USERAPPL, section.application.as_deref());
    options_end(out);
    end(out, start);
}

/// An interface description block; its packets' times are in nanoseconds.
pub(super) fn interface(out: &mut Vec<u8>, interface: &Interface, os: Option<&str>) {
    let start = begin(out, IDB);
    out.extend_from_slice(&interface.link_type.0.to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&interface.snaplen.to_le_bytes());
    some_text(out, option::IF_NAME, Some(&interface.name));
    some_text(out, option::IF_DESCRIPTION, Some(&interface.description));
    if let Some(mac) = interface.mac {
        value(out, option::IF_MACADDR, [&mac, &[]]);
    }
    value(out, option::IF_TSRESOL, [&[9], &[]]);
    if let Some(filter) = &interface.filter {
        // 0: as it was typed.
        let most = usize::from(u16::MAX) - 1;
        value(out, option::IF_FILTER, [&[0], fitting(filter, most).as_bytes()]);
    }
    some_text(out, option::IF_OS, os);
    options_end(out);
    end(out, start);
}

/// Name resolution blocks; none if there is no name.
pub(super) fn names<'a>(out: &mut Vec<u8>, names: impl IntoIterator<Item = (IpAddr, &'a str)>) {
    let mut names = names.into_iter().peekable();
    while names.peek().is_some() {
        let start = begin(out, NRB);
        for (address, name) in names.by_ref().take(NAMES) {
            // The zero ends the name.
            let name = name.split('\0').next().unwrap_or_default();
            let name = fitting(name, 1024);
            let mut zero_ended = Vec::with_capacity(name.len() + 1);
            zero_ended.extend_from_slice(name.as_bytes());
            zero_ended.push(0);
            match address {
                IpAddr::V4(v4) => value(out, record::IPV4, [&v4.octets(), &zero_ended]),
                IpAddr::V6(v6) => value(out, record::IPV6, [&v6.octets(), &zero_ended]),
            }
        }
        out.extend_from_slice(&record::END.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        end(out, start);
    }
}

/// A time stamp, the upper half first.
fn time(time: Timestamp) -> [u8; 8] {
    let mut halves = [0; 8];
    halves[..4].copy_from_slice(&((time.0 >> 32) as u32).to_le_bytes());
    halves[4..].copy_from_slice(&(time.0 as u32).to_le_bytes());
    halves
}

/// An interface statistics block.
pub(super) fn statistics(out: &mut Vec<u8>, interface: u32, statistics: &Statistics) {
    let start = begin(out, ISB);
    out.extend_from_slice(&interface.to_le_bytes());
    out.extend_from_slice(&time(statistics.time));
    for comment in &statistics.comments {
        text(out, option::COMMENT, comment);
    }
    for (code, moment) in [(option::ISB_STARTTIME, statistics.start), (option::ISB_ENDTIME, statistics.end)] {
        if let Some(moment) = moment {
            value(out, code, [&time(moment), &[]]);
        }
    }
    let counters = [
        (option::ISB_IFRECV, statistics.received),
        (option::ISB_IFDROP, statistics.dropped),
        (option::ISB_FILTERACCEPT, statistics.filter_accepted),
        (option::ISB_OSDROP, statistics.os_dropped),
        (option::ISB_USRDELIV, statistics.delivered),
    ];
    for (code, counter) in counters {
        if let Some(counter) = counter {
            value(out, code, [&counter.to_le_bytes(), &[]]);
        }
    }
    options_end(out);
    end(out, start);
}

/// How long a packet's block is of which `captured` bytes are written.
#[inline]
pub(super) fn packet_length(captured: usize, direction: Option<Direction>) -> usize {
    HEADER + padded(captured) + if direction.is_some() { 12 } else { 0 } + 4
}

/// A packet's enhanced packet block, with its first `captured` bytes.
#[inline]
pub(super) fn packet(out: &mut Vec<u8>, packet: &Packet<'_>, captured: usize) {
    // Pieces of a constant length are stored in place, where one that varies is a call: only the bytes themselves are.
    out.extend_from_slice(&packet_header(packet, captured));
    out.extend_from_slice(&packet.data[..captured]);
    let padding = padded(captured) - captured;
    if padding > 0 {
        out.extend_from_slice(&[0; 4]);
        out.truncate(out.len() - 4 + padding);
    }
    let length = (packet_length(captured, packet.direction) as u32).to_le_bytes();
    if let Some(direction) = packet.direction {
        let mut end = [0; 16];
        end[..8].copy_from_slice(&flags(direction));
        end[12..].copy_from_slice(&length);
        out.extend_from_slice(&end);
    } else {
        out.extend_from_slice(&length);
    }
}

/// The option that says which way a packet went.
#[inline]
fn flags(direction: Direction) -> [u8; 8] {
    let way = match direction {
        Direction::Inbound => 1,
        Direction::Outbound => 2,
    };
    [option::FLAGS as u8, 0, 4, 0, way, 0, 0, 0]
}

/// What precedes the bytes of a packet in its enhanced packet block.
#[inline]
pub(super) fn packet_header(packet: &Packet<'_>, captured: usize) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    let mut put = |at: usize, number: u32| header[at..at + 4].copy_from_slice(&number.to_le_bytes());
    put(0, EPB);
    // What is captured is cut to 256 KiB, and the caller knows the interface's number to be one.
    put(4, packet_length(captured, packet.direction) as u32);
    put(8, packet.interface as u32);
    put(12, (packet.time.0 >> 32) as u32);
    put(16, packet.time.0 as u32);
    put(20, captured as u32);
    put(24, packet.original_length.max(captured as u32));
    header
}

/// What follows the bytes of a packet: the bytes, and how many of them there are.
#[inline]
pub(super) fn packet_tail(captured: usize, direction: Option<Direction>) -> ([u8; TAIL], usize) {
    let mut tail = [0; TAIL];
    let mut at = padded(captured) - captured;
    if let Some(direction) = direction {
        tail[at..at + 8].copy_from_slice(&flags(direction));
        at += 12;
    }
    let length = packet_length(captured, direction) as u32;
    tail[at..at + 4].copy_from_slice(&length.to_le_bytes());
    (tail, at + 4)
}

/// Of some whole blocks: how many bytes of those that are whole are within the first `written` bytes, and which
/// packets are beyond.
pub(super) fn whole(slices: &[&[u8]], written: usize) -> (usize, Lost) {
    let total: usize = slices.iter().map(|slice| slice.len()).sum();
    let number = |at: usize| {
        let byte = |i: usize| {
            let mut at = at + i;
            for slice in slices {
                if let Some(&byte) = slice.get(at) {
                    return byte;
                }
                at -= slice.len();
            }
            0
        };
        u32::from_le_bytes([byte(0), byte(1), byte(2), byte(3)])
    };
    let (mut at, mut kept, mut lost) = (0, 0, Lost::default());
    while at + FRAME <= total {
        let next = at + (number(at + 4) as usize).max(FRAME);
        if next <= written {
            kept = next;
        } else if number(at) == EPB {
            lost.add(number(at + 8) as usize, 1);
        }
        at = next;
    }
    (kept, lost)
}
