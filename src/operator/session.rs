//! Sessions: per key, a small sorted list of windows that merge when they overlap.

use std::marker::PhantomData;
use std::sync::Arc;

use highwater_state::planted::planted;
use highwater_state::{Changes, Table};

use super::due::{Due, Entry};
use super::window::late_element;
use super::window_results::send_results;
use super::{Bound, Cx, Judge, LateRows, Logic, RowGuard, typed};
use crate::aggregate::{Aggregate, Stamp};
use crate::error::Error;
use crate::event::{BATCH_ROWS, Batch, Data, LateReason, Rows};
use crate::keyed::{AHEAD, Backing, KeyOf, look_ahead, look_ahead_at};
use crate::time::{EventTime, Span, Watermark};
use crate::window::{Gap, SessionSet, Window, WindowResult};

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
    pub(crate) due: Due<K::Key>,
    pub(crate) ordered_by: Option<u32>,
    pub(crate) types: PhantomData<fn(T)>,
}

/// Sessions that have just closed.
type Closed<K, S> = Vec<(Window, K, S)>;

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
            let entry = Entry { time: window.end, hash, key: key.clone() };
            self.due.push(entry, window.end - window.start);
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
                let entry = Entry { time: window.end, hash, key: key.clone() };
                due.push(entry, window.end - time);
            }
        });
    }

    /// Closes what is over of one key, and asks to look again at each session that has grown
    /// since it, or a part of it, was to end: `entries` are those of the key.
    fn close(&mut self, entries: &[Entry<K::Key>], closed: &mut Closed<K::Key, A::State>, cx: &Cx) {
        let Some(Entry { hash, key, .. }) = entries.first() else { return };
        let Some(sessions) = self.table.get(*hash, key) else { return };
        let lateness = if planted("window-cleanup-early") { Span::ZERO } else { self.lateness };
        for window in sessions.windows() {
            let over = window.is_over_by(cx.now, lateness);
            let here = |e: &Entry<_>| window.start < e.time && e.time <= window.end;
            if !over && entries.iter().any(here) && !planted("session-timer-lost") {
                let entry = Entry { time: window.end, hash: *hash, key: key.clone() };
                self.due.push(entry, window.end - window.start);
            }
        }
        if !sessions.windows().any(|window| window.is_over_by(cx.now, lateness)) {
            return;
        }
        let Some(sessions) = self.table.get_mut(*hash, key) else { return };
        sessions.close(cx.now, lateness, |window, state| {
            closed.push((window, key.clone(), state));
        });
        if sessions.is_empty() {
            self.table.remove(*hash, key);
        }
    }

    /// Sessions of many keys end at many times: results go in order of end, many to a batch.
    fn send(&self, closed: Closed<K::Key, A::State>, cx: &mut Cx) -> Result<(), Error> {
        let mut rows = Vec::with_capacity(closed.len().min(BATCH_ROWS));
        let mut closed = closed.into_iter().peekable();
        while let Some((window, key, state)) = closed.next() {
            rows.push(WindowResult { key, window, value: self.aggregate.finish(state) });
            if rows.len() == BATCH_ROWS || closed.peek().is_none() {
                send_results(std::mem::take(&mut rows), self.ordered_by, self.lateness, cx)?;
            }
        }
        Ok(())
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
            if index.is_multiple_of(AHEAD) {
                let rows = batch.hashed(index);
                look_ahead(&self.table, &*self.key_of, rows, SessionSet::first);
            }
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
        batch.recycle();
        Ok(())
    }

    fn tick_end(&mut self, cx: &mut Cx) -> Result<(), Error> {
        cx.behind = self.lateness;
        let (now, lateness) = (cx.now, self.lateness);
        let is_over = |end| Window { start: EventTime::MIN, end }.is_over_by(now, lateness);
        let mut due = self.due.take(is_over);
        // Entries of one key stand together, and keys as they lie in memory.
        due.sort_unstable_by_key(|entry| entry.hash);
        let Self { backing, table, .. } = self;
        if !table.is_complete() {
            let keys = due.iter().map(|entry| (entry.hash, entry.key.clone())).collect();
            backing.read_back_keys(table, keys, highwater_state::decode)?;
        }
        let (mut closed, mut at, mut warm) = (Vec::new(), 0, 0);
        // Keys of equal hash may stand among each other; then some are looked at twice.
        for entries in due.chunk_by(|a, b| a.hash == b.hash && a.key == b.key) {
            if at >= warm {
                let next = due[at..].iter().take(AHEAD).map(|entry| (entry.hash, &entry.key));
                look_ahead_at(&self.table, next, SessionSet::first);
                warm = at + AHEAD;
            }
            at += entries.len();
            self.close(entries, &mut closed, cx);
        }
        closed.sort_by_key(|(window, _, _)| (window.end, window.start));
        let last = closed.last().map(|(window, _, _)| window.last_time());
        cx.largest = cx.largest.max(last);
        self.send(closed, cx)
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
