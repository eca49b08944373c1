//! Classic BPF's instructions, as the kernel takes them (`struct sock_filter` of linux/filter.h, bpf(4) of BSD), and
//! how `tcpdump -d` prints them.

use std::fmt::{self, Write as _};

/// One instruction; the layout is the kernel's `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// What to do: the `BPF_` bits.
    pub code: u16,
    /// Instructions to skip if the comparison holds.
    pub jt: u8,
    /// Instructions to skip if it does not.
    pub jf: u8,
    /// The operand: an offset, a constant, a cell of scratch memory.
    pub k: u32,
}

pub(super) const LD: u16 = 0x00;
pub(super) const LDX: u16 = 0x01;
pub(super) const ST: u16 = 0x02;
pub(super) const STX: u16 = 0x03;
pub(super) const ALU: u16 = 0x04;
pub(super) const JMP: u16 = 0x05;
pub(super) const RET: u16 = 0x06;
pub(super) const MISC: u16 = 0x07;

pub(super) const W: u16 = 0x00;
pub(super) const H: u16 = 0x08;
pub(super) const B: u16 = 0x10;

pub(super) const IMM: u16 = 0x00;
pub(super) const ABS: u16 = 0x20;
pub(super) const IND: u16 = 0x40;
pub(super) const MEM: u16 = 0x60;
pub(super) const LEN: u16 = 0x80;
pub(super) const MSH: u16 = 0xa0;

pub(super) const ADD: u16 = 0x00;
pub(super) const SUB: u16 = 0x10;
pub(super) const MUL: u16 = 0x20;
pub(super) const DIV: u16 = 0x30;
pub(super) const OR: u16 = 0x40;
pub(super) const AND: u16 = 0x50;
pub(super) const LSH: u16 = 0x60;
pub(super) const RSH: u16 = 0x70;
pub(super) const NEG: u16 = 0x80;
pub(super) const MOD: u16 = 0x90;
pub(super) const XOR: u16 = 0xa0;

pub(super) const JA: u16 = 0x00;
pub(super) const JEQ: u16 = 0x10;
pub(super) const JGT: u16 = 0x20;
pub(super) const JGE: u16 = 0x30;
pub(super) const JSET: u16 = 0x40;

pub(super) const K: u16 = 0x00;
pub(super) const X: u16 = 0x08;
pub(super) const A: u16 = 0x10;

pub(super) const TAX: u16 = 0x00;
pub(super) const TXA: u16 = 0x80;

/// Cells of scratch memory, `BPF_MEMWORDS`.
pub(super) const CELLS: usize = 16;
/// The longest program that the kernel takes, `BPF_MAXINSNS`.
pub(super) const KERNEL_LIMIT: usize = 4096;

/// Loads from here on are not of the packet but of what the kernel knows about it (`SKF_AD_OFF`).
pub(super) const ANCILLARY: u32 = 0xffff_f000;
/// The packet's type: 4 (`PACKET_OUTGOING`) if this machine sent it.
pub(super) const ANCILLARY_PACKET_TYPE: u32 = ANCILLARY + 4;
/// The number of the link.
pub(super) const ANCILLARY_LINK_INDEX: u32 = ANCILLARY + 8;
/// The tag that the kernel or the card took out of the frame: priority, drop bit and VLAN number.
pub(super) const ANCILLARY_VLAN_TAG: u32 = ANCILLARY + 44;
/// Whether there is such a tag: 1 or 0.
pub(super) const ANCILLARY_VLAN_PRESENT: u32 = ANCILLARY + 48;
/// `PACKET_OUTGOING` of linux/if_packet.h.
pub(super) const PACKET_OUTGOING: u32 = 4;

/// An instruction that is no conditional jump.
pub(super) const fn plain(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}

/// The program as `tcpdump -d` prints it, a line for each instruction.
pub(super) fn disassemble(program: &[Instruction]) -> String {
    let mut text = String::new();
    for (at, instruction) in program.iter().enumerate() {
        let (name, operand) = words(at, instruction);
        // A String takes everything that is written to it.
        let _ = write!(text, "({at:03}) {name:<8} {operand:<16}");
        if instruction.code & 0x07 == JMP && instruction.code & 0xf0 != JA {
            let _ = write!(
                text,
                " jt {}\tjf {}",
                at + 1 + usize::from(instruction.jt),
                at + 1 + usize::from(instruction.jf)
            );
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

/// What an instruction is called, and its operand.
fn words(at: usize, instruction: &Instruction) -> (&'static str, String) {
    let Instruction { code, k, .. } = *instruction;
    let signed = k.cast_signed();
    match code & 0x07 {
        LD | LDX => {
            let name = match (code & 0x07, code & 0x18) {
                (LDX, B) => "ldxb",
                (LDX, _) => "ldx",
                (_, H) => "ldh",
                (_, B) => "ldb",
                _ => "ld",
            };
            let operand = match code & 0xe0 {
                IMM => format!("#{k:#x}"),
                ABS => match ancillary(k) {
                    Some(word) => format!("[{word}]"),
                    None => format!("[{signed}]"),
                },
                IND => format!("[x + {signed}]"),
                MEM => format!("M[{k}]"),
                LEN => "#pktlen".to_owned(),
                MSH => format!("4*([{signed}]&0xf)"),
                _ => format!("{k:#x}"),
            };
            (name, operand)
        }
        ST => ("st", format!("M[{k}]")),
        STX => ("stx", format!("M[{k}]")),
        ALU => {
            let name = match code & 0xf0 {
                ADD => "add",
                SUB => "sub",
                MUL => "mul",
                DIV => "div",
                OR => "or",
                AND => "and",
                LSH => "lsh",
                RSH => "rsh",
                NEG => return ("neg", String::new()),
                MOD => "mod",
                XOR => "xor",
                _ => "alu?",
            };
            let operand = match (code & X, code & 0xf0) {
                (X, _) => "x".to_owned(),
                (_, AND | OR | XOR) => format!("#{k:#x}"),
                _ => format!("#{signed}"),
            };
            (name, operand)
        }
        JMP => {
            let name = match code & 0xf0 {
                JA => {
                    let to = i64::try_from(at).map_or(i64::MAX, |at| at + 1 + i64::from(signed));
                    return ("ja", to.to_string());
                }
                JEQ => "jeq",
                JGT => "jgt",
                JGE => "jge",
                JSET => "jset",
                _ => "jmp?",
            };
            let operand = if code & X == X { "x".to_owned() } else { format!("#{k:#x}") };
            (name, operand)
        }
        RET => ("ret", if code & 0x18 == A { String::new() } else { format!("#{k}") }),
        _ => (if code & TXA == TXA { "txa" } else { "tax" }, String::new()),
    }
}

/// The word for a load of something that is not in the packet.
fn ancillary(k: u32) -> Option<&'static str> {
    match k {
        ANCILLARY_PACKET_TYPE => Some("type"),
        ANCILLARY_LINK_INDEX => Some("ifidx"),
        ANCILLARY_VLAN_TAG => Some("vlan_tci"),
        ANCILLARY_VLAN_PRESENT => Some("vlanp"),
        _ => None,
    }
}

impl fmt::Display for Instruction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, operand) = words(0, self);
        write!(f, "{name} {operand}")
    }
}
