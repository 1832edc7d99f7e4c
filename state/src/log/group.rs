//! One commit as bytes: a head with two checksums, the record, the changes.

use std::io;
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

use crate::base::Position;
use crate::changes::{Change, Changes, Commit, DELETE_PREFIX};
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

fn chain(before: Position, incarnation: u64) -> Xxh3 {
    let mut hasher = Xxh3::new();
    hasher.update(&before.chain.to_le_bytes());
    hasher.update(&before.seq.wrapping_add(1).to_le_bytes());
    hasher.update(&incarnation.to_le_bytes());
    hasher
}

/// Writes the commit after `before`, and returns its own position. At most about `piece` bytes of
/// it are in memory at a time: where there are more, it is encoded twice, since the head in front
/// holds the checksum of all of it.
pub(super) fn write(
    (before, incarnation): (Position, u64),
    commit: &Commit,
    (buffer, piece): (&mut Vec<u8>, usize),
    write: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<Position> {
    let (mut sum, mut length, mut skip) = (chain(before, incarnation), 0, HEAD);
    let mut look = |bytes: &[u8]| {
        // The first piece begins with room for the head.
        let bytes = &bytes[std::mem::take(&mut skip)..];
        sum.update(bytes);
        length += bytes.len() as u64;
        Ok(())
    };
    buffer.clear();
    buffer.resize(HEAD, 0);
    let pieces = payload(commit, buffer, piece, &mut look)?;
    look(buffer)?;
    let (seq, chain) = (before.seq + 1, sum.digest());
    let head = Head { payload_len: length, seq, incarnation, before: before.chain, chain };
    if pieces == 0 {
        buffer[..HEAD].copy_from_slice(&head.encode());
    } else {
        buffer.clear();
        buffer.extend_from_slice(&head.encode());
        payload(commit, buffer, piece, write)?;
    }
    write(buffer)?;
    Ok(Position { seq, chain })
}

/// Appends the commit after `before` to `bytes`, and returns its own position.
pub(super) fn encode(
    before: Position,
    incarnation: u64,
    commit: &Commit,
    bytes: &mut Vec<u8>,
) -> io::Result<Position> {
    let mut append = |group: &[u8]| {
        bytes.extend_from_slice(group);
        Ok(())
    };
    write((before, incarnation), commit, (&mut Vec::new(), usize::MAX), &mut append)
}

/// Gives what is behind the head whenever there is a piece of it, and says how often; what is left
/// stays in the buffer.
fn payload(
    commit: &Commit,
    buffer: &mut Vec<u8>,
    piece: usize,
    give: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<usize> {
    let mut pieces = 0;
    let mut put = |bytes: &[u8]| {
        for part in bytes.chunks(piece) {
            buffer.extend_from_slice(part);
            if buffer.len() >= piece {
                give(buffer)?;
                buffer.clear();
                pieces += 1;
            }
        }
        io::Result::Ok(())
    };
    let count = |count: usize| (count as u64).to_le_bytes();
    put(&count(commit.record.len()))?;
    put(&commit.record)?;
    put(&count(commit.changes.len()))?;
    for changes in &commit.changes {
        put(&count(changes.operator().len()))?;
        put(changes.operator().as_bytes())?;
        put(&count(changes.entries.len()))?;
        for entry in &changes.entries {
            let mut bytes = [0; CHANGE];
            bytes[..2].copy_from_slice(&entry.group.to_le_bytes());
            bytes[2..6].copy_from_slice(&entry.key_len.to_le_bytes());
            bytes[6..].copy_from_slice(&entry.value.to_le_bytes());
            put(&bytes)?;
        }
        put(&count(changes.bytes.len()))?;
        put(&changes.bytes)?;
    }
    Ok(pieces)
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
        let before = Position { seq: head.seq.wrapping_sub(1), chain: head.before };
        let mut sum = chain(before, head.incarnation);
        sum.update(payload);
        (sum.digest() == head.chain || planted("torn-tail-accepted")).then_some(Group {
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
            let value_len = if value == DELETE_PREFIX { 0 } else { value.saturating_sub(1) };
            let length = key_len.checked_add(value_len)?;
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
