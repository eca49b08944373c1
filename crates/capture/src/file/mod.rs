//! Captures in files: pcapng and pcap, read and written.
//!
//! [`Reader`] reads what snorkel, tcpdump, dumpcap and their kin wrote; it lends packets one by one or hands them out in
//! batches. [`Writer`] makes one pcapng file of packets. [`Output`] decides which files there are: names, rotation,
//! compression, whom they belong to; [`Pieces`] makes a file of something else in the same way. No byte of a file is trusted: a length that lies is an error that names its place.

mod about;
mod block;
mod error;
mod output;
mod read;
mod write;

pub use about::{About, Names, Section, Statistics};
pub use error::{ReadError, WriteError};
pub use output::{Output, OutputOptions, Owner, Pieces, Rights, Rotate};
pub use read::{Batch, Reader};
pub use write::{Asked, Lost, Patience, Stream, Writer, Written};
