//! What has the flight recorder write.

use snorkel_capture::{LinkType, Packet};

/// Whether a packet, of a link of this kind, is the one.
pub(super) type Fits = Box<dyn FnMut(&Packet<'_>, Kind) -> bool>;

/// What a filter has to know of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Kind {
    pub(super) link_type: LinkType,
    /// The mask of its IPv4 network, if it has one.
    pub(super) netmask: Option<u32>,
}

/// When it is time.
pub(super) struct Trigger {
    on: On,
    pulled: bool,
}

/// What it waits for.
pub(super) enum On {
    /// A packet for which this holds.
    Packet(Fits),
    /// SIGUSR1.
    Signal,
    /// The end of a target.
    Exit,
}

impl Trigger {
    pub(super) fn new(on: On) -> Trigger {
        Trigger { on, pulled: false }
    }

    /// The first of the packets that is the trigger, if it was not pulled before.
    pub(super) fn by_packet(
        &mut self,
        packets: &[Packet<'_>],
        kind: impl Fn(usize) -> Option<Kind>,
    ) -> Option<usize> {
        let On::Packet(fits) = &mut self.on else { return None };
        if self.pulled {
            return None;
        }
        let at = packets
            .iter()
            .position(|packet| kind(packet.interface).is_some_and(|kind| fits(packet, kind)))?;
        self.pulled = true;
        Some(at)
    }

    /// Whether a signal that came is it.
    pub(super) fn by_signal(&mut self) -> bool {
        matches!(self.on, On::Signal) && !std::mem::replace(&mut self.pulled, true)
    }

    /// Whether a target's end is it.
    pub(super) fn by_exit(&mut self) -> bool {
        matches!(self.on, On::Exit) && !std::mem::replace(&mut self.pulled, true)
    }
}
