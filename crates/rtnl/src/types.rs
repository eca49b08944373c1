//! The numbers and addresses of rtnetlink, each as a type of its own.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The number of a link in its namespace. It says nothing without the namespace: two links may have the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct IfIndex(u32);

impl IfIndex {
    /// `None` for zero and for what the kernel's `int` does not hold.
    pub fn new(index: u32) -> Option<IfIndex> {
        (index != 0 && i32::try_from(index).is_ok()).then_some(IfIndex(index))
    }

    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for IfIndex {
    type Error = String;
    fn try_from(index: u32) -> Result<IfIndex, String> {
        IfIndex::new(index).ok_or_else(|| format!("{index} is not the index of a link"))
    }
}

impl From<IfIndex> for u32 {
    fn from(index: IfIndex) -> u32 {
        index.0
    }
}

impl fmt::Display for IfIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number that one namespace has for another (`ip-netns(8)`, `list-id`).
///
/// It counts only in the namespace of the socket that it came from, and only until the named namespace dies: after
/// that the number is given to another. Below zero it names none: the kernel says so of a namespace that is going.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NsId(i32);

impl NsId {
    /// The id that the kernel knows by this number.
    pub fn new(id: i32) -> NsId {
        NsId(id)
    }

    /// The number.
    pub fn get(self) -> i32 {
        self.0
    }

    /// Whether it names a namespace at all.
    pub fn is_assigned(self) -> bool {
        self.0 >= 0
    }
}

impl fmt::Display for NsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The hardware address of a link, as long as the link's kind wants it: 6 bytes for Ethernet.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(Vec<u8>);

impl Mac {
    /// The longest that the kernel has (`MAX_ADDR_LEN`, linux/netdevice.h).
    const MAX: usize = 32;

    /// `None` for no bytes at all and for more than the kernel has.
    pub fn new(bytes: &[u8]) -> Option<Mac> {
        (1..=Mac::MAX).contains(&bytes.len()).then(|| Mac(bytes.to_vec()))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02x}", if place == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mac({self})")
    }
}

impl FromStr for Mac {
    type Err = String;
    /// Pairs of hexadecimal digits between colons or hyphens.
    fn from_str(text: &str) -> Result<Mac, String> {
        let pair = |pair: &str| {
            (pair.len() == 2 && pair.bytes().all(|digit| digit.is_ascii_hexdigit()))
                .then(|| u8::from_str_radix(pair, 16).ok())
                .flatten()
        };
        text.split([':', '-'])
            .map(pair)
            .collect::<Option<Vec<u8>>>()
            .and_then(|bytes| Mac::new(&bytes))
            .ok_or_else(|| format!("'{}' is not a hardware address", text.escape_debug()))
    }
}

impl TryFrom<String> for Mac {
    type Error = String;
    fn try_from(text: String) -> Result<Mac, String> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> String {
        mac.to_string()
    }
}

/// A block of addresses: what a route leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Prefix {
    /// The first address of the block.
    pub address: IpAddr,
    /// How many of its bits all addresses of the block have in common.
    pub length: u8,
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// The family of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    Inet,
    /// IPv6.
    Inet6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Family {
        if address.is_ipv4() { Family::Inet } else { Family::Inet6 }
    }

    /// The family of that number (`AF_INET`, `AF_INET6`); `None` for the many others.
    pub(crate) fn from_raw(raw: u8) -> Option<Family> {
        match libc::c_int::from(raw) {
            libc::AF_INET => Some(Family::Inet),
            libc::AF_INET6 => Some(Family::Inet6),
            _ => None,
        }
    }

    /// `AF_INET` or `AF_INET6`; both fit the byte that rtnetlink has for it.
    pub(crate) fn raw(self) -> u8 {
        match self {
            Family::Inet => libc::AF_INET as u8,
            Family::Inet6 => libc::AF_INET6 as u8,
        }
    }

    /// How many bits an address has.
    pub(crate) fn bits(self) -> u8 {
        match self {
            Family::Inet => 32,
            Family::Inet6 => 128,
        }
    }
}

/// How far an address or a route counts (rtnetlink(7), `RT_SCOPE_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Everywhere ("universe").
    Global,
    /// In the site.
    Site,
    /// On this link.
    Link,
    /// On this host.
    Host,
    /// Nowhere.
    Nowhere,
    /// A number of the administrator's choice.
    Other(u8),
}

impl From<u8> for Scope {
    fn from(raw: u8) -> Scope {
        match raw {
            libc::RT_SCOPE_UNIVERSE => Scope::Global,
            libc::RT_SCOPE_SITE => Scope::Site,
            libc::RT_SCOPE_LINK => Scope::Link,
            libc::RT_SCOPE_HOST => Scope::Host,
            libc::RT_SCOPE_NOWHERE => Scope::Nowhere,
            other => Scope::Other(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_index_is_never_zero_and_fits_the_kernels_int() {
        assert_eq!(IfIndex::new(0), None);
        assert_eq!(IfIndex::new(u32::MAX), None);
        assert_eq!(IfIndex::new(7).map(IfIndex::get), Some(7));
        assert!(serde_json::from_str::<IfIndex>("0").is_err());
        assert_eq!(serde_json::from_str::<IfIndex>("7").unwrap(), IfIndex(7));
    }

    #[test]
    fn hardware_addresses_read_as_people_write_them() {
        let mac = Mac::new(&[0xaa, 0xbb, 0, 1, 2, 0xff]).unwrap();
        assert_eq!(mac.to_string(), "aa:bb:00:01:02:ff");
        assert_eq!("AA-BB-00-01-02-FF".parse::<Mac>().unwrap(), mac);
        assert_eq!(serde_json::to_string(&mac).unwrap(), r#""aa:bb:00:01:02:ff""#);
        for wrong in ["", ":", "a:b", "aa:", "aa:+1", "aa:é", &"aa:".repeat(40)] {
            assert!(wrong.parse::<Mac>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn every_hardware_address_comes_back(bytes in prop::collection::vec(any::<u8>(), 1..=32)) {
            let mac = Mac::new(&bytes).unwrap();
            prop_assert_eq!(mac.to_string().parse::<Mac>().unwrap(), mac);
        }

        #[test]
        fn no_text_breaks_the_reading_of_hardware_addresses(text: String) {
            let _ = text.parse::<Mac>();
        }
    }
}
