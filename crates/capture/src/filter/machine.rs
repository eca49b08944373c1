//! Runs classic BPF's programs in user space.
//!
//! A program is decoded once. The commonest pair of instructions, a load and the comparison of what was loaded, becomes
//! one operation. Offsets are counted with more bits than they have, so that nothing wraps: what is not wholly within
//! the packet's bytes ends the program with 0, as in libpcap's `bpf_filter.c`. A program that would never end, which
//! only a chain of headers can bring about, ends with 0 as well.

use super::instruction::{self as bpf, Instruction};

/// What is known about a packet besides its bytes: the kernel tells it to the programs that it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Metadata {
    /// The kernel's type of packet, 4 (`PACKET_OUTGOING`) for one that was sent; nothing if it is not known.
    pub packet_type: Option<u32>,
    /// The number of the link.
    pub link_index: Option<u32>,
    /// The outermost VLAN tag, if the kernel has taken it out of the frame.
    pub vlan_tag: Option<u16>,
}

/// How many bytes, as loads of them are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Size {
    Byte,
    Half,
    Word,
}

/// Comparisons, as jumps of them are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compare {
    Equal,
    Greater,
    GreaterOrEqual,
    AnyBit,
}

/// A decoded instruction; targets are indices of operations.
#[derive(Debug, Clone, Copy)]
enum Operation {
    /// A load of a field and whether it equals a value.
    ByteIs {
        at: u32,
        value: u32,
        yes: u32,
        no: u32,
    },
    HalfIs {
        at: u32,
        value: u32,
        yes: u32,
        no: u32,
    },
    WordIs {
        at: u32,
        value: u32,
        yes: u32,
        no: u32,
    },
    /// The same with X added to the field's place.
    HalfFromXIs {
        at: u32,
        value: u32,
        yes: u32,
        no: u32,
    },
    Load(Size, u32),
    LoadFromX(Size, u32),
    Ancillary(u32),
    Length,
    LengthToX,
    Immediate(u32),
    ImmediateToX(u32),
    Cell(u8),
    CellToX(u8),
    HeaderLengthToX(u32),
    Store(u8),
    StoreX(u8),
    Calculate(u16, u32),
    CalculateWithX(u16),
    Negate,
    Jump {
        to: u32,
        backward: bool,
    },
    Compare {
        with: u32,
        compare: Compare,
        yes: u32,
        no: u32,
    },
    CompareWithX {
        compare: Compare,
        yes: u32,
        no: u32,
    },
    ToX,
    FromX,
    Return(u32),
    ReturnA,
}

/// A program that is ready to run.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    operations: Vec<Operation>,
}

impl Machine {
    /// Decodes a program. An instruction that does not exist, and a jump out of the program, becomes a return of 0.
    pub(super) fn new(program: &[Instruction]) -> Machine {
        let end = program.len();
        let mut operations: Vec<Operation> =
            program.iter().enumerate().map(|(at, instruction)| decode(at, instruction, end)).collect();
        operations.push(Operation::Return(0));
        for at in 0..end {
            if let Some(pair) = fused(operations[at], operations[at + 1]) {
                operations[at] = pair;
            }
        }
        Machine { operations }
    }

    /// What the program returns for a packet of which `data` was kept, and which was `length` bytes long.
    pub(super) fn run(&self, data: &[u8], length: u32, metadata: &Metadata) -> u32 {
        self.execute(data, length, metadata).unwrap_or(0)
    }

