//! A map that cannot grow without limit.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// A map of at most so many entries. Beyond that a new one takes the place of any other: what is kept here can be found
/// out again, so which one goes does not matter, and no order needs to be kept up on every look.
#[derive(Debug)]
pub struct Bounded<K, V> {
    entries: HashMap<K, V>,
    max: usize,
}

impl<K: Eq + Hash + Clone, V> Bounded<K, V> {
    /// An empty map of at most `max` entries.
    pub fn new(max: usize) -> Self {
        Self { entries: HashMap::new(), max }
    }

    /// The value of a key.
    pub fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.entries.get(key)
    }

    /// Sets the value of a key.
    pub fn insert(&mut self, key: K, value: V) {
        if self.entries.len() >= self.max
            && !self.entries.contains_key(&key)
            && let Some(other) = self.entries.keys().next().cloned()
        {
            self.entries.remove(&other);
        }
        self.entries.insert(key, value);
    }

    /// Forgets a key.
    pub fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        self.entries.remove(key);
    }

    /// Keeps only the values that pass.
    pub fn retain(&mut self, mut keep: impl FnMut(&V) -> bool) {
        self.entries.retain(|_, value| keep(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_holds_more_than_it_may_and_always_the_newest() {
        let mut map = Bounded::new(3);
        for key in 0..10 {
            map.insert(key, key);
            assert_eq!(map.get(&key), Some(&key));
            assert!(map.entries.len() <= 3);
        }
        map.insert(9, 90);
        assert_eq!((map.entries.len(), map.get(&9)), (3, Some(&90)));
    }
}
