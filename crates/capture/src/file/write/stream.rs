//! Text into a descriptor, which waits for a reader no longer than a capture does.

use std::os::fd::OwnedFd;

use super::lost::Lost;
use super::patience::Patience;
use super::sink::Sink;
use crate::file::WriteError;

/// What text is written to.
#[derive(Debug)]
pub struct Stream(Sink);

impl Stream {
    /// `name` is how messages call it.
    pub fn new(to: impl Into<OwnedFd>, name: impl Into<String>, patience: Patience) -> Stream {
        let mut sink = Sink::new(to.into(), name.into());
        sink.set_patience(patience);
        Stream(sink)
    }

    /// Writes all of it. After an error a part of it may be written.
    pub fn write_all(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.0
            .write(&[bytes], |_, written| written)
            .map_err(|stopped| self.0.fault(stopped.error, Lost::default()))
    }
}
