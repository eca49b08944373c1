//! Whose an address is: container names for the addresses in packets.
//!
//! The same address can be in use in two networks of one machine. So a name is claimed *within a scope*, which is
//! whatever the caller takes for a network: a namespace, a bridge, all that the host routes. Each interface of a
//! capture sees scopes, its own namespace first. An address is named by the first of them in which it is claimed; if
//! two names claim it there, by none. Nothing is guessed: an address that is claimed only where the interface cannot
//! see it stays a number.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::net::{IpAddr, Ipv4Addr};

use crate::dissect::escaped;

/// A network within which an address belongs to one container: any number that the caller gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scope(pub u64);

impl Scope {
    /// Of a file whose names hold for all of it. Interfaces see this one unless they were told what they see.
    pub const FILE: Scope = Scope(u64::MAX);
}

/// Names of addresses. Built once from a snapshot or a file's name resolution blocks, then only asked.
#[derive(Debug, Clone, Default)]
pub struct Names {
    v4: HashMap<u32, Claims, Quick>,
    v6: HashMap<u128, Claims, Quick>,
    macs: HashMap<u64, Claims, Quick>,
    texts: Vec<Box<str>>,
    numbers: HashMap<Box<str>, u32>,
    sees: Vec<Option<Vec<Scope>>>,
}

/// Who claims an address, and where.
type Claims = Vec<(Scope, u32)>;

impl Names {
    /// No names.
    pub fn new() -> Self {
        Self::default()
    }

    /// Claims an address for a container. A name that is not printable is escaped.
    pub fn add(&mut self, scope: Scope, address: IpAddr, name: &str) {
        let number = self.number(name);
        let claims = match address {
            IpAddr::V4(address) => self.v4.entry(address.into()).or_default(),
            IpAddr::V6(address) => self.v6.entry(address.into()).or_default(),
        };
        claim(claims, scope, number);
    }

    /// Claims a hardware address for a container.
    pub fn add_mac(&mut self, scope: Scope, address: [u8; 6], name: &str) {
        let number = self.number(name);
        claim(self.macs.entry(mac_key(address)).or_default(), scope, number);
    }

    /// Says what an interface sees, by its number in the capture: the scopes in the order in which they are asked.
    pub fn sees(&mut self, interface: usize, scopes: impl Into<Vec<Scope>>) {
        if self.sees.len() <= interface {
            self.sees.resize_with(interface + 1, || None);
        }
        self.sees[interface] = Some(scopes.into());
    }

    /// Whether there are none at all.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty() && self.macs.is_empty()
    }

    /// Whose the address is, seen from this interface.
    #[inline]
    pub fn of(&self, interface: usize, address: IpAddr) -> Option<&str> {
        let claims = match address {
            IpAddr::V4(address) => self.of_v4(address)?,
            IpAddr::V6(address) if !self.v6.is_empty() => self.v6.get(&address.into())?,
            IpAddr::V6(_) => return None,
        };
        self.decide(interface, claims)
    }

    /// Whose the hardware address is, seen from this interface.
    pub fn of_mac(&self, interface: usize, address: [u8; 6]) -> Option<&str> {
        self.decide(interface, self.macs.get(&mac_key(address))?)
    }

    #[inline]
    fn of_v4(&self, address: Ipv4Addr) -> Option<&Claims> {
        if self.v4.is_empty() { None } else { self.v4.get(&address.into()) }
    }

    fn decide(&self, interface: usize, claims: &Claims) -> Option<&str> {
        let seen = match self.sees.get(interface) {
            Some(Some(scopes)) => scopes.as_slice(),
            _ => &[Scope::FILE],
        };
        let scope = seen.iter().find(|scope| claims.iter().any(|(claimed, _)| claimed == *scope))?;
        let mut there = claims.iter().filter(|(claimed, _)| claimed == scope).map(|(_, name)| *name);
        let name = there.next()?;
        if there.next().is_some() {
            return None;
        }
        self.texts.get(name as usize).map(|text| &**text)
    }

    fn number(&mut self, name: &str) -> u32 {
        let name = escaped(name);
        if let Some(number) = self.numbers.get(&*name) {
            return *number;
        }
        let number = self.texts.len() as u32;
        self.texts.push(name.clone());
        self.numbers.insert(name, number);
        number
    }
}

/// The same claim twice is one.
fn claim(claims: &mut Claims, scope: Scope, name: u32) {
    if !claims.contains(&(scope, name)) {
        claims.push((scope, name));
    }
}

fn mac_key([a, b, c, d, e, f]: [u8; 6]) -> u64 {
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

/// A hash that costs a multiplication. Packets choose what is looked up, but not what is in the table.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Mixer(u64);

pub(crate) type Quick = BuildHasherDefault<Mixer>;

/// Mixes a word into a hash: both halves of a product with an odd constant.
#[inline]
pub(crate) fn mix(hash: u64, word: u64) -> u64 {
    let product = u128::from(hash ^ word ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93;
    (product >> 64) as u64 ^ product as u64
}

impl Hasher for Mixer {
    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    #[inline]
    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    #[inline]
    fn write_u64(&mut self, word: u64) {
        self.0 = mix(self.0, word);
    }

    #[inline]
    fn write_u128(&mut self, word: u128) {
        self.write_u64(word as u64);
        self.write_u64((word >> 64) as u64);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{Names, Scope};

    const WEB: Scope = Scope(1);
    const SHOP: Scope = Scope(2);
    const HOST: Scope = Scope(3);

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_first_scope_in_which_an_address_is_claimed_names_it() {
        let mut names = Names::new();
        names.add(WEB, address("10.0.0.2"), "web");
        names.add(SHOP, address("10.0.0.2"), "shop");
        names.add(HOST, address("10.0.0.3"), "api");
        names.sees(0, [WEB, HOST]);
        names.sees(1, [SHOP]);
        assert_eq!(names.of(0, address("10.0.0.2")), Some("web"));
        assert_eq!(names.of(1, address("10.0.0.2")), Some("shop"));
        assert_eq!(names.of(0, address("10.0.0.3")), Some("api"));
        assert_eq!(names.of(1, address("10.0.0.3")), None, "claimed where this interface does not see it");
        assert_eq!(names.of(2, address("10.0.0.3")), None, "an interface of which nothing was said");
    }

    #[test]
    fn an_address_of_two_in_one_scope_is_nobodys() {
        let mut names = Names::new();
        for name in ["web", "web", "shop"] {
            names.add(Scope::FILE, address("fd00::2"), name);
        }
        names.add(Scope::FILE, address("fd00::3"), "web");
        assert_eq!(names.of(0, address("fd00::2")), None);
        assert_eq!(names.of(7, address("fd00::3")), Some("web"));
        assert_eq!(names.of(7, address("10.0.0.2")), None);
    }

    #[test]
    fn an_ambiguous_claim_is_not_settled_by_a_farther_scope() {
        let mut names = Names::new();
        names.add(WEB, address("10.0.0.2"), "one");
        names.add(WEB, address("10.0.0.2"), "two");
        names.add(HOST, address("10.0.0.2"), "three");
        names.sees(0, [WEB, HOST]);
        assert_eq!(names.of(0, address("10.0.0.2")), None);
    }

    #[test]
    fn hardware_addresses_have_names_too_and_all_are_printable() {
        let mut names = Names::new();
        names.add_mac(Scope::FILE, [2, 0, 0, 0, 0, 1], "we\x1bb");
        assert_eq!(names.of_mac(0, [2, 0, 0, 0, 0, 1]), Some("we\\x1bb"));
        assert!(!names.is_empty());
    }
}
