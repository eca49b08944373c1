//! libpcap, loaded at run time: neither the product nor its tests need it to be built.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::ptr;
use std::sync::OnceLock;

use snorkel_capture::filter::Instruction;

/// `struct bpf_program`
#[repr(C)]
struct Program {
    length: c_uint,
    instructions: *mut Instruction,
}

type OpenFile = unsafe extern "C" fn(*mut libc::FILE, *mut c_char) -> *mut c_void;
type OpenLive = unsafe extern "C" fn(*const c_char, c_int, c_int, c_int, *mut c_char) -> *mut c_void;
type Close = unsafe extern "C" fn(*mut c_void);
type Compile = unsafe extern "C" fn(*mut c_void, *mut Program, *const c_char, c_int, u32) -> c_int;
type FreeCode = unsafe extern "C" fn(*mut Program);
type GetError = unsafe extern "C" fn(*mut c_void) -> *mut c_char;
type Version = unsafe extern "C" fn() -> *const c_char;
type Run = unsafe extern "C" fn(*const Instruction, *const u8, c_uint, c_uint) -> c_uint;

/// The library's functions.
struct Functions {
    open_file: OpenFile,
    open_live: OpenLive,
    close: Close,
    compile: Compile,
    free_code: FreeCode,
    get_error: GetError,
    version: Version,
    run: Run,
}

/// The function of this name.
///
/// # Safety
///
/// `F` must be the type of the function.
unsafe fn function<F>(library: *mut c_void, name: &CStr) -> F {
    // SAFETY: the library is never unloaded.
    let symbol = unsafe { libc::dlsym(library, name.as_ptr()) };
    assert!(!symbol.is_null(), "libpcap has no {name:?}");
    assert_eq!(size_of::<F>(), size_of::<*mut c_void>());
    // SAFETY: a function pointer is as large as a pointer here, and the caller vouches for its type.
    unsafe { std::mem::transmute_copy(&symbol) }
}

fn functions() -> &'static Functions {
    static FUNCTIONS: OnceLock<Functions> = OnceLock::new();
    FUNCTIONS.get_or_init(|| {
        // Debian's name, and everybody else's. SAFETY: loading libpcap runs no code of consequence.
        let library = [c"libpcap.so.0.8", c"libpcap.so.1"]
            .map(|name| unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW) })
            .into_iter()
            .find(|library| !library.is_null())
            .expect("libpcap cannot be loaded: scripts/install-test-deps installs it with tcpdump");
        // SAFETY: the types are those of pcap.h and bpf.h.
        unsafe {
            Functions {
                open_file: function(library, c"pcap_fopen_offline"),
                open_live: function(library, c"pcap_open_live"),
                close: function(library, c"pcap_close"),
                compile: function(library, c"pcap_compile"),
                free_code: function(library, c"pcap_freecode"),
                get_error: function(library, c"pcap_geterr"),
                version: function(library, c"pcap_lib_version"),
                run: function(library, c"bpf_filter"),
            }
        }
    })
}

/// What libpcap says it is.
pub(crate) fn version() -> String {
    // SAFETY: a string that lives as long as the library.
    unsafe { CStr::from_ptr((functions().version)()) }.to_string_lossy().into_owned()
}

/// A source of packets as libpcap sees it: filters are compiled for it.
pub(crate) struct Source {
    handle: *mut c_void,
}

impl Source {
    /// A file without packets; `swapped`: of the other byte order.
    pub(crate) fn file(link_type: u16, swapped: bool) -> Source {
        let number =
            |value: u32| if swapped { value.swap_bytes().to_ne_bytes() } else { value.to_ne_bytes() };
        let short = |value: u16| if swapped { value.swap_bytes().to_ne_bytes() } else { value.to_ne_bytes() };
        let mut header = Vec::new();
        header.extend(number(0xa1b2_c3d4));
        header.extend(short(2));
        header.extend(short(4));
        header.extend([0; 8]);
        header.extend(number(262_144));
        header.extend(number(u32::from(link_type)));
        let mut error = [0 as c_char; 256];
        // SAFETY: the file reads the header while it is opened, and nothing after that; libpcap closes it.
        let handle = unsafe {
            let file = libc::fmemopen(header.as_mut_ptr().cast(), header.len(), c"r".as_ptr());
            assert!(!file.is_null());
            (functions().open_file)(file, error.as_mut_ptr())
        };
        // SAFETY: libpcap ends its message with a zero.
        assert!(!handle.is_null(), "{:?}", unsafe { CStr::from_ptr(error.as_ptr()) });
        // The C library's buffer may still point into it.
        std::mem::forget(header);
        Source { handle }
    }

    /// A link of this thread's network namespace.
    pub(crate) fn live(link: &str) -> Source {
        let link = CString::new(link).unwrap();
        let mut error = [0 as c_char; 256];
        // SAFETY: the name and the buffer (PCAP_ERRBUF_SIZE) outlive the call.
        let handle = unsafe { (functions().open_live)(link.as_ptr(), 262_144, 0, 1, error.as_mut_ptr()) };
        // SAFETY: libpcap ends its message with a zero.
        assert!(!handle.is_null(), "{:?}", unsafe { CStr::from_ptr(error.as_ptr()) });
        Source { handle }
    }

    /// The program of an expression, or why there is none. `netmask` as in [`snorkel_capture::filter::Options`].
    pub(crate) fn compile(
        &self,
        text: &str,
        optimise: bool,
        netmask: Option<u32>,
    ) -> Result<Vec<Instruction>, String> {
        let functions = functions();
        let text = CString::new(text).unwrap();
        let mut program = Program { length: 0, instructions: ptr::null_mut() };
        // SAFETY: all of it outlives the call, which fills in the program if it succeeds.
        unsafe {
            let netmask = netmask.unwrap_or(u32::MAX);
            if (functions.compile)(self.handle, &mut program, text.as_ptr(), c_int::from(optimise), netmask)
                != 0
            {
                return Err(CStr::from_ptr((functions.get_error)(self.handle))
                    .to_string_lossy()
                    .into_owned());
            }
            let instructions =
                std::slice::from_raw_parts(program.instructions, program.length as usize).to_vec();
            (functions.free_code)(&mut program);
            Ok(instructions)
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        // SAFETY: opened by one of the constructors, and closed once.
        unsafe { (functions().close)(self.handle) }
    }
}

/// What libpcap's own interpreter says of a packet. The program must not loop, and must not read cells before it has
/// written them.
pub(crate) fn run(program: &[Instruction], data: &[u8], length: u32) -> u32 {
    // SAFETY: the program ends with a return on all ways, and the lengths are those of the bytes. libpcap takes a
    // length of 0 for another kind of buffer in the kernel only.
    unsafe { (functions().run)(program.as_ptr(), data.as_ptr(), length, data.len() as c_uint) }
}
