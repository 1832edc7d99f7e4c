//! One side of a join: rows that may still find partners, by key and in order of time.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use hashbrown::HashMap;
use highwater_state::planted::planted;
use highwater_state::{Changes, Error, KeyGroup, decode, encode_into, group_of};

use super::waiting::Place;
use crate::event::{EventOrder, Stored};
use crate::time::EventTime;

/// A row in memory.
pub(crate) struct Kept<T> {
    pub(crate) place: Place,
    pub(crate) row: T,
    /// It has met a partner.
    pub(crate) matched: bool,
    /// The store has an entry for it, or the commit under way does.
    stored: bool,
    /// The epoch in which it last changed, unless that is written out.
    changed: Option<u64>,
}

/// What becomes of a row that was looked at.
pub(crate) enum Seen {
    /// It is no partner.
    Other,
    /// It has met a partner.
    Matched,
    /// It has met a partner, and needs no other.
    Done,
}

/// The rows of a key, in order.
struct KeyRows<T> {
    rows: VecDeque<Kept<T>>,
    /// Where the key is listed: at its first row, or at an earlier time.
    listed: Option<EventTime>,
}

/// The rows of all keys of one side. All of them are in memory; a commit writes those that came
/// or were matched since the last one, each as an entry of its own.
pub(crate) struct JoinRows<T> {
    /// By the hash of the key. Keys of equal hash share a list: whoever looks compares keys.
    keys: HashMap<u64, KeyRows<T>, BuildHasherDefault<Carried>>,
    /// Which keys have rows, by the time at which they are listed. An entry may be outlived by
    /// another one of its key, and is then ignored.
    due: BTreeMap<EventTime, Vec<u64>>,
    next_sequence: u64,
    len: usize,
    restored: usize,
    ledger: Ledger,
}

impl<T: Stored> JoinRows<T> {
    pub(crate) fn new(prefix: u8, id: Arc<str>) -> Self {
        JoinRows {
            keys: HashMap::default(),
            due: BTreeMap::new(),
            next_sequence: 0,
            len: 0,
            restored: 0,
            ledger: Ledger::new(prefix, id),
        }
    }

    /// Puts back a row that the last commit holds.
    pub(crate) fn restore(&mut self, place: &[u8], value: &[u8]) -> Result<(), Error> {
        let place: Place = decode(place)?;
        let (matched, row) = decode(value)?;
        self.next_sequence = self.next_sequence.max(place.sequence + 1);
        self.restored += 1;
        self.insert(Kept { place, row, matched, stored: true, changed: None });
        Ok(())
    }

    /// Keeps a row.
    pub(crate) fn push(&mut self, place: Place, row: T, matched: bool) {
        let changed = Some(self.ledger.epoch);
        self.ledger.unsaved.push(place.clone());
        self.insert(Kept { place, row, matched, stored: false, changed });
    }

    /// The place of a row that has just come.
    pub(crate) fn place(&mut self, time: EventTime, order: EventOrder, hash: u64) -> Place {
        self.next_sequence += 1;
        Place { time, order, sequence: self.next_sequence - 1, hash }
    }

    fn insert(&mut self, kept: Kept<T>) {
        let (hash, time) = (kept.place.hash, kept.place.time);
        let nothing = || KeyRows { rows: VecDeque::new(), listed: None };
        let KeyRows { rows, listed } = self.keys.entry(hash).or_insert_with(nothing);
        if listed.is_none_or(|at| time < at) {
            *listed = Some(time);
            self.due.entry(time).or_default().push(hash);
        }
        // Nearly in order as a rule, so nearly at the end.
        let index = match rows.back() {
            Some(last) if last.place > kept.place => {
                rows.partition_point(|other| other.place < kept.place)
            }
            _ => rows.len(),
        };
        rows.insert(index, kept);
        self.len += 1;
    }

