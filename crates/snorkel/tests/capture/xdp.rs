//! A program between the two ends of a link (bpf(2), `BPF_PROG_TYPE_XDP`): datagrams to port 9 vanish, those to port 10
//! get the TTL 7, all else passes. It stays as long as its descriptors are open.

use std::ffi::CString;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// `BPF_PROG_LOAD` and `BPF_LINK_CREATE` of bpf(2); `BPF_PROG_TYPE_XDP`, `BPF_XDP` (linux/bpf.h).
const LOAD: i64 = 5;
const LINK: i64 = 28;
const TYPE_XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;

/// An attached program.
pub(crate) struct Xdp {
    _program: OwnedFd,
    _link: OwnedFd,
}

/// One instruction: code, registers (source in the upper half), offset, immediate.
fn op(code: u8, destination: u8, source: u8, offset: i16, value: i32) -> [u8; 8] {
    let mut bytes = [code, source << 4 | destination, 0, 0, 0, 0, 0, 0];
    bytes[2..4].copy_from_slice(&offset.to_le_bytes());
    bytes[4..].copy_from_slice(&value.to_le_bytes());
    bytes
}

impl Xdp {
    /// Attaches it to a link of the calling thread's network.
    #[track_caller]
    pub(crate) fn on(link: &str) -> Xdp {
        const TTL: i16 = 14 + 8;
        const PORT: i16 = 14 + 20 + 2;
        let port = |number: u16| i32::from(number.to_be());
        let program: Vec<u8> = [
            // r2 = data, r3 = data_end; what is shorter than Ethernet, IPv4 and UDP passes.
            op(0x61, 2, 1, 0, 0),
            op(0x61, 3, 1, 4, 0),
            op(0xbf, 4, 2, 0, 0),
            op(0x07, 4, 0, 0, 14 + 20 + 8),
            op(0x2d, 4, 3, 7, 0),
            // What is no IPv4 with UDP passes.
            op(0x71, 5, 2, 14 + 9, 0),
            op(0x55, 5, 0, 5, 17),
            op(0x69, 5, 2, PORT, 0),
            op(0x15, 5, 0, 5, port(9)),
            op(0x55, 5, 0, 2, port(10)),
            op(0xb7, 6, 0, 0, 7),
            op(0x73, 2, 6, TTL, 0),
            // XDP_PASS
            op(0xb7, 0, 0, 0, 2),
            op(0x95, 0, 0, 0, 0),
            // XDP_DROP
            op(0xb7, 0, 0, 0, 1),
            op(0x95, 0, 0, 0, 0),
        ]
        .concat();
        let licence = c"MIT";
        let mut load = [0u8; 48];
        load[0..4].copy_from_slice(&TYPE_XDP.to_ne_bytes());
        load[4..8].copy_from_slice(&(program.len() as u32 / 8).to_ne_bytes());
        load[8..16].copy_from_slice(&(program.as_ptr() as u64).to_ne_bytes());
        load[16..24].copy_from_slice(&(licence.as_ptr() as u64).to_ne_bytes());
        let program = bpf(LOAD, &load);
        let name = CString::new(link).unwrap();
        // SAFETY: the name ends with a zero byte.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        assert!(index != 0, "there is no {link}");
        let mut attach = [0u8; 16];
        attach[0..4].copy_from_slice(&program.as_raw_fd().to_ne_bytes());
        attach[4..8].copy_from_slice(&index.to_ne_bytes());
        attach[8..12].copy_from_slice(&ATTACH_XDP.to_ne_bytes());
        let link = bpf(LINK, &attach);
        Xdp { _program: program, _link: link }
    }
}

#[track_caller]
fn bpf(command: i64, attributes: &[u8]) -> OwnedFd {
    // SAFETY: the attributes are as long as is told, and what they point to lives as long as the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), attributes.len()) };
    assert!(fd >= 0, "bpf {command}: {}", std::io::Error::last_os_error());
    // SAFETY: the kernel has just given this descriptor to us alone.
    unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap()) }
}
