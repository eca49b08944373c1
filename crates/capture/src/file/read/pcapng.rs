//! The pcapng format: sections of blocks.
//!
//! Source: draft-ietf-opsawg-pcapng. Each section has its own byte order and counts its interfaces from 0; here they
//! are counted through. Blocks of kinds that say nothing about packets (custom blocks, journal entries, decryption
//! secrets, whatever comes later) are skipped.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use super::batch::Record;
use super::clock::{Clock, Unit};
use super::decode::{Fault, Pause, longest};
use super::names;
use crate::file::block::{self, FRAME, Options, Order, option, padded};
use crate::file::{About, Section, Statistics};
use crate::packet::{Direction, Interface, LinkType, Timestamp};

/// How long a block that is no packet's can be at most.
const MOST_SAID: usize = 16 << 20;
/// What all that a capture says beside its packets may come to, in bytes of text and some for each entry: beyond it a
/// file that only wants memory is assumed.
const BUDGET: usize = 64 << 20;
/// What an entry is taken to need beside its text.
const ENTRY: usize = 256;

/// An interface of the current section, as far as its packets need it.
#[derive(Debug, Clone, Copy)]
struct Link {
    /// Its index over all sections.
    index: u32,
    clock: Clock,
    snaplen: u32,
    longest: u32,
}

/// How far the reading of a pcapng file has come.
#[derive(Debug)]
pub(super) struct Decoder {
    order: Order,
    links: Vec<Link>,
    /// How long a packet's block can be at most, since the interfaces' packets can be that long.
    most: usize,
    /// Of a block that was skipped: the length that must stand at its end.
    trailer: Option<u32>,
    /// Whether a section has begun.
    begun: bool,
    /// What is left of the budget.
    budget: usize,
}

impl Default for Decoder {
    fn default() -> Decoder {
        let most = longest(LinkType::ETHERNET) as usize + MOST_SAID;
        Decoder { order: Order::Little, links: Vec::new(), most, trailer: None, begun: false, budget: BUDGET }
    }
}

impl Decoder {
    pub(super) fn decode(
        &mut self,
        bytes: &[u8],
        from: usize,
        records: &mut Vec<Record>,
        about: &mut Arc<About>,
    ) -> (usize, Pause) {
        let mut at = from;
        loop {
            let rest = &bytes[at..];
            if let Some(length) = self.trailer {
                if rest.len() < 4 {
                    return (
                        at,
                        Pause::Needs {
                            bytes: 4,
                            what: "a block",
                            at_least: false,
                            gone: u64::from(length) - 4,
                        },
                    );
                }
                let again = self.order.u32(rest);
                if again != length {
                    return (at, Pause::Fault(disagreement(length, again)));
                }
                self.trailer = None;
                at += 4;
                continue;
            }
            if rest.len() < FRAME {
                return (at, Pause::Needs { bytes: FRAME, what: "a block", at_least: true, gone: 0 });
            }
            let mut kind = self.order.u32(rest);
            let mut order = self.order;
            if kind == block::SHB {
                match order_of(&rest[8..]) {
                    Some(found) => order = found,
                    None => return (at, Pause::Fault(unordered(&rest[8..]))),
                }
            } else if !self.begun {
                // The file's first bytes are a section's; so it was one, or this is not reached.
                kind = 0;
            }
            let length = order.u32(&rest[4..]) as usize;
            if length < FRAME || !length.is_multiple_of(4) {
                let what = format!("a block of type {kind:#x} says that it is {length} bytes long");
                return (at, Pause::Fault(Fault::Damaged(what)));
            }
            let most = match kind {
                block::EPB | block::SPB | block::PB => self.most,
                block::SHB | block::IDB | block::NRB | block::ISB => MOST_SAID,
                _ if rest.len() < length => {
                    self.trailer = Some(length as u32);
                    return (at, Pause::Skip(length as u64 - 4));
                }
                _ => usize::MAX,
            };
            if length > most {
                let what = format!("a block of type {kind:#x} says that it is {length} bytes long");
                return (at, Pause::Fault(Fault::Damaged(what)));
            }
            if rest.len() < length {
                return (at, Pause::Needs { bytes: length, what: "a block", at_least: false, gone: 0 });
            }
            let again = order.u32(&rest[length - 4..]);
            if again as usize != length {
                return (at, Pause::Fault(disagreement(length as u32, again)));
            }
            let body = &rest[8..length - 4];
            let read = match kind {
                block::EPB => self.enhanced(body, at + 8).map(|record| records.push(record)),
                block::SPB => self.simple(body, at + 8).map(|record| records.push(record)),
                block::PB => self.old(body, at + 8).map(|record| records.push(record)),
                block::SHB => self.section(order, body, about),
                block::IDB => self.interface(body, about),
                block::NRB => self.names(body, about),
                block::ISB => self.statistics(body, about),
                _ => Ok(()),
            };
            if let Err(fault) = read {
                return (at, Pause::Fault(fault));
            }
            at += length;
        }
    }

