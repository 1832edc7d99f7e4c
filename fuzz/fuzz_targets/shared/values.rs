//! Decoding: no panic, no allocation beyond the input, and what is decoded encodes again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

use highwater_state::base::{Base, FileBase};
use highwater_state::fault::SimDisk;
use highwater_state::files::Files;
use highwater_state::{decode, decode_sealed, encode_into, encode_sealed, hash_bytes};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::memory::{SERDE, bounded};

type Nested = (u8, Vec<(String, Option<i64>)>, BTreeMap<u16, Vec<u8>>);

fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) {
    let Ok(value) = bounded(bytes.len(), SERDE, || decode::<T>(bytes)) else { return };
    let mut again = Vec::new();
    encode_into(&value, &mut again).expect("what was decoded can be encoded");
    assert_eq!(decode::<T>(&again).expect("what was encoded can be decoded"), value);
}

/// A base whose file holds these bytes: nothing is written.
fn base(content: &[u8]) {
    let disk = SimDisk::new();
    let dir = Path::new("base");
    let mut file = disk.open(&dir.join("base"), None).expect("an empty disk");
    file.append(content).expect("no fault is planned");
    let files = Arc::new(disk);
    let Ok(base) = bounded(content.len(), SERDE, || FileBase::open(files, dir)) else { return };
    base.position().expect("it is in memory");
    base.scan(&[], &mut |_, _| Ok(true)).expect("it is in memory");
}

pub fn run(bytes: &[u8]) {
    check::<u64>(bytes);
    check::<(bool, char, Option<u32>)>(bytes);
    check::<String>(bytes);
    check::<Vec<String>>(bytes);
    check::<BTreeSet<(i64, String)>>(bytes);
    check::<Nested>(bytes);
    let _ = bounded(bytes.len(), SERDE, || decode_sealed::<Nested>(bytes));
    let sealed = encode_sealed(bytes).expect("bytes can be encoded");
    assert_eq!(decode_sealed::<Vec<u8>>(&sealed).expect("a sealed record opens"), bytes);
    base(bytes);
    base(&[&b"HWR1"[..], &hash_bytes(bytes).to_le_bytes(), bytes].concat());
}
