//! Text into a descriptor, which waits for a reader no longer than a capture does, and knows whose packets it did not take.

use std::os::fd::OwnedFd;

use super::Written;
use super::lost::Lost;
use super::patience::Patience;
use super::sink::Sink;
use crate::file::WriteError;

/// What text is written to. It is gathered packet by packet, and one that is not written whole is lost.
#[derive(Debug)]
pub struct Stream {
    sink: Sink,
    text: Vec<u8>,
    /// Where in the text each packet's ends, and its interface.
    ends: Vec<(usize, usize)>,
    packets: u64,
}

impl Stream {
    /// `name` is how messages call it.
    pub fn new(to: impl Into<OwnedFd>, name: impl Into<String>, patience: Patience) -> Stream {
        let mut sink = Sink::new(to.into(), name.into());
        sink.set_patience(patience);
        Stream { sink, text: Vec::new(), ends: Vec::new(), packets: 0 }
    }

    /// What is gathered and not yet written, to append to.
    pub fn text(&mut self) -> &mut Vec<u8> {
        &mut self.text
    }

    /// What was appended since the last packet is all of the text of one of this interface.
    pub fn end_packet(&mut self, interface: usize) {
        self.ends.push((self.text.len(), interface));
    }

    /// Writes what is gathered. After an error a part of a packet's text may be written, and nothing is gathered.
    pub fn flush(&mut self) -> Result<(), WriteError> {
        let Stream { sink, text, ends, packets } = self;
        let whole = |written| ends.partition_point(|(end, _)| *end <= written);
        // A part stays where it is: others may write to the same file, as to a log.
        let result = sink.write(&[text], |_, written| written);
        let kept = result.as_ref().map_or_else(|stopped| whole(stopped.kept), |()| ends.len());
        *packets += kept as u64;
        let result = result.map_err(|stopped| {
            let mut lost = Lost::default();
            lost.extend(ends[kept..].iter().map(|(_, interface)| *interface));
            sink.fault(stopped.error, lost)
        });
        text.clear();
        ends.clear();
        result
    }

    /// The packets whose text was written whole, and all bytes that were.
    pub fn written(&self) -> Written {
        Written { packets: self.packets, bytes: self.sink.taken() }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::time::Instant;

    use super::*;

    /// A packet's text of so many bytes.
    fn gather(stream: &mut Stream, interface: usize, bytes: usize) {
        stream.text().extend(std::iter::repeat_n(b'x', bytes));
        stream.end_packet(interface);
    }

    #[test]
    fn packets_are_lost_whose_text_was_not_taken_whole() {
        let (mut read, write) = std::io::pipe().unwrap();
        let size = rustix::pipe::fcntl_getpipe_size(&write).unwrap();
        let (stop, _asks) = UnixStream::pair().unwrap();
        let patience = Patience::new(stop);
        patience.end_at(Some(Instant::now()));
        let mut stream = Stream::new(write, "a pipe", patience);
        gather(&mut stream, 0, 100);
        // It is filled page by page.
        let page = rustix::param::page_size();
        gather(&mut stream, 1, size - page - 100);
        stream.flush().unwrap();
        // The first one of these fills it.
        for (interface, bytes) in [(2, page), (0, 5), (2, 7)] {
            gather(&mut stream, interface, bytes);
        }
        let error = stream.flush().unwrap_err();
        assert!(matches!(error, WriteError::Unread { .. }), "{error}");
        let lost = error.lost().unwrap();
        assert_eq!([0, 1, 2].map(|interface| lost.of(interface)), [1, 0, 1]);
        assert_eq!(stream.written(), Written { packets: 3, bytes: size as u64 });
        // And what is gathered later follows nothing.
        stream.flush().unwrap();
        drop(stream);
        let mut all = Vec::new();
        read.read_to_end(&mut all).unwrap();
        assert_eq!(all.len(), size);
    }

    #[test]
    fn a_packet_of_which_a_part_was_taken_is_lost() {
        let (read, write) = std::io::pipe().unwrap();
        let size = rustix::pipe::fcntl_getpipe_size(&write).unwrap();
        let (stop, _asks) = UnixStream::pair().unwrap();
        let patience = Patience::new(stop);
        patience.end_at(Some(Instant::now()));
        let mut stream = Stream::new(write, "a pipe", patience);
        gather(&mut stream, 0, size - 1);
        gather(&mut stream, 0, 2);
        let error = stream.flush().unwrap_err();
        assert_eq!(error.lost().unwrap().of(0), 1);
        assert_eq!(stream.written().packets, 1);
        drop(read);
    }
}