    /// Shows the rows of a key from one time to another, both included, in order.
    pub(crate) fn visit(
        &mut self,
        hash: u64,
        (from, to): (EventTime, EventTime),
        mut see: impl FnMut(&Kept<T>) -> Seen,
    ) -> Result<(), Error> {
        let Some(KeyRows { rows, .. }) = self.keys.get_mut(&hash) else { return Ok(()) };
        let mut index = rows.partition_point(|kept| kept.place.time < from);
        while let Some(kept) = rows.get_mut(index)
            && kept.place.time <= to
        {
            match see(kept) {
                Seen::Done => {
                    self.ledger.leaves(kept)?;
                    rows.remove(index);
                    self.len -= 1;
                    continue;
                }
                Seen::Matched if !kept.matched => {
                    if !planted("false-null-same-tick") || kept.stored {
                        self.ledger.changes(kept)?;
                        kept.matched = true;
                    }
                }
                Seen::Matched | Seen::Other => {}
            }
            index += 1;
        }
        Ok(())
    }

    /// Lets the rows go whose time is `over`, and shows each. What is over must be so by time:
    /// all earlier rows are over too.
    pub(crate) fn let_go(
        &mut self,
        over: impl Fn(EventTime) -> bool,
        mut see: impl FnMut(Kept<T>) -> Result<(), crate::Error>,
    ) -> Result<(), crate::Error> {
        while let Some(entry) = self.due.first_entry() {
            if !over(*entry.key()) {
                break;
            }
            let (at, hashes) = entry.remove_entry();
            for hash in hashes {
                let Some(key) = self.keys.get_mut(&hash) else { continue };
                if key.listed != Some(at) {
                    continue;
                }
                while key.rows.front().is_some_and(|kept| over(kept.place.time)) {
                    let Some(mut kept) = key.rows.pop_front() else { break };
                    self.len -= 1;
                    self.ledger.leaves(&mut kept)?;
                    see(kept)?;
                }
                key.listed = key.rows.front().map(|first| first.place.time);
                match key.listed {
                    Some(next) => self.due.entry(next).or_default().push(hash),
                    None => {
                        self.keys.remove(&hash);
                    }
                }
            }
        }
        Ok(())
    }

    pub(crate) fn begin_capture(&mut self) {
        self.ledger.begin_capture();
    }

    /// As [`Logic::capture`](super::Logic::capture).
    pub(crate) fn capture(
        &mut self,
        budget: &mut usize,
        into: &mut Vec<Changes>,
    ) -> Result<bool, Error> {
        let Some(mut changes) = self.ledger.early.take() else { return Ok(true) };
        self.ledger.bury(&mut changes)?;
        while let Some(place) = self.ledger.pending.pop() {
            if *budget == 0 {
                self.ledger.pending.push(place);
                self.ledger.early = Some(changes);
                return Ok(false);
            }
            *budget -= 1;
            let Some(KeyRows { rows, .. }) = self.keys.get_mut(&place.hash) else { continue };
            let found = rows.binary_search_by(|kept| kept.place.cmp(&place));
            if let Some(kept) = found.ok().and_then(|index| rows.get_mut(index))
                && self.ledger.is_pending(kept)
            {
                put(&mut changes, self.ledger.prefix, kept)?;
                (kept.stored, kept.changed) = (true, None);
            }
        }
        into.extend(Some(changes).filter(|changes| !changes.is_empty()));
        Ok(true)
    }

    /// Rows that are kept now, less those that were at the start.
    pub(crate) fn net(&self) -> i64 {
        self.len as i64 - self.restored as i64
    }

    /// Bytes in memory, roughly: what rows point to is not known.
    pub(crate) fn memory(&self) -> usize {
        self.len * size_of::<Kept<T>>() + self.keys.len() * (size_of::<KeyRows<T>>() + 32)
    }
}

/// What the store has yet to hear of.
struct Ledger {
    /// What stored keys begin with.
    prefix: u8,
    id: Arc<str>,
    /// Counts captures.
    epoch: u64,
    /// Rows that came or changed since the last capture began.
    unsaved: Vec<Place>,
    /// The same, on their way into a commit.
    pending: Vec<Place>,
    /// Written out before their turn, because they changed or left.
    early: Option<Changes>,
    tombstones: Vec<(KeyGroup, Vec<u8>)>,
    burying: Vec<(KeyGroup, Vec<u8>)>,
}