    /// An enhanced packet block, whose body is at `at` of the buffer.
    #[inline]
    fn enhanced(&self, body: &[u8], at: usize) -> Result<Record, Fault> {
        let Some(fixed) = body.first_chunk::<20>() else { return Err(short("an enhanced packet block")) };
        let link = self.link(self.order.u32(fixed))?;
        let ticks = self.order.halves(&fixed[4..]);
        let (captured, original) = (self.order.u32(&fixed[12..]), self.order.u32(&fixed[16..]));
        self.packet(link, ticks, captured, original, body, 20, at)
    }

    /// A packet block of the old kind.
    fn old(&self, body: &[u8], at: usize) -> Result<Record, Fault> {
        let Some(fixed) = body.first_chunk::<20>() else { return Err(short("a packet block")) };
        let link = self.link(u32::from(self.order.u16(fixed)))?;
        let ticks = self.order.halves(&fixed[4..]);
        let (captured, original) = (self.order.u32(&fixed[12..]), self.order.u32(&fixed[16..]));
        self.packet(link, ticks, captured, original, body, 20, at)
    }

    /// A simple packet block: the first interface saw it, nobody knows when.
    fn simple(&self, body: &[u8], at: usize) -> Result<Record, Fault> {
        let Some(fixed) = body.first_chunk::<4>() else { return Err(short("a simple packet block")) };
        let link = self.link(0)?;
        let original = self.order.u32(fixed);
        let captured = if link.snaplen == 0 { original } else { original.min(link.snaplen) };
        let mut record = self.packet(link, 0, captured, original, body, 4, at)?;
        record.time = Timestamp(0);
        // It has no options.
        record.options = 0;
        Ok(record)
    }

    /// What the packet blocks have in common; `fixed` is the length of what stands before the packet.
    #[expect(clippy::too_many_arguments, reason = "the fields of a block")]
    #[inline]
    fn packet(
        &self,
        link: &Link,
        ticks: u64,
        captured: u32,
        original: u32,
        body: &[u8],
        fixed: usize,
        at: usize,
    ) -> Result<Record, Fault> {
        let room = body.len() - fixed;
        if captured as usize > room {
            let what = format!("a packet says that it has {captured} bytes, its block has room for {room}");
            return Err(Fault::Damaged(what));
        }
        if captured > link.longest {
            let what = format!("a packet says that it has {captured} bytes, the most is {}", link.longest);
            return Err(Fault::Damaged(what));
        }
        // The body is a multiple of 4 long, and so is what stands before the packet.
        let options = &body[fixed + padded(captured as usize)..];
        Ok(Record {
            time: Timestamp(link.clock.nanoseconds(ticks)),
            start: (at + fixed) as u32,
            captured,
            original: original.max(captured),
            interface: link.index,
            options: options.len() as u32,
            direction: if options.is_empty() { None } else { direction(options, self.order) },
            order: self.order,
        })
    }

    #[inline]
    fn link(&self, id: u32) -> Result<&Link, Fault> {
        self.links.get(id as usize).ok_or_else(|| unknown(id, self.links.len()))
    }

    fn section(&mut self, order: Order, body: &[u8], about: &mut Arc<About>) -> Result<(), Fault> {
        let Some(fixed) = body.first_chunk::<16>() else { return Err(short("a section header block")) };
        let (major, minor) = (order.u16(&fixed[4..]), order.u16(&fixed[6..]));
        // Some programs write 1.2 and mean 1.0 (section 4.1 of the draft).
        if major != 1 || (minor != 0 && minor != 2) {
            return Err(Fault::Unsupported(format!("pcapng of version {major}.{minor}")));
        }
        self.order = order;
        self.begun = true;
        self.links.clear();
        let mut section = Section::default();
        for (code, value) in Options::new(&body[16..], order) {
            match code {
                option::COMMENT => section.comments.push(text(value)),
                option::SHB_HARDWARE => section.hardware = Some(text(value)),
                option::SHB_OS => section.os = Some(text(value)),
                option::SHB_USERAPPL => section.application = Some(text(value)),
                _ => {}
            }
        }
        Arc::make_mut(about).section = section;
        Ok(())
    }

