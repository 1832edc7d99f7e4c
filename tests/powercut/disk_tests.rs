//! The disk forgets what it should, and nothing else.

use super::*;

const ROOT: u64 = 1;

fn create(name: &str, inode: u64) -> Op {
    Op::Create { parent: ROOT, name: name.to_owned(), inode }
}

fn write(inode: u64, offset: u64, data: &[u8]) -> Op {
    Op::Write { inode, offset, data: data.to_vec() }
}

fn rename(name: &str, new_name: &str) -> Op {
    let (name, new_name) = (name.to_owned(), new_name.to_owned());
    Op::Rename { parent: ROOT, name, to: ROOT, new_name }
}

fn left(ops: &[Op], variant: Variant) -> BTreeMap<String, Vec<u8>> {
    let mut disk = Disk::new(Grants::default());
    disk.replay(&Op::Start(ROOT));
    ops.iter().for_each(|op| disk.replay(op));
    let directory = tempfile::tempdir().unwrap();
    disk.write_to(directory.path(), variant);
    let entries = std::fs::read_dir(directory.path()).unwrap().map(Result::unwrap);
    let read = |path| std::fs::read(path).unwrap();
    entries.map(|e| (e.file_name().into_string().unwrap(), read(e.path()))).collect()
}

fn files(expected: &[(&str, &[u8])]) -> BTreeMap<String, Vec<u8>> {
    expected.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect()
}

#[test]
fn contents_and_names_become_durable_apart() {
    let (file, names) = (Op::Sync { inode: 2 }, Op::Sync { inode: ROOT });
    let ops = [create("a", 2), write(2, 0, b"one"), file.clone()];
    assert_eq!(left(&ops, Variant::Dropped), files(&[]), "no name");
    let ops = [create("a", 2), write(2, 0, b"one"), names.clone()];
    assert_eq!(left(&ops, Variant::Dropped), files(&[("a", b"")]), "no contents");
    let ops = [create("a", 2), write(2, 0, b"one"), file, names, write(2, 1, b"xyz")];
    assert_eq!(left(&ops, Variant::Dropped), files(&[("a", b"one")]));
    assert_eq!(left(&ops, Variant::Kept), files(&[("a", b"oxyz")]));
}

#[test]
fn a_rename_without_a_sync_is_undone_whole() {
    let (a, b) = ([create("a", 2), write(2, 0, b"old")], [create("b", 3), write(3, 0, b"new")]);
    let mut ops = [a, b].concat();
    ops.extend([Op::SyncAll, rename("b", "a")]);
    let (before, after) = (files(&[("a", b"old"), ("b", b"new")]), files(&[("a", b"new")]));
    assert_eq!(left(&ops, Variant::Dropped), before);
    let torn: Vec<_> = (0..20).map(|seed| left(&ops, Variant::Torn(seed))).collect();
    assert!(torn.contains(&before) && torn.contains(&after));
    assert!(torn.iter().all(|left| *left == before || *left == after));
    ops.push(Op::Sync { inode: ROOT });
    assert_eq!(left(&ops, Variant::Dropped), after);
}

#[test]
fn a_torn_file_keeps_what_was_synced() {
    let synced = vec![7; 5000];
    let ops = [create("a", 2), write(2, 0, &synced), Op::SyncAll, write(2, 5000, &[9; 9000])];
    let torn = |seed| left(&ops, Variant::Torn(seed)).remove("a").unwrap();
    let all: Vec<_> = (0..60).map(torn).collect();
    assert!(all.iter().all(|bytes| bytes.starts_with(&synced)));
    let tail = |bytes: &&Vec<u8>, byte| bytes.len() == 14_000 && bytes[13_999] == byte;
    assert!(all.iter().any(|bytes| bytes.len() > 5000 && bytes.len() < 14_000), "cut short");
    assert!(all.iter().any(|bytes| tail(&bytes, 0) && bytes[5000] == 9), "zeros at the end");
    assert!(all.iter().any(|bytes| tail(&bytes, 9) && bytes[5000] == 0), "zeros before the end");
}

#[test]
fn an_inode_used_again_is_another_file() {
    let unlink = Op::Unlink { parent: ROOT, name: "a".to_owned() };
    let ops = [create("a", 2), write(2, 0, b"old"), Op::SyncAll, unlink, create("b", 2)];
    assert_eq!(left(&ops, Variant::Dropped), files(&[("a", b"old")]));
    assert_eq!(left(&ops, Variant::Kept), files(&[("b", b"")]));
}
