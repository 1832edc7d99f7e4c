//! A disk as strict as POSIX lets it be, and what is left on it when the power goes.
//!
//! Contents of a file become durable by a sync of that file, names (made, renamed, removed) by a
//! sync of the directory that holds them, and neither by the other. No order is kept between two
//! files, or between a file and a directory. The one order kept is that of the changes to the
//! names in one directory, and a rename inside it is one change: every file system in use logs
//! its names. Two directories keep no order, so a rename across them can leave both names.
//!
//! What a store relies on beyond that is granted by name, see [`Grants`].

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::journal::Op;

/// Promises beyond POSIX.
#[derive(Clone, Copy, Debug, Default)]
pub struct Grants {
    /// The sync of a directory makes durable its own name too, and so on up to the root.
    pub directory_brings_its_name: bool,
    /// Files whose names begin so are never longer than what has been written of them: what is
    /// lost of them is lost from the end, and no zeros stand for it.
    pub length_follows_bytes: &'static [&'static str],
}

/// What a cut leaves of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Variant {
    /// Nothing.
    Dropped,
    /// Per file and per directory something that this seed picks.
    Torn(u64),
    /// Everything: the process ended, not the machine.
    Kept,
}

/// The place of a node in `Disk::nodes`; unlike the number of an inode never used again.
type Id = usize;

type Names = BTreeMap<String, Id>;

/// A change of content, applied to bytes.
#[derive(Clone, Debug)]
enum Edit {
    Write(u64, Vec<u8>),
    Truncate(u64),
    Zero(u64, u64),
}

#[derive(Clone, Debug)]
enum Node {
    File {
        now: Vec<u8>,
        durable: Vec<u8>,
        pending: Vec<Edit>,
    },
    /// A pending change sets some names, or removes them, in one step.
    Directory {
        now: Names,
        durable: Names,
        pending: Vec<Vec<(String, Option<Id>)>>,
    },
}

impl Node {
    fn file(bytes: Vec<u8>) -> Self {
        Node::File { now: bytes.clone(), durable: bytes, pending: Vec::new() }
    }

    fn directory() -> Self {
        let names = Names::new();
        Node::Directory { now: names.clone(), durable: names, pending: Vec::new() }
    }
}

/// The disk after some records of the journal.
#[derive(Clone, Debug)]
pub struct Disk {
    nodes: Vec<Node>,
    root: Id,
    by_inode: BTreeMap<u64, Id>,
    grants: Grants,
}

fn apply(edit: &Edit, bytes: &mut Vec<u8>) {
    match edit {
        Edit::Write(offset, data) => {
            let (start, end) = (*offset as usize, *offset as usize + data.len());
            bytes.resize(bytes.len().max(end), 0);
            bytes[start..end].copy_from_slice(data);
        }
        Edit::Truncate(len) => bytes.resize(*len as usize, 0),
        Edit::Zero(offset, len) => {
            let end = bytes.len().min((offset + len) as usize);
            bytes[(*offset as usize).min(end)..end].fill(0);
        }
    }
}

fn apply_names(changes: &[(String, Option<Id>)], names: &mut Names) {
    for (name, id) in changes {
        match id {
            Some(id) => drop(names.insert(name.clone(), *id)),
            None => drop(names.remove(name)),
        }
    }
}

impl Disk {
    /// A disk with an empty root.
    pub fn new(grants: Grants) -> Self {
        let root =
            Node::Directory { now: Names::new(), durable: Names::new(), pending: Vec::new() };
        Disk { nodes: vec![root], root: 0, by_inode: BTreeMap::new(), grants }
    }

    /// A disk on which all that is in a directory is durable.
    pub fn holding(directory: &Path, grants: Grants) -> Self {
        let mut disk = Disk::new(grants);
        disk.hold(directory, disk.root);
        disk
    }

