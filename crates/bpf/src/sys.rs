//! The bpf(2) system call, as far as it is made here: load what is tried, attach by link, look at links and chains, run
//! a program on bytes.
//!
//! Numbers and layouts are those of the kernel's include/uapi/linux/bpf.h. Attributes may be shorter than the
//! kernel's union: it takes what is missing as zero.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use aya_obj::generated::bpf_insn;

const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_TEST_RUN: libc::c_int = 10;
const BPF_PROG_GET_NEXT_ID: libc::c_int = 11;
const BPF_MAP_GET_NEXT_ID: libc::c_int = 12;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_PROG_QUERY: libc::c_int = 16;
const BPF_RAW_TRACEPOINT_OPEN: libc::c_int = 17;
const BPF_MAP_FREEZE: libc::c_int = 22;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_LINK_GET_NEXT_ID: libc::c_int = 31;

/// The licence that programs are loaded under; tracing wants one that goes with the GPL.
const LICENSE: &CStr = c"Dual MIT/GPL";

/// `struct bpf_insn`: one instruction, as the machine's own words.
#[repr(C)]
#[derive(Clone, Copy)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// The part of `union bpf_attr` that BPF_PROG_LOAD reads, up to `attach_btf_obj_fd`.
#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
    prog_btf_fd: u32,
    func_info_rec_size: u32,
    func_info: u64,
    func_info_cnt: u32,
    line_info_rec_size: u32,
    line_info: u64,
    line_info_cnt: u32,
    attach_btf_id: u32,
    attach_btf_obj_fd: u32,
    core_relo_cnt: u32,
}

/// The part of `union bpf_attr` that BPF_MAP_UPDATE_ELEM reads.
#[repr(C)]
#[derive(Default)]
struct ElementAttr {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The part of `union bpf_attr` that BPF_LINK_CREATE reads for tcx and network namespaces. `relative` is 0: no
/// neighbour program to stand before or behind.
#[repr(C)]
#[derive(Default)]
struct LinkAttr {
    prog_fd: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    relative: u32,
    padding: u32,
    expected_revision: u64,
    rest: [u64; 2],
}

/// The part of `union bpf_attr` that BPF_PROG_QUERY reads and writes.
#[repr(C)]
#[derive(Default)]
struct QueryAttr {
    target: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    count: u32,
    padding: u32,
    prog_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}

/// The part of `union bpf_attr` that BPF_OBJ_GET_INFO_BY_FD reads and writes.
#[repr(C)]
#[derive(Default)]
struct InfoAttr {
    fd: u32,
    length: u32,
    info: u64,
}

/// `struct bpf_link_info`, of a tcx link; those of other kinds have other words behind the first three.
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    kind: u32,
    id: u32,
    prog_id: u32,
    padding: u32,
    ifindex: u32,
    attach_type: u32,
    rest: [u64; 8],
}

/// The beginning of `struct bpf_prog_info`.
#[repr(C)]
#[derive(Default)]
struct ProgInfo {
    kind: u32,
    id: u32,
}

/// The part of `union bpf_attr` that BPF_PROG_TEST_RUN reads and writes.
#[repr(C)]
#[derive(Default)]
struct RunAttr {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    padding: u32,
}

/// The part of `union bpf_attr` that BPF_RAW_TRACEPOINT_OPEN reads.
#[repr(C)]
#[derive(Default)]
struct RawTracepointAttr {
    name: u64,
    prog_fd: u32,
    padding: u32,
    cookie: u64,
}

/// The part of `union bpf_attr` that the commands GET_NEXT_ID read and write.
#[repr(C)]
#[derive(Default)]
struct NextIdAttr {
    start_id: u32,
    next_id: u32,
    open_flags: u32,
    padding: u32,
}

/// Makes the call. Every pointer inside `attr` must be valid for what `command` does with it.
fn bpf<A>(command: libc::c_int, attr: &mut A) -> io::Result<libc::c_int> {
    // SAFETY: `attr` is a live, exclusive reference to `size_of::<A>()` bytes without uninitialised padding (the
    // layouts above have none); the kernel reads that many and writes at most those. What its pointer fields refer to
    // is kept alive by the callers below, is as long as the length beside it says, and is written only where the caller
    // gave an exclusive reference.
    let got = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<A>()) };
    if got < 0 {
        return Err(io::Error::last_os_error());
    }
    // Descriptors and zero: both fit.
    Ok(got as libc::c_int)
}

/// Takes over a descriptor that the kernel just made.
fn owned(fd: libc::c_int) -> OwnedFd {
    // SAFETY: `fd` came from a successful bpf(2) command that returns a new descriptor, and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    // An open descriptor is never negative.
    fd.as_raw_fd() as u32
}

