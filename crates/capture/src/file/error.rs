//! What can go wrong with captures in files; each variant names the operation and its place.

use std::io;
use std::path::PathBuf;

use super::write::Lost;
use crate::packet::Packet;

/// A capture cannot be read, or not to its end. What came before the fault has been handed out by then.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be opened.
    #[error("cannot open {path}")]
    Open {
        /// The path as it was given.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Reading failed, or what is compressed cannot be unpacked.
    #[error("cannot read on at byte {offset}")]
    Read {
        /// How many bytes (of the capture, unpacked) had been read by then.
        offset: u64,
        /// What the kernel or the decompressor said.
        #[source]
        source: io::Error,
    },
    /// There is not one byte to read.
    #[error("the file is empty, not a capture")]
    Empty,
    /// The first bytes are those of no format that is known here.
    #[error(
        "not a capture: it begins with the bytes {magic}; pcapng and pcap are read, plain or compressed by gzip or zstd"
    )]
    NotACapture {
        /// The first bytes, at most four, in hexadecimal.
        magic: String,
    },
    /// The file ends in the middle of something.
    #[error(
        "the file is cut short: {what} at byte {offset} has {} {wanted} bytes, and {got} are there",
        if *.at_least { "at least" } else { "to have" }
    )]
    Truncated {
        /// Where that something begins, in bytes from the start of the capture (unpacked, if it is compressed).
        offset: u64,
        /// What is cut short.
        what: &'static str,
        /// How long it is.
        wanted: u64,
        /// Whether it may well be longer, since the part that would tell is missing.
        at_least: bool,
        /// How much of it is there.
        got: u64,
    },
    /// The compressed file ends before the end of what was compressed.
    #[error("the compressed file is cut short: it ends in the middle, after {offset} unpacked bytes")]
    CompressedShort {
        /// How many bytes of the capture could be unpacked.
        offset: u64,
    },
    /// A field says what cannot be.
    #[error("the file is damaged: {what}, at byte {offset}")]
    Damaged {
        /// Where the block or record begins, in bytes from the start of the capture (unpacked, if it is compressed).
        offset: u64,
        /// Which field, and what it says.
        what: String,
    },
    /// The file is well-formed, but not of a kind that can be read.
    #[error("cannot read this file: {what}, at byte {offset}")]
    Unsupported {
        /// Where, in bytes from the start of the capture (unpacked, if it is compressed).
        offset: u64,
        /// What it is that is not understood.
        what: String,
    },
}

impl ReadError {
    /// Whether the capture merely ends too early, as that of a killed process does.
    pub fn is_truncation(&self) -> bool {
        matches!(self, ReadError::Truncated { .. } | ReadError::CompressedShort { .. })
    }
}

/// A capture cannot be written on. Its file ends with the last whole block that could be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The other end of the pipe is closed: nobody reads any more. No fault, as a rule.
    #[error("nobody reads {name} any more")]
    Closed {
        /// The output's name.
        name: String,
    },
    /// A pipe was not read until its writer was to end.
    #[error("nobody read {name} in the end; what could not be written is lost")]
    Unread {
        /// The output's name.
        name: String,
        /// How many packets had been accepted, but are not in the file.
        lost: Lost,
    },
    /// No room is left: on the file system, in the user's quota, or under the limit of a file's size.
    #[error("no room is left for {name}")]
    Full {
        /// The output's name.
        name: String,
        /// How many packets had been accepted, but are not in the file.
        lost: Lost,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Writing failed otherwise.
    #[error("cannot write to {name}")]
    Write {
        /// The output's name.
        name: String,
        /// How many packets had been accepted, but are not in the file.
        lost: Lost,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A file cannot be made or opened for writing.
    #[error("cannot {what}")]
    Open {
        /// The operation and its object.
        what: String,
        /// How many packets were for it.
        lost: Lost,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A file of this name is there, and better left alone.
    #[error("not writing to {name}: {why}")]
    Refused {
        /// The output's name.
        name: String,
        /// What it is, and what to do instead.
        why: String,
        /// How many packets were for it.
        lost: Lost,
    },
    /// A packet names an interface that was not announced.
    #[error("a packet of interface {interface}, but only {known} were announced")]
    UnknownInterface {
        /// The packet's interface.
        interface: usize,
        /// How many interfaces the file has.
        known: usize,
    },
}

impl WriteError {
    /// Before the first packet.
    pub(super) fn open(what: impl Into<String>, source: impl Into<io::Error>) -> WriteError {
        WriteError::Open { what: what.into(), lost: Lost::default(), source: source.into() }
    }

    /// Before the first packet.
    pub(super) fn refused(name: impl Into<String>, why: impl Into<String>) -> WriteError {
        WriteError::Refused { name: name.into(), why: why.into(), lost: Lost::default() }
    }

    /// Which packets are not in the file; `None` where that is not told: nobody reads what would be written, or the caller
    /// asked for what cannot be.
    pub fn lost(&self) -> Option<&Lost> {
        match self {
            WriteError::Unread { lost, .. }
            | WriteError::Full { lost, .. }
            | WriteError::Write { lost, .. }
            | WriteError::Open { lost, .. }
            | WriteError::Refused { lost, .. } => Some(lost),
            WriteError::Closed { .. } | WriteError::UnknownInterface { .. } => None,
        }
    }

    /// The same, and these packets were not tried any more.
    pub(super) fn and(mut self, packets: &[Packet<'_>]) -> WriteError {
        if let WriteError::Unread { lost, .. }
        | WriteError::Full { lost, .. }
        | WriteError::Write { lost, .. }
        | WriteError::Open { lost, .. }
        | WriteError::Refused { lost, .. } = &mut self
        {
            lost.extend(packets.iter().map(|packet| packet.interface));
        }
        self
    }
}
