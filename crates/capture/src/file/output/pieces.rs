//! A file that is no capture, and is made in the same way: it belongs to who asked for it, and ends whole.
//!
//! It is of pieces with an end behind them that makes them a document. The end is written behind each piece, and the next
//! piece over it, so that the file is whole between two pieces, whatever happens to the process. A pipe gets the end
//! once, in the end.

use std::path::Path;

use super::place::Opened;
use super::{Owner, STDOUT, name_of, place_of, single, stdout};
use crate::file::write::{Lost, Sink};
use crate::file::{Patience, WriteError};

/// A document that grows by pieces. Dropped without [`Pieces::finish`] it is whole if it is a file, and not if it is a
/// pipe.
#[derive(Debug)]
pub struct Pieces {
    sink: Sink,
    /// What it begins with, if that is not written yet.
    head: Option<Vec<u8>>,
    end: &'static [u8],
    written: u64,
    /// No more is to be written.
    closed: bool,
    note: Option<String>,
}

impl Pieces {
    /// Opens the file, or standard output if it is called `-`, and writes what a document begins with, and its end. Into a
    /// FIFO that nobody reads yet it writes nothing before the first piece.
    /// `patience`: how long it is waited for who reads a pipe; without it for ever.
    pub fn begin(
        path: &Path,
        owner: Option<Owner>,
        patience: Option<Patience>,
        head: &[u8],
        end: &'static [u8],
    ) -> Result<Pieces, WriteError> {
        let (mut sink, note, unread) = if path.as_os_str() == "-" {
            (Sink::new(stdout()?, STDOUT.to_owned()), None, false)
        } else {
            let name = name_of(path)?;
            let Opened { file, note, unread, .. } = single(&place_of(path, owner)?, name, path)?;
            let mut sink = Sink::new(file.into(), path.display().to_string());
            if unread {
                sink.set_unread();
            }
            (sink, note, unread)
        };
        if let Some(patience) = patience {
            sink.set_patience(patience);
        }
        let mut pieces = Pieces { sink, head: None, end, written: 0, closed: false, note };
        if unread {
            pieces.head = Some(head.to_owned());
        } else {
            pieces.write(head)?;
        }
        Ok(pieces)
    }

    /// Whether it is a FIFO that nobody has been seen reading: what is written waits until somebody does.
    pub fn waits_for_reader(&self) -> bool {
        self.head.is_some()
    }

    /// Writes a piece, whole or not at all. After an error no more is written.
    pub fn piece(&mut self, piece: &[u8]) -> Result<(), WriteError> {
        self.begun()?;
        self.write(piece)?;
        self.written += 1;
        Ok(())
    }

    /// How many pieces there are.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Writes the end where it is not there yet.
    pub fn finish(&mut self) -> Result<(), WriteError> {
        self.begun()?;
        if std::mem::replace(&mut self.closed, true) {
            return Ok(());
        }
        self.sink.end_pieces(self.end).map_err(|stopped| self.sink.fault(stopped.error, Lost::default()))
    }

    /// What went not quite as it should since this was asked last, in words.
    pub fn note(&mut self) -> Option<String> {
        self.note.take()
    }

    /// Writes what the document begins with, if that has not been done.
    fn begun(&mut self) -> Result<(), WriteError> {
        self.head.take().map_or(Ok(()), |head| self.write(&head))
    }

    fn write(&mut self, piece: &[u8]) -> Result<(), WriteError> {
        if self.closed {
            return Ok(());
        }
        self.sink.write_piece(piece, self.end).map_err(|stopped| {
            self.closed = true;
            self.sink.fault(stopped.error, Lost::default())
        })
    }
}
