//! Packets that were accepted and are not in the file, counted by the interface that they were seen on.

use std::fmt;

/// How many packets of each interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lost(Vec<u64>);

impl Lost {
    /// Of one interface, by its number in the file.
    pub fn of(&self, interface: usize) -> u64 {
        self.0.get(interface).copied().unwrap_or(0)
    }

    /// Of all interfaces.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Adds packets of an interface.
    pub fn add(&mut self, interface: usize, packets: u64) {
        if self.0.len() <= interface {
            self.0.resize(interface + 1, 0);
        }
        self.0[interface] += packets;
    }

    /// Adds what was lost elsewhere of the same interfaces.
    pub fn merge(&mut self, other: &Lost) {
        other
            .0
            .iter()
            .enumerate()
            .filter(|(_, packets)| **packets > 0)
            .for_each(|(n, packets)| self.add(n, *packets));
    }
}

impl Extend<usize> for Lost {
    /// Adds one packet of each of these interfaces.
    fn extend<T: IntoIterator<Item = usize>>(&mut self, interfaces: T) {
        interfaces.into_iter().for_each(|interface| self.add(interface, 1));
    }
}

/// All of them in one number.
impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.total().fmt(f)
    }
}
