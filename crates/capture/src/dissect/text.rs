//! Writing into a line: numbers, addresses, and text that strangers sent, without the formatting machinery.
//!
//! Everything appends to a buffer that is used again for the next packet. Nothing from a packet reaches the buffer
//! but through [`escaped`]: a terminal obeys control characters, whoever sent them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The decimal digits of 0 to 99, two each.
static PAIRS: [u8; 200] = pairs();
/// Each octet in decimal with a dot behind it, and how many bytes that is.
static OCTETS: [([u8; 4], u8); 256] = octets();
const HEX: &[u8; 16] = b"0123456789abcdef";

const fn pairs() -> [u8; 200] {
    let mut table = [0; 200];
    let mut n = 0;
    while n < 100 {
        table[2 * n] = b'0' + (n / 10) as u8;
        table[2 * n + 1] = b'0' + (n % 10) as u8;
        n += 1;
    }
    table
}

const fn octets() -> [([u8; 4], u8); 256] {
    let mut table = [([b'.'; 4], 0); 256];
    let mut n = 0;
    while n < 256 {
        let (hundreds, tens, ones) =
            (b'0' + (n / 100) as u8, b'0' + (n / 10 % 10) as u8, b'0' + (n % 10) as u8);
        table[n] = if n >= 100 {
            ([hundreds, tens, ones, b'.'], 4)
        } else if n >= 10 {
            ([tens, ones, b'.', b'.'], 3)
        } else {
            ([ones, b'.', b'.', b'.'], 2)
        };
        n += 1;
    }
    table
}

/// Bytes that are known to be printable.
#[inline]
pub(crate) fn put(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// A number in decimal.
#[inline]
pub(crate) fn decimal(out: &mut Vec<u8>, mut number: u32) {
    let mut digits = [0; 10];
    let mut at = digits.len();
    while number >= 100 {
        let pair = (number % 100) as usize * 2;
        number /= 100;
        at -= 2;
        digits[at] = PAIRS[pair];
        digits[at + 1] = PAIRS[pair + 1];
    }
    if number >= 10 {
        at -= 2;
        digits[at] = PAIRS[number as usize * 2];
        digits[at + 1] = PAIRS[number as usize * 2 + 1];
    } else {
        at -= 1;
        digits[at] = b'0' + number as u8;
    }
    out.extend_from_slice(&digits[at..]);
}

/// A number in decimal, of any size.
pub(crate) fn decimal_long(out: &mut Vec<u8>, number: u64) {
    match u32::try_from(number) {
        Ok(small) => decimal(out, small),
        Err(_) => {
            decimal_long(out, number / 100_000_000);
            digits(out, (number % 100_000_000) as u32, 8);
        }
    }
}

/// A length in decimal.
#[inline]
pub(crate) fn length(out: &mut Vec<u8>, number: usize) {
    decimal_long(out, number as u64);
}

/// The last `width` decimal digits, with leading noughts.
#[inline]
pub(crate) fn digits(out: &mut Vec<u8>, mut number: u32, width: usize) {
    let mut text = [b'0'; 10];
    for digit in text[..width.min(10)].iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    out.extend_from_slice(&text[..width.min(10)]);
}

/// A byte as two hexadecimal digits.
#[inline]
pub(crate) fn hex_byte(out: &mut Vec<u8>, byte: u8) {
    out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
}

/// A number in hexadecimal, without leading noughts or `0x`.
pub(crate) fn hex(out: &mut Vec<u8>, number: u32) {
    let mut shift = (31 - (number | 1).leading_zeros()) / 4 * 4;
    loop {
        out.push(HEX[(number >> shift & 15) as usize]);
        if shift == 0 {
            return;
        }
        shift -= 4;
    }
}

/// A number in hexadecimal with `0x` before it and at least four digits, as ethertypes are written.
pub(crate) fn hex_word(out: &mut Vec<u8>, number: u16) {
    put(out, "0x");
    hex_byte(out, (number >> 8) as u8);
    hex_byte(out, number as u8);
}

/// An address of either family.
#[inline]
pub(crate) fn ip(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => ipv4(out, address),
        IpAddr::V6(address) => ipv6(out, address),
    }
}

/// Four octets with dots between them.
#[inline]
pub(crate) fn ipv4(out: &mut Vec<u8>, address: Ipv4Addr) {
    let mut text = [0; 20];
    let mut at = 0;
    for octet in address.octets() {
        let (digits, width) = &OCTETS[usize::from(octet)];
        // At most 4 × 4 bytes are advanced, and 4 written at a time.
        text[at..at + 4].copy_from_slice(digits);
        at += usize::from(*width);
    }
    out.extend_from_slice(&text[..at - 1]);
}

