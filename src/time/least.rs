//! The least promise of many partitions, kept up to date as single ones change.

use super::Summary;

/// A tournament of summaries: every inner node holds the merge of its two children, so that the
/// merge of all stands in the root and one change costs one path up to it.
///
/// A tick in which most slots change costs one pass over the tree instead.
#[derive(Debug)]
pub(crate) struct Least {
    /// Node `i` has the children `2i` and `2i + 1`; the slots are the leaves, from `width` on.
    nodes: Vec<Summary>,
    width: usize,
    len: usize,
    /// Slots whose way to the root has not been gone yet.
    changed: Vec<usize>,
}

impl Least {
    pub(crate) fn new() -> Self {
        Least { nodes: vec![Summary::Absent; 2], width: 1, len: 0, changed: Vec::new() }
    }

    /// Adds a slot and returns its number.
    pub(crate) fn push(&mut self, summary: Summary) -> usize {
        if self.len == self.width {
            let leaves = self.nodes.split_off(self.width);
            self.width *= 2;
            self.nodes = vec![Summary::Absent; self.width];
            self.nodes.extend(leaves);
            self.nodes.resize(2 * self.width, Summary::Absent);
            // All of it is to be merged anew.
            self.changed = (0..self.len).collect();
        }
        let slot = self.len;
        self.len += 1;
        self.set(slot, summary);
        slot
    }

    /// Sets a slot, and tells whether that changed it.
    pub(crate) fn set(&mut self, slot: usize, summary: Summary) -> bool {
        let leaf = &mut self.nodes[self.width + slot];
        let changed = *leaf != summary;
        if changed {
            *leaf = summary;
            self.changed.push(slot);
        }
        changed
    }

    /// The merge of all slots.
    pub(crate) fn merged(&mut self) -> Summary {
        let changed = std::mem::take(&mut self.changed);
        let depth = self.width.ilog2() as usize;
        if changed.len() * depth >= self.width {
            for node in (1..self.width).rev() {
                self.nodes[node] = self.nodes[2 * node].merge(self.nodes[2 * node + 1]);
            }
        } else {
            for slot in &changed {
                self.climb(*slot);
            }
        }
        self.changed = changed;
        self.changed.clear();
        self.nodes[1]
    }

    /// Goes from a leaf towards the root, as far as anything changes.
    fn climb(&mut self, slot: usize) {
        let mut node = (self.width + slot) / 2;
        while node > 0 {
            let merged = self.nodes[2 * node].merge(self.nodes[2 * node + 1]);
            if self.nodes[node] == merged {
                return;
            }
            self.nodes[node] = merged;
            node /= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::time::EventTime;

    fn summary() -> impl Strategy<Value = Summary> {
        prop_oneof![
            Just(Summary::Absent),
            Just(Summary::Finished),
            Just(Summary::Idle),
            Just(Summary::Unknown),
            (0i64..50).prop_map(|t| Summary::At(EventTime::from_micros(t))),
        ]
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(Summary),
        Set(usize, Summary),
        Ask,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            2 => summary().prop_map(Step::Push),
            6 => (0usize..64, summary()).prop_map(|(slot, s)| Step::Set(slot, s)),
            2 => Just(Step::Ask),
        ]
    }

    proptest! {
        #[test]
        fn differential_tournament_against_a_scan(steps in prop::collection::vec(step(), 0..200)) {
            let (mut least, mut all) = (Least::new(), Vec::new());
            for step in steps {
                match step {
                    Step::Push(s) => {
                        prop_assert_eq!(least.push(s), all.len());
                        all.push(s);
                    }
                    Step::Set(slot, s) if slot < all.len() => {
                        prop_assert_eq!(least.set(slot, s), all[slot] != s);
                        all[slot] = s;
                    }
                    Step::Set(..) => {}
                    Step::Ask => {
                        let merged = all.iter().fold(Summary::Absent, |a, b| a.merge(*b));
                        prop_assert_eq!(least.merged(), merged);
                    }
                }
            }
        }
    }
}
