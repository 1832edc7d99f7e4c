//! Sessions: per key, a small sorted list of windows that merge when they overlap.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;

use highwater_state::planted::planted;
use highwater_state::{Changes, Table};

use super::window::late_element;
use super::window_results::Results;
use super::{Bound, Cx, Judge, LateRows, Logic, RowGuard, typed};
use crate::aggregate::{Aggregate, Stamp};
use crate::error::Error;
use crate::event::{Batch, Data, LateReason, Rows};
use crate::keyed::{Backing, KeyOf};
use crate::time::{EventTime, Span, Watermark};
use crate::window::{Gap, SessionSet, Window};

pub(crate) struct SessionAggregate<T, K: KeyOf<T>, G, A: Aggregate<T>> {
    pub(crate) key_of: Arc<K>,
    pub(crate) gap: G,
    /// How late an event may be, and so how long after its end a session is kept.
    pub(crate) lateness: Span,
    pub(crate) aggregate: Arc<A>,
    pub(crate) backing: Backing,
    /// The open sessions of each key; a key goes with its last session.
    pub(crate) table: Table<K::Key, SessionSet<A::State>>,
    /// When to look at which key: an entry is made when a session begins, and made anew at the
    /// session's real end if it has grown by then. So an event that extends a session costs none.
    pub(crate) due: BTreeMap<EventTime, Vec<(u64, K::Key)>>,
    pub(crate) ordered_by: Option<u32>,
    pub(crate) types: PhantomData<fn(T)>,
}

/// Sessions that have just closed, by window.
type Closed<K, S> = BTreeMap<Window, Vec<(K, S)>>;

impl<T: Data, K: KeyOf<T>, G: Gap<T>, A: Aggregate<T>> SessionAggregate<T, K, G, A> {
    pub(crate) fn restore(
        &mut self,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), highwater_state::Error> {
        let key: K::Key = highwater_state::decode(key)?;
        let sessions: SessionSet<A::State> = highwater_state::decode(value)?;
        let hash = highwater_state::hash_key(&key);
        for window in sessions.windows() {
            self.due.entry(window.end).or_default().push((hash, key.clone()));
        }
        self.table.load(key, sessions);
        Ok(())
    }

    /// Why a row is not taken in, if it is not: it is late by itself, whatever session it would
    /// join, or its gap makes no sense.
    fn refused(&self, batch: &Batch<T>, index: usize, bounds: Option<[Bound; 2]>) -> Option<Bound> {
        let (row, time) = (&batch.rows[index], batch.times[index]);
        let gap = self.gap.gap(row);
        if gap <= Span::ZERO {
            return Some(Bound { watermark: Watermark::Unknown, reason: LateReason::BadGap });
        }
        let bound = late_element(bounds?, time + self.lateness)?;
        let joins = || {
            self.key_of.with_key(row, |key| {
                let sessions = self.table.get(batch.hashes[index], key);
                sessions.is_some_and(|sessions| sessions.holds(time, gap))
            })
        };
        if planted("late-bridge-merged") && joins() { None } else { Some(bound) }
    }

    fn add(&mut self, batch: &Batch<T>, index: usize) {
        let Self { key_of, gap, aggregate, table, due, .. } = self;
        let (row, time, hash) = (&batch.rows[index], batch.times[index], batch.hashes[index]);
        let stamp = || Stamp { time, order: batch.origin.order(index) };
        key_of.with_key(row, |key| {
            let sessions = table.update(hash, key, SessionSet::default);
            let before = sessions.len();
            let window = sessions.insert(
                time,
                gap.gap(row),
                || aggregate.init(),
                |state| aggregate.add(state, row, &stamp),
                |into, from| aggregate.merge(into, from),
            );
            if sessions.len() > before {
                due.entry(window.end).or_default().push((hash, key.clone()));
            }
        });
    }

