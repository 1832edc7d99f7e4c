//! The only file that knows bincode: values and sealed records.
//!
//! bincode 2.0.1 is its last working release; it stays behind these functions.

use serde::Serialize;
use serde::de::DeserializeOwned;
use xxhash_rust::xxh3::xxh3_64;

use crate::Error;

/// Fixed-width little-endian integers: a canonical encoding, fit for keys.
#[inline]
fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_fixed_int_encoding()
}

/// Appends the encoding of `value` to `bytes`.
///
/// # Errors
/// Where the type's own `Serialize` fails.
#[inline]
pub fn encode_into<T: Serialize + ?Sized>(value: &T, bytes: &mut Vec<u8>) -> Result<(), Error> {
    bincode::serde::encode_into_std_write(value, bytes, config())
        .map(|_| ())
        .map_err(|e| Error::Encode(e.to_string()))
}

/// Writes the encoding of `value` to the start of `bytes` and returns its length, if it has room
/// there and the type's own `Serialize` does not fail.
#[inline]
pub(crate) fn encode_small<T: Serialize + ?Sized>(value: &T, bytes: &mut [u8]) -> Option<usize> {
    bincode::serde::encode_into_slice(value, bytes, config()).ok()
}

/// Decodes a value that fills `bytes` exactly. No length inside can make it allocate much more
/// than the input: at most 32 times its size (and at least 4 KiB), up to inputs of 128 MiB; beyond
/// that the limit is 1 TiB, which is none. Beside that, serde sets aside up to 1 MiB for each
/// sequence that is being decoded. Elements that take no bytes, as in `Vec<()>`, are bounded by
/// nothing: their number is believed, and may keep it busy for ever.
///
/// # Errors
/// Where the bytes do not hold such a value, or hold more.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    // bincode's limit is a constant, so the input picks the constant. Twice its length is enough
    // for every value: what is decoded has been read, and is counted at most twice.
    match bytes.len() {
        0..=0x80 => decode_limited::<T, 0x1000>(bytes),
        0x81..=0x800 => decode_limited::<T, 0x1_0000>(bytes),
        0x801..=0x8000 => decode_limited::<T, 0x10_0000>(bytes),
        0x8001..=0x8_0000 => decode_limited::<T, 0x100_0000>(bytes),
        0x8_0001..=0x80_0000 => decode_limited::<T, 0x1000_0000>(bytes),
        0x80_0001..=0x800_0000 => decode_limited::<T, 0x1_0000_0000>(bytes),
        _ => decode_limited::<T, 0x100_0000_0000>(bytes),
    }
}

fn decode_limited<T: DeserializeOwned, const LIMIT: usize>(bytes: &[u8]) -> Result<T, Error> {
    let config = bincode::config::standard().with_fixed_int_encoding().with_limit::<LIMIT>();
    let (value, read) = bincode::serde::decode_from_slice(bytes, config)
        .map_err(|e| Error::Corrupt(e.to_string()))?;
    if read != bytes.len() {
        return Err(Error::Corrupt(format!("{} bytes too many", bytes.len() - read)));
    }
    Ok(value)
}

const MAGIC: &[u8; 4] = b"HWR1";
const HEAD: usize = 12;

/// A value in an envelope: magic and version (4 bytes), checksum of the rest (8), the encoding.
///
/// # Errors
/// Where the type's own `Serialize` fails.
pub fn encode_sealed<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; HEAD];
    encode_into(value, &mut bytes)?;
    let checksum = xxh3_64(&bytes[HEAD..]).to_le_bytes();
    bytes[..4].copy_from_slice(MAGIC);
    bytes[4..HEAD].copy_from_slice(&checksum);
    Ok(bytes)
}

/// Opens an envelope: nothing is decoded before the checksum has been verified.
///
/// # Errors
/// Where the envelope is damaged, of another version, or holds another type.
pub fn decode_sealed<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    if bytes.len() < HEAD || &bytes[..4] != MAGIC {
        return Err(Error::Corrupt("not a record of this version of highwater".into()));
    }
    if xxh3_64(&bytes[HEAD..]).to_le_bytes() != bytes[4..HEAD] {
        return Err(Error::Corrupt("the checksum of a record does not match".into()));
    }
    decode(&bytes[HEAD..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_record_with_any_bit_flipped_is_refused() {
        let sealed = encode_sealed(&(7u64, "abc".to_owned())).unwrap();
        assert_eq!(decode_sealed::<(u64, String)>(&sealed).unwrap(), (7, "abc".to_owned()));
        for bit in 0..sealed.len() * 8 {
            let mut damaged = sealed.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_sealed::<(u64, String)>(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn values_of_every_size_pass_the_limit() {
        for length in [0, 1, 100, 1_000, 20_000, 400_000, 9_000_000] {
            let value = (vec![7u8; length], vec![String::from("ab"); length / 10]);
            let mut bytes = Vec::new();
            encode_into(&value, &mut bytes).unwrap();
            assert_eq!(decode::<(Vec<u8>, Vec<String>)>(&bytes).unwrap(), value);
        }
    }

    #[test]
    fn a_length_beyond_the_input_is_an_error_and_no_allocation() {
        let bytes = u64::MAX.to_le_bytes();
        assert!(decode::<Vec<u8>>(&bytes).is_err());
        assert!(decode::<String>(&bytes).is_err());
        assert!(decode::<Vec<String>>(&bytes).is_err());
        assert!(decode::<std::collections::BTreeMap<u64, u64>>(&bytes).is_err());
    }
}
