//! An interpreter of classic BPF that is as simple as can be: what programs of libpcap's say of a packet is found out
//! with it where libpcap's own interpreter cannot be asked (it never ends a loop, and has no metadata but the VLAN tag).

use snorkel_capture::filter::{Instruction, Metadata};

/// A program that has run so many instructions loops.
const STEPS: usize = 2_000_000;

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Returned(u32),
    /// It loaded what is not there, or divided by 0: it returned 0.
    Failed,
    Endless,
}

impl Outcome {
    /// Whether the packet matches; nothing if the program never ends.
    pub(crate) fn matches(self) -> Option<bool> {
        match self {
            Outcome::Returned(value) => Some(value != 0),
            Outcome::Failed => Some(false),
            Outcome::Endless => None,
        }
    }
}

pub(crate) fn run(program: &[Instruction], data: &[u8], length: u32, metadata: &Metadata) -> Outcome {
    let (mut a, mut x, mut cells) = (0u32, 0u32, [0u32; 16]);
    let mut at = 0i64;
    for _ in 0..STEPS {
        let Instruction { code, jt, jf, k } = program[usize::try_from(at).unwrap()];
        at += 1;
        let operand = if code & 0x08 == 0 { k } else { x };
        match code & 0x07 {
            0 | 1 => {
                let size = match code & 0x18 {
                    0x00 => 4,
                    0x08 => 2,
                    _ => 1,
                };
                let read = |place: u64| {
                    let bytes = data.get(usize::try_from(place).unwrap()..)?.get(..size)?;
                    Some(bytes.iter().fold(0u32, |value, byte| value << 8 | u32::from(*byte)))
                };
                let value = match code & 0xe0 {
                    0x00 => Some(k),
                    0x20 if k == 0xffff_f004 => metadata.packet_type,
                    0x20 if k == 0xffff_f008 => metadata.link_index,
                    0x20 if k == 0xffff_f02c => Some(u32::from(metadata.vlan_tag.unwrap_or(0))),
                    0x20 if k == 0xffff_f030 => Some(u32::from(metadata.vlan_tag.is_some())),
                    0x20 => read(u64::from(k)),
                    0x40 => read(u64::from(k) + u64::from(x)),
                    0x60 => Some(cells[k as usize]),
                    0x80 => Some(length),
                    0xa0 => data.get(k as usize).map(|byte| (u32::from(*byte) & 0xf) * 4),
                    _ => panic!("no such load: {code:#x}"),
                };
                let Some(value) = value else { return Outcome::Failed };
                if code & 1 == 0 { a = value } else { x = value }
            }
            2 => cells[k as usize] = a,
            3 => cells[k as usize] = x,
            4 => {
                a = match code & 0xf0 {
                    0x00 => a.wrapping_add(operand),
                    0x10 => a.wrapping_sub(operand),
                    0x20 => a.wrapping_mul(operand),
                    0x30 | 0x90 if operand == 0 => return Outcome::Failed,
                    0x30 => a / operand,
                    0x90 => a % operand,
                    0x40 => a | operand,
                    0x50 => a & operand,
                    0x60 => a.checked_shl(operand).unwrap_or(0),
                    0x70 => a.checked_shr(operand).unwrap_or(0),
                    0x80 => a.wrapping_neg(),
                    0xa0 => a ^ operand,
                    _ => panic!("no such operation: {code:#x}"),
                }
            }
            5 => {
                let holds = match code & 0xf0 {
                    0x00 => {
                        at += i64::from(k.cast_signed());
                        continue;
                    }
                    0x10 => a == operand,
                    0x20 => a > operand,
                    0x30 => a >= operand,
                    0x40 => a & operand != 0,
                    _ => panic!("no such jump: {code:#x}"),
                };
                at += i64::from(if holds { jt } else { jf });
            }
            6 => return Outcome::Returned(if code & 0x18 == 0 { k } else { a }),
            _ => {
                if code & 0x80 == 0 {
                    x = a
                } else {
                    a = x
                }
            }
        }
    }
    Outcome::Endless
}