impl Ledger {
    fn new(prefix: u8, id: Arc<str>) -> Self {
        Ledger {
            prefix,
            id,
            epoch: 0,
            unsaved: Vec::new(),
            pending: Vec::new(),
            early: None,
            tombstones: Vec::new(),
            burying: Vec::new(),
        }
    }

    /// The capture under way must show the row as it was when the capture began.
    fn is_pending<T>(&self, kept: &Kept<T>) -> bool {
        kept.changed.is_some_and(|epoch| epoch < self.epoch)
    }

    fn save<T: Stored>(&mut self, kept: &mut Kept<T>) -> Result<(), Error> {
        if self.is_pending(kept)
            && let Some(early) = &mut self.early
        {
            put(early, self.prefix, kept)?;
            (kept.stored, kept.changed) = (true, None);
        }
        Ok(())
    }

    /// A row is about to change.
    fn changes<T: Stored>(&mut self, kept: &mut Kept<T>) -> Result<(), Error> {
        self.save(kept)?;
        if kept.changed.is_none() {
            kept.changed = Some(self.epoch);
            self.unsaved.push(kept.place.clone());
        }
        Ok(())
    }

    /// A row is about to leave.
    fn leaves<T: Stored>(&mut self, kept: &mut Kept<T>) -> Result<(), Error> {
        self.save(kept)?;
        if kept.stored {
            let mut key = vec![self.prefix];
            encode_into(&kept.place, &mut key)?;
            self.tombstones.push((group_of(kept.place.hash), key));
        }
        Ok(())
    }

    fn begin_capture(&mut self) {
        self.epoch += 1;
        self.pending = std::mem::take(&mut self.unsaved);
        self.burying = std::mem::take(&mut self.tombstones);
        self.early = Some(Changes::new(self.id.clone()));
    }

    fn bury(&mut self, changes: &mut Changes) -> Result<(), Error> {
        for (group, key) in self.burying.drain(..) {
            changes.delete(group, |bytes| {
                bytes.extend_from_slice(&key);
                Ok(())
            })?;
        }
        Ok(())
    }
}

fn put<T: Stored>(changes: &mut Changes, prefix: u8, kept: &Kept<T>) -> Result<(), Error> {
    changes.put(
        group_of(kept.place.hash),
        |bytes| {
            bytes.push(prefix);
            encode_into(&kept.place, bytes)
        },
        |bytes| encode_into(&(kept.matched, &kept.row), bytes),
    )
}

/// Takes a hash that is computed already. The upper bits are alike throughout a worker, and the
/// table compares those first: so they are mixed with lower ones.
#[derive(Default)]
pub(crate) struct Carried(u64);

