//! Writes packets as lines: the columns in front, the text of the headers, the bytes below.

use std::sync::Arc;

use super::clock::{Clock, TimeFormat, Zone};
use super::hex::{self, Hex};
use super::layers::{Layer, Layers};
use super::line::{Body, View};
use super::sequence::Base;
use super::text;
use crate::names::Names;
use crate::packet::{Direction, Interface, LinkType, Packet};

/// How lines look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Style {
    /// How the time is written.
    pub time: TimeFormat,
    /// Whose clock it is.
    pub zone: Zone,
    /// Whether fractions of a second have nine digits; else six.
    pub nanoseconds: bool,
    /// Whether there is a column for the link, if any has a name.
    pub link: bool,
    /// Whether there is a column for the direction.
    pub direction: bool,
    /// Whether hardware addresses are shown (tcpdump's `-e`); of packets without other addresses they always are.
    pub link_header: bool,
    /// Whether all of IP's fields and all TCP options are shown (tcpdump's `-v`).
    pub verbose: bool,
    /// Whether the bytes behind the link's header follow the line.
    pub hex: Hex,
}

impl Default for Style {
    fn default() -> Self {
        Style {
            time: TimeFormat::default(),
            zone: Zone::default(),
            nanoseconds: false,
            link: true,
            direction: true,
            link_header: false,
            verbose: false,
            hex: Hex::None,
        }
    }
}

/// Writes lines. It can be cloned for another thread.
#[derive(Debug, Clone)]
pub struct Printer {
    style: Style,
    names: Arc<Names>,
    clock: Clock,
    links: Vec<Link>,
    width: usize,
}

#[derive(Debug, Clone)]
struct Link {
    label: Box<str>,
    link_type: LinkType,
}

/// The widest column for links: what is longer pushes its own line only.
const WIDEST: usize = 32;

impl Printer {
    /// A printer of a capture whose interfaces are not known yet.
    pub fn new(style: Style, names: Arc<Names>) -> Self {
        let clock = Clock::new(style.time, style.zone, style.nanoseconds);
        Printer { style, names, clock, links: Vec::new(), width: 0 }
    }

    /// Makes the capture's next interface known: they are numbered in this order.
    pub fn interface(&mut self, interface: &Interface) {
        let label = super::escaped(&interface.name);
        self.width = self.width.max(label.len().min(WIDEST));
        self.links.push(Link { label, link_type: interface.link_type });
    }

    /// Takes other names from here on.
    pub fn set_names(&mut self, names: Arc<Names>) {
        self.names = names;
    }

    /// Appends a packet's line, and the lines of its bytes if they are wanted.
    pub fn line(&mut self, packet: &Packet<'_>, base: Base, out: &mut Vec<u8>) {
        out.reserve(256);
        self.clock.write(packet.time, out);
        let Some(link) = self.links.get(packet.interface) else {
            text::put(out, "interface ");
            text::length(out, packet.interface);
            return text::put(out, " was not described\n");
        };
        let mut layers = Layers::of(link.link_type, packet);
        if self.style.link && self.width > 0 {
            text::put(out, &link.label);
            let short = self.width.saturating_sub(link.label.len());
            out.extend(std::iter::repeat_n(b' ', short + 1));
        }
        if self.style.direction {
            text::put(
                out,
                match packet.direction.or_else(|| cooked_direction(link.link_type, &layers)) {
                    Some(Direction::Inbound) => "in  ",
                    Some(Direction::Outbound) => "out ",
                    None => "    ",
                },
            );
        }
        let view = View { names: &self.names, interface: packet.interface, style: &self.style, base };
        let mut body = Body::new(view, packet.original_length);
        for layer in &mut layers {
            body.layer(&layer, out);
        }
        body.end(out);
        out.push(b'\n');
        if self.style.hex != Hex::None {
            hex::write(packet.data.get(layers.link_header()..).unwrap_or_default(), self.style.hex, out);
        }
    }
}

/// The direction that a cooked header tells, where the capture does not.
fn cooked_direction(link_type: LinkType, layers: &Layers<'_>) -> Option<Direction> {
    if !matches!(link_type, LinkType::LINUX_SLL | LinkType::LINUX_SLL2) {
        return None;
    }
    match layers.clone().next() {
        Some(Layer::Cooked(cooked)) => cooked.direction(),
        _ => None,
    }
}