    fn hold(&mut self, directory: &Path, id: Id) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            let (path, inode) = (entry.path(), entry.metadata().unwrap().ino());
            let child = if path.is_dir() {
                let child = self.add(inode, Node::directory());
                self.hold(&path, child);
                child
            } else {
                let bytes = std::fs::read(&path).unwrap();
                self.add(inode, Node::file(bytes))
            };
            let name = entry.file_name().into_string().unwrap();
            if let Node::Directory { now, durable, .. } = &mut self.nodes[id] {
                now.insert(name.clone(), child);
                durable.insert(name, child);
            }
        }
    }

    fn id(&self, inode: u64) -> Id {
        self.by_inode[&inode]
    }

    fn add(&mut self, inode: u64, node: Node) -> Id {
        self.nodes.push(node);
        self.by_inode.insert(inode, self.nodes.len() - 1);
        self.nodes.len() - 1
    }

    fn edit(&mut self, inode: u64, edit: Edit) {
        let id = self.id(inode);
        let Node::File { now, pending, .. } = &mut self.nodes[id] else {
            panic!("{edit:?} of a directory");
        };
        apply(&edit, now);
        pending.push(edit);
    }

    fn rename(&mut self, parent: u64, changes: Vec<(String, Option<Id>)>) {
        let id = self.id(parent);
        let Node::Directory { now, pending, .. } = &mut self.nodes[id] else {
            panic!("{changes:?} in a file");
        };
        apply_names(&changes, now);
        pending.push(changes);
    }

    fn named(&self, parent: u64, name: &str) -> Id {
        match &self.nodes[self.id(parent)] {
            Node::Directory { now, .. } => now[name],
            Node::File { .. } => panic!("{name} in a file"),
        }
    }

    fn sync(&mut self, id: Id) {
        match &mut self.nodes[id] {
            Node::File { durable, pending, .. } => {
                pending.drain(..).for_each(|edit| apply(&edit, durable));
            }
            Node::Directory { durable, pending, .. } => {
                pending.drain(..).for_each(|changes| apply_names(&changes, durable));
                if self.grants.directory_brings_its_name {
                    self.grant_name(id);
                }
            }
        }
    }

    /// Makes the name of a directory durable in the directory above it, and so on.
    fn grant_name(&mut self, granted: Id) {
        for id in 0..self.nodes.len() {
            let Node::Directory { now, durable, .. } = &mut self.nodes[id] else { continue };
            let Some(name) = now.iter().find_map(|(name, id)| (*id == granted).then_some(name))
            else {
                continue;
            };
            durable.insert(name.clone(), granted);
            return self.grant_name(id);
        }
    }

    /// Takes the next record of the journal.
    pub fn replay(&mut self, op: &Op) {
        match op.clone() {
            Op::Start(inode) => drop(self.by_inode.insert(inode, self.root)),
            Op::Create { parent, name, inode } => {
                let file = Node::File { now: Vec::new(), durable: Vec::new(), pending: Vec::new() };
                let id = self.add(inode, file);
                self.rename(parent, vec![(name, Some(id))]);
            }
            Op::MakeDirectory { parent, name, inode } => {
                let id = self.add(inode, Node::directory());
                self.rename(parent, vec![(name, Some(id))]);
            }
            Op::Write { inode, offset, data } => self.edit(inode, Edit::Write(offset, data)),
            Op::Truncate { inode, len } => self.edit(inode, Edit::Truncate(len)),
            Op::Zero { inode, offset, len } => self.edit(inode, Edit::Zero(offset, len)),
            Op::Sync { inode } => self.sync(self.id(inode)),
            Op::SyncAll => (0..self.nodes.len()).for_each(|id| self.sync(id)),
            Op::Rename { parent, name, to, new_name } => {
                let id = self.named(parent, &name);
                if parent == to {
                    self.rename(parent, vec![(name, None), (new_name, Some(id))]);
                } else {
                    self.rename(to, vec![(new_name, Some(id))]);
                    self.rename(parent, vec![(name, None)]);
                }
            }
            Op::Unlink { parent, name } => self.rename(parent, vec![(name, None)]),
            Op::Link { inode, parent, name } => {
                let id = self.id(inode);
                self.rename(parent, vec![(name, Some(id))]);
            }
            Op::Mark(_) | Op::Hint | Op::Unsupported(_) => {}
        }
    }

    /// Writes what is left after a cut here into an empty directory.
    pub fn write_to(&self, directory: &Path, variant: Variant) {
        self.write_node(self.root, directory, variant);
    }

    fn write_node(&self, id: Id, path: &Path, variant: Variant) {
        let random = |what: u64| match variant {
            Variant::Torn(seed) => xxh3_64_with_seed(&(id as u64).to_le_bytes(), seed ^ what),
            _ => 0,
        };
        match (&self.nodes[id], variant) {
            (Node::File { now, .. }, Variant::Kept) => std::fs::write(path, now).unwrap(),
            (Node::File { durable, .. }, Variant::Dropped) => {
                std::fs::write(path, durable).unwrap()
            }
            (Node::File { durable, pending, .. }, Variant::Torn(_)) => {
                let name = path.file_name().unwrap().to_string_lossy();
                let ends = self.grants.length_follows_bytes.iter().any(|n| name.starts_with(n));
                std::fs::write(path, torn(durable, pending, ends, random)).unwrap();
            }
            (Node::Directory { now, durable, pending }, _) => {
                let names = match variant {
                    Variant::Kept => now.clone(),
                    Variant::Dropped => durable.clone(),
                    Variant::Torn(_) => {
                        let kept = random(0) as usize % (pending.len() + 1);
                        let mut names = durable.clone();
                        pending[..kept].iter().for_each(|change| apply_names(change, &mut names));
                        names
                    }
                };
                if id != self.root {
                    std::fs::create_dir(path).unwrap();
                }
                names.iter().for_each(|(name, id)| self.write_node(*id, &path.join(name), variant));
            }
        }
    }
}

