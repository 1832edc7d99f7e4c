//! A map in order of its keys, into which most keys come in order.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};

/// As many as there may well be partitions whose events wait for each other.
const RUNS: usize = 8;

/// A run gives back room that it has not used for so long.
const ROOM: usize = if cfg!(test) { 16 } else { 1_024 };

/// A map by key. Keys that come in order stand in runs, each of them sorted, as one partition's
/// events mostly are; a key goes to the run that ends closest before it (patience sorting;
/// Chandramouli and Goldstein, 2014, sort streams so). What fits behind none of them goes into a
/// tree.
pub(crate) struct Runs<K, V> {
    runs: Vec<VecDeque<(K, V)>>,
    rest: BTreeMap<K, V>,
    len: usize,
    /// Where the first key is, if it has been looked for since something came or went.
    first: Cell<Option<First>>,
}

/// Where the first key is.
#[derive(Clone, Copy)]
enum First {
    Run(usize),
    Rest,
}

impl<K: Ord, V> Runs<K, V> {
    pub(crate) fn new() -> Self {
        Runs { runs: Vec::new(), rest: BTreeMap::new(), len: 0, first: Cell::new(None) }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// How many have room: a run keeps what it has used until most of it is empty.
    pub(crate) fn room(&self) -> usize {
        self.runs.iter().map(VecDeque::capacity).sum::<usize>() + self.rest.len()
    }

    /// Adds a key that is not there.
    #[inline]
    pub(crate) fn insert(&mut self, key: K, value: V) {
        self.len += 1;
        self.first.set(None);
        let ends = self.runs.iter().enumerate().map(|(at, run)| (run.back().map(|b| &b.0), at));
        match ends.filter(|(end, _)| end.is_none_or(|end| *end < key)).max() {
            Some((_, at)) => self.runs[at].push_back((key, value)),
            None if self.runs.len() < RUNS => self.runs.push([(key, value)].into()),
            None => {
                self.rest.insert(key, value);
            }
        }
    }

    fn find_first(&self) -> Option<First> {
        if let Some(known) = self.first.get() {
            return Some(known);
        }
        let fronts = self.runs.iter().enumerate().filter_map(|(index, run)| {
            let (key, _) = run.front()?;
            Some((First::Run(index), key))
        });
        let rest = self.rest.first_key_value().map(|(key, _)| (First::Rest, key));
        let first = fronts.chain(rest).min_by(|(_, a), (_, b)| a.cmp(b));
        self.first.set(first.map(|(first, _)| first));
        self.first.get()
    }

    /// The first key.
    pub(crate) fn first(&self) -> Option<&K> {
        match self.find_first()? {
            First::Run(index) => self.runs[index].front().map(|(key, _)| key),
            First::Rest => self.rest.first_key_value().map(|(key, _)| key),
        }
    }

    pub(crate) fn pop_first(&mut self) -> Option<(K, V)> {
        let first = self.find_first()?;
        self.first.set(None);
        self.len -= 1;
        let First::Run(index) = first else { return self.rest.pop_first() };
        let run = &mut self.runs[index];
        let popped = run.pop_front();
        if run.capacity() > ROOM && run.len() < run.capacity() / 8 {
            run.shrink_to(run.capacity() / 2);
        }
        popped
    }

    /// Everything up to where `is_within` holds no more, in any order.
    pub(crate) fn up_to(
        &self,
        is_within: impl Fn(&K) -> bool + Copy,
    ) -> impl Iterator<Item = (&K, &V)> {
        let of_run =
            move |run: &'_ VecDeque<(K, V)>| run.partition_point(|(key, _)| is_within(key));
        let runs = self.runs.iter().flat_map(move |run| run.range(..of_run(run)));
        let rest = self.rest.iter().take_while(move |(key, _)| is_within(key));
        runs.map(|(key, value)| (key, value)).chain(rest)
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        for run in &mut self.runs {
            if let Ok(at) = run.binary_search_by(|(known, _)| known.cmp(key)) {
                return run.get_mut(at).map(|(_, value)| value);
            }
        }
        self.rest.get_mut(key)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        /// So far behind the greatest key so far, or before it.
        Insert(i32),
        Pop,
        Change(i32),
        UpTo(i32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (-3..8i32).prop_map(Step::Insert),
            3 => (-2_000..10i32).prop_map(Step::Insert),
            6 => Just(Step::Pop),
            1 => (0..2_000i32).prop_map(Step::Change),
            1 => (0..2_000i32).prop_map(Step::UpTo),
        ]
    }

    proptest! {
        #[test]
        fn differential_against_a_tree(steps in prop::collection::vec(step(), 0..600)) {
            let (mut runs, mut tree, mut most) = (Runs::new(), BTreeMap::new(), 1_000);
            for step in steps {
                match step {
                    Step::Insert(behind) => {
                        let key = most + behind;
                        if tree.insert(key, 0).is_none() {
                            runs.insert(key, 0);
                        } else if let Some(value) = runs.get_mut(&key) {
                            *value = 0;
                        }
                        most = most.max(key);
                    }
                    Step::Pop => prop_assert_eq!(runs.pop_first(), tree.pop_first()),
                    Step::Change(key) => {
                        let (found, known) = (runs.get_mut(&key), tree.get_mut(&key));
                        prop_assert_eq!(&found, &known);
                        found.into_iter().chain(known).for_each(|value| *value += 1);
                    }
                    Step::UpTo(end) => {
                        let mut found: Vec<_> = runs.up_to(|key| *key < end).collect();
                        found.sort_unstable();
                        prop_assert_eq!(found, tree.range(..end).collect::<Vec<_>>());
                    }
                }
                prop_assert_eq!(runs.len(), tree.len());
                prop_assert!(runs.room() >= runs.len());
                prop_assert_eq!(runs.first(), tree.keys().next());
            }
            while let Some(popped) = runs.pop_first() {
                prop_assert_eq!(Some(popped), tree.pop_first());
            }
            prop_assert!(tree.is_empty());
        }
    }

    #[test]
    fn room_is_given_back() {
        let mut runs = Runs::new();
        (0..100_000).for_each(|key| runs.insert(key, ()));
        (0..99_999).for_each(|key| assert_eq!(runs.pop_first(), Some((key, ()))));
        assert!(runs.room() <= 2 * ROOM);
    }
}