    fn interface(&mut self, body: &[u8], about: &mut Arc<About>) -> Result<(), Fault> {
        let Some(fixed) = body.first_chunk::<8>() else {
            return Err(short("an interface description block"));
        };
        self.spend(ENTRY + body.len())?;
        let mut clock = Clock::default();
        let mut interface = Interface {
            name: String::new(),
            description: String::new(),
            link_type: LinkType(self.order.u16(fixed)),
            snaplen: self.order.u32(&fixed[4..]),
            mac: None,
            filter: None,
        };
        for (code, value) in Options::new(&body[8..], self.order) {
            match (code, value) {
                (option::IF_NAME, _) => interface.name = text(value),
                (option::IF_DESCRIPTION, _) => interface.description = text(value),
                (option::IF_MACADDR, &[a, b, c, d, e, f]) => interface.mac = Some([a, b, c, d, e, f]),
                (option::IF_TSRESOL, &[resolution]) => clock.unit = Unit::of(resolution),
                (option::IF_TSOFFSET, _) if value.len() == 8 => {
                    clock.offset = self.order.u64(value).cast_signed();
                }
                // 0: a filter as it is typed; 1: a program of the BPF machine.
                (option::IF_FILTER, [0, typed @ ..]) => interface.filter = Some(text(typed)),
                _ => {}
            }
        }
        let about = Arc::make_mut(about);
        let longest = longest(interface.link_type);
        self.most = self.most.max(longest as usize + MOST_SAID);
        // The budget keeps the number of interfaces small.
        let index = about.interfaces.len() as u32;
        self.links.push(Link { index, clock, snaplen: interface.snaplen, longest });
        about.interfaces.push(interface);
        about.statistics.push(None);
        Ok(())
    }

    fn names(&mut self, body: &[u8], about: &mut Arc<About>) -> Result<(), Fault> {
        let about = Arc::make_mut(about);
        for (address, name) in names::records(body, self.order) {
            if let Entry::Vacant(new) = about.names.entry(address) {
                self.spend(ENTRY + name.len())?;
                new.insert(text(name));
            }
        }
        Ok(())
    }

    fn statistics(&mut self, body: &[u8], about: &mut Arc<About>) -> Result<(), Fault> {
        let Some(fixed) = body.first_chunk::<12>() else {
            return Err(short("an interface statistics block"));
        };
        let link = *self.link(self.order.u32(fixed))?;
        let time = |value: &[u8]| Timestamp(link.clock.nanoseconds(self.order.halves(value)));
        let mut found = Statistics { time: time(&fixed[4..]), ..Statistics::default() };
        for (code, value) in Options::new(&body[12..], self.order) {
            if code == option::COMMENT {
                found.comments.push(text(value));
                continue;
            }
            if value.len() != 8 {
                continue;
            }
            let number = Some(self.order.u64(value));
            match code {
                option::ISB_STARTTIME => found.start = Some(time(value)),
                option::ISB_ENDTIME => found.end = Some(time(value)),
                option::ISB_IFRECV => found.received = number,
                option::ISB_IFDROP => found.dropped = number,
                option::ISB_FILTERACCEPT => found.filter_accepted = number,
                option::ISB_OSDROP => found.os_dropped = number,
                option::ISB_USRDELIV => found.delivered = number,
                _ => {}
            }
        }
        // Only the last one is kept, but its comments have a length too.
        self.spend(found.comments.iter().map(String::len).sum())?;
        Arc::make_mut(about).statistics[link.index as usize] = Some(found);
        Ok(())
    }

    fn spend(&mut self, bytes: usize) -> Result<(), Fault> {
        self.budget = self.budget.checked_sub(bytes).ok_or_else(|| {
            Fault::Unsupported(format!(
                "what it says of interfaces and names is more than {} MiB",
                BUDGET >> 20
            ))
        })?;
        Ok(())
    }
}

/// Which way the packet went: the two lowest bits of its flags.
#[inline]
fn direction(options: &[u8], order: Order) -> Option<Direction> {
    for (code, value) in Options::new(options, order) {
        if code == option::FLAGS && value.len() == 4 {
            return match order.u32(value) & 3 {
                1 => Some(Direction::Inbound),
                2 => Some(Direction::Outbound),
                _ => None,
            };
        }
    }
    None
}

/// The byte order of a section, by what its header has at the start of its body.
pub(super) fn order_of(body: &[u8]) -> Option<Order> {
    [Order::Little, Order::Big].into_iter().find(|order| order.u32(body) == block::BYTE_ORDER)
}

pub(super) fn text(bytes: &[u8]) -> String {
    // Some programs write the zero at a text's end that the format does not ask for.
    String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned()
}

#[cold]
fn short(what: &str) -> Fault {
    Fault::Damaged(format!("{what} is too short for what it must have"))
}

#[cold]
fn disagreement(length: u32, again: u32) -> Fault {
    Fault::Damaged(format!("a block says that it is {length} bytes long, and at its end that it is {again}"))
}

#[cold]
fn unordered(bytes: &[u8]) -> Fault {
    Fault::Damaged(format!(
        "a section header's byte order mark is {:#010x}, which is none",
        Order::Big.u32(bytes)
    ))
}

#[cold]
fn unknown(id: u32, known: usize) -> Fault {
    Fault::Damaged(format!("a block is of interface {id}, and the section has described {known}"))
}
