//! Bytes that were never written decode to an error or to a value that encodes to them again:
//! no panic, no allocation beyond the input.

#![no_main]

use std::collections::BTreeMap;

use highwater_state::{decode, decode_sealed, encode_into, encode_sealed};
use libfuzzer_sys::fuzz_target;

type Nested = (u8, Vec<(String, Option<i64>)>, BTreeMap<u16, Vec<u8>>);

fn check<T: serde_like::Value>(bytes: &[u8]) {
    if let Ok(value) = decode::<T>(bytes) {
        let mut again = Vec::new();
        encode_into(&value, &mut again).expect("what was decoded can be encoded");
        assert_eq!(decode::<T>(&again).expect("what was encoded can be decoded"), value);
    }
}

mod serde_like {
    use std::fmt::Debug;

    use serde::Serialize;
    use serde::de::DeserializeOwned;

    /// What a stored value must be able to do.
    pub trait Value: Serialize + DeserializeOwned + PartialEq + Debug {}
    impl<T: Serialize + DeserializeOwned + PartialEq + Debug> Value for T {}
}

fuzz_target!(|bytes: &[u8]| {
    check::<u64>(bytes);
    check::<String>(bytes);
    check::<Vec<String>>(bytes);
    check::<Nested>(bytes);
    let _ = decode_sealed::<Nested>(bytes);
    let sealed = encode_sealed(bytes).expect("bytes can be encoded");
    assert_eq!(decode_sealed::<Vec<u8>>(&sealed).expect("a sealed record opens"), bytes);
});
