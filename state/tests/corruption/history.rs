//! What is committed is a function of the commit's number and of a salt, so that the content
//! after every commit is known, and two directories of the same shape hold different things.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_state::{Changes, Commit, Error, KEY_GROUPS, Store};

/// Operator, group, key.
pub type Key = (usize, u16, Vec<u8>);
pub type Content = BTreeMap<Key, Vec<u8>>;

/// Ids of which one is the beginning of another.
pub const OPERATORS: [&str; 3] = ["count", "counts", "late"];

/// More than any directory holds.
pub const LONGEST: u64 = 80;

/// A generator of numbers: the same from the same seed.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 if there is none.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % (bound.max(1) as u64)) as usize
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

/// Commits, and the content after each.
pub struct History {
    salt: u64,
    contents: Vec<Content>,
}

type Change = (Key, What);

enum What {
    Put(Vec<u8>),
    Delete,
    DeletePrefix,
}

impl History {
    pub fn new(salt: u64) -> Self {
        let mut history = History { salt, contents: vec![Content::new()] };
        for number in 1..=LONGEST {
            let mut content = history.after(number - 1).clone();
            for (key, what) in history.changes(number) {
                match what {
                    What::Put(value) => drop(content.insert(key, value)),
                    What::Delete => drop(content.remove(&key)),
                    What::DeletePrefix => content.retain(|(operator, group, other), _| {
                        (*operator, *group) != (key.0, key.1) || !other.starts_with(&key.2)
                    }),
                }
            }
            history.contents.push(content);
        }
        history
    }

    /// The content after a commit; empty after commit 0.
    pub fn after(&self, number: u64) -> &Content {
        &self.contents[number as usize]
    }

    fn changes(&self, number: u64) -> Vec<Change> {
        let mut rng = Rng(self.salt ^ (number << 32));
        let change = |_| {
            let group = *rng.pick(&[0, 1, 7, 500, KEY_GROUPS - 1]);
            let key = vec![b'k'; 1 + rng.below(3)];
            let key = [key, vec![rng.below(8) as u8]].concat();
            let length = if rng.below(8) == 0 { 400 } else { rng.below(40) };
            let (what, key) = match rng.below(12) {
                0..9 => (What::Put(rng.bytes(length)), key),
                9..11 => (What::Delete, key),
                _ => (What::DeletePrefix, key[..key.len() - 1].to_vec()),
            };
            ((rng.below(OPERATORS.len()), group, key), what)
        };
        // Every commit shows in the content: none has the same content as another.
        let mark = What::Put((self.salt ^ number).to_le_bytes().to_vec());
        let mark = ((0, 3, b"mark".to_vec()), mark);
        let count = 4 + number as usize % 9;
        (0..count).map(change).chain([mark]).collect()
    }

    pub fn commit(&self, number: u64) -> Commit {
        let write = |from: Vec<u8>| {
            move |bytes: &mut Vec<u8>| {
                bytes.extend_from_slice(&from);
                Ok(())
            }
        };
        let mut lists = OPERATORS.map(|operator| Changes::new(Arc::from(operator)));
        for ((operator, group, key), what) in self.changes(number) {
            match what {
                What::Put(value) => lists[operator].put(group, write(key), write(value)),
                What::Delete => lists[operator].delete(group, write(key)),
                What::DeletePrefix => lists[operator].delete_prefix(group, write(key)),
            }
            .unwrap();
        }
        Commit { record: number.to_string().into_bytes(), changes: lists.into() }
    }

    /// Every key that was ever written.
    fn keys(&self) -> BTreeMap<usize, Vec<(u16, Vec<u8>)>> {
        let mut keys: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let all: BTreeMap<&Key, ()> =
            self.contents.iter().flat_map(Content::keys).map(|key| (key, ())).collect();
        for (operator, group, key) in all.into_keys() {
            keys.entry(*operator).or_default().push((*group, key.clone()));
        }
        keys
    }

    /// Reads all there is, by scans and by key. `Ok(Err)` says in what the answer is wrong:
    /// content that no commit left, or not the one that the record names.
    pub fn read(&self, store: &dyn Store) -> Result<Result<u64, String>, Error> {
        let number = match store.record()? {
            None => 0,
            Some(record) => {
                let number = String::from_utf8(record).ok().and_then(|text| text.parse().ok());
                match number.filter(|number| (1..=LONGEST).contains(number)) {
                    Some(number) => number,
                    None => return Ok(Err("a record that was never written".into())),
                }
            }
        };
        let mut content = Content::new();
        for (index, operator) in OPERATORS.iter().enumerate() {
            store.scan(operator, 0..KEY_GROUPS, &[], &mut |group, key, value| {
                content.insert((index, group, key.to_vec()), value.to_vec());
                Ok(())
            })?;
        }
        if content != *self.after(number) {
            return Ok(Err(format!("a scan does not show what commit {number} left")));
        }
        for (operator, keys) in self.keys() {
            let asked: Vec<_> = keys.iter().map(|(group, key)| (*group, key.as_slice())).collect();
            let mut found = Content::new();
            store.get(OPERATORS[operator], &asked, &mut |index, value| {
                let (group, key) = &keys[index];
                found.insert((operator, *group, key.clone()), value.to_vec());
                Ok(())
            })?;
            if !found.iter().eq(content.iter().filter(|(key, _)| key.0 == operator)) {
                return Ok(Err(format!("keys do not have what commit {number} left")));
            }
        }
        Ok(Ok(number))
    }
}
