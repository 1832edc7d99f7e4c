//! The journal that `record.c` writes, read back.

use std::collections::BTreeMap;

/// What was done; inodes go by number, names by the directory that holds them.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// A process began to be recorded; this is the inode of the root.
    Start(u64),
    Create {
        parent: u64,
        name: String,
        inode: u64,
    },
    MakeDirectory {
        parent: u64,
        name: String,
        inode: u64,
    },
    Write {
        inode: u64,
        offset: u64,
        data: Vec<u8>,
    },
    Truncate {
        inode: u64,
        len: u64,
    },
    Zero {
        inode: u64,
        offset: u64,
        len: u64,
    },
    Sync {
        inode: u64,
    },
    SyncAll,
    Rename {
        parent: u64,
        name: String,
        to: u64,
        new_name: String,
    },
    Unlink {
        parent: u64,
        name: String,
    },
    Link {
        inode: u64,
        parent: u64,
        name: String,
    },
    Mark(Mark),
    /// Promises nothing.
    Hint,
    Unsupported(String),
}

/// What the process itself said, at this place in the journal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mark {
    /// The commit is about to be made.
    Begun(u64),
    /// The commit was made, or the store showed it when it was opened: it must not go again.
    Known(u64),
}

impl Op {
    /// Whether cuts right before and after this are worth more than elsewhere.
    pub fn is_turning_point(&self) -> bool {
        self.is_sync() || matches!(self, Op::Rename { .. } | Op::Unlink { .. } | Op::Link { .. })
    }

    pub fn is_sync(&self) -> bool {
        matches!(self, Op::Sync { .. } | Op::SyncAll)
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(len);
        self.0 = rest;
        head
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.bytes(8).try_into().unwrap())
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.bytes(4).try_into().unwrap())
    }

    fn text(&mut self, len: u32) -> String {
        String::from_utf8(self.bytes(len as usize).to_vec()).unwrap()
    }
}

/// The records in order. Each process numbers its own from 0.
pub fn read(bytes: &[u8]) -> Vec<Op> {
    let mut reader = Reader(bytes);
    let (mut ops, mut expected) = (Vec::new(), 0);
    while !reader.0.is_empty() {
        let number = reader.u64();
        let op = read_op(&mut reader);
        expected = if matches!(op, Op::Start(_)) { 0 } else { expected };
        assert_eq!(number, expected, "records are missing before {op:?}");
        expected += 1;
        assert!(!matches!(op, Op::Unsupported(_)), "{op:?} cannot be replayed");
        ops.push(op);
    }
    ops
}

fn read_op(reader: &mut Reader) -> Op {
    let (op, name_len, name2_len, data_len) =
        (reader.u32(), reader.u32(), reader.u32(), reader.u32());
    let (inode, parent, to, offset) = (reader.u64(), reader.u64(), reader.u64(), reader.u64());
    let (name, new_name) = (reader.text(name_len), reader.text(name2_len));
    let data = reader.bytes(data_len as usize).to_vec();
    // The same numbers stand in record.c.
    match op {
        1 => Op::Start(inode),
        2 => Op::Create { parent, name, inode },
        3 => Op::MakeDirectory { parent, name, inode },
        4 => Op::Write { inode, offset, data },
        5 => Op::Truncate { inode, len: offset },
        6 => Op::Zero { inode, offset, len: u64::from_le_bytes(data.try_into().unwrap()) },
        7 => Op::Sync { inode },
        8 => Op::SyncAll,
        9 => Op::Rename { parent, name, to, new_name },
        10 => Op::Unlink { parent, name },
        11 => Op::Link { inode, parent, name },
        12 => Op::Mark(read_mark(std::str::from_utf8(&data).unwrap())),
        13 => Op::Hint,
        14 => Op::Unsupported(name),
        _ => panic!("{op} is no operation"),
    }
}

fn read_mark(line: &str) -> Mark {
    let (what, commit) = line.trim().split_once(' ').unwrap();
    let commit = commit.parse().unwrap();
    match what {
        "begun" => Mark::Begun(commit),
        "known" => Mark::Known(commit),
        _ => panic!("{line} is no mark"),
    }
}

/// The last commit that must be there and the last that may be, after these records; before them
/// it was `bounds`.
pub fn bounds(bounds: (u64, u64), ops: &[Op]) -> (u64, u64) {
    let (mut known, mut begun) = bounds;
    for op in ops {
        match op {
            Op::Mark(Mark::Known(commit)) => (known, begun) = (*commit, *commit),
            Op::Mark(Mark::Begun(commit)) => begun = *commit,
            _ => {}
        }
    }
    (known, begun)
}

/// How many commits were not acknowledged by the process that began them, and shown to the next.
pub fn found_commits(ops: &[Op]) -> usize {
    let (mut begun, mut died, mut found) = (0, false, 0);
    for op in ops {
        match op {
            Op::Start(_) => died = true,
            Op::Mark(Mark::Begun(commit)) => (begun, died) = (*commit, false),
            Op::Mark(Mark::Known(commit)) => {
                found += usize::from(died && begun == *commit && begun > 0);
                begun = 0;
            }
            _ => {}
        }
    }
    found
}

/// How many files of each kind were made.
pub fn made_kinds(ops: &[Op]) -> BTreeMap<String, usize> {
    let mut made = BTreeMap::new();
    for op in ops {
        if let Op::Create { name, .. } = op {
            *made.entry(kind_of(name)).or_insert(0) += 1;
        }
    }
    made
}

/// What kind of file a name is: the name without its numbers, and `/` for a directory. Segments
/// of the tick log have numbers in hexadecimal, and get their name when they are whole.
fn kind_of(name: &str) -> String {
    if name.contains('-') && (name.ends_with(".log") || name.ends_with(".log.tmp")) {
        return "tick log".to_owned();
    }
    name.chars().filter(|c| !c.is_ascii_digit()).collect()
}

/// The kind of the file behind each record that is a sync; the last name it had by then.
pub fn synced_kinds(ops: &[Op]) -> Vec<Option<String>> {
    let mut kinds = BTreeMap::new();
    let mut names = BTreeMap::new();
    let mut synced = Vec::with_capacity(ops.len());
    for op in ops {
        match op {
            Op::Start(inode) => drop(kinds.insert(*inode, "/".to_owned())),
            Op::MakeDirectory { inode, .. } => drop(kinds.insert(*inode, "/".to_owned())),
            Op::Create { parent, name, inode } => {
                names.insert((*parent, name.clone()), *inode);
                kinds.insert(*inode, kind_of(name));
            }
            Op::Rename { parent, name, to, new_name } => {
                if let Some(inode) = names.remove(&(*parent, name.clone())) {
                    names.insert((*to, new_name.clone()), inode);
                    kinds.insert(inode, kind_of(new_name));
                }
            }
            _ => {}
        }
        synced.push(match op {
            Op::Sync { inode } => kinds.get(inode).cloned(),
            _ => None,
        });
    }
    synced
}