/// Loads a program of two instructions: return `result`.
pub(crate) fn load(prog_type: u32, attach_type: u32, attach_btf_id: u32, result: i32) -> io::Result<OwnedFd> {
    // BPF_ALU64 | BPF_MOV | BPF_K into r0, then BPF_JMP | BPF_EXIT (RFC 9669).
    let program = [
        Instruction { code: 0xb7, registers: 0, offset: 0, immediate: result },
        Instruction { code: 0x95, registers: 0, offset: 0, immediate: 0 },
    ];
    let mut attr = LoadAttr {
        prog_type,
        insn_cnt: program.len() as u32,
        insns: program.as_ptr() as u64,
        license: LICENSE.as_ptr() as u64,
        prog_name: *b"snorkel_probe\0\0\0",
        expected_attach_type: attach_type,
        attach_btf_id,
        ..LoadAttr::default()
    };
    bpf(BPF_PROG_LOAD, &mut attr).map(owned)
}

/// Loads a traffic control program. An empty `log` asks for none; otherwise it is what the verifier says.
pub(crate) fn load_classifier(
    name: &CStr,
    license: &CStr,
    code: &[bpf_insn],
    log: &mut [u8],
) -> io::Result<OwnedFd> {
    /// `BPF_PROG_TYPE_SCHED_CLS`.
    const SCHED_CLS: u32 = 3;
    let mut attr = LoadAttr {
        prog_type: SCHED_CLS,
        insn_cnt: code.len() as u32,
        insns: code.as_ptr() as u64,
        license: license.as_ptr() as u64,
        ..LoadAttr::default()
    };
    // The field's last byte stays zero.
    for (to, from) in attr.prog_name[..15].iter_mut().zip(name.to_bytes()) {
        *to = *from;
    }
    if !log.is_empty() {
        (attr.log_level, attr.log_size, attr.log_buf) = (1, log.len() as u32, log.as_mut_ptr() as u64);
    }
    bpf(BPF_PROG_LOAD, &mut attr).map(owned)
}

/// Fills the only element of an array map, whose values are as long as `value`; a constant one can be written no more.
pub(crate) fn fill(map: BorrowedFd<'_>, value: &[u8], constant: bool) -> io::Result<()> {
    update(map, 0, value)?;
    if constant {
        // Its attribute is the descriptor alone.
        bpf(BPF_MAP_FREEZE, &mut number(map))?;
    }
    Ok(())
}

/// Writes an element of an array map, whose values are as long as `value`.
pub(crate) fn update(map: BorrowedFd<'_>, key: u32, value: &[u8]) -> io::Result<()> {
    let mut attr = ElementAttr {
        map_fd: number(map),
        key: (&raw const key) as u64,
        value: value.as_ptr() as u64,
        ..ElementAttr::default()
    };
    bpf(BPF_MAP_UPDATE_ELEM, &mut attr).map(drop)
}

/// What a link attaches to.
#[derive(Clone, Copy)]
pub(crate) enum Target<'a> {
    /// An interface of the calling thread's namespace.
    Interface(u32),
    /// A namespace by its descriptor.
    Namespace(BorrowedFd<'a>),
}

impl Target<'_> {
    fn number(self) -> u32 {
        match self {
            Target::Interface(index) => index,
            Target::Namespace(fd) => number(fd),
        }
    }
}

/// Attaches a program by a link; it is detached when the returned descriptor is closed.
pub(crate) fn link(program: BorrowedFd<'_>, target: Target<'_>, attach_type: u32) -> io::Result<OwnedFd> {
    let prog_fd = number(program);
    let mut attr = LinkAttr { prog_fd, target: target.number(), attach_type, ..LinkAttr::default() };
    bpf(BPF_LINK_CREATE, &mut attr).map(owned)
}

/// As [`link`], at the head of the chain, if the chain's revision is this one; ESTALE if it is another (since 6.6).
pub(crate) fn link_first(
    program: BorrowedFd<'_>,
    target: Target<'_>,
    attach_type: u32,
    expected_revision: u64,
) -> io::Result<OwnedFd> {
    /// `BPF_F_BEFORE`: with no neighbour named, before all.
    const BEFORE: u32 = 1 << 3;
    let mut attr = LinkAttr {
        prog_fd: number(program),
        target: target.number(),
        attach_type,
        flags: BEFORE,
        expected_revision,
        ..LinkAttr::default()
    };
    bpf(BPF_LINK_CREATE, &mut attr).map(owned)
}

/// A chain of programs at one hook, in the order in which they run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chain {
    /// A number that grows with every change; 1 for a chain that nobody has used yet.
    pub(crate) revision: u64,
    /// The programs' ids.
    pub(crate) programs: Vec<u32>,
    /// The ids of their links; 0 for a program that was attached without one.
    pub(crate) links: Vec<u32>,
}

