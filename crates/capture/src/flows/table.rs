//! A map of bounded size that forgets what was not touched for longest.

use std::collections::HashMap;
use std::hash::Hash;

/// Values in the order in which they were touched, as a list through the places of a vector.
#[derive(Debug, Clone)]
pub(super) struct Table<K, V> {
    places: Vec<Place<K, V>>,
    /// The keys come from packets: they are hashed so that nobody can choose where they fall.
    index: HashMap<K, usize>,
    most: usize,
    /// Touched longest ago.
    oldest: usize,
    /// Touched last.
    newest: usize,
}

#[derive(Debug, Clone)]
struct Place<K, V> {
    key: K,
    value: V,
    older: usize,
    newer: usize,
}

/// No place.
const NONE: usize = usize::MAX;

impl<K: Copy + Eq + Hash, V> Table<K, V> {
    /// Keeps at most so many, and at least one.
    pub(super) fn new(most: usize) -> Self {
        Table { places: Vec::new(), index: HashMap::new(), most: most.max(1), oldest: NONE, newest: NONE }
    }

    /// The value of a key, made if it is not there; with it the value that gave way.
    pub(super) fn get_or_insert(&mut self, key: K, make: impl FnOnce() -> V) -> (&mut V, Option<V>) {
        let mut evicted = None;
        let at = match self.index.get(&key) {
            Some(&at) => {
                self.unlink(at);
                at
            }
            None if self.places.len() < self.most => {
                self.places.push(Place { key, value: make(), older: NONE, newer: NONE });
                self.places.len() - 1
            }
            None => {
                let at = self.oldest;
                self.unlink(at);
                self.index.remove(&self.places[at].key);
                self.places[at].key = key;
                evicted = Some(std::mem::replace(&mut self.places[at].value, make()));
                at
            }
        };
        if evicted.is_some() || self.index.len() < self.places.len() {
            self.index.insert(key, at);
        }
        self.link(at);
        (&mut self.places[at].value, evicted)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.places.iter().map(|place| &place.value)
    }

    fn unlink(&mut self, at: usize) {
        let (older, newer) = (self.places[at].older, self.places[at].newer);
        match older {
            NONE => self.oldest = newer,
            older => self.places[older].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.places[newer].older = older,
        }
    }

    fn link(&mut self, at: usize) {
        let newest = self.newest;
        self.places[at].older = newest;
        self.places[at].newer = NONE;
        match newest {
            NONE => self.oldest = at,
            newest => self.places[newest].newer = at,
        }
        self.newest = at;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Table;

    proptest! {
        #[test]
        fn it_forgets_what_was_not_touched_for_longest(most in 1usize..6, keys in prop::collection::vec(0u8..10, 0..60)) {
            let mut table = Table::new(most);
            let mut model: Vec<(u8, u32)> = Vec::new();
            for key in keys {
                let (value, evicted) = table.get_or_insert(key, || 0);
                *value += 1;
                let (value, mut gone) = (*value, None);
                let known = model.iter().position(|(other, _)| *other == key).map(|at| model.remove(at).1);
                if known.is_none() && model.len() == most {
                    gone = Some(model.remove(0).1);
                }
                model.push((key, known.unwrap_or(0) + 1));
                prop_assert_eq!((value, evicted), (known.unwrap_or(0) + 1, gone));
            }
            prop_assert_eq!(table.values().count(), model.len());
        }
    }
}
