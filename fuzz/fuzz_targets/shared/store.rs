//! Commits, moves and restarts without faults: both stores hold what a map does.

use highwater_state::fault::{SimDisk, Survival};
use highwater_state::{MemStore, Store};

use super::history::{Content, OPERATORS, next, open, open_read_only, read};
use super::input::Input;

pub fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    let (disk, mem) = (SimDisk::new(), MemStore::new());
    let (mut store, mut content) = (open(&disk).expect("an empty disk"), Content::default());
    // A long input adds nothing that several short ones do not show.
    for number in 1..=30 {
        if input.is_empty() {
            break;
        }
        match input.below(8) {
            0..4 => {
                let (commit, after) = next(&content, number, &mut input);
                store.commit(commit.clone()).expect("no fault is planned");
                mem.commit(commit).expect("there is memory");
                content = after;
            }
            4 => drop(store.maintain(false).expect("no fault is planned")),
            5 => drop(store.maintain(true).expect("no fault is planned")),
            6 => store.compact().expect("no fault is planned"),
            _ => {
                drop(store);
                disk.restart(Survival::Synced);
                store = open(&disk).expect("no fault is planned");
            }
        }
        assert_eq!(read(&store).expect("no fault is planned"), content);
        some(&store, &content, &mut input);
    }
    assert_eq!(read(&mem).expect("there is memory"), content);
    let reader = open_read_only(&disk).expect("no fault is planned");
    assert_eq!(read(&reader).expect("no fault is planned"), content);
}

/// A few keys, and a scan of some groups and a prefix.
fn some(store: &dyn Store, content: &Content, input: &mut Input<'_>) {
    let choice = input.byte();
    let operator = usize::from(choice & 1);
    let prefix = vec![choice >> 3 & 3; usize::from(choice >> 5 & 1)];
    let groups = [0..1, 0..2, 1..8, 1016..1024][usize::from(choice >> 1 & 3)].clone();
    let mut found = Vec::new();
    let keys = [(0, prefix.as_slice()), (1, &[]), (500, &prefix), (1023, &[1])];
    store
        .get(OPERATORS[operator], &keys, &mut |index, value| {
            found.push((index, value.to_vec()));
            Ok(())
        })
        .expect("no fault is planned");
    found.sort();
    let place = |(group, key): (u16, &[u8])| (operator, group, key.to_vec());
    let values = keys.map(|key| content.entries.get(&place(key)).cloned());
    let expected = values.into_iter().enumerate().filter_map(|(i, value)| Some((i, value?)));
    assert!(expected.eq(found), "keys of {operator}");
    let mut seen = Vec::new();
    store
        .scan(OPERATORS[operator], groups.clone(), &prefix, &mut |group, key, value| {
            seen.push(((operator, group, key.to_vec()), value.to_vec()));
            Ok(())
        })
        .expect("no fault is planned");
    let inside = |(o, group, key): &(usize, u16, Vec<u8>)| {
        *o == operator && groups.contains(group) && key.starts_with(&prefix)
    };
    let expected = content.entries.clone().into_iter().filter(|(key, _)| inside(key));
    assert!(expected.eq(seen), "{groups:?} of {operator}");
}
