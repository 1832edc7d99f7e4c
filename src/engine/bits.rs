//! A set of small numbers.

/// One bit per number: to fill, empty or pass over sets of thousands costs next to nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Bits {
    words: Vec<u64>,
}

impl Bits {
    /// Adds or removes a number.
    pub(super) fn set(&mut self, number: usize, member: bool) {
        let (word, bit) = (number / 64, 1 << (number % 64));
        if word >= self.words.len() {
            if !member {
                return;
            }
            self.words.resize(word + 1, 0);
        }
        if member {
            self.words[word] |= bit;
        } else {
            self.words[word] &= !bit;
        }
    }

    pub(super) fn contains(&self, number: usize) -> bool {
        self.words.get(number / 64).is_some_and(|word| word & (1 << (number % 64)) != 0)
    }

    /// Adds every member of another set.
    pub(super) fn add_all(&mut self, other: &Bits) {
        self.words.resize(self.words.len().max(other.words.len()), 0);
        for (word, others) in self.words.iter_mut().zip(&other.words) {
            *word |= others;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// The members, by rising number.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        self.words.iter().enumerate().flat_map(|(index, &word)| {
            let mut left = word;
            std::iter::from_fn(move || {
                let bit = left.trailing_zeros() as usize;
                (left != 0).then(|| {
                    left &= left - 1;
                    index * 64 + bit
                })
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn differential_bits_against_a_set(
            steps in prop::collection::vec((0usize..200, any::<bool>()), 0..100),
            others in prop::collection::btree_set(0usize..300, 0..20),
        ) {
            let (mut bits, mut set) = (Bits::default(), BTreeSet::new());
            for (number, member) in steps {
                bits.set(number, member);
                if member { set.insert(number); } else { set.remove(&number); }
                prop_assert_eq!(bits.contains(number), member);
            }
            prop_assert_eq!(bits.is_empty(), set.is_empty());
            let mut more = Bits::default();
            others.iter().for_each(|&number| more.set(number, true));
            bits.add_all(&more);
            set.extend(others);
            prop_assert_eq!(bits.iter().collect::<Vec<_>>(), set.into_iter().collect::<Vec<_>>());
        }
    }
}
