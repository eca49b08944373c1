//! Filters in tcpdump's language (pcap-filter(7)).
mod arithmetic;
mod ast;
mod emit;
mod error;
mod graph;
mod instruction;
mod keyword;
mod lexer;
mod lower;
mod machine;
mod names;
mod optimise;
mod parser;

use std::fmt;

pub use error::Error;
pub use instruction::Instruction;
pub use machine::Metadata;
pub use names::{Names, SystemNames, WithHosts};

use crate::{Direction, LinkType, Packet};
use machine::Machine;

/// Where the packets come from that a filter is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// From the kernel, which runs the filter: VLAN tags, direction and link are what it knows of a packet.
    Live,
    /// From a file: VLAN tags are in the frame, the direction is in [`Packet::direction`] if the file tells it.
    File,
}

/// What a filter is compiled for.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// What the packets begin with.
    pub link_type: LinkType,
    /// How many bytes of a matching packet are kept: what the program returns. 0: as many as anybody wants (262144).
    pub snaplen: u32,
    /// Where the packets come from.
    pub mode: Mode,
    /// Who knows what names mean.
    pub names: &'a dyn Names,
    /// The mask of the link's IPv4 network, for `ip broadcast`: 255.255.255.0 is 0xffffff00. Not known: that is refused.
    pub netmask: Option<u32>,
    /// Whether the file was written by a machine of the other byte order; only [`LinkType::NULL`] depends on it.
    pub swapped: bool,
}

impl fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("link_type", &self.link_type)
            .field("snaplen", &self.snaplen)
            .field("mode", &self.mode)
            .field("netmask", &self.netmask)
            .field("swapped", &self.swapped)
            .finish_non_exhaustive()
    }
}

/// Why a filter cannot be run by the kernel, and must be by [`Filter::matches`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotForKernel {
    /// More instructions than the kernel takes.
    #[error("the filter has {0} instructions, and the kernel takes 4096 at most")]
    TooLong(usize),
    /// A loop, which only `protochain` needs.
    #[error("'protochain' needs a loop, which the kernel does not run")]
    Loop,
    /// A shift by as many bits as the packet says: processors do not agree on what more than 31 do.
    #[error("the kernel may shift by a packet's value in another way")]
    Shift,
}

/// A compiled filter.
#[derive(Debug, Clone)]
pub struct Filter {
    instructions: Vec<Instruction>,
    machine: Machine,
}

impl Filter {
    /// Compiles an expression; an empty one matches every packet.
    pub fn compile(text: &str, options: &Options<'_>) -> Result<Filter, Error> {
        let words = lexer::words(text)?;
        let chain = parser::Parser::new(words).expression()?;
        let snaplen = if options.snaplen == 0 { MAXIMUM_SNAPLEN } else { options.snaplen };
        let instructions = match chain {
            None => emit::emit(&graph::Graph::default(), graph::Target::Accept, snaplen),
            Some(chain) => {
                let (mut graph, entry) = lower::lower(&chain, options)?;
                let entry = optimise::optimise(&mut graph, entry);
                let possible = match entry {
                    graph::Target::Block(entry) => optimise::order(&graph, entry).iter().any(|block| {
                        let block = &graph.blocks[*block as usize];
                        block.yes == graph::Target::Accept || block.no == graph::Target::Accept
                    }),
                    entry => entry == graph::Target::Accept,
                };
                if !possible {
                    return Err(Error::new(0..text.len(), "no packet can match this"));
                }
                emit::emit(&graph, entry, snaplen)
            }
        };
        Ok(Filter { machine: Machine::new(&instructions), instructions })
    }

    /// Whether a packet matches. A direction that is not known is like a part of the packet that was not kept: a filter
    /// that has to look at it says no.
    pub fn matches(&self, packet: &Packet<'_>) -> bool {
        let metadata = Metadata {
            packet_type: packet.direction.map(|direction| match direction {
                Direction::Inbound => 0,
                Direction::Outbound => instruction::PACKET_OUTGOING,
            }),
            link_index: None,
            vlan_tag: None,
        };
        self.run(packet.data, packet.original_length, &metadata) != 0
    }

    /// What the program returns for a packet of which `data` was kept and which was `length` bytes long, told what the
    /// kernel knows of it: how many bytes of it are to be kept, 0 if it does not match.
    pub fn run(&self, data: &[u8], length: u32, metadata: &Metadata) -> u32 {
        self.machine.run(data, length, metadata)
    }

    /// The program, whether or not the kernel takes it.
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }

    /// The program for `SO_ATTACH_FILTER`, or why the kernel cannot run it.
    pub fn kernel_program(&self) -> Result<&[Instruction], NotForKernel> {
        let code = &self.instructions;
        if code.iter().any(|i| i.code == instruction::JMP | instruction::JA && i.k.cast_signed() < 0) {
            return Err(NotForKernel::Loop);
        }
        let shift = |code: u16| {
            code & 0x0f == instruction::ALU | instruction::X
                && matches!(code & 0xf0, instruction::LSH | instruction::RSH)
        };
        if code.iter().any(|i| shift(i.code)) {
            return Err(NotForKernel::Shift);
        }
        if code.len() > instruction::KERNEL_LIMIT {
            return Err(NotForKernel::TooLong(code.len()));
        }
        Ok(code)
    }

    /// The program as `tcpdump -d` prints programs, a line for each instruction.
    pub fn disassembly(&self) -> String {
        instruction::disassemble(&self.instructions)
    }
}

/// What libpcap keeps of a packet at most.
const MAXIMUM_SNAPLEN: u32 = 262_144;