impl Hasher for Carried {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash ^ (hash << 10);
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use highwater_state::{Commit, KEY_GROUPS, MemStore, Store, hash_key};
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Push(u8, i64),
        /// Of a key, from a time on, so many µs; rows that are met are done with, or matched.
        Visit(u8, i64, i64, bool),
        LetGo(i64),
        BeginCommit,
        CaptureSome,
        FinishCommit,
        Reopen,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            8 => (0u8..4, 0i64..30).prop_map(|(key, time)| Step::Push(key, time)),
            4 => (0u8..4, 0i64..30, 0i64..9, any::<bool>())
                .prop_map(|(key, from, long, done)| Step::Visit(key, from, long, done)),
            2 => (0i64..30).prop_map(Step::LetGo),
            1 => Just(Step::BeginCommit),
            3 => Just(Step::CaptureSome),
            1 => Just(Step::FinishCommit),
            1 => Just(Step::Reopen),
        ];
        prop::collection::vec(step, 1..120)
    }

    /// By key, time and number: whether it was matched.
    type Model = BTreeMap<(u64, i64, u32), bool>;

    /// Rows beside a store, and what both should hold.
    struct World {
        rows: JoinRows<u32>,
        store: MemStore,
        model: Model,
        /// The model when the capture under way began.
        captured: Option<Model>,
        changes: Vec<Changes>,
        written: bool,
        number: u32,
    }

    fn contents(rows: &mut JoinRows<u32>) -> Model {
        let mut found = Model::new();
        for key in 0u8..4 {
            let hash = hash_key(&key);
            let see = |kept: &Kept<u32>| {
                found.insert((hash, kept.place.time.as_micros(), kept.row), kept.matched);
                Seen::Other
            };
            rows.visit(hash, (EventTime::MIN, EventTime::MAX), see).unwrap();
        }
        found
    }

    impl World {
        fn reopened(&self) -> JoinRows<u32> {
            let mut rows = JoinRows::new(7, "op".into());
            let visit = &mut |group, key: &[u8], value: &[u8]| {
                rows.restore(&key[1..], value)?;
                let place: Place = decode(&key[1..])?;
                assert_eq!(group, group_of(place.hash));
                Ok(())
            };
            self.store.scan("op", 0..KEY_GROUPS, &[7], visit).unwrap();
            rows
        }

        fn finish(&mut self) {
            let Some(captured) = self.captured.take() else { return };
            while !self.written {
                self.written = self.rows.capture(&mut 1, &mut self.changes).unwrap();
            }
            let changes = std::mem::take(&mut self.changes);
            self.store.commit(Commit { record: Vec::new(), changes }).unwrap();
            assert_eq!(contents(&mut self.reopened()), captured);
        }

        fn step(&mut self, step: Step) {
            let at = EventTime::from_micros;
            match step {
                Step::Push(key, time) => {
                    let hash = hash_key(&key);
                    let order = EventOrder::Event { source: 0, partition: 0, position: 0, side: 0 };
                    let place = self.rows.place(at(time), order, hash);
                    self.number += 1;
                    self.rows.push(place, self.number, false);
                    self.model.insert((hash, time, self.number), false);
                }
                Step::Visit(key, from, long, done) => {
                    let (hash, to) = (hash_key(&key), from + long);
                    let see = |kept: &Kept<u32>| match kept.row % 3 {
                        0 => Seen::Other,
                        _ if done => Seen::Done,
                        _ => Seen::Matched,
                    };
                    self.rows.visit(hash, (at(from), at(to)), see).unwrap();
                    let range = (hash, from, 0)..=(hash, to, u32::MAX);
                    let met: Vec<_> = self.model.range(range).map(|(at, _)| *at).collect();
                    for place in met.into_iter().filter(|(_, _, number)| number % 3 != 0) {
                        if done {
                            self.model.remove(&place);
                        } else {
                            self.model.insert(place, true);
                        }
                    }
                }
                Step::LetGo(time) => {
                    let mut gone = Model::new();
                    let see = |kept: Kept<u32>| {
                        let at = (kept.place.hash, kept.place.time.as_micros(), kept.row);
                        gone.insert(at, kept.matched);
                        Ok(())
                    };
                    self.rows.let_go(|t| t < at(time), see).unwrap();
                    let mut over = self.model.clone();
                    over.retain(|(_, t, _), _| *t < time);
                    assert_eq!(gone, over);
                    self.model.retain(|(_, t, _), _| *t >= time);
                }
                Step::BeginCommit => {
                    self.finish();
                    self.rows.begin_capture();
                    self.captured = Some(self.model.clone());
                    self.written = false;
                }
                Step::CaptureSome if self.captured.is_some() && !self.written => {
                    self.written = self.rows.capture(&mut 2, &mut self.changes).unwrap();
                }
                Step::CaptureSome => {}
                Step::FinishCommit => self.finish(),
                Step::Reopen => {
                    self.finish();
                    self.rows = self.reopened();
                    self.model = contents(&mut self.rows);
                }
            }
        }
    }

    proptest! {
        /// Whatever comes, meets and goes while a commit is written in steps: rows are those of
        /// a map, and a commit holds what the map held when it began.
        #[test]
        fn differential_rows_against_a_map(steps in steps()) {
            let mut world = World {
                rows: JoinRows::new(7, "op".into()),
                store: MemStore::new(),
                model: Model::new(),
                captured: None,
                changes: Vec::new(),
                written: false,
                number: 0,
            };
            for step in steps {
                world.step(step);
                prop_assert_eq!(contents(&mut world.rows), world.model.clone());
                prop_assert_eq!(world.rows.len, world.model.len());
            }
            world.step(Step::BeginCommit);
            world.finish();
        }
    }
}
