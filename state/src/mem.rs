//! The reference store: a sorted map behind a lock.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::store::{Found, Visit};
use crate::{Commit, Error, KeyGroup, Op, Store};

type EntryKey = (String, KeyGroup, Vec<u8>);

/// A store in memory: lost with the process, and the reference for the others.
#[derive(Debug, Default)]
pub struct MemStore {
    contents: Mutex<Contents>,
}

#[derive(Debug, Default)]
struct Contents {
    record: Option<Vec<u8>>,
    entries: BTreeMap<EntryKey, Vec<u8>>,
}

impl Contents {
    fn change(&mut self, key: EntryKey, op: Op<'_>) {
        match op {
            Op::Put(value) => drop(self.entries.insert(key, value.to_vec())),
            Op::Delete => drop(self.entries.remove(&key)),
            Op::DeletePrefix => {
                let (operator, group, prefix) = &key;
                let gone = self.entries.range(key.clone()..).map(|(key, _)| key);
                let gone = gone
                    .take_while(|(o, g, k)| o == operator && g == group && k.starts_with(prefix));
                for key in gone.cloned().collect::<Vec<_>>() {
                    self.entries.remove(&key);
                }
            }
        }
    }
}

impl MemStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A store with the same contents, which goes its own way from here.
    #[must_use]
    pub fn fork(&self) -> Self {
        let contents = self.lock();
        let (record, entries) = (contents.record.clone(), contents.entries.clone());
        MemStore { contents: Mutex::new(Contents { record, entries }) }
    }

    fn lock(&self) -> MutexGuard<'_, Contents> {
        // A commit below changes the contents in steps that cannot panic halfway.
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemStore {
    fn record(&self) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.lock().record.clone())
    }

    fn commit(&self, commit: Commit) -> Result<(), Error> {
        let mut contents = self.lock();
        for changes in &commit.changes {
            for (group, key, op) in changes.iter() {
                let key = (changes.operator().to_string(), group, key.to_vec());
                contents.change(key, op);
            }
        }
        contents.record = Some(commit.record);
        Ok(())
    }

    fn get(
        &self,
        operator: &str,
        keys: &[(KeyGroup, &[u8])],
        found: &mut Found<'_>,
    ) -> Result<(), Error> {
        let contents = self.lock();
        for (index, (group, key)) in keys.iter().enumerate() {
            let key = (operator.to_owned(), *group, key.to_vec());
            if let Some(value) = contents.entries.get(&key) {
                found(index, value)?;
            }
        }
        Ok(())
    }

    fn scan(
        &self,
        operator: &str,
        groups: Range<KeyGroup>,
        prefix: &[u8],
        visit: &mut Visit<'_>,
    ) -> Result<(), Error> {
        let from = (operator.to_owned(), groups.start, Vec::new());
        let to = (operator.to_owned(), groups.end, Vec::new());
        for ((_, group, key), value) in self.lock().entries.range(from..to) {
            if key.starts_with(prefix) {
                visit(*group, key, value)?;
            }
        }
        Ok(())
    }
}
