//! A request in the making.

use std::net::IpAddr;

use super::ALIGNMENT;
use super::message::HEADER;

/// A message to the kernel: header, fixed part, attributes.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    bytes: Vec<u8>,
}

impl Request {
    /// A message of this kind, empty yet.
    pub(crate) fn new(kind: u16, flags: u16) -> Request {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend([0; 4]); // the length, known at the end
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 8]); // the sequence number, known when it is sent; and port 0, the kernel's
        Request { bytes }
    }

    /// Appends bytes as they are: the fixed part of a message.
    pub(crate) fn raw(&mut self, fixed: &[u8]) -> &mut Request {
        self.pad();
        self.bytes.extend(fixed);
        self
    }

    /// Appends an attribute.
    pub(crate) fn put(&mut self, kind: u16, payload: &[u8]) -> &mut Request {
        self.nest(kind, |value| {
            value.bytes.extend(payload);
        })
    }

    /// Appends an attribute that is a number.
    pub(crate) fn put_u32(&mut self, kind: u16, value: u32) -> &mut Request {
        self.put(kind, &value.to_ne_bytes())
    }

    /// Appends an attribute that is a signed number.
    pub(crate) fn put_i32(&mut self, kind: u16, value: i32) -> &mut Request {
        self.put(kind, &value.to_ne_bytes())
    }

    /// Appends an attribute that is a string of C: with a zero at its end.
    pub(crate) fn put_text(&mut self, kind: u16, text: &[u8]) -> &mut Request {
        self.nest(kind, |value| {
            value.bytes.extend(text);
            value.bytes.push(0);
        })
    }

    /// Appends an attribute that is an address.
    pub(crate) fn put_ip(&mut self, kind: u16, address: IpAddr) -> &mut Request {
        match address {
            IpAddr::V4(v4) => self.put(kind, &v4.octets()),
            IpAddr::V6(v6) => self.put(kind, &v6.octets()),
        }
    }

    /// Appends an attribute whose value is what `fill` appends.
    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Request)) -> &mut Request {
        self.pad();
        let start = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend(kind.to_ne_bytes());
        fill(self);
        #[expect(clippy::expect_used, reason = "values are numbers, addresses and names of checked length")]
        let length = u16::try_from(self.bytes.len() - start).expect("an attribute is shorter than 64 KiB");
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self
    }

    /// Sets flags of the header besides those that it has.
    pub(crate) fn add_flags(&mut self, flags: u16) {
        let [low, high] = flags.to_ne_bytes();
        self.bytes[6] |= low;
        self.bytes[7] |= high;
    }

    /// The finished message, under this number.
    pub(crate) fn with_sequence(&self, sequence: u32) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        #[expect(clippy::expect_used, reason = "a message is a handful of attributes of less than 64 KiB")]
        let length = u32::try_from(bytes.len()).expect("a message is shorter than 4 GiB");
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        bytes[HEADER - 8..HEADER - 4].copy_from_slice(&sequence.to_ne_bytes());
        bytes
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
    }
}

/// Several messages, all under this number, in one datagram.
pub(crate) fn datagram(requests: &[&Request], sequence: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for request in requests {
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
        bytes.extend(request.with_sequence(sequence));
    }
    bytes
}
