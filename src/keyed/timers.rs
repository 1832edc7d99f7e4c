//! The timers of one key.

use std::collections::BTreeSet;
use std::mem;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A set in order, stored as a `BTreeSet` is. Of millions of keys nearly all have no timer or one:
/// it takes 8 bytes while it is empty, and no tree for one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TimerSet<T>(Option<Box<Timers<T>>>);

#[derive(Clone, Debug, PartialEq)]
enum Timers<T> {
    One(T),
    /// Two at least.
    More(BTreeSet<T>),
}

impl<T> Default for TimerSet<T> {
    fn default() -> Self {
        TimerSet(None)
    }
}

impl<T: Ord> From<BTreeSet<T>> for TimerSet<T> {
    fn from(mut all: BTreeSet<T>) -> Self {
        let timers =
            if all.len() > 1 { Some(Timers::More(all)) } else { all.pop_first().map(Timers::One) };
        TimerSet(timers.map(Box::new))
    }
}

impl<T: Ord> TimerSet<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        let (one, more) = match self.0.as_deref() {
            None => (None, None),
            Some(Timers::One(timer)) => (Some(timer), None),
            Some(Timers::More(timers)) => (None, Some(timers)),
        };
        one.into_iter().chain(more.into_iter().flatten())
    }

    /// The first that is not less than `least`.
    pub(crate) fn first_from(&self, least: &T) -> Option<&T> {
        match self.0.as_deref()? {
            Timers::One(timer) => Some(timer).filter(|timer| *timer >= least),
            Timers::More(timers) => timers.range(least..).next(),
        }
    }

    /// Whether it was not there.
    pub(crate) fn insert(&mut self, timer: T) -> bool {
        match self.0.as_deref_mut() {
            None => {
                self.0 = Some(Box::new(Timers::One(timer)));
                true
            }
            Some(Timers::One(one)) if *one == timer => false,
            Some(Timers::More(timers)) => timers.insert(timer),
            Some(held) => {
                let before = mem::replace(held, Timers::More(BTreeSet::from([timer])));
                if let (Timers::One(one), Timers::More(timers)) = (before, held) {
                    timers.insert(one);
                }
                true
            }
        }
    }

    /// Whether it was there.
    pub(crate) fn remove(&mut self, timer: &T) -> bool {
        match self.0.as_deref_mut() {
            None => false,
            Some(Timers::One(one)) => {
                let found = one == timer;
                if found {
                    self.0 = None;
                }
                found
            }
            Some(held) => {
                let Timers::More(timers) = held else { return false };
                let found = timers.remove(timer);
                if timers.len() == 1
                    && let Some(last) = timers.pop_first()
                {
                    *held = Timers::One(last);
                }
                found
            }
        }
    }
}

impl<T: Ord + Serialize> Serialize for TimerSet<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_deref() {
            None => serializer.collect_seq::<[&T; 0]>([]),
            Some(Timers::One(timer)) => serializer.collect_seq([timer]),
            Some(Timers::More(timers)) => timers.serialize(serializer),
        }
    }
}

impl<'de, T: Ord + Deserialize<'de>> Deserialize<'de> for TimerSet<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        BTreeSet::deserialize(deserializer).map(TimerSet::from)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(of: &impl Serialize) -> Vec<u8> {
        let mut bytes = Vec::new();
        highwater_state::encode_into(of, &mut bytes).unwrap();
        bytes
    }

    proptest! {
        #[test]
        fn differential_against_a_tree(
            steps in prop::collection::vec((0..4u8, any::<bool>()), 0..40),
        ) {
            let (mut set, mut tree) = (TimerSet::default(), BTreeSet::new());
            for (timer, insert) in steps {
                if insert {
                    prop_assert_eq!(set.insert(timer), tree.insert(timer));
                } else {
                    prop_assert_eq!(set.remove(&timer), tree.remove(&timer));
                }
                prop_assert!(set.iter().eq(&tree));
                prop_assert_eq!(set.is_empty(), tree.is_empty());
                for least in 0..4 {
                    prop_assert_eq!(set.first_from(&least), tree.range(least..).next());
                }
                prop_assert_eq!(encoded(&set), encoded(&tree));
                let decoded: TimerSet<u8> = highwater_state::decode(&encoded(&set)).unwrap();
                prop_assert_eq!(&decoded, &set);
            }
        }
    }
}
