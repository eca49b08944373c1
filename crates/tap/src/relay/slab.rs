//! Connections by number: a place that is used again has another generation, so that a word about a connection that is
//! gone is not taken for one about its successor.

/// How often a place is used before its numbers begin again: 31 bits.
const GENERATIONS: u32 = 0x7fff_ffff;

/// Which entry, and which use of its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    /// The place; below 2^31.
    pub(crate) place: u32,
    pub(crate) generation: u32,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<Box<T>>,
}

/// The entries.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    pub(crate) fn new() -> Slab<T> {
        Slab { slots: Vec::new(), free: Vec::new() }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn add(&mut self, value: T) -> Key {
        let place = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, value: None });
            // There are never more connections than descriptors, which are ints.
            self.slots.len() as u32 - 1
        });
        let slot = &mut self.slots[place as usize];
        slot.value = Some(Box::new(value));
        Key { place, generation: slot.generation }
    }

    /// The entry, if it is still that one.
    pub(crate) fn get(&mut self, key: Key) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.place as usize)?;
        if slot.generation == key.generation { slot.value.as_deref_mut() } else { None }
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let slot = self.slots.get_mut(key.place as usize)?;
        if slot.generation != key.generation {
            return None;
        }
        let value = slot.value.take()?;
        slot.generation = (slot.generation + 1) & GENERATIONS;
        self.free.push(key.place);
        Some(*value)
    }

    /// The keys of all entries.
    pub(crate) fn keys(&self) -> Vec<Key> {
        let slots = self.slots.iter().enumerate();
        slots
            .filter(|(_, slot)| slot.value.is_some())
            .map(|(place, slot)| Key { place: place as u32, generation: slot.generation })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_is_used_again_is_not_the_one_before() {
        let mut slab = Slab::new();
        let first = slab.add('a');
        assert_eq!(slab.remove(first), Some('a'));
        let second = slab.add('b');
        assert_eq!(second.place, first.place);
        assert_eq!(slab.get(first), None);
        assert_eq!((slab.remove(first), slab.len()), (None, 1));
        assert_eq!(slab.get(second), Some(&mut 'b'));
        assert_eq!(slab.keys(), [second]);
    }
}