    /// Closes what is due of one key, and asks to look again where a session has grown.
    fn close(&mut self, hash: u64, key: &K::Key, closed: &mut Closed<K::Key, A::State>, cx: &Cx) {
        let Some(sessions) = self.table.get(hash, key) else { return };
        let lateness = if planted("window-cleanup-early") { Span::ZERO } else { self.lateness };
        if !sessions.windows().any(|window| window.is_over_by(cx.now, lateness)) {
            return;
        }
        let Some(sessions) = self.table.get_mut(hash, key) else { return };
        sessions.close(cx.now, lateness, |window, state| {
            closed.entry(window).or_default().push((key.clone(), state));
        });
        if sessions.is_empty() {
            self.table.remove(hash, key);
        }
    }

    fn look_again(&mut self, hash: u64, key: K::Key) {
        if let Some(sessions) = self.table.get(hash, &key) {
            for window in sessions.windows() {
                let at_end = self.due.entry(window.end).or_default();
                if !at_end.iter().any(|(h, k)| *h == hash && *k == key) {
                    at_end.push((hash, key.clone()));
                }
            }
        }
    }
}

impl<T: Data, K: KeyOf<T>, G: Gap<T>, A: Aggregate<T>> Logic for SessionAggregate<T, K, G, A> {
    fn batch(&mut self, _: usize, rows: Box<dyn Rows>, cx: &mut Cx) -> Result<(), Error> {
        let batch = typed::<T>(rows)?;
        cx.counters.events_in += batch.len() as u64;
        let Self { backing, table, key_of, .. } = self;
        backing.read_back(table, &batch, &**key_of, highwater_state::decode)?;
        let mut judge = Judge::new(&batch, cx.before);
        let on_time = judge.all_on_time();
        let mut late = LateRows::new();
        let mut guard = RowGuard::new(&batch.origin);
        for index in 0..batch.len() {
            guard.index = index;
            let time = batch.times[index];
            let bounds = if on_time { None } else { Some(judge.bounds(index)) };
            match self.refused(&batch, index, bounds) {
                None => {
                    cx.counters.used += 1;
                    self.add(&batch, index);
                }
                Some(bound) => {
                    late.push(batch.rows[index].clone(), time, None, bound, &batch.origin, index);
                }
            }
        }
        drop(guard);
        late.send(1, cx);
        Ok(())
    }

    fn tick_end(&mut self, cx: &mut Cx) -> Result<(), Error> {
        cx.behind = self.lateness;
        let mut closed = BTreeMap::new();
        while let Some(entry) = self.due.first_entry() {
            let probe = Window { start: EventTime::MIN, end: *entry.key() };
            if !probe.is_over_by(cx.now, self.lateness) {
                break;
            }
            let keys = entry.remove();
            let Self { backing, table, .. } = self;
            backing.read_back_keys(table, keys.clone(), highwater_state::decode)?;
            for (hash, key) in keys {
                self.close(hash, &key, &mut closed, cx);
                self.look_again(hash, key);
            }
        }
        // Sessions of many keys end at many times: fire in order of end, a batch per window.
        let mut by_end: Vec<_> = closed.into_iter().collect();
        by_end.sort_by_key(|(window, _)| (window.end, window.start));
        for (window, sessions) in by_end {
            let mut results = Results::new(window, self.ordered_by);
            for (key, state) in sessions {
                results.push(key, self.aggregate.finish(state))?;
            }
            cx.largest = cx.largest.max(Some(window.last_time()));
            results.send(self.lateness, cx);
        }
        Ok(())
    }

    fn begin_capture(&mut self) {
        self.table.begin_capture();
    }

    fn capture(
        &mut self,
        id: &Arc<str>,
        budget: &mut usize,
        into: &mut Vec<Changes>,
    ) -> Result<bool, Error> {
        Ok(self.table.capture(id, budget, into)?)
    }

    fn committed(&mut self) {
        self.table.committed();
    }

    fn memory(&self) -> usize {
        self.table.memory()
    }

    fn evict(&mut self, bytes: usize) {
        self.table.evict(bytes);
    }

    fn entries(&self) -> i64 {
        self.table.net()
    }
}
