//! The kernel's type information (BTF): as much of it as finds a type by kind and name.
//!
//! The format is that of Documentation/bpf/btf.rst and include/uapi/linux/btf.h. The bytes come from the running
//! kernel and are in its own byte order; they are checked all the same, and no input can make the reader fail but by
//! its error.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Where the kernel shows its own type information (CONFIG_DEBUG_INFO_BTF).
pub(crate) const VMLINUX: &str = "/sys/kernel/btf/vmlinux";
/// No kernel's type information is near this many bytes; more is not read.
const LIMIT: u64 = 64 << 20;

/// What is wrong with type information.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BtfError {
    /// The file cannot be read.
    #[error("cannot read {VMLINUX}")]
    Read(#[source] io::Error),
    /// The bytes are not what the format says.
    #[error("the type information is malformed: {0}")]
    Malformed(&'static str),
}

/// A kind of type, by its number in the format (`BTF_KIND_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A struct.
    Struct = 4,
    /// An enum of up to 32 bits.
    Enum = 6,
    /// A typedef; tracepoints appear as those named `btf_trace_NAME`.
    Typedef = 8,
    /// A function.
    Func = 12,
}

/// The number of a type within its type information; never 0, which is `void`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TypeId(u32);

impl TypeId {
    /// The number, as bpf(2) takes it.
    pub(crate) fn get(self) -> u32 {
        self.0
    }
}

/// Type information as it was read, its frame checked.
#[derive(Debug)]
pub(crate) struct Btf {
    bytes: Vec<u8>,
    types: std::ops::Range<usize>,
    strings: std::ops::Range<usize>,
}

impl Btf {
    /// That of the running kernel.
    pub(crate) fn kernel() -> Result<Btf, BtfError> {
        let mut bytes = Vec::new();
        File::open(Path::new(VMLINUX))
            .and_then(|file| file.take(LIMIT).read_to_end(&mut bytes))
            .map_err(BtfError::Read)?;
        Btf::parse(bytes)
    }

    /// Checks the header and the two sections.
    pub(crate) fn parse(bytes: Vec<u8>) -> Result<Btf, BtfError> {
        const MAGIC: u16 = 0xeb9f;
        let malformed = BtfError::Malformed;
        let magic = bytes.first_chunk::<2>().ok_or(malformed("it is empty"))?;
        if u16::from_ne_bytes(*magic) != MAGIC {
            return Err(malformed("it does not begin with the magic number"));
        }
        let word = |at| word(&bytes, at).ok_or(malformed("the header is cut short"));
        let header = word(4)?;
        let section = |offset: u32, length: u32| {
            let start = header.checked_add(offset)? as usize;
            let end = start.checked_add(length as usize)?;
            (end <= bytes.len()).then_some(start..end)
        };
        let types = section(word(8)?, word(12)?).ok_or(malformed("the types lie outside"))?;
        let strings = section(word(16)?, word(20)?).ok_or(malformed("the strings lie outside"))?;
        Ok(Btf { bytes, types, strings })
    }

    /// The first type of this kind and name; `None` also if a type before it cannot be understood.
    pub(crate) fn find(&self, kind: Kind, name: &str) -> Option<TypeId> {
        let types = self.bytes.get(self.types.clone())?;
        let (mut at, mut id) = (0usize, 1u32);
        loop {
            let name_offset = word(types, at)?;
            let info = word(types, at + 4)?;
            let (of, members) = ((info >> 24) & 0x1f, (info & 0xffff) as usize);
            if of == kind as u32 && self.name(name_offset) == Some(name.as_bytes()) {
                return Some(TypeId(id));
            }
            at = at.checked_add(12 + tail(of, members)?)?;
            id = id.checked_add(1)?;
        }
    }

    fn name(&self, offset: u32) -> Option<&[u8]> {
        let rest = self.bytes.get(self.strings.clone())?.get(offset as usize..)?;
        rest.split(|byte| *byte == 0).next()
    }
}

/// How many bytes follow the twelve that every type has; `None` for a kind that is not known.
fn tail(kind: u32, members: usize) -> Option<usize> {
    Some(match kind {
        // Pointers, forwards, typedefs, qualifiers, functions, floats, type tags.
        2 | 7..=12 | 16 | 18 => 0,
        // Integers, variables, declaration tags.
        1 | 14 | 17 => 4,
        // Arrays.
        3 => 12,
        // Structs, unions, sections, 64-bit enums: three words each.
        4 | 5 | 15 | 19 => 12 * members,
        // Enums, parameters: two words each.
        6 | 13 => 8 * members,
        _ => return None,
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_ne_bytes(*four))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Type information with an int, a struct of one member and a typedef.
    fn sample() -> Vec<u8> {
        let strings = b"\0int\0pair\0btf_trace_kfree_skb\0";
        let types: [u32; 4 + 6 + 3] = [
            1,
            1 << 24,
            4,
            32, // int
            5,
            (4 << 24) | 1,
            4,
            1,
            1,
            0, // struct pair { int int; }
            10,
            8 << 24,
            2, // typedef struct pair btf_trace_kfree_skb
        ];
        let mut bytes = Vec::new();
        bytes.extend(0xeb9f_u16.to_ne_bytes());
        bytes.extend([1, 0]);
        for word in [24, 0, size_of_val(&types) as u32, size_of_val(&types) as u32, strings.len() as u32] {
            bytes.extend(word.to_ne_bytes());
        }
        types.iter().for_each(|word| bytes.extend(word.to_ne_bytes()));
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn finds_by_kind_and_name() {
        let btf = Btf::parse(sample()).unwrap();
        assert_eq!(btf.find(Kind::Typedef, "btf_trace_kfree_skb").map(TypeId::get), Some(3));
        assert_eq!(btf.find(Kind::Struct, "pair").map(TypeId::get), Some(2));
        assert_eq!(btf.find(Kind::Enum, "pair"), None, "a name alone is not enough");
        assert_eq!(btf.find(Kind::Struct, "pai"), None, "nor is the beginning of one");
    }

    #[test]
    fn a_cut_at_any_byte_is_an_error() {
        let whole = sample();
        for length in 0..whole.len() {
            assert!(Btf::parse(whole[..length].to_vec()).is_err(), "cut at {length}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..256), magic: bool) {
            if magic && bytes.len() >= 2 {
                bytes[..2].copy_from_slice(&0xeb9f_u16.to_ne_bytes());
            }
            if let Ok(btf) = Btf::parse(bytes) {
                let _ = btf.find(Kind::Typedef, "btf_trace_kfree_skb");
            }
        }

        #[test]
        fn no_flipped_byte_makes_it_panic(at in 0usize..100, to: u8) {
            let mut bytes = sample();
            let at = at % bytes.len();
            bytes[at] = to;
            if let Ok(btf) = Btf::parse(bytes) {
                let _ = btf.find(Kind::Typedef, "btf_trace_kfree_skb");
            }
        }
    }
}
