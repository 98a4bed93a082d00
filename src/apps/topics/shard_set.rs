//! A small set of shards, one bit each. An empty one holds no memory.

/// Shards by their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ShardSet {
    /// Without zeros at the end.
    words: Vec<u64>,
}

impl ShardSet {
    pub(super) fn insert(&mut self, shard: usize) {
        let (word, bit) = place(shard);
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= bit;
    }

    pub(super) fn remove(&mut self, shard: usize) {
        let (word, bit) = place(shard);
        if let Some(bits) = self.words.get_mut(word) {
            *bits &= !bit;
        }
        while self.words.last() == Some(&0) {
            self.words.pop();
        }
        if self.words.is_empty() {
            self.words = Vec::new();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Those in it, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        let words = (0..).step_by(64).zip(&self.words);
        words.flat_map(|(first, &word)| {
            (0..64)
                .filter(move |bit| word >> bit & 1 == 1)
                .map(move |bit| first + bit)
        })
    }
}

fn place(shard: usize) -> (usize, u64) {
    (shard / 64, 1 << (shard % 64))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn it_is_a_set() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut set = ShardSet::default();
        let mut model = BTreeSet::new();
        for _ in 0..10_000 {
            let shard = [random.usize(0..4), random.usize(0..300), 1023][random.usize(0..3)];
            if random.bool() {
                set.insert(shard);
                model.insert(shard);
            } else {
                set.remove(shard);
                model.remove(&shard);
            }
            assert!(set.iter().eq(model.iter().copied()));
            assert_eq!(set.is_empty(), model.is_empty());
            assert!(!set.is_empty() || set.words.capacity() == 0);
        }
    }
}