    fn execute(&self, data: &[u8], length: u32, metadata: &Metadata) -> Option<u32> {
        let mut a = 0u32;
        let mut x = 0u32;
        let mut cells = [0u32; bpf::CELLS];
        let mut at = 0;
        let mut cycle = Cycle::default();
        loop {
            let operation = self.operations.get(at as usize)?;
            at += 1;
            match *operation {
                Operation::HalfIs { at: place, value, yes, no } => {
                    a = half(data, place as usize)?;
                    at = if a == value { yes } else { no };
                }
                Operation::ByteIs { at: place, value, yes, no } => {
                    a = u32::from(*data.get(place as usize)?);
                    at = if a == value { yes } else { no };
                }
                Operation::WordIs { at: place, value, yes, no } => {
                    a = word(data, place as usize)?;
                    at = if a == value { yes } else { no };
                }
                Operation::HalfFromXIs { at: place, value, yes, no } => {
                    a = half(data, place as usize + x as usize)?;
                    at = if a == value { yes } else { no };
                }
                Operation::Load(size, place) => a = load(data, size, place as usize)?,
                Operation::LoadFromX(size, place) => a = load(data, size, place as usize + x as usize)?,
                Operation::Ancillary(what) => a = ancillary(what, metadata)?,
                Operation::Length => a = length,
                Operation::LengthToX => x = length,
                Operation::Immediate(value) => a = value,
                Operation::ImmediateToX(value) => x = value,
                Operation::Cell(cell) => a = cells[usize::from(cell) % bpf::CELLS],
                Operation::CellToX(cell) => x = cells[usize::from(cell) % bpf::CELLS],
                Operation::HeaderLengthToX(place) => x = (u32::from(*data.get(place as usize)?) & 0xf) << 2,
                Operation::Store(cell) => cells[usize::from(cell) % bpf::CELLS] = a,
                Operation::StoreX(cell) => cells[usize::from(cell) % bpf::CELLS] = x,
                Operation::Calculate(code, value) => a = calculate(code, a, value)?,
                Operation::CalculateWithX(code) => a = calculate(code, a, x)?,
                Operation::Negate => a = a.wrapping_neg(),
                Operation::Jump { to, backward } => {
                    if backward && cycle.closes((at, a, x, cells)) {
                        return None;
                    }
                    at = to;
                }
                Operation::Compare { with, compare, yes, no } => {
                    at = if holds(compare, a, with) { yes } else { no }
                }
                Operation::CompareWithX { compare, yes, no } => {
                    at = if holds(compare, a, x) { yes } else { no }
                }
                Operation::ToX => x = a,
                Operation::FromX => a = x,
                Operation::Return(value) => return Some(value),
                Operation::ReturnA => return Some(a),
            }
        }
    }
}

type State = (u32, u32, u32, [u32; bpf::CELLS]);

/// Finds out that a program has come to a state that it was in before (Brent's way: one state is kept, and another one
/// in its place after twice as many steps as the last time).
#[derive(Default)]
struct Cycle {
    kept: Option<State>,
    since: usize,
    until: usize,
}

impl Cycle {
    fn closes(&mut self, state: State) -> bool {
        if self.kept == Some(state) {
            return true;
        }
        if self.since == self.until {
            self.kept = Some(state);
            self.until = self.until * 2 + 1;
            self.since = 0;
        }
        self.since += 1;
        false
    }
}

fn half(data: &[u8], at: usize) -> Option<u32> {
    let bytes = data.get(at..)?.first_chunk()?;
    Some(u32::from(u16::from_be_bytes(*bytes)))
}

fn word(data: &[u8], at: usize) -> Option<u32> {
    let bytes = data.get(at..)?.first_chunk()?;
    Some(u32::from_be_bytes(*bytes))
}

fn load(data: &[u8], size: Size, at: usize) -> Option<u32> {
    match size {
        Size::Byte => data.get(at).map(|byte| u32::from(*byte)),
        Size::Half => half(data, at),
        Size::Word => word(data, at),
    }
}

fn ancillary(what: u32, metadata: &Metadata) -> Option<u32> {
    match what {
        bpf::ANCILLARY_PACKET_TYPE => metadata.packet_type,
        bpf::ANCILLARY_LINK_INDEX => metadata.link_index,
        bpf::ANCILLARY_VLAN_TAG => Some(u32::from(metadata.vlan_tag.unwrap_or(0))),
        bpf::ANCILLARY_VLAN_PRESENT => Some(u32::from(metadata.vlan_tag.is_some())),
        _ => None,
    }
}

fn calculate(code: u16, a: u32, with: u32) -> Option<u32> {
    Some(match code {
        bpf::ADD => a.wrapping_add(with),
        bpf::SUB => a.wrapping_sub(with),
        bpf::MUL => a.wrapping_mul(with),
        bpf::DIV => a.checked_div(with)?,
        bpf::MOD => a.checked_rem(with)?,
        bpf::OR => a | with,
        bpf::AND => a & with,
        bpf::XOR => a ^ with,
        bpf::LSH => a.checked_shl(with).unwrap_or(0),
        bpf::RSH => a.checked_shr(with).unwrap_or(0),
        _ => return None,
    })
}

