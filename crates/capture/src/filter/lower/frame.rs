//! What is asked of the frame as a whole: its length, its bytes, to how many it is sent, which way it goes.

use super::*;
use crate::LinkType;
use crate::filter::ast::{ByteTest, Direction, LlcKind};
use crate::filter::keyword::Protocol;

impl Lowering<'_> {
    pub(super) fn longer_than(&mut self, length: u32) -> Fragment {
        self.length(Compare::Greater, length)
    }

    pub(super) fn at_least_as_long_as(&mut self, length: u32) -> Fragment {
        self.length(Compare::GreaterOrEqual, length)
    }

    fn length(&mut self, compare: Compare, length: u32) -> Fragment {
        let load = Step::Plain(bpf::LD | bpf::W | bpf::LEN, 0);
        self.graph.block(vec![load], Test::Constant(compare, length))
    }

    /// `byte`: with `&` and `|` it asks whether any bit is set in the result.
    pub(super) fn byte(&mut self, index: u32, test: ByteTest, value: u32) -> Fragment {
        let operation = match test {
            ByteTest::Equal => return self.equals(Base::LinkHeader, index, bpf::B, value),
            ByteTest::Greater => {
                return self.compare(Base::LinkHeader, index, bpf::B, Compare::Greater, value);
            }
            ByteTest::Less => {
                return self.compare(Base::LinkHeader, index, bpf::B, Compare::GreaterOrEqual, value).not();
            }
            ByteTest::And => bpf::AND,
            ByteTest::Or => bpf::OR,
        };
        let mut steps = self.load(Base::LinkHeader, index, bpf::B);
        steps.push(Step::Plain(bpf::ALU | operation | bpf::K, value));
        self.graph.block(steps, Test::Constant(Compare::Equal, 0)).not()
    }

    pub(super) fn broadcast(&mut self, protocol: Option<Protocol>) -> Result<Fragment, Error> {
        match protocol {
            None | Some(Protocol::Link) => {
                if self.layout.link != LinkType::ETHERNET {
                    return Err(self.error(format!("links of type {} have no broadcasts", self.layout.link)));
                }
                let there = self.ethernet_address(&[0xff; 6], Direction::Dst)?;
                Ok(self.only_with_link_header(there))
            }
            Some(Protocol::Ip) => {
                let Some(netmask) = self.options.netmask.filter(|mask| *mask != u32::MAX) else {
                    return Err(self.error(
                        "the network's mask is not known here, so its broadcast address is not either",
                    ));
                };
                let typed = self.link_type(link::ETHERTYPE_IP)?;
                let hosts = !netmask;
                let zeros = self.masked(Base::Network, 16, bpf::W, 0, hosts);
                let ones = self.masked(Base::Network, 16, bpf::W, hosts, hosts);
                let any = self.graph.or(zeros, ones);
                Ok(self.graph.and(typed, any))
            }
            Some(_) => Err(self.error("only ether and ip have broadcasts")),
        }
    }

    pub(super) fn multicast(&mut self, protocol: Option<Protocol>) -> Result<Fragment, Error> {
        match protocol {
            None | Some(Protocol::Link) if self.layout.link == LinkType::ETHERNET => {
                let there = self.compare(Base::LinkHeader, 0, bpf::B, Compare::AnyBit, 1);
                Ok(self.only_with_link_header(there))
            }
            None | Some(Protocol::Link) => {
                Err(self.error(format!("links of type {} have no multicasts", self.layout.link)))
            }
            Some(Protocol::Ip) => {
                let typed = self.link_type(link::ETHERTYPE_IP)?;
                let there = self.compare(Base::Network, 16, bpf::B, Compare::GreaterOrEqual, 224);
                Ok(self.graph.and(typed, there))
            }
            Some(Protocol::Ip6) => {
                let typed = self.link_type(link::ETHERTYPE_IP6)?;
                let there = self.equals(Base::Network, 24, bpf::B, 255);
                Ok(self.graph.and(typed, there))
            }
            Some(_) => Err(self.error("only ether, ip and ip6 have multicasts")),
        }
    }

    /// Frames with an 802.2 header.
    pub(super) fn llc(&mut self, kind: LlcKind) -> Result<Fragment, Error> {
        if self.layout.link != LinkType::ETHERNET {
            return Err(
                self.error(format!("'llc' is not supported for packets of type {}", self.layout.link))
            );
        }
        let framed = self.is_802_3();
        // NetWare's raw frames begin so.
        let raw = self.equals(Base::LinkPayload, 0, bpf::H, 0xffff);
        let any = self.graph.and(framed, raw.not());
        let (value, mask) = match kind {
            LlcKind::Any => return Ok(any),
            LlcKind::Information => {
                let odd = self.compare(Base::LinkPayload, 2, bpf::B, Compare::AnyBit, 0x01);
                return Ok(self.graph.and(any, odd.not()));
            }
            LlcKind::Supervisory => (0x01, 0x03),
            LlcKind::Unnumbered => (0x03, 0x03),
            LlcKind::SupervisoryOf(code) => (code, 0x0f),
            // Without the poll bit.
            LlcKind::UnnumberedOf(code) => (code, 0xef),
        };
        let control = self.masked(Base::LinkPayload, 2, bpf::B, value, mask);
        Ok(self.graph.and(any, control))
    }

    /// Packets that this machine sent. The cooked headers say so; of others the kernel knows it while it captures, and a
    /// file may (a packet of which it is not known is neither this nor that: the filter says no).
    pub(super) fn outbound(&mut self) -> Result<Fragment, Error> {
        Ok(match self.layout.link {
            LinkType::LINUX_SLL => self.equals(Base::LinkHeader, 0, bpf::H, bpf::PACKET_OUTGOING),
            LinkType::LINUX_SLL2 => self.equals(Base::LinkHeader, 10, bpf::B, bpf::PACKET_OUTGOING),
            _ => self.ancillary(bpf::H, bpf::ANCILLARY_PACKET_TYPE, bpf::PACKET_OUTGOING),
        })
    }

    pub(super) fn link_index(&mut self, index: u32) -> Result<Fragment, Error> {
        if self.layout.link == LinkType::LINUX_SLL2 {
            return Ok(self.equals(Base::LinkHeader, 4, bpf::W, index));
        }
        if self.is_file() {
            return Err(
                self.error(format!("a file does not tell the link of packets of type {}", self.layout.link))
            );
        }
        Ok(self.ancillary(bpf::W, bpf::ANCILLARY_LINK_INDEX, index))
    }

    /// Whether something that the kernel knows about the packet has a value.
    pub(super) fn ancillary(&mut self, size: u16, what: u32, value: u32) -> Fragment {
        let load = Step::Plain(bpf::LD | bpf::ABS | size, what);
        self.graph.block(vec![load], Test::Constant(Compare::Equal, value))
    }
}
