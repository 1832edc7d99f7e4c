//! Length fields set to what no file holds, with the checksums made right again: so that it is
//! the lengths that are refused.

use highwater_state::hash_bytes;

use crate::history::Rng;

const SEGMENT_HEAD: usize = 40;
const GROUP_HEAD: usize = 56;

fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).map_or(0, |word| u64::from_le_bytes(word.try_into().unwrap()))
}

fn set(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

fn huge(rng: &mut Rng) -> u64 {
    let numbers = [1 << 16, 1 << 31, u64::from(u32::MAX), 1 << 40, i64::MAX as u64, u64::MAX - 7];
    *rng.pick(&[&numbers[..], &[u64::MAX, u64::MAX - 1]].concat())
}

/// Offsets of the groups of a segment.
fn groups(bytes: &[u8]) -> Vec<usize> {
    let (mut at, mut found) = (SEGMENT_HEAD, Vec::new());
    while bytes.len() >= at + GROUP_HEAD {
        found.push(at);
        at += GROUP_HEAD + word(bytes, at + 8) as usize;
    }
    found
}

/// The checksum over the payload and what it follows, and that of the head.
fn reseal_group(bytes: &mut [u8], at: usize, chain_too: bool) {
    if chain_too {
        let length = word(bytes, at + 8) as usize;
        let [seq, incarnation, before] = [16, 24, 32].map(|field| word(bytes, at + field));
        let fields = [before, seq, incarnation].map(u64::to_le_bytes).concat();
        let payload = &bytes[at + GROUP_HEAD..at + GROUP_HEAD + length];
        let chain = hash_bytes(&[&fields[..], payload].concat());
        set(bytes, at + 40, chain);
    }
    let sum = hash_bytes(&bytes[at..at + GROUP_HEAD - 8]);
    set(bytes, at + GROUP_HEAD - 8, sum);
}

/// Where lengths and counts stand in a group's payload: of eight bytes, and of four.
fn lengths(payload: &[u8]) -> (Vec<usize>, Vec<usize>) {
    let (mut wide, mut narrow) = (vec![0], Vec::new());
    let mut at = 8 + word(payload, 0) as usize;
    wide.push(at);
    let lists = word(payload, at);
    at += 8;
    for _ in 0..lists {
        wide.push(at);
        at += 8 + word(payload, at) as usize;
        wide.push(at);
        let entries = word(payload, at) as usize;
        at += 8;
        for _ in 0..entries {
            narrow.extend([at + 2, at + 6]);
            at += 10;
        }
        wide.push(at);
        at += 8 + word(payload, at) as usize;
    }
    (wide, narrow)
}

pub fn bomb_in_log(bytes: &mut [u8], rng: &mut Rng) {
    let value = huge(rng);
    let groups = groups(bytes);
    if groups.is_empty() || rng.below(8) == 0 {
        let at = 8 + rng.below(3) * 8;
        set(bytes, at, value);
        let sum = hash_bytes(&bytes[..32]);
        set(bytes, 32, sum);
        return;
    }
    // The last one more often: nothing behind it shows that it was damaged.
    let at = if rng.below(2) == 0 { *rng.pick(&groups) } else { groups[groups.len() - 1] };
    if rng.below(3) == 0 {
        set(bytes, at + 8 + rng.below(5) * 8, value);
        reseal_group(bytes, at, false);
        return;
    }
    let length = word(bytes, at + 8) as usize;
    let payload = at + GROUP_HEAD;
    let (wide, narrow) = lengths(&bytes[payload..payload + length]);
    if narrow.is_empty() || rng.below(2) == 0 {
        set(bytes, payload + rng.pick(&wide), value);
    } else {
        let field = payload + rng.pick(&narrow);
        bytes[field..field + 4].copy_from_slice(&(value as u32 | 1 << 30).to_le_bytes());
    }
    reseal_group(bytes, at, true);
}

/// The file of a [`FileBase`](highwater_state::base::FileBase): a sealed map.
pub fn bomb_in_base(bytes: &mut [u8], rng: &mut Rng) {
    const ENVELOPE: usize = 12;
    // Position and the tag of the record stand before the first length.
    let record = ENVELOPE + 17;
    let count = record + 8 + word(bytes, record) as usize;
    let (mut fields, mut at) = (vec![record, count], count + 8);
    while at + 8 <= bytes.len() {
        fields.push(at);
        at += 8 + word(bytes, at) as usize;
    }
    let field = *rng.pick(&fields);
    set(bytes, field, huge(rng));
    let sum = hash_bytes(&bytes[ENVELOPE..]);
    set(bytes, 4, sum);
}

/// A snapshot's manifest, which is sealed as a base of one file is.
pub fn is_manifest(bytes: &[u8]) -> bool {
    highwater_state::decode_sealed::<highwater_state::snapshot::Manifest>(bytes).is_ok()
}

pub fn bomb_in_manifest(bytes: &mut [u8], rng: &mut Rng) {
    const ENVELOPE: usize = 12;
    // Version, generation and commit stand before the record.
    let record = ENVELOPE + 4 + 8 + 8;
    let count = record + 8 + word(bytes, record) as usize;
    let (mut fields, mut at) = (vec![record, count], count + 8);
    for _ in 0..word(bytes, count) {
        for _ in 0..2 {
            fields.push(at);
            at += 8 + word(bytes, at) as usize;
        }
        // The file's own length; its hash is none.
        fields.push(at);
        at += 16;
    }
    let field = *rng.pick(&fields);
    set(bytes, field, huge(rng));
    let sum = hash_bytes(&bytes[ENVELOPE..]);
    set(bytes, 4, sum);
}
