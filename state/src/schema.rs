//! The shape of a type, as serde sees it: bincode stores neither names nor types, so a changed
//! type would decode to silent garbage if its shape were not known.

use serde::de::DeserializeOwned;
use serde_reflection::{Samples, Tracer, TracerConfig};

use crate::hash_bytes;

/// A hash of everything that decides how a `T` is stored, and of the names of its fields and
/// variants, so that two fields of one type that change places are noticed too.
///
/// Some types cannot be traced, for they refuse made-up values: then it is their name that
/// counts.
///
/// ```
/// use highwater_state::schema_of;
/// #[derive(serde::Deserialize)]
/// struct Sum { count: u64, total: u64 }
/// mod later {
///     #[derive(serde::Deserialize)]
///     pub struct Sum { total: u64, count: u64 }
/// }
/// assert_eq!(schema_of::<Sum>(), schema_of::<Sum>());
/// assert_ne!(schema_of::<Sum>(), schema_of::<later::Sum>());
/// ```
#[must_use]
pub fn schema_of<T: DeserializeOwned>() -> u64 {
    hash_bytes(schema_text::<T>().as_bytes())
}

/// Each pass over a type sees one more variant of one of its enums; no type should have more
/// variants than this, all together.
const MOST_PASSES: usize = 1024;

fn schema_text<T: DeserializeOwned>() -> String {
    let (mut passes, mut enums) = (1, Vec::new());
    while passes <= MOST_PASSES {
        match trace::<T>(passes, &enums) {
            Ok(text) => return text,
            Err(serde_reflection::Error::MissingVariants(more)) => enums.extend(more),
            Err(_) => break,
        }
        passes *= 2;
    }
    untraced::<T>()
}

/// Looks at a type again and again, each time at variants of `enums` not seen before.
fn trace<T: DeserializeOwned>(
    passes: usize,
    enums: &[String],
) -> Result<String, serde_reflection::Error> {
    let mut tracer = Tracer::new(TracerConfig::default().is_human_readable(false));
    let samples = Samples::new();
    let mut format = tracer.trace_type_once::<T>(&samples)?.0;
    for _ in 1..passes {
        for name in enums {
            let _ = tracer.check_incomplete_enum(name);
        }
        format = tracer.trace_type_once::<T>(&samples)?.0;
    }
    Ok(format!("{format:?} {:?}", tracer.registry()?))
}

fn untraced<T>() -> String {
    format!("untraced {}", std::any::type_name::<T>())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::num::NonZeroU8;

    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its shape counts")]
    enum Shape {
        Point,
        Circle { radius: f64 },
        Many(Vec<Shape>),
    }

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its shape counts")]
    struct Nested {
        shape: Shape,
        names: BTreeMap<String, Option<u16>>,
    }

    #[test]
    fn shapes_are_told_apart() {
        let all = [
            schema_of::<u32>(),
            schema_of::<i32>(),
            schema_of::<(u32, u32)>(),
            schema_of::<Vec<u32>>(),
            schema_of::<String>(),
            schema_of::<Nested>(),
            schema_of::<Option<Nested>>(),
        ];
        for (index, a) in all.iter().enumerate() {
            assert!(!all[..index].contains(a), "{index}");
        }
        assert!(schema_text::<Nested>().contains("radius"), "{}", schema_text::<Nested>());
        assert!(schema_text::<NonZeroU8>().contains("NonZero"));
    }

    /// The hashes are part of the format: another one makes every state unreadable.
    #[test]
    fn hashes_of_shapes_never_change() {
        let hashes = [
            schema_of::<u64>(),
            schema_of::<(String, Option<i32>)>(),
            schema_of::<Nested>(),
            schema_of::<BTreeMap<String, Vec<u8>>>(),
            schema_of::<(u8, bool, char)>(),
        ];
        // Those of types that cannot be traced have the compiler's name of the type, and that is
        // not promised to stay.
        let expected: [u64; 5] = [
            0x48e0_eccc_3831_54df,
            0xad96_a7b5_bd11_b9a9,
            0xa8be_f462_70d9_2337,
            0x18ac_2b1b_f45b_6504,
            0x0407_3220_ec96_417f,
        ];
        // Computed from the text by another implementation of XXH3.
        assert_eq!(schema_text::<u64>(), "U64 {}");
        assert_eq!(schema_text::<(u8, bool, char)>(), "Tuple([U8, Bool, Char]) {}");
        assert_eq!(hashes.map(|h| format!("{h:#018x}")), expected.map(|h| format!("{h:#018x}")));
    }
}