fn holds(compare: Compare, a: u32, with: u32) -> bool {
    match compare {
        Compare::Equal => a == with,
        Compare::Greater => a > with,
        Compare::GreaterOrEqual => a >= with,
        Compare::AnyBit => a & with != 0,
    }
}

fn decode(at: usize, instruction: &Instruction, end: usize) -> Operation {
    let Instruction { code, k, .. } = *instruction;
    let cell = (k as usize % bpf::CELLS) as u8;
    let size = match code & 0x18 {
        bpf::W => Size::Word,
        bpf::H => Size::Half,
        _ => Size::Byte,
    };
    // A target past the end is the operation behind the last one, which returns 0.
    let target =
        |skip: i64| usize::try_from(at as i64 + 1 + skip).ok().filter(|to| *to < end).unwrap_or(end) as u32;
    let compare = match code & 0xf0 {
        bpf::JEQ => Some(Compare::Equal),
        bpf::JGT => Some(Compare::Greater),
        bpf::JGE => Some(Compare::GreaterOrEqual),
        bpf::JSET => Some(Compare::AnyBit),
        _ => None,
    };
    let (yes, no) = (target(i64::from(instruction.jt)), target(i64::from(instruction.jf)));
    match (code & 0x07, code & 0xe0) {
        (bpf::LD, bpf::ABS) if k >= bpf::ANCILLARY => Operation::Ancillary(k),
        (bpf::LD, bpf::ABS) => Operation::Load(size, k),
        (bpf::LD, bpf::IND) => Operation::LoadFromX(size, k),
        (bpf::LD, bpf::LEN) => Operation::Length,
        (bpf::LD, bpf::IMM) => Operation::Immediate(k),
        (bpf::LD, bpf::MEM) => Operation::Cell(cell),
        (bpf::LDX, bpf::LEN) => Operation::LengthToX,
        (bpf::LDX, bpf::IMM) => Operation::ImmediateToX(k),
        (bpf::LDX, bpf::MEM) => Operation::CellToX(cell),
        (bpf::LDX, bpf::MSH) => Operation::HeaderLengthToX(k),
        (bpf::ST, _) => Operation::Store(cell),
        (bpf::STX, _) => Operation::StoreX(cell),
        (bpf::ALU, _) => match code & 0xf0 {
            bpf::NEG => Operation::Negate,
            operation if code & bpf::X == bpf::X => Operation::CalculateWithX(operation),
            operation => Operation::Calculate(operation, k),
        },
        (bpf::JMP, _) => match compare {
            None => {
                let skip = i64::from(k.cast_signed());
                Operation::Jump { to: target(skip), backward: skip < 0 }
            }
            Some(compare) if code & bpf::X == bpf::X => Operation::CompareWithX { compare, yes, no },
            Some(compare) => Operation::Compare { with: k, compare, yes, no },
        },
        (bpf::RET, _) if code & 0x18 == bpf::A => Operation::ReturnA,
        (bpf::RET, _) => Operation::Return(k),
        (bpf::MISC, _) if code & bpf::TXA == bpf::TXA => Operation::FromX,
        (bpf::MISC, _) => Operation::ToX,
        _ => Operation::Return(0),
    }
}

/// A load and the comparison that follows it as one operation.
fn fused(first: Operation, second: Operation) -> Option<Operation> {
    let Operation::Compare { with: value, compare: Compare::Equal, yes, no } = second else { return None };
    Some(match first {
        Operation::Load(Size::Byte, at) => Operation::ByteIs { at, value, yes, no },
        Operation::Load(Size::Half, at) => Operation::HalfIs { at, value, yes, no },
        Operation::Load(Size::Word, at) => Operation::WordIs { at, value, yes, no },
        Operation::LoadFromX(Size::Half, at) => Operation::HalfFromXIs { at, value, yes, no },
        _ => return None,
    })
}
