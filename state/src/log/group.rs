//! One commit as bytes: a head with two checksums, the record, the changes.

use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

use crate::base::Position;
use crate::changes::{Change, Changes, Commit};
use crate::planted::planted;
use crate::{KeyGroup, hash_bytes};

const MAGIC: [u8; 8] = *b"HWGROUP1";

/// Magic, payload length, number of the commit, incarnation, chain before, chain after, and the
/// checksum of all these.
pub(super) const HEAD: usize = 56;

/// The bytes of one change beside its key and value.
const CHANGE: usize = 10;

/// A group's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) payload_len: u64,
    pub(super) seq: u64,
    pub(super) incarnation: u64,
    /// The chain up to the commit before.
    pub(super) before: u64,
    /// The chain up to this commit: it covers the payload, so it is its checksum too.
    pub(super) chain: u64,
}

impl Head {
    fn encode(&self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        bytes[..8].copy_from_slice(&MAGIC);
        let fields = [self.payload_len, self.seq, self.incarnation, self.before, self.chain];
        for (index, field) in fields.into_iter().enumerate() {
            bytes[8 + index * 8..16 + index * 8].copy_from_slice(&field.to_le_bytes());
        }
        let checksum = hash_bytes(&bytes[..HEAD - 8]);
        bytes[HEAD - 8..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// The head at the start of `bytes`, if there is a whole one.
    pub(super) fn decode(bytes: &[u8]) -> Option<Head> {
        let bytes = bytes.get(..HEAD)?;
        let field = |index: usize| {
            let bytes = bytes[index * 8..].first_chunk::<8>();
            bytes.map_or(0, |b| u64::from_le_bytes(*b))
        };
        let whole = bytes[..8] == MAGIC && field(6) == hash_bytes(&bytes[..HEAD - 8]);
        whole.then(|| Head {
            payload_len: field(1),
            seq: field(2),
            incarnation: field(3),
            before: field(4),
            chain: field(5),
        })
    }
}

fn chain(before: u64, seq: u64, incarnation: u64, payload: &[u8]) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(&before.to_le_bytes());
    hasher.update(&seq.to_le_bytes());
    hasher.update(&incarnation.to_le_bytes());
    hasher.update(payload);
    hasher.digest()
}

/// Writes the commit after `before` into `bytes`, and returns its own position.
pub(super) fn encode(
    before: Position,
    incarnation: u64,
    commit: &Commit,
    bytes: &mut Vec<u8>,
) -> Position {
    bytes.clear();
    bytes.resize(HEAD, 0);
    put_u64(bytes, commit.record.len() as u64);
    bytes.extend_from_slice(&commit.record);
    put_u64(bytes, commit.changes.len() as u64);
    for changes in &commit.changes {
        put_u64(bytes, changes.operator().len() as u64);
        bytes.extend_from_slice(changes.operator().as_bytes());
        put_u64(bytes, changes.entries.len() as u64);
        for entry in &changes.entries {
            bytes.extend_from_slice(&entry.group.to_le_bytes());
            bytes.extend_from_slice(&entry.key_len.to_le_bytes());
            bytes.extend_from_slice(&entry.value.to_le_bytes());
        }
        put_u64(bytes, changes.bytes.len() as u64);
        bytes.extend_from_slice(&changes.bytes);
    }
    let seq = before.seq + 1;
    let payload = &bytes[HEAD..];
    let head = Head {
        payload_len: payload.len() as u64,
        seq,
        incarnation,
        before: before.chain,
        chain: chain(before.chain, seq, incarnation, payload),
    };
    bytes[..HEAD].copy_from_slice(&head.encode());
    Position { seq, chain: head.chain }
}

fn put_u64(bytes: &mut Vec<u8>, value: u64) {
    bytes.extend_from_slice(&value.to_le_bytes());
}

/// A whole group at the start of some bytes.
pub(super) struct Group<'a> {
    pub(super) head: Head,
    pub(super) payload: &'a [u8],
    pub(super) rest: &'a [u8],
}

impl<'a> Group<'a> {
    /// The group at the start of `bytes`, if it is whole and its checksums match.
    pub(super) fn first(bytes: &'a [u8]) -> Option<Group<'a>> {
        let head = Head::decode(bytes)?;
        let rest = &bytes[HEAD..];
        let length = usize::try_from(head.payload_len).ok().filter(|len| *len <= rest.len())?;
        let (payload, rest) = rest.split_at(length);
        let sum = chain(head.before, head.seq, head.incarnation, payload);
        (sum == head.chain || planted("torn-tail-accepted")).then_some(Group {
            head,
            payload,
            rest,
        })
    }

    pub(super) fn position(&self) -> Position {
        Position { seq: self.head.seq, chain: self.head.chain }
    }
}

/// Decodes what [`encode`] wrote behind the head. The checksum has been verified, so what does
/// not add up was never written by us.
pub(super) fn decode(payload: &[u8]) -> Option<Commit> {
    let mut reader = Reader(payload);
    let record = reader.counted()?.to_vec();
    let mut changes = Vec::new();
    for _ in 0..reader.u64()? {
        changes.push(reader.changes()?);
    }
    reader.0.is_empty().then_some(Commit { record, changes })
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u64(&mut self) -> Option<u64> {
        let (taken, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*taken))
    }

    fn counted(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u64()?).ok()?;
        self.take(length)
    }

    fn changes(&mut self) -> Option<Changes> {
        let operator = std::str::from_utf8(self.counted()?).ok()?;
        let mut changes = Changes::new(Arc::from(operator));
        let count = usize::try_from(self.u64()?).ok()?;
        let list = self.take(count.checked_mul(CHANGE)?)?;
        changes.entries.reserve_exact(count);
        let mut start = 0u32;
        for entry in list.chunks_exact(CHANGE) {
            let word =
                |at: usize| entry[at..].first_chunk::<4>().map_or(0, |b| u32::from_le_bytes(*b));
            let group = KeyGroup::from_le_bytes([entry[0], entry[1]]);
            let (key_len, value) = (word(2), word(6));
            changes.entries.push(Change { start, key_len, value, group });
            let length = key_len.checked_add(value.saturating_sub(1))?;
            start = start.checked_add(length)?;
        }
        changes.bytes = self.counted()?.to_vec();
        (changes.bytes.len() == start as usize).then_some(changes)
    }
}

/// Looks for the head of a later commit of the same incarnation: then what is unreadable before
/// it was written once, and has been damaged since.
pub(super) fn later_group(bytes: &[u8], incarnation: u64, seq: u64) -> bool {
    let mut rest = bytes;
    while let Some(at) = rest.windows(MAGIC.len()).position(|window| window == MAGIC) {
        if Head::decode(&rest[at..]).is_some_and(|h| h.incarnation == incarnation && h.seq > seq) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}
