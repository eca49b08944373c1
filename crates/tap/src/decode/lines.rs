//! Lines, collected from pieces.

use super::Garbled;

/// The line that is under way in one direction.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    line: Vec<u8>,
}

impl Lines {
    /// Takes from `input` up to the end of a line; the line without its end (LF or CR LF), if that was there.
    pub(crate) fn next(&mut self, input: &mut &[u8], most: usize) -> Result<Option<Vec<u8>>, Garbled> {
        let end = input.iter().position(|byte| *byte == b'\n');
        let (part, rest) = input.split_at(end.map_or(input.len(), |end| end + 1));
        if self.line.len() + part.len() > most {
            return Err(Garbled("a line is longer than any that makes sense"));
        }
        self.line.extend_from_slice(part);
        *input = rest;
        if end.is_none() {
            return Ok(None);
        }
        let mut line = std::mem::take(&mut self.line);
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(Some(line))
    }
}
