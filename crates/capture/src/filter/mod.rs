//! Filters in tcpdump's language (pcap-filter(7)): an expression becomes a program of classic BPF, which the kernel runs
//! while packets are captured, and [`Filter::matches`] when they are read from a file.
//!
//! The way of an expression: `lexer` (words), `parser`, `terms` and `arithmetic` (what they say, `ast`), `lower` (what
//! that means for a packet), `graph` and `optimise`, `emit` (instructions), `machine` (which runs them here).
//! Whatever cannot be done is refused, with the offending word; nothing is approximated.
//!
//! # Equality with libpcap
//!
//! The language and every answer are those of libpcap 1.10.3 with its optimiser off (`tcpdump -O`); the tests compare
//! both. The places where they are not equal, on purpose:
//!
//! - An expression that no packet can match (`tcp and arp and less 0`, `ip[-1] = 8`) is refused. libpcap's optimiser
//!   refuses some of these, without it none.
//! - `inbound` and `outbound` work on files that tell the direction of packets. libpcap refuses them there, except for
//!   cooked packets, whose header says it.
//! - After `pppoes` and `geneve`, libpcap adds the inner header's place to the number of what it asks the kernel for, so
//!   that `inbound`, `outbound` and `ifindex` ask for something else. Here they mean what they say.
//! - `byte N & M` and `byte N | M`: libpcap 1.10 forgets to load the byte. Here it is loaded, as in libpcap 1.11.
//! - `/`, `%`, `<<` and `>>`: libpcap refuses `5 / ip[0]`, because 0 is the first number after the slash. Here only a
//!   divisor that *is* 0 is refused, also if it is calculated (`1 - 1`), and a shift by a number above 31.
//! - Calculations need fewer cells of scratch memory than libpcap's, so larger ones are possible.
//! - `geneve or …`: what comes after a tunnel that is not there is looked for at offsets that libpcap never wrote. Here
//!   they are 0.
//! - `ip protochain` never ends in libpcap on a packet with authentication headers that lead back to themselves. Here
//!   such a packet does not match. (libpcap's way of following those headers is kept: it is wrong, but documented by its
//!   code only.)
//! - Parentheses may be nested 200 deep.
//! - Names come from files and the caller (see [`Names`]), never from a name server.
//! - Packets of types other than those of [`LinkType`]'s constants are not filtered at all.
//!
//! libpcap's optimiser, which tcpdump uses unless told not to, changes libpcap's own answers:
//!
//! - It leaves out loads whose value makes no difference. A packet that was cut off before such a load (`tcp or ip6`, an
//!   IPv6 packet of which 18 bytes were kept) matches then, and does not without the optimiser, nor here.
//! - It adds a negative index to the constant before it (`tcp[-20]`, which is in the IP header), and then takes the sum
//!   for an offset beyond the packet.
//! - In filters for the kernel it may move the question whether the kernel has a VLAN tag behind the step that is taken
//!   because it has none (`ip or vlan and ip`): the tagged packets are then looked at in the wrong place.
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
mod terms;

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
///
/// ```
/// use snorkel_capture::LinkType;
/// use snorkel_capture::filter::{Filter, Metadata, Mode, Options, SystemNames};
///
/// let names = SystemNames::default();
/// let options = Options {
///     link_type: LinkType::ETHERNET,
///     snaplen: 0,
///     mode: Mode::File,
///     names: &names,
///     netmask: None,
///     swapped: false,
/// };
/// let filter = Filter::compile("arp or tcp port 80", &options)?;
/// let mut frame = [0; 42];
/// frame[12..14].copy_from_slice(&[0x08, 0x06]);
/// assert_ne!(filter.run(&frame, 42, &Metadata::default()), 0);
///
/// let text = "tcp prot 80";
/// let error = Filter::compile(text, &options).expect_err("this is no word of the language");
/// assert_eq!(error.render(text), "  tcp prot 80\n      ^^^^\n'and' or 'or' is missing before this");
/// # Ok::<(), snorkel_capture::filter::Error>(())
/// ```
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

    /// Whether a packet matches, its VLAN tags being in the frame. A direction that is not known is like a part of the
    /// packet that was not kept: a filter that has to look at it says no.
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
    ///
    /// [`Instruction`] has the layout of `struct sock_filter`.
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }

    /// The program for `SO_ATTACH_FILTER`, or why the kernel cannot run it. In that case [`Filter::run`] decides, with
    /// the packet as the kernel hands it out, tags beside it.
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
