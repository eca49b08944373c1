//! Header compression of HTTP/2 (RFC 7541): one table for each direction, which must see every header to stay right.

use std::collections::VecDeque;

use super::super::Garbled;
use super::super::bytes::Bytes;
use super::huffman;

/// The entries that are always there (RFC 7541, appendix A).
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// The size that a table has until it is told otherwise (RFC 9113, 6.5.2).
const DEFAULT_SIZE: usize = 4096;
/// No peer is followed further than this.
const MAX_SIZE: usize = 1 << 20;
/// What an entry costs besides its bytes.
const OVERHEAD: usize = 32;
/// No list of headers has more.
const MAX_HEADERS: usize = 512;

pub(super) type Header = (String, String);

/// The decoder of one direction.
#[derive(Debug)]
pub(super) struct Hpack {
    entries: VecDeque<Header>,
    size: usize,
    limit: usize,
    /// What the other side allows.
    most: usize,
}

impl Hpack {
    pub(super) fn new() -> Hpack {
        Hpack { entries: VecDeque::new(), size: 0, limit: DEFAULT_SIZE, most: DEFAULT_SIZE }
    }

    /// The receiver of this direction has said how large the table may be.
    pub(super) fn allow(&mut self, size: u32) {
        self.most = usize::try_from(size).unwrap_or(MAX_SIZE).min(MAX_SIZE);
    }

    /// Reads a whole block.
    pub(super) fn decode(&mut self, block: &[u8]) -> Result<Vec<Header>, Garbled> {
        let mut rest = Bytes(block);
        let mut headers = Vec::new();
        while !rest.is_empty() {
            let first = rest.u8()?;
            if first & 0x80 != 0 {
                let index = integer(first, 7, &mut rest)?;
                headers.push(self.get(index)?);
            } else if first & 0xc0 == 0x40 {
                let header = self.literal(integer(first, 6, &mut rest)?, &mut rest)?;
                self.add(header.clone());
                headers.push(header);
            } else if first & 0xe0 == 0x20 {
                let limit = integer(first, 5, &mut rest)?;
                if limit > self.most {
                    return Err(Garbled("a header table is larger than allowed"));
                }
                self.limit = limit;
                self.shrink();
            } else {
                headers.push(self.literal(integer(first, 4, &mut rest)?, &mut rest)?);
            }
            if headers.len() > MAX_HEADERS {
                return Err(Garbled("too many headers"));
            }
        }
        Ok(headers)
    }

    fn literal(&self, index: usize, rest: &mut Bytes<'_>) -> Result<Header, Garbled> {
        let name = if index == 0 { string(rest)? } else { self.get(index)?.0 };
        Ok((name, string(rest)?))
    }

    fn get(&self, index: usize) -> Result<Header, Garbled> {
        let none = Garbled("a header refers to an entry that is not there");
        let place = index.checked_sub(1).ok_or(none)?;
        match STATIC.get(place) {
            Some((name, value)) => Ok(((*name).to_owned(), (*value).to_owned())),
            None => self.entries.get(place - STATIC.len()).cloned().ok_or(none),
        }
    }

    fn add(&mut self, header: Header) {
        self.size += header.0.len() + header.1.len() + OVERHEAD;
        self.entries.push_front(header);
        self.shrink();
    }

    fn shrink(&mut self) {
        while self.size > self.limit {
            let Some((name, value)) = self.entries.pop_back() else { break };
            self.size -= name.len() + value.len() + OVERHEAD;
        }
    }
}

/// An integer with a prefix of so many bits, the first byte of which was read (RFC 7541, 5.1).
fn integer(first: u8, prefix: u32, rest: &mut Bytes<'_>) -> Result<usize, Garbled> {
    let mask = (1u8 << prefix) - 1;
    let mut value = usize::from(first & mask);
    if first & mask < mask {
        return Ok(value);
    }
    for shift in [0, 7, 14, 21] {
        let byte = rest.u8()?;
        value += usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Garbled("a number in a header is too large"))
}

/// A string, which is no valid text in some places of the world; those are replaced.
fn string(rest: &mut Bytes<'_>) -> Result<String, Garbled> {
    let first = rest.u8()?;
    let length = integer(first, 7, rest)?;
    let bytes = rest.take(length)?;
    if first & 0x80 == 0 {
        return Ok(String::from_utf8_lossy(bytes).into_owned());
    }
    Ok(String::from_utf8_lossy(&huffman::decode(bytes)?).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(list: &[(&str, &str)]) -> Vec<Header> {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn requests_of_the_standard_are_decoded() {
        // RFC 7541, C.4: three requests on one connection.
        let mut hpack = Hpack::new();
        let first = [
            0x82, 0x86, 0x84, 0x41, 0x8c, 0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4,
            0xff,
        ];
        let common =
            [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")];
        assert_eq!(hpack.decode(&first).unwrap(), headers(&common));
        let second = [0x82, 0x86, 0x84, 0xbe, 0x58, 0x86, 0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf];
        let mut expected = headers(&common);
        expected.push(("cache-control".into(), "no-cache".into()));
        assert_eq!(hpack.decode(&second).unwrap(), expected);
        assert_eq!(hpack.size, 110);
    }

    #[test]
    fn a_small_table_forgets_the_oldest() {
        let mut hpack = Hpack::new();
        hpack.decode(&[0x3f, 0x01]).unwrap();
        assert_eq!(hpack.limit, 32);
        hpack.decode(b"\x40\x01a\x01b").unwrap();
        assert!(hpack.entries.is_empty());
        assert!(hpack.decode(&[0xbe]).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_blocks_do_no_harm(blocks: Vec<Vec<u8>>) {
            let mut hpack = Hpack::new();
            for block in blocks {
                let _ = hpack.decode(&block);
                prop_assert!(hpack.size <= hpack.limit);
            }
        }
    }
}
