//! A base takes the changes of many commits whole or not at all.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use highwater_state::Op;
use highwater_state::base::{Base, Position, RocksBase, VisitChange};

/// Some megabytes of entries: several of RocksDB's buffers, as it is opened here.
const CHANGES: u32 = 60_000;

fn change(visit: &mut VisitChange<'_>, number: u32) {
    let key = [b"eop\0\0\0".as_slice(), &number.to_be_bytes()].concat();
    visit(&key, Op::Put(&[number as u8; 64]));
}

fn entries(base: &RocksBase) -> usize {
    let mut count = 0;
    let visit = &mut |_: &[u8], _: &[u8]| {
        count += 1;
        Ok(true)
    };
    base.scan(&[], visit).unwrap();
    count
}

/// If some of them were there without the position, a log that ends one commit earlier would be
/// taken for an older commit, and mixed with the newer entries.
#[test]
fn a_move_that_dies_in_the_middle_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let (before, after) = (Position { seq: 1, chain: 7 }, Position { seq: 9, chain: 8 });
    let base = RocksBase::open(&path, 1 << 20).unwrap();
    base.apply(before, b"one", &mut |visit| {
        change(visit, 0);
    })
    .unwrap();
    base.sync().unwrap();
    for died_at in [1, 1_000, CHANGES / 2, CHANGES] {
        let died = catch_unwind(AssertUnwindSafe(|| {
            base.apply(after, b"nine", &mut |visit| {
                (0..died_at).for_each(|number| change(visit, number));
                std::panic::resume_unwind(Box::new("the thread died"));
            })
        }));
        assert!(died.is_err());
        base.sync().unwrap();
        assert_eq!(entries(&base), 1, "dead after {died_at} changes");
    }
    drop(base);
    let base = RocksBase::open(&path, 1 << 20).unwrap();
    assert_eq!((entries(&base), base.position().unwrap().0), (1, before));
    base.apply(after, b"nine", &mut |visit| {
        (0..CHANGES).for_each(|number| change(visit, number));
    })
    .unwrap();
    assert_eq!((entries(&base), base.position().unwrap().0), (CHANGES as usize, after));
}

/// A crash after a file has been taken in, and before its first name is gone, leaves both.
#[test]
fn a_second_name_of_a_file_in_use_is_not_opened() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let base = RocksBase::open(&path, 1 << 20).unwrap();
    let all = |visit: &mut VisitChange<'_>| (0..CHANGES).for_each(|number| change(visit, number));
    base.apply(Position { seq: 1, chain: 7 }, b"one", &mut |visit| all(visit)).unwrap();
    drop(base);
    let is_file = |path: &Path| path.extension().is_some_and(|end| end == "sst");
    let mut names = std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path());
    std::fs::hard_link(names.find(|name| is_file(name)).unwrap(), path.join("next")).unwrap();
    let base = RocksBase::open(&path, 1 << 20).unwrap();
    let after = Position { seq: 2, chain: 8 };
    base.apply(after, b"two", &mut |visit| change(visit, CHANGES)).unwrap();
    drop(base);
    let base = RocksBase::open(&path, 1 << 20).unwrap();
    assert_eq!((entries(&base), base.position().unwrap().0), (CHANGES as usize + 1, after));
}
