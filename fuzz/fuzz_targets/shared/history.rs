//! Commits, and a map that knows what they leave.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use highwater_state::base::FileBase;
use highwater_state::fault::SimDisk;
use highwater_state::{Changes, Commit, DurableStore, Error, KEY_GROUPS, Store};

use super::input::Input;

/// Ids of which one is the beginning of another.
pub const OPERATORS: [&str; 2] = ["a", "ab"];

pub type Entries = BTreeMap<(usize, u16, Vec<u8>), Vec<u8>>;

/// What a store holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    pub record: Option<Vec<u8>>,
    pub entries: Entries,
}

/// The next commit, and the content after it.
pub fn next(before: &Content, number: u64, input: &mut Input<'_>) -> (Commit, Content) {
    let mut content = before.clone();
    let mut lists = OPERATORS.map(|operator| Changes::new(Arc::from(operator)));
    let write = |from: Vec<u8>| {
        move |bytes: &mut Vec<u8>| {
            bytes.extend_from_slice(&from);
            Ok(())
        }
    };
    for _ in 0..input.below(8) {
        let choice = input.byte();
        let operator = usize::from(choice & 1);
        let group = [0, 1, 500, KEY_GROUPS - 1][usize::from(choice >> 1 & 3)];
        let key = vec![choice >> 3 & 3; usize::from(choice >> 5 & 1)];
        let place = (operator, group, key.clone());
        if choice >> 6 == 3 {
            lists[operator].delete(group, write(key)).expect("no failure");
            content.entries.remove(&place);
        } else if choice >> 6 == 2 && input.byte() & 1 == 1 {
            let hit = |(o, g, k): &(usize, u16, Vec<u8>)| {
                (*o, *g) == (operator, group) && k.starts_with(&key)
            };
            content.entries.retain(|place, _| !hit(place));
            lists[operator].delete_prefix(group, write(key)).expect("no failure");
        } else {
            let length = input.below(40);
            let value = input.bytes(length).to_vec();
            lists[operator].put(group, write(key), write(value.clone())).expect("no failure");
            content.entries.insert(place, value);
        }
    }
    let record = number.to_le_bytes().to_vec();
    content.record = Some(record.clone());
    (Commit { record, changes: lists.into() }, content)
}

/// All that a store holds for the operators, by scans.
pub fn read(store: &dyn Store) -> Result<Content, Error> {
    let mut content = Content { record: store.record()?, ..Content::default() };
    for (index, operator) in OPERATORS.iter().enumerate() {
        store.scan(operator, 0..KEY_GROUPS, &[], &mut |group, key, value| {
            content.entries.insert((index, group, key.to_vec()), value.to_vec());
            Ok(())
        })?;
    }
    Ok(content)
}

const LIMIT: u64 = 600;

pub fn open(disk: &SimDisk) -> Result<DurableStore, Error> {
    open_in(disk, Path::new("state"))
}

pub fn open_in(disk: &SimDisk, dir: &Path) -> Result<DurableStore, Error> {
    let files = Arc::new(disk.clone());
    let base = FileBase::open(files.clone(), &dir.join("base"))?;
    DurableStore::open(files, dir, Box::new(base), LIMIT)
}

pub fn open_read_only(disk: &SimDisk) -> Result<DurableStore, Error> {
    let base = FileBase::open(Arc::new(disk.clone()), Path::new("state/base"))?;
    DurableStore::open_read_only(Arc::new(disk.clone()), Path::new("state"), Box::new(base))
}
