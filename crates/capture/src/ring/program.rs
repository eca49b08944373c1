//! The filter as the kernel gets it: the user's, with what the link and the snaplen ask for around it. Pure.
//!
//! Classic BPF (the kernel's Documentation/networking/filter.rst): a program's jumps are relative, so instructions can be
//! put in front of it. The auxiliary fields are linux/filter.h's `SKF_AD_`.

use libc::sock_filter;

use super::{Error, Result};
use crate::Direction;

/// `BPF_MAXINSNS` of linux/bpf_common.h.
const LIMIT: usize = 4096;
/// The header that is put in front of cooked packets.
pub(super) const SLL2: u32 = 20;

const LOAD_BYTE_ABSOLUTE: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
const LOAD_CONSTANT: u16 = 0x00; // BPF_LD | BPF_IMM
const JUMP_IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K
const AUXILIARY: u32 = 0xffff_f000; // SKF_AD_OFF
const PROTOCOL: u32 = AUXILIARY; // SKF_AD_PROTOCOL
const PACKET_TYPE: u32 = AUXILIARY + 4; // SKF_AD_PKTTYPE
const IF_INDEX: u32 = AUXILIARY + 8; // SKF_AD_IFINDEX
const HARDWARE_TYPE: u32 = AUXILIARY + 28; // SKF_AD_HATYPE
const OUTGOING: u32 = libc::PACKET_OUTGOING as u32;

/// What a ring wants of the filter beside the user's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wants {
    /// Bytes kept of each packet; 0: all.
    pub(super) snaplen: u32,
    /// Only packets that went this way.
    pub(super) direction: Option<Direction>,
    /// The link is the loopback: what it sends it also receives, and once is enough. The sent one is left out, as
    /// libpcap does.
    pub(super) loopback: bool,
    /// The kernel sees no link header.
    pub(super) cooked: bool,
}

/// Puts the program together; `None` if everything is wanted, and whole.
pub(super) fn build(
    filter: Option<&[sock_filter]>,
    wants: Wants,
    link: &str,
) -> Result<Option<Vec<sock_filter>>> {
    let keep = if wants.snaplen == 0 { u32::MAX } else { wants.snaplen };
    let direction = if wants.loopback { Some(Direction::Inbound) } else { wants.direction };
    if filter.is_none() && direction.is_none() && wants.snaplen == 0 {
        return Ok(None);
    }
    let mut program = Vec::new();
    if let Some(direction) = direction {
        let (equal, other) = match direction {
            Direction::Inbound => (0, 1),
            Direction::Outbound => (1, 0),
        };
        program.push(statement(LOAD_BYTE_ABSOLUTE, PACKET_TYPE));
        program.push(sock_filter { code: JUMP_IF_EQUAL, jt: equal, jf: other, k: OUTGOING });
        program.push(statement(RETURN, 0));
        // A program begins with a zero in the accumulator.
        program.push(statement(LOAD_CONSTANT, 0));
    }
    match filter {
        None => program.push(statement(RETURN, keep)),
        Some(filter) => {
            for instruction in filter {
                program.push(adapt(*instruction, keep, wants.cooked, link)?);
            }
        }
    }
    if program.len() > LIMIT {
        return Err(Error::FilterTooLong { instructions: program.len(), limit: LIMIT });
    }
    Ok(Some(program))
}

