//! Any sequence of commits leaves in the store what a map would hold.

#![no_main]

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_state::{Changes, Commit, MemStore, Store};
use libfuzzer_sys::{arbitrary, fuzz_target};

#[derive(arbitrary::Arbitrary, Debug)]
struct Change {
    group: u16,
    key: Vec<u8>,
    value: Option<Vec<u8>>,
}

fuzz_target!(|commits: Vec<Vec<Change>>| {
    let (store, mut model) = (MemStore::new(), BTreeMap::new());
    for changes in commits {
        let mut list = Changes::new(Arc::from("operator"));
        for Change { group, key, value } in changes {
            let group = group % highwater_state::KEY_GROUPS;
            let write = |from: Vec<u8>| move |bytes: &mut Vec<u8>| {
                bytes.extend_from_slice(&from);
                Ok(())
            };
            match value {
                Some(value) => {
                    list.put(group, write(key.clone()), write(value.clone())).expect("no failure");
                    model.insert((group, key), value);
                }
                None => {
                    list.delete(group, write(key.clone())).expect("no failure");
                    model.remove(&(group, key));
                }
            }
        }
        store.commit(&Commit { record: vec![1], changes: vec![list] }).expect("no failure");
    }
    let mut stored = BTreeMap::new();
    let all = 0..highwater_state::KEY_GROUPS;
    store
        .scan("operator", all, &mut |group, key, value| {
            stored.insert((group, key.to_vec()), value.to_vec());
            Ok(())
        })
        .expect("no failure");
    assert_eq!(stored, model);
});
