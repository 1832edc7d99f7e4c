//! The as-of join: each left row with the version of its key that was in force at its time.

use std::sync::Arc;

use highwater_state::planted::planted;
use highwater_state::{Changes, Table, hash_key};

use super::join_results::Results;
use super::waiting::{Place, WaitingEvents};
use super::window::late_element;
use super::{Cx, Judge, LateRows, Logic, typed};
use crate::error::Error;
use crate::event::{Data, Rows, Stored};
use crate::keyed::{Backing, Either, Expiries, KeyOf, encode_key};
use crate::time::{EventTime, Span, Watermark};

/// First byte of an entry's key: the version of a key, or a row of a side that waits.
const VERSION: u8 = 0;
const LEFT: u8 = 1;
const RIGHT: u8 = 2;

/// What the join is asked for.
pub(crate) struct AsOfSpec<A, B, F> {
    pub(crate) left_key: Arc<A>,
    pub(crate) right_key: Arc<B>,
    /// How old a version may be, to be taken.
    pub(crate) within: Option<Span>,
    /// Makes a result of a left row and its version, if it has one.
    pub(crate) output: Arc<F>,
}

/// Rows of both sides wait until the watermark has passed them, and then come in order of time,
/// right before left where times are equal. So of the versions of a key that have come by, only
/// the newest can still be asked for.
pub(crate) struct AsOfJoin<L, R, A: KeyOf<L>, B, F, O> {
    spec: AsOfSpec<A, B, F>,
    backing: Backing,
    /// Of each key, the newest version that the watermark has passed, and its time. It goes when
    /// a newer one comes, or when it is too old for what may come.
    versions: Table<A::Key, (EventTime, R)>,
    /// When versions may be too old: kept only if they can be.
    expiries: Expiries<A::Key>,
    left: WaitingEvents<L>,
    right: WaitingEvents<R>,
    results: Results<O>,
}

impl<L, R, A, B, F, O> AsOfJoin<L, R, A, B, F, O>
where
    L: Stored,
    R: Stored,
    A: KeyOf<L>,
    B: KeyOf<R, Key = A::Key>,
    F: Fn(&A::Key, &L, Option<&R>) -> Option<O>,
    O: Data,
{
    pub(crate) fn new(
        spec: AsOfSpec<A, B, F>,
        backing: &Backing,
        ordered_by: Option<u32>,
    ) -> Result<Self, highwater_state::Error> {
        let mut left = WaitingEvents::new(LEFT, backing);
        let mut right = WaitingEvents::new(RIGHT, backing);
        backing.scan(&[LEFT], |key, row| left.restore(&key[1..], row))?;
        backing.scan(&[RIGHT], |key, row| right.restore(&key[1..], row))?;
        let mut expiries = Expiries::default();
        if let Some(within) = spec.within {
            backing.scan(&[VERSION], |key, value| {
                let key: A::Key = highwater_state::decode(&key[1..])?;
                let (time, _): (EventTime, R) = highwater_state::decode(value)?;
                expiries.push(time + within, hash_key(&key), key);
                Ok(())
            })?;
        }
        Ok(AsOfJoin {
            spec,
            backing: backing.clone(),
            versions: backing.cold(vec![VERSION]),
            expiries,
            left,
            right,
            results: Results::new(ordered_by),
        })
    }

    fn read_back(&mut self, keys: Vec<(u64, A::Key)>) -> Result<(), Error> {
        let Self { versions, backing, .. } = self;
        Ok(backing.read_back_keys(versions, keys, highwater_state::decode)?)
    }

    /// Reads the version of every key of which something is to come by.
    fn read_back_passed(&mut self, watermark: Watermark) -> Result<(), Error> {
        if self.versions.is_complete() {
            return Ok(());
        }
        let mut keys = Vec::new();
        for (hash, row) in self.left.passed(watermark) {
            keys.push((hash, self.spec.left_key.with_key(row, Clone::clone)));
        }
        for (hash, row) in self.right.passed(watermark) {
            keys.push((hash, self.spec.right_key.with_key(row, Clone::clone)));
        }
        self.read_back(keys)
    }

    /// Lets everything come by that the watermark has passed. Returns how many rows did.
    fn advance(&mut self, watermark: Watermark) -> Result<u64, Error> {
        let mut acted = 0;
        loop {
            let left = self.left.first_passed(watermark);
            let right = self.right.first_passed(watermark);
            let right_first = match (left, right) {
                (_, None) => false,
                (None, Some(_)) => true,
                (Some(left), Some(right)) => right <= left || planted("as-of-takes-later"),
            };
            if right_first {
                let Some((place, row)) = self.right.pop()? else { return Ok(acted) };
                self.version(&place, row);
            } else {
                let Some((place, row)) = left.map_or(Ok(None), |_| self.left.pop())? else {
                    return Ok(acted);
                };
                self.ask(&place, &row)?;
            }
            acted += 1;
        }
    }

    /// A version comes into force.
    fn version(&mut self, place: &Place, row: R) {
        let Self { spec, versions, expiries, .. } = self;
        let key = spec.right_key.with_key(&row, Clone::clone);
        let known = versions.get_mut(place.hash, &key);
        match known {
            // It is listed already, and found to be younger when its time comes.
            Some(version) => *version = (place.time, row),
            None => {
                versions.update(place.hash, &key, || (place.time, row));
                if let Some(within) = spec.within {
                    expiries.push(place.time + within, place.hash, key);
                }
            }
        }
    }

    /// A left row asks for the version in force.
    fn ask(&mut self, place: &Place, row: &L) -> Result<(), Error> {
        let Self { spec, versions, results, .. } = self;
        spec.left_key.with_key(row, |key| {
            let version = versions.get(place.hash, key);
            let fresh = |(time, _): &&(EventTime, R)| {
                spec.within.is_none_or(|within| place.time - *time <= within)
            };
            let version = version.filter(fresh).map(|(_, row)| row);
            match (spec.output)(key, row, version) {
                Some(result) => {
                    let places = [Some(place), None];
                    results.push(result, place.time, || Ok(encode_key(key)?), places)
                }
                None => Ok(()),
            }
        })
    }

    /// Lets versions go that are too old for whatever may still ask.
    fn expire(&mut self, watermark: Watermark) -> Result<(), Error> {
        let Some(within) = self.spec.within else { return Ok(()) };
        let keys = self.expiries.pop(watermark);
        self.read_back(keys.clone())?;
        for (hash, key) in keys {
            let Some((time, _)) = self.versions.get(hash, &key) else { continue };
            let last = *time + within;
            if watermark.has_passed(last) {
                self.versions.remove(hash, &key);
            } else {
                self.expiries.push(last, hash, key);
            }
        }
        Ok(())
    }
}

