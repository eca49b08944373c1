//! The memory in which packets wait.
//!
//! Places of 2 KiB, reserved when the wire is made and used again from the one that was freed last, so that little of it is
//! ever touched; a larger packet has memory of its own. All of it counts against one budget.

/// Bytes of a place: an Ethernet packet of ordinary size.
const PLACE: usize = 2048;
/// The whole memory of a wire, bytes.
const BUDGET: usize = 256 << 20;

/// The store of one wire.
pub(super) struct Store {
    memory: Vec<u8>,
    free: Vec<u32>,
    /// Places from here on were never used.
    fresh: usize,
    /// Bytes of the budget that are left for large packets.
    large: usize,
}

/// A packet in the store.
#[derive(Debug)]
pub(super) enum Kept {
    Place { number: u32, length: u32 },
    Large(Box<[u8]>),
}

impl Store {
    /// For so many packets, as far as the budget reaches.
    pub(super) fn new(packets: usize) -> Store {
        let places = packets.clamp(1, BUDGET / PLACE / 2);
        // Zeroed memory is not there before it is touched.
        Store { memory: vec![0; places * PLACE], free: Vec::new(), fresh: 0, large: BUDGET - places * PLACE }
    }

    /// Takes a packet in; `None` if there is no room.
    pub(super) fn keep(&mut self, bytes: &[u8]) -> Option<Kept> {
        if bytes.len() > PLACE {
            self.large = self.large.checked_sub(bytes.len())?;
            return Some(Kept::Large(bytes.into()));
        }
        let number = match self.free.pop() {
            Some(number) => number as usize,
            None if (self.fresh + 1) * PLACE <= self.memory.len() => {
                self.fresh += 1;
                self.fresh - 1
            }
            None => return None,
        };
        self.memory[number * PLACE..][..bytes.len()].copy_from_slice(bytes);
        Some(Kept::Place { number: number as u32, length: bytes.len() as u32 })
    }

    /// A packet's bytes.
    pub(super) fn bytes<'a>(&'a self, kept: &'a Kept) -> &'a [u8] {
        match kept {
            Kept::Place { number, length } => &self.memory[*number as usize * PLACE..][..*length as usize],
            Kept::Large(bytes) => bytes,
        }
    }

    /// A packet's bytes, to be changed.
    pub(super) fn bytes_mut<'a>(&'a mut self, kept: &'a mut Kept) -> &'a mut [u8] {
        match kept {
            Kept::Place { number, length } => {
                &mut self.memory[*number as usize * PLACE..][..*length as usize]
            }
            Kept::Large(bytes) => bytes,
        }
    }

    /// Lets a packet go.
    pub(super) fn free(&mut self, kept: Kept) {
        match kept {
            Kept::Place { number, .. } => self.free.push(number),
            Kept::Large(bytes) => self.large += bytes.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_kept_whole_until_there_is_no_room() {
        let mut store = Store::new(2);
        let kept: Vec<Kept> = (1..=2).map(|n| store.keep(&[n; 1514]).unwrap()).collect();
        assert!(store.keep(&[3]).is_none());
        let large = store.keep(&[9; 9014]).unwrap();
        assert_eq!((store.bytes(&kept[0]), store.bytes(&kept[1])), (&[1; 1514][..], &[2; 1514][..]));
        assert_eq!(store.bytes(&large), [9; 9014]);
        let left = store.large;
        kept.into_iter().for_each(|kept| store.free(kept));
        store.free(large);
        assert_eq!(store.large, left + 9014);
        let again = store.keep(&[4; PLACE]).unwrap();
        assert_eq!(store.bytes(&again), [4; PLACE]);
    }

    #[test]
    fn large_packets_keep_to_the_budget() {
        let mut store = Store::new(1);
        let packet = vec![0; 65_000];
        let kept = std::iter::from_fn(|| store.keep(&packet)).count();
        assert_eq!(kept, (BUDGET - PLACE) / 65_000);
    }
}
