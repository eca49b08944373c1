//! Messages that say their length in a header: collected from pieces, of each no more than is wanted.

use super::Garbled;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) head: Vec<u8>,
    /// The body's first bytes, as many as were wanted at most.
    pub(crate) body: Vec<u8>,
    /// The whole body's length.
    pub(crate) length: usize,
}

/// The messages of one direction.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    head: Vec<u8>,
    body: Vec<u8>,
    /// The body's length, once its head is there.
    length: Option<usize>,
    /// How much of the body was seen.
    seen: usize,
}

impl Frames {
    /// Takes from `input` as much as makes the next message; none if it is not complete yet. `head`: the length of the
    /// header; `length_of` reads the body's length from it; `keep`: how much of the body is wanted.
    pub(crate) fn next(
        &mut self,
        input: &mut &[u8],
        head: usize,
        keep: usize,
        length_of: impl FnOnce(&[u8]) -> Result<usize, Garbled>,
    ) -> Result<Option<Frame>, Garbled> {
        let length = match self.length {
            Some(length) => length,
            None => {
                let missing = head.saturating_sub(self.head.len());
                self.head.extend_from_slice(split(input, missing));
                if self.head.len() < head {
                    return Ok(None);
                }
                let length = length_of(&self.head)?;
                self.length = Some(length);
                length
            }
        };
        let kept = split(input, length.min(keep).saturating_sub(self.seen));
        self.body.extend_from_slice(kept);
        self.seen += kept.len();
        if self.seen >= length.min(keep) {
            self.seen += split(input, length - self.seen).len();
        }
        if self.seen < length {
            return Ok(None);
        }
        let (head, body) = (std::mem::take(&mut self.head), std::mem::take(&mut self.body));
        (self.length, self.seen) = (None, 0);
        Ok(Some(Frame { head, body, length }))
    }
}

/// Takes up to so many bytes from the front.
fn split<'a>(input: &mut &'a [u8], most: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at(most.min(input.len()));
    *input = rest;
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn messages_are_the_same_however_they_are_cut(
            bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..10),
            cut in 1usize..20,
        ) {
            let mut stream = Vec::new();
            for body in &bodies {
                stream.push(body.len() as u8);
                stream.extend(body);
            }
            let mut frames = Frames::default();
            let mut found = Vec::new();
            for mut piece in stream.chunks(cut) {
                while let Some(frame) = frames.next(&mut piece, 1, 20, |head| Ok(head[0].into())).unwrap() {
                    found.push(frame);
                }
            }
            let expected: Vec<Frame> = bodies
                .iter()
                .map(|body| Frame {
                    head: vec![body.len() as u8],
                    body: body.iter().copied().take(20).collect(),
                    length: body.len(),
                })
                .collect();
            prop_assert_eq!(found, expected);
        }
    }
}
