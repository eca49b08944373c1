//! Packets built by code, header by header from the inside to the outside.

/// `payload` in an Ethernet frame.
pub(crate) fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1], &ethertype.to_be_bytes()[..], payload].concat()
}

/// A VLAN tag's control word and what follows it.
pub(crate) fn tag(control: u16, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&control.to_be_bytes()[..], &ethertype.to_be_bytes(), payload].concat()
}

/// IPv4 from 10.0.0.1 to 10.0.0.2; `fragment` is the word of flags and offset.
pub(crate) fn ipv4(protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u16 + 20).to_be_bytes();
    let [high, low] = fragment.to_be_bytes();
    let mut header = vec![0x45, 0x10, length[0], length[1], 0x12, 0x34, high, low, 61, protocol, 0, 0];
    header.extend([10, 0, 0, 1, 10, 0, 0, 2]);
    let mut sum: u32 = header.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    header[10..12].copy_from_slice(&(!sum as u16).to_be_bytes());
    [&header, payload].concat()
}

/// IPv6 from fd00::1 to fd00::2.
pub(crate) fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u16).to_be_bytes();
    let mut packet = vec![0x60, 0x1a, 0xbc, 0xde, length[0], length[1], next, 63];
    for last in [1, 2] {
        packet.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    [&packet, payload].concat()
}

/// A segment of TCP.
pub(crate) fn tcp(flags: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut segment = vec![0x9c, 0x40, 0x1f, 0x90, 0xf0, 0, 0, 1, 0x80, 0, 0, 2];
    segment.extend([0x50 + options.len() as u8 / 4 * 16, flags, 1, 0xf6, 0, 0, 0, 3]);
    [&segment, options, payload].concat()
}

/// A datagram of UDP.
pub(crate) fn udp(source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u16 + 8;
    let header = [source, destination, length, 0].map(u16::to_be_bytes).concat();
    [&header, payload].concat()
}

/// An ICMP echo request.
pub(crate) fn echo() -> Vec<u8> {
    // Its checksum is right, as tshark wants it.
    vec![8, 0, 0xf7, 0xf9, 0, 1, 0, 5]
}

/// A chunk of SCTP.
pub(crate) fn chunk(kind: u8, flags: u8, value: &[u8]) -> Vec<u8> {
    let mut chunk = vec![kind, flags];
    chunk.extend((value.len() as u16 + 4).to_be_bytes());
    chunk.extend(value);
    chunk.resize(chunk.len().next_multiple_of(4), 0);
    chunk
}