/// The text form that RFC 5952 recommends: the longest run of noughts is `::`, a mapped address ends as IPv4.
pub(crate) fn ipv6(out: &mut Vec<u8>, address: Ipv6Addr) {
    if let Some(mapped) = address.to_ipv4_mapped() {
        put(out, "::ffff:");
        return ipv4(out, mapped);
    }
    let groups = address.segments();
    let (mut start, mut end) = (8, 8);
    let mut from = 0;
    while from < 8 {
        let run = groups[from..].iter().take_while(|group| **group == 0).count();
        if run > 1 && run > end - start {
            (start, end) = (from, from + run);
        }
        from += run.max(1);
    }
    for (at, group) in groups.iter().enumerate() {
        if at == start {
            put(out, "::");
        } else if !(start..end).contains(&at) {
            if at != 0 && at != end {
                out.push(b':');
            }
            hex(out, u32::from(*group));
        }
    }
}

/// A hardware address: six pairs of hexadecimal digits with colons between them.
pub(crate) fn mac(out: &mut Vec<u8>, address: [u8; 6]) {
    for (at, byte) in address.into_iter().enumerate() {
        if at > 0 {
            out.push(b':');
        }
        hex_byte(out, byte);
    }
}

/// Text from outside: printable ASCII as it is, a backslash doubled, every other byte as `\xNN`.
pub(crate) fn escaped(out: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.iter().all(|byte| matches!(byte, 0x20..=0x7e) && *byte != b'\\') {
        return out.extend_from_slice(bytes);
    }
    for &byte in bytes {
        match byte {
            b'\\' => put(out, "\\\\"),
            0x20..=0x7e => out.push(byte),
            _ => {
                put(out, "\\x");
                hex_byte(out, byte);
            }
        }
    }
}

/// What a writer appends, as a string: for the structured form, and for names that are kept.
pub(crate) fn string(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    // All that is written here is ASCII; should it not be, replacing is better than failing.
    String::from_utf8(out).unwrap_or_else(|wrong| String::from_utf8_lossy(wrong.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::string;

    proptest! {
        #[test]
        fn numbers_and_addresses_read_as_the_library_writes_them(
            number: u32, long: u64, v4: [u8; 4], v6 in prop::array::uniform8(prop_oneof![Just(0u16), any::<u16>()]),
        ) {
            prop_assert_eq!(string(|out| super::decimal(out, number)), number.to_string());
            prop_assert_eq!(string(|out| super::decimal_long(out, long)), long.to_string());
            prop_assert_eq!(string(|out| super::hex(out, number)), format!("{number:x}"));
            prop_assert_eq!(string(|out| super::digits(out, number, 10)), format!("{number:010}"));
            let v4 = Ipv4Addr::from(v4);
            prop_assert_eq!(string(|out| super::ipv4(out, v4)), v4.to_string());
            let v6 = Ipv6Addr::from(v6);
            prop_assert_eq!(string(|out| super::ipv6(out, v6)), v6.to_string());
        }

        #[test]
        fn escaped_text_is_printable_and_says_which_bytes_there_were(bytes: Vec<u8>) {
            let text = string(|out| super::escaped(out, &bytes));
            prop_assert!(text.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
            let mut back = Vec::new();
            let mut rest = text.as_bytes();
            while let Some((&first, tail)) = rest.split_first() {
                rest = match (first, tail) {
                    (b'\\', [b'\\', tail @ ..]) => { back.push(b'\\'); tail }
                    (b'\\', [b'x', high, low, tail @ ..]) => {
                        let digits = [*high, *low];
                        back.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
                        tail
                    }
                    _ => { back.push(first); tail }
                };
            }
            prop_assert_eq!(back, bytes);
        }
    }

    #[test]
    fn addresses_of_note() {
        for text in ["::", "::1", "1::", "fe80::1", "2001:db8::1:0:0:1", "1:0:2:3:4:5:6:7", "::ffff:10.0.0.1"]
        {
            let address: Ipv6Addr = text.parse().unwrap();
            assert_eq!(string(|out| super::ipv6(out, address)), text);
        }
        for n in [0u8, 9, 10, 99, 100, 255] {
            let address = Ipv4Addr::new(n, n, n, n);
            assert_eq!(string(|out| super::ipv4(out, address)), address.to_string());
        }
        assert_eq!(string(|out| super::mac(out, [2, 0x42, 0xac, 0, 0, 0xff])), "02:42:ac:00:00:ff");
    }
}