/// The durable bytes and some of the pending edits: a part of what was written, cut anywhere; or
/// that with the length of the whole and zeros; or the whole with one page lost in it. Only the
/// first with `only_cut`.
fn torn(durable: &[u8], pending: &[Edit], only_cut: bool, random: impl Fn(u64) -> u64) -> Vec<u8> {
    let mut whole = durable.to_vec();
    pending.iter().for_each(|edit| apply(edit, &mut whole));
    let weight = |edit: &Edit| match edit {
        Edit::Write(_, data) => data.len(),
        Edit::Truncate(_) | Edit::Zero(..) => 1,
    };
    let total: usize = pending.iter().map(weight).sum();
    let mut left = random(1) as usize % (total + 1);
    let mut part = durable.to_vec();
    for edit in pending {
        match edit {
            Edit::Write(offset, data) if data.len() > left => {
                apply(&Edit::Write(*offset, data[..left].to_vec()), &mut part);
                left = 0;
            }
            _ if left == 0 => {}
            edit => {
                apply(edit, &mut part);
                left -= weight(edit);
            }
        }
        if left == 0 {
            break;
        }
    }
    match if only_cut { 0 } else { random(2) % 3 } {
        0 => part,
        1 => {
            part.resize(whole.len().max(part.len()), 0);
            part
        }
        _ => {
            lose_a_page(&mut whole, durable, random(3));
            whole
        }
    }
}

/// Puts back, in one page that differs, what was durable there.
fn lose_a_page(whole: &mut [u8], durable: &[u8], random: u64) {
    const PAGE: usize = 4096;
    let old = |at: usize| durable.get(at).copied().unwrap_or(0);
    let differs = |page: &usize| {
        let range = page * PAGE..whole.len().min((page + 1) * PAGE);
        range.into_iter().any(|at| whole[at] != old(at))
    };
    let pages: Vec<usize> = (0..whole.len().div_ceil(PAGE)).filter(differs).collect();
    if let Some(page) = pages.get(random as usize % pages.len().max(1)) {
        let end = whole.len().min((page + 1) * PAGE);
        (page * PAGE..end).for_each(|at| whole[at] = old(at));
    }
}

#[cfg(test)]
#[path = "disk_tests.rs"]
mod tests;