/// What is attached at a hook that keeps a chain (tcx, since 6.6).
pub(crate) fn chain(target: Target<'_>, attach_type: u32) -> io::Result<Chain> {
    /// `BPF_MPROG_MAX` of the kernel's include/linux/bpf_mprog.h.
    const MOST: usize = 64;
    let (mut programs, mut links) = ([0u32; MOST], [0u32; MOST]);
    let mut attr = QueryAttr {
        target: target.number(),
        attach_type,
        prog_ids: programs.as_mut_ptr() as u64,
        link_ids: links.as_mut_ptr() as u64,
        count: MOST as u32,
        ..QueryAttr::default()
    };
    bpf(BPF_PROG_QUERY, &mut attr)?;
    let count = (attr.count as usize).min(MOST);
    Ok(Chain {
        revision: attr.revision,
        programs: programs[..count].to_vec(),
        links: links[..count].to_vec(),
    })
}

/// What the kernel says of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinkFacts {
    /// Its id.
    pub(crate) id: u32,
    /// Its program's id.
    pub(crate) program: u32,
    /// The interface of a tcx link; 0 when that has gone.
    pub(crate) ifindex: u32,
}

/// Asks what a link is.
pub(crate) fn link_facts(link: BorrowedFd<'_>) -> io::Result<LinkFacts> {
    let mut info = LinkInfo::default();
    facts(link, &mut info)?;
    Ok(LinkFacts { id: info.id, program: info.prog_id, ifindex: info.ifindex })
}

/// The id of a program.
pub(crate) fn program_id(program: BorrowedFd<'_>) -> io::Result<u32> {
    let mut info = ProgInfo::default();
    facts(program, &mut info)?;
    Ok(info.id)
}

fn facts<T>(of: BorrowedFd<'_>, info: &mut T) -> io::Result<()> {
    let mut attr =
        InfoAttr { fd: number(of), length: size_of::<T>() as u32, info: std::ptr::from_mut(info) as u64 };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr).map(drop)
}

/// What came of a program's run on bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// What it returned.
    pub(crate) verdict: i32,
    /// The packet's mark afterwards.
    pub(crate) mark: u32,
}

/// Runs a traffic control program on a frame that carries a mark, as if the loopback of the calling thread's namespace
/// had received it. Nothing is sent.
pub(crate) fn run(program: BorrowedFd<'_>, frame: &[u8], mark: u32) -> io::Result<Run> {
    /// Where `mark` is in `struct __sk_buff`, counted in words, and how many there are at least.
    const MARK: usize = 2;
    const CONTEXT: usize = 64;
    let mut context = [0u32; CONTEXT];
    context[MARK] = mark;
    let mut after = [0u32; CONTEXT];
    let mut attr = RunAttr {
        prog_fd: number(program),
        data_size_in: frame.len() as u32,
        data_in: frame.as_ptr() as u64,
        ctx_size_in: size_of_val(&context) as u32,
        ctx_size_out: size_of_val(&after) as u32,
        ctx_in: context.as_ptr() as u64,
        ctx_out: after.as_mut_ptr() as u64,
        ..RunAttr::default()
    };
    bpf(BPF_PROG_TEST_RUN, &mut attr)?;
    Ok(Run { verdict: attr.retval.cast_signed(), mark: after[MARK] })
}

/// Attaches a program to a raw tracepoint until the returned descriptor is closed.
pub(crate) fn raw_tracepoint(program: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    let mut attr = RawTracepointAttr {
        name: name.as_ptr() as u64,
        prog_fd: number(program),
        ..RawTracepointAttr::default()
    };
    bpf(BPF_RAW_TRACEPOINT_OPEN, &mut attr).map(owned)
}

/// What the kernel numbers over the whole machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Numbered {
    /// Programs.
    Program,
    /// Maps.
    Map,
    /// Links.
    Link,
}

/// The id of the first of its kind after `id`.
pub(crate) fn next_id(kind: Numbered, id: u32) -> io::Result<Option<u32>> {
    let command = match kind {
        Numbered::Program => BPF_PROG_GET_NEXT_ID,
        Numbered::Map => BPF_MAP_GET_NEXT_ID,
        Numbered::Link => BPF_LINK_GET_NEXT_ID,
    };
    let mut attr = NextIdAttr { start_id: id, ..NextIdAttr::default() };
    match bpf(command, &mut attr) {
        Ok(_) => Ok(Some(attr.next_id)),
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Runs `work` with as much locked memory as may be had, and puts the limit back.
///
/// Kernels before 5.11 charge programs to RLIMIT_MEMLOCK and say EPERM when it is too small. That the limit cannot be
/// raised is no error: on newer kernels it does not count.
pub(crate) fn with_memlock<T>(work: impl FnOnce() -> T) -> T {
    let mut before = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: getrlimit writes one rlimit to the exclusive reference it is given.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut before) } == 0;
    let most = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    let up_to_hard = libc::rlimit { rlim_cur: before.rlim_max, rlim_max: before.rlim_max };
    // SAFETY: setrlimit only reads the rlimit it is given.
    let raise = |limit: &libc::rlimit| unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, limit) } == 0;
    let raised = known && (raise(&most) || raise(&up_to_hard));
    let done = work();
    if raised {
        raise(&before);
    }
    done
}
