//! A list that is nearly always of one element.

use std::ops::Range;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A list whose only element lies in place. Most keys have one open session: with a list on the
/// heap, each event would wait for memory twice.
#[derive(Debug)]
pub(super) enum Few<T> {
    One(T),
    /// Any number, none included.
    Many(Vec<T>),
}

impl<T> Few<T> {
    pub(super) fn as_slice(&self) -> &[T] {
        match self {
            Few::One(one) => std::slice::from_ref(one),
            Few::Many(list) => list,
        }
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [T] {
        match self {
            Few::One(one) => std::slice::from_mut(one),
            Few::Many(list) => list,
        }
    }

    pub(super) fn insert(&mut self, index: usize, element: T) {
        match self {
            Few::Many(list) if list.is_empty() => *self = Few::One(element),
            Few::Many(list) => list.insert(index, element),
            Few::One(_) => {
                if let Few::One(one) = std::mem::replace(self, Few::Many(Vec::new())) {
                    let both = if index == 0 { vec![element, one] } else { vec![one, element] };
                    *self = Few::Many(both);
                }
            }
        }
    }

    /// Takes elements out.
    pub(super) fn take(&mut self, range: Range<usize>) -> Vec<T> {
        if range.is_empty() {
            return Vec::new();
        }
        match self {
            Few::Many(list) => list.drain(range).collect(),
            Few::One(_) => match std::mem::replace(self, Few::Many(Vec::new())) {
                Few::One(one) => vec![one],
                Few::Many(list) => list,
            },
        }
    }
}

impl<T: PartialEq> PartialEq for Few<T> {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

/// As a list.
impl<T: Serialize> Serialize for Few<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.as_slice())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Few<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut list = Vec::deserialize(deserializer)?;
        match (list.len(), list.pop()) {
            (1, Some(one)) => Ok(Few::One(one)),
            (_, last) => {
                list.extend(last);
                Ok(Few::Many(list))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn differential_few_against_a_list(
            steps in prop::collection::vec((0usize..4, 0usize..4, any::<bool>()), 0..40),
        ) {
            let (mut few, mut list) = (Few::Many(Vec::new()), Vec::new());
            for (n, (at, end, insert)) in steps.into_iter().enumerate() {
                let at = at.min(list.len());
                if insert {
                    few.insert(at, n);
                    list.insert(at, n);
                } else {
                    let end = end.clamp(at, list.len());
                    let taken: Vec<usize> = list.drain(at..end).collect();
                    prop_assert_eq!(few.take(at..end), taken);
                }
                prop_assert_eq!(few.as_slice(), &list[..]);
                prop_assert_eq!(few.as_mut_slice(), &mut list[..]);
                let mut bytes = Vec::new();
                highwater_state::encode_into(&few, &mut bytes).unwrap();
                let mut expected = Vec::new();
                highwater_state::encode_into(&list, &mut expected).unwrap();
                prop_assert_eq!(&bytes, &expected);
                let back: Few<usize> = highwater_state::decode(&bytes).unwrap();
                prop_assert_eq!(&back, &few);
            }
        }
    }
}
