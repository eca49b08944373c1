//! The numbers of pcapng, and its options.
//!
//! Source: draft-ietf-opsawg-pcapng, "PCAP Next Generation (pcapng) Capture File Format". A block is its type, its total
//! length, a body, and its total length again, each 4 bytes, the body padded to a multiple of 4 bytes. Options are a
//! code and a length of 2 bytes each, and a value that is padded likewise.

/// Section header block. The same read in either byte order.
pub(super) const SHB: u32 = 0x0a0d_0d0a;
/// Interface description block.
pub(super) const IDB: u32 = 1;
/// Packet block, which the enhanced one replaced.
pub(super) const PB: u32 = 2;
/// Simple packet block.
pub(super) const SPB: u32 = 3;
/// Name resolution block.
pub(super) const NRB: u32 = 4;
/// Interface statistics block.
pub(super) const ISB: u32 = 5;
/// Enhanced packet block.
pub(super) const EPB: u32 = 6;

/// What a section header has in its body's first 4 bytes, in the section's byte order.
pub(super) const BYTE_ORDER: u32 = 0x1a2b_3c4d;
/// Type, length, and length again: what every block has.
pub(super) const FRAME: usize = 12;

/// Codes of options. Those below 2 mean the same in every block.
pub(super) mod option {
    pub(crate) const END: u16 = 0;
    pub(crate) const COMMENT: u16 = 1;
    pub(crate) const SHB_HARDWARE: u16 = 2;
    pub(crate) const SHB_OS: u16 = 3;
    pub(crate) const SHB_USERAPPL: u16 = 4;
    pub(crate) const IF_NAME: u16 = 2;
    pub(crate) const IF_DESCRIPTION: u16 = 3;
    pub(crate) const IF_MACADDR: u16 = 6;
    pub(crate) const IF_TSRESOL: u16 = 9;
    pub(crate) const IF_FILTER: u16 = 11;
    pub(crate) const IF_OS: u16 = 12;
    pub(crate) const IF_TSOFFSET: u16 = 14;
    /// Of the enhanced and of the old packet block.
    pub(crate) const FLAGS: u16 = 2;
    pub(crate) const ISB_STARTTIME: u16 = 2;
    pub(crate) const ISB_ENDTIME: u16 = 3;
    pub(crate) const ISB_IFRECV: u16 = 4;
    pub(crate) const ISB_IFDROP: u16 = 5;
    pub(crate) const ISB_FILTERACCEPT: u16 = 6;
    pub(crate) const ISB_OSDROP: u16 = 7;
    pub(crate) const ISB_USRDELIV: u16 = 8;
}

/// Records of a name resolution block.
pub(super) mod record {
    pub(crate) const END: u16 = 0;
    pub(crate) const IPV4: u16 = 1;
    pub(crate) const IPV6: u16 = 2;
}

/// The next multiple of 4.
pub(super) const fn padded(length: usize) -> usize {
    (length + 3) & !3
}

/// The byte order of a section or of a pcap file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Little,
    Big,
}

impl Order {
    /// The 16-bit number at the start of `bytes`, which must have them.
    #[inline]
    pub(super) fn u16(self, bytes: &[u8]) -> u16 {
        let raw = [bytes[0], bytes[1]];
        match self {
            Order::Little => u16::from_le_bytes(raw),
            Order::Big => u16::from_be_bytes(raw),
        }
    }

    /// The 32-bit number at the start of `bytes`, which must have them.
    #[inline]
    pub(super) fn u32(self, bytes: &[u8]) -> u32 {
        let raw = [bytes[0], bytes[1], bytes[2], bytes[3]];
        match self {
            Order::Little => u32::from_le_bytes(raw),
            Order::Big => u32::from_be_bytes(raw),
        }
    }

    /// The 64-bit number at the start of `bytes`, which must have them.
    pub(super) fn u64(self, bytes: &[u8]) -> u64 {
        let (first, second) = (u64::from(self.u32(bytes)), u64::from(self.u32(&bytes[4..])));
        match self {
            Order::Little => second << 32 | first,
            Order::Big => first << 32 | second,
        }
    }

    /// A time stamp as pcapng has it outside of options' values too: the upper half first, whatever the byte order.
    #[inline]
    pub(super) fn halves(self, bytes: &[u8]) -> u64 {
        u64::from(self.u32(bytes)) << 32 | u64::from(self.u32(&bytes[4..]))
    }
}

/// The options, or the records, at the end of a block: (code, value). It ends at the first that does not fit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Options<'a> {
    bytes: &'a [u8],
    order: Order,
}

impl<'a> Options<'a> {
    pub(super) fn new(bytes: &'a [u8], order: Order) -> Options<'a> {
        Options { bytes, order }
    }
}

impl<'a> Iterator for Options<'a> {
    type Item = (u16, &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        if self.bytes.len() < 4 {
            return None;
        }
        let code = self.order.u16(self.bytes);
        let length = usize::from(self.order.u16(&self.bytes[2..]));
        if code == option::END {
            return None;
        }
        let value = self.bytes.get(4..4 + length)?;
        // The last one's padding may be missing: what counts is the value.
        self.bytes = self.bytes.get(4 + padded(length)..).unwrap_or_default();
        Some((code, value))
    }
}
