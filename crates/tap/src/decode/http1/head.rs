//! A head: the line that a message begins with, and its fields.

use super::super::bytes::text;
use super::super::{Garbled, mask};

/// No head has more fields; servers take 100.
const MAX_FIELDS: usize = 256;
/// A line ends with CR and LF; that some say LF alone is not counted.
const LINE_END: u64 = 2;
/// So much of a field's value is shown.
const MAX_VALUE: usize = 8 << 10;

#[derive(Debug)]
pub(super) struct Head {
    pub(super) start: String,
    fields: Vec<(String, String)>,
    /// How long it is, with all ends of lines.
    pub(super) bytes: u64,
}

impl Head {
    /// One of which there is the first line.
    pub(super) fn new(start: &[u8]) -> Head {
        Head {
            start: String::from_utf8_lossy(start).into_owned(),
            fields: Vec::new(),
            bytes: start.len() as u64 + LINE_END,
        }
    }

    /// Reads a further line; whether it was the last one, which is empty.
    pub(super) fn line(&mut self, line: &[u8]) -> Result<bool, Garbled> {
        self.bytes += line.len() as u64 + LINE_END;
        if line.is_empty() {
            return Ok(true);
        }
        let line = String::from_utf8_lossy(line);
        let (name, value) = line.split_once(':').ok_or(Garbled("a header field has no colon"))?;
        if self.fields.len() >= MAX_FIELDS {
            return Err(Garbled("a head has too many fields"));
        }
        self.fields.push((name.trim_end().to_owned(), value.trim().to_owned()));
        Ok(false)
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Whether a field that is a list names this.
    pub(super) fn lists(&self, name: &str, item: &str) -> bool {
        let fields = self.fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
        fields.flat_map(|(_, value)| value.split(',')).any(|one| one.trim().eq_ignore_ascii_case(item))
    }

    /// The length of the body, if it is told so. Two that differ are an attack or a mistake (RFC 9112, 6.3).
    pub(super) fn length(&self) -> Result<Option<u64>, Garbled> {
        let mut lengths = self
            .fields
            .iter()
            .filter(|(field, _)| field.eq_ignore_ascii_case("content-length"))
            .flat_map(|(_, value)| value.split(','))
            .map(|value| value.trim().parse::<u64>().map_err(|_| Garbled("a content-length is no number")));
        let Some(first) = lengths.next().transpose()? else { return Ok(None) };
        match lengths.all(|length| length == Ok(first)) {
            true => Ok(Some(first)),
            false => Err(Garbled("a message has two lengths")),
        }
    }

    /// The fields as they may be shown.
    pub(super) fn shown(&self, show_secrets: bool) -> Vec<(String, String)> {
        let shown = |(name, value): &(String, String)| {
            let value = text(value.as_bytes(), MAX_VALUE);
            (text(name.as_bytes(), 128), if show_secrets { value } else { mask::field(name, value) })
        };
        self.fields.iter().map(shown).collect()
    }
}