fn statement(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

/// One instruction of the user's: what it keeps is limited to the snaplen, and on a cooked link its offsets, which
/// count from the `LINUX_SLL2` header, are made to count from where the kernel begins.
fn adapt(mut instruction: sock_filter, keep: u32, cooked: bool, link: &str) -> Result<sock_filter> {
    if instruction.code == RETURN && instruction.k != 0 {
        instruction.k = keep;
    }
    let loads = matches!(instruction.code & 0x07, 0x00 | 0x01); // BPF_LD, BPF_LDX
    let packet = matches!(instruction.code & 0xe0, 0x20 | 0x40 | 0xa0); // BPF_ABS, BPF_IND, BPF_MSH
    if !(cooked && loads && packet) || instruction.k >= AUXILIARY {
        return Ok(instruction);
    }
    let width = match instruction.code & 0x18 {
        0x08 => 2,
        0x10 => 1,
        _ => 4,
    };
    instruction.k = match (instruction.k, width) {
        (offset, _) if offset >= SLL2 => offset - SLL2,
        (0, 2) => PROTOCOL,
        (4, 4) => IF_INDEX,
        (8, 2) => HARDWARE_TYPE,
        (10, 1) => PACKET_TYPE,
        (offset, _) => return Err(Error::FilterNotForLink { link: link.to_owned(), offset }),
    };
    Ok(instruction)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Wants = Wants { snaplen: 0, direction: None, loopback: false, cooked: false };

    fn shown(program: &[sock_filter]) -> Vec<(u16, u8, u8, u32)> {
        program.iter().map(|i| (i.code, i.jt, i.jf, i.k)).collect()
    }

    #[test]
    fn everything_whole_needs_no_program() {
        assert!(build(None, ALL, "eth0").unwrap().is_none());
    }

    #[test]
    fn a_snaplen_limits_what_a_filter_keeps_but_not_what_it_refuses() {
        let filter = [
            sock_filter { code: 0x28, jt: 0, jf: 0, k: 12 },
            sock_filter { code: 0x15, jt: 0, jf: 1, k: 0x800 },
            statement(RETURN, 262_144),
            statement(RETURN, 0),
        ];
        let program = build(Some(&filter), Wants { snaplen: 96, ..ALL }, "eth0").unwrap().unwrap();
        assert_eq!(shown(&program), [(0x28, 0, 0, 12), (0x15, 0, 1, 0x800), (6, 0, 0, 96), (6, 0, 0, 0)]);
    }

    #[test]
    fn the_loopback_is_seen_once() {
        let program = build(None, Wants { loopback: true, ..ALL }, "lo").unwrap().unwrap();
        assert_eq!(
            shown(&program),
            [(0x30, 0, 0, 0xffff_f004), (0x15, 0, 1, 4), (6, 0, 0, 0), (0, 0, 0, 0), (6, 0, 0, u32::MAX)]
        );
    }

    #[test]
    fn offsets_of_the_cooked_header_become_the_kernels() {
        let cooked = Wants { cooked: true, ..ALL };
        let filter = [
            sock_filter { code: 0x28, jt: 0, jf: 0, k: 0 },
            sock_filter { code: 0x30, jt: 0, jf: 0, k: 29 },
            sock_filter { code: 0xb1, jt: 0, jf: 0, k: 20 },
            sock_filter { code: 0x48, jt: 0, jf: 0, k: 22 },
            sock_filter { code: 0x30, jt: 0, jf: 0, k: 0xffff_f02c },
            statement(RETURN, 5),
        ];
        let program = build(Some(&filter), cooked, "ppp0").unwrap().unwrap();
        let offsets: Vec<u32> = program.iter().map(|i| i.k).collect();
        assert_eq!(offsets, [0xffff_f000, 9, 0, 2, 0xffff_f02c, u32::MAX]);

        let address = [sock_filter { code: 0x20, jt: 0, jf: 0, k: 12 }, statement(RETURN, 5)];
        let error = build(Some(&address), cooked, "ppp0").unwrap_err();
        assert!(matches!(error, Error::FilterNotForLink { offset: 12, .. }), "{error}");
    }

    #[test]
    fn a_program_longer_than_the_kernel_takes_is_refused() {
        let filter = vec![statement(RETURN, 1); LIMIT];
        assert!(build(Some(&filter), ALL, "eth0").is_ok());
        let error = build(Some(&filter), Wants { loopback: true, ..ALL }, "lo").unwrap_err();
        assert!(matches!(error, Error::FilterTooLong { instructions: 4100, .. }), "{error}");
    }
}