impl<L, R, A, B, F, O> Logic for AsOfJoin<L, R, A, B, F, O>
where
    L: Stored,
    R: Stored,
    A: KeyOf<L>,
    B: KeyOf<R, Key = A::Key>,
    F: Fn(&A::Key, &L, Option<&R>) -> Option<O>,
    O: Data,
{
    fn batch(&mut self, _: usize, rows: Box<dyn Rows>, cx: &mut Cx) -> Result<(), Error> {
        let mut batch = typed::<Either<L, R>>(rows)?;
        cx.counters.events_in += batch.len() as u64;
        let rows = std::mem::take(&mut batch.rows);
        let mut judge = Judge::new(&batch, cx.before);
        let on_time = judge.all_on_time();
        let mut late = LateRows::new();
        for (index, row) in rows.into_iter().enumerate() {
            let time = batch.times[index];
            let bound = if on_time { None } else { late_element(judge.bounds(index), time) };
            let (order, hash) = (batch.origin.order(index), batch.hashes[index]);
            match (bound, row) {
                (Some(bound), row) => late.push(row, time, None, bound, &batch.origin, index),
                (None, Either::Left(row)) => self.left.push(time, order, hash, row),
                (None, Either::Right(row)) => self.right.push(time, order, hash, row),
            }
        }
        late.send(1, cx);
        Ok(())
    }

    fn tick_end(&mut self, cx: &mut Cx) -> Result<(), Error> {
        self.read_back_passed(cx.now)?;
        cx.counters.used += self.advance(cx.now)?;
        self.expire(cx.now)?;
        cx.largest = cx.largest.max(self.results.largest());
        self.results.send(cx);
        Ok(())
    }

    fn begin_capture(&mut self) {
        self.versions.begin_capture();
        self.left.begin_capture();
        self.right.begin_capture();
    }

    fn capture(
        &mut self,
        id: &Arc<str>,
        budget: &mut usize,
        into: &mut Vec<Changes>,
    ) -> Result<bool, Error> {
        Ok(self.versions.capture(id, budget, into)?
            && self.left.capture(budget, into)?
            && self.right.capture(budget, into)?)
    }

    fn committed(&mut self) {
        self.versions.committed();
    }

    fn memory(&self) -> usize {
        self.versions.memory() + self.left.memory() + self.right.memory()
    }

    fn evict(&mut self, bytes: usize) {
        self.versions.evict(bytes);
    }

    fn entries(&self) -> i64 {
        self.versions.net() + self.left.net() + self.right.net()
    }

    fn held(&self) -> u64 {
        (self.left.len() + self.right.len()) as u64
    }
}
