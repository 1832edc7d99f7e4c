//! Fixed windows with one result per window and key: a table per open window, or per slice that
//! windows share, dropped whole when it closes.

use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;
use std::sync::Arc;

use highwater_state::planted::planted;
use highwater_state::{Changes, Table};

use super::window_firing::{Firing, RESULTS, Rest};
use super::window_rows::{SHORT_RUN, add_rows, guard, in_a_row};
use super::window_sliding::Sliding;
use super::window_tables::{OPEN_WINDOWS, Opened, Slice, Slices, stored_windows, window_prefix};
use super::{Bound, Cx, Judge, LateRows, Logic, typed, user_error};
use crate::aggregate::Aggregate;
use crate::error::Error;
use crate::event::{Batch, Data, Rows};
use crate::keyed::{Backing, KeyOf};
use crate::time::{EventTime, Span, Tick, Watermark};
use crate::window::{BadWindow, FixedWindows, Window};

pub(crate) struct WindowAggregate<T, K: KeyOf<T>, W, A: Aggregate<T>> {
    pub(super) key_of: Arc<K>,
    pub(super) windows: W,
    pub(super) aggregate: Arc<A>,
    pub(super) backing: Backing,
    pub(super) lateness: Span,
    /// What belongs to one window only: everything, unless windows share slices; then stragglers
    /// that count in some of their windows and not in others.
    pub(super) own: Slices<K::Key, A::State>,
    /// What belongs to all windows that contain the slice.
    pub(super) shared: Slices<K::Key, A::State>,
    /// Windows, by end, that contain a shared slice and have not fired. After a restart also
    /// some that have: those that the watermark had closed before.
    pub(super) pending: BTreeSet<(EventTime, EventTime)>,
    pub(super) sliding: Sliding<K::Key, A::State>,
    /// The window that is closing.
    pub(super) firing: Option<Firing<K::Key, A::State>>,
    /// Windows closed in this tick.
    pub(super) fired: bool,
    /// Tables of closed windows, until a commit has deleted what the store holds of them.
    pub(super) closed: Vec<Table<K::Key, A::State>>,
    /// Windows that were opened or closed since the last capture.
    pub(super) opened: Opened,
    /// The same, on their way into a commit.
    pub(super) captured: Opened,
    /// Entries of closed windows, for the count.
    pub(super) net: i64,
    /// Results must carry their order among results of equal time.
    pub(super) ordered_by: Option<u32>,
    pub(super) types: PhantomData<fn(T)>,
}

impl<T: Data, K: KeyOf<T>, W: FixedWindows, A: Aggregate<T>> WindowAggregate<T, K, W, A> {
    pub(crate) fn new(
        backing: Backing,
        ordered_by: Option<u32>,
        key_of: Arc<K>,
        windows: W,
        lateness: Span,
        aggregate: Arc<A>,
    ) -> Result<Self, highwater_state::Error> {
        let names = stored_windows(&backing)?;
        let shared: Slices<K::Key, A::State> = Slices::restore(&backing, &names, true);
        let mut pending = BTreeSet::new();
        for slice in &shared.list {
            windows.for_each(slice.window.start, |w| {
                pending.insert((w.end, w.start));
            });
        }
        let own = Slices::restore(&backing, &names, false);
        Ok(WindowAggregate {
            key_of,
            windows,
            aggregate,
            backing,
            lateness,
            own,
            shared,
            pending,
            sliding: Sliding::new(),
            firing: None,
            fired: false,
            closed: Vec::new(),
            opened: BTreeMap::new(),
            captured: BTreeMap::new(),
            net: 0,
            ordered_by,
            types: PhantomData,
        })
    }

    /// Takes in a batch in which nothing can be late; returns how many rows fell into no window.
    fn take_in(&mut self, batch: &Batch<T>, tick: Tick) -> Result<u64, Error> {
        let (mut next, mut filtered, mut all) = (0, 0, Vec::new());
        while let Some(&first) = batch.times.get(next) {
            let Some(index) = self.table_for(first) else {
                self.assign(batch, next, |window| all.push(window))?;
                filtered += u64::from(all.is_empty());
                for window in all.drain(..) {
                    self.add_to_window(window, batch, next, tick);
                }
                next += 1;
                continue;
            };
            // It is looked up once for a run of rows that share it.
            let (tables, _, key_of, aggregate) = self.single();
            let Slice { window, .. } = tables.list[index];
            let run = batch.times[next..].iter().take_while(|t| window.contains(**t)).count();
            // At least one row, or a window that does not hold its own event would never end.
            let end = next + run.max(1);
            if run < SHORT_RUN && end < batch.len() {
                next = self.take_in_scattered(batch, next, tick);
                continue;
            }
            let rows = in_a_row(batch, next..end);
            add_rows(&mut tables.list[index], key_of, aggregate, batch, rows, tick);
            next = end;
        }
        Ok(filtered)
    }

    /// The one table that a row at this time belongs to, whichever row it is: of its window, or
    /// of the slice that all of its windows share. `None`: it belongs to each of its windows.
    #[inline]
    pub(super) fn table_for(&mut self, time: EventTime) -> Option<usize> {
        let tables = self.single().0;
        if tables.recent_holds(time) {
            return Some(tables.recent);
        }
        if W::ONE_WINDOW {
            let mut window = None;
            self.windows.for_each(time, |found| window = Some(found));
            return Some(self.own.find(window?, &mut self.opened).0);
        }
        let slice = self.windows.slice(time)?;
        let (index, new) = self.shared.find(slice, &mut self.opened);
        if new {
            let pending = &mut self.pending;
            self.windows.for_each(time, |w| {
                pending.insert((w.end, w.start));
            });
        }
        Some(index)
    }

    /// The tables of which [`table_for`](Self::table_for) speaks, and what goes with them.
    #[inline]
    pub(super) fn single(&mut self) -> (&mut Slices<K::Key, A::State>, &mut Opened, &K, &A) {
        let Self { key_of, aggregate, own, shared, opened, .. } = self;
        (if W::ONE_WINDOW { own } else { shared }, opened, &**key_of, &**aggregate)
    }

    fn assign(&self, batch: &Batch<T>, index: usize, f: impl FnMut(Window)) -> Result<(), Error> {
        let _guard = guard(batch, index);
        let bad = |e: BadWindow| user_error(e.into(), &batch.origin, index);
        self.windows.assign(batch.times[index], f).map_err(bad)
    }

    fn add_to_window(&mut self, window: Window, batch: &Batch<T>, index: usize, tick: Tick) {
        let (at, _) = self.own.find(window, &mut self.opened);
        let (key_of, aggregate) = (&*self.key_of, &*self.aggregate);
        let row = in_a_row(batch, index..index + 1);
        add_rows(&mut self.own.list[at], key_of, aggregate, batch, row, tick);
    }

    /// As [`take_in`](Self::take_in), where some rows may be late for some or all windows.
    fn take_in_judged(
        &mut self,
        batch: &Batch<T>,
        mut judge: Judge<'_>,
        cx: &mut Cx,
    ) -> Result<(), Error> {
        let mut late = LateRows::new();
        let (mut open, lateness) = (Vec::new(), self.lateness);
        for index in 0..batch.len() {
            let bounds = judged_by(judge.bounds(index), cx.before);
            let mut missed = None;
            open.clear();
            self.assign(batch, index, |window| {
                match bounds.iter().find(|b| window.is_over_by(b.watermark, lateness)) {
                    Some(bound) => {
                        missed.get_or_insert((window, *bound));
                    }
                    None => open.push(window),
                }
            })?;
            let time = batch.times[index];
            match missed {
                Some((window, bound)) if open.is_empty() => {
                    let _guard = guard(batch, index);
                    let row = batch.rows[index].clone();
                    late.push(row, time, Some(window), bound, &batch.origin, index);
                    continue;
                }
                None if open.is_empty() => {
                    cx.counters.filtered += 1;
                    continue;
                }
                _ => cx.counters.used += 1,
            }
            // If it counts in all of its windows, none of them has fired, and the slice that
            // they share may still change.
            match missed.map_or_else(|| self.table_for(time), |_| None) {
                Some(at) => {
                    let (tables, _, key_of, aggregate) = self.single();
                    let row = in_a_row(batch, index..index + 1);
                    add_rows(&mut tables.list[at], key_of, aggregate, batch, row, cx.tick);
                }
                None => {
                    for window in open.drain(..) {
                        self.add_to_window(window, batch, index, cx.tick);
                    }
                }
            }
        }
        late.send(1, cx);
        Ok(())
    }

    fn tables(&mut self) -> impl Iterator<Item = &mut Table<K::Key, A::State>> {
        let firing = self.firing.iter_mut().filter_map(|firing| match &mut firing.rest {
            Rest::Table(closing) => Some(&mut closing.slice),
            Rest::Merged(_) => None,
        });
        let slices = self.own.list.iter_mut().chain(&mut self.shared.list).chain(firing);
        slices.map(|slice| &mut slice.table).chain(&mut self.closed)
    }

    fn open(&self) -> impl Iterator<Item = &Slice<K::Key, A::State>> {
        self.own.list.iter().chain(&self.shared.list)
    }
}

/// The bounds that decide whether a row is late: never those of the tick.
fn judged_by(bounds: [Bound; 2], tick_before: Watermark) -> [Bound; 2] {
    if planted("late-judged-per-tick") {
        bounds.map(|bound| Bound { watermark: tick_before, ..bound })
    } else {
        bounds
    }
}

impl<T: Data, K: KeyOf<T>, W: FixedWindows, A: Aggregate<T>> Logic for WindowAggregate<T, K, W, A> {
    fn batch(&mut self, _: usize, rows: Box<dyn Rows>, cx: &mut Cx) -> Result<(), Error> {
        let batch = typed::<T>(rows)?;
        let total = batch.len() as u64;
        cx.counters.events_in += total;
        let judge = Judge::new(&batch, cx.before);
        if !judge.all_on_time() {
            self.take_in_judged(&batch, judge, cx)?;
            batch.recycle();
            return Ok(());
        }
        let filtered = self.take_in(&batch, cx.tick)?;
        cx.counters.filtered += filtered;
        cx.counters.used += total - filtered;
        batch.recycle();
        Ok(())
    }

    fn tick_end(&mut self, cx: &mut Cx) -> Result<(), Error> {
        cx.behind = self.lateness;
        let mut sent = 0;
        while sent < RESULTS {
            let firing = match self.firing.take() {
                Some(firing) => Some(firing),
                None => match self.next_over(cx) {
                    Some(window) => self.begin_firing(window)?,
                    None => {
                        if std::mem::take(&mut self.fired) && !self.shared.list.is_empty() {
                            self.drop_slices(cx.now)?;
                        }
                        return Ok(());
                    }
                },
            };
            self.fired = true;
            if let Some(firing) = firing {
                sent += self.fire(firing, cx)?;
            }
        }
        cx.again = true;
        Ok(())
    }

    fn begin_capture(&mut self) {
        // What has closed and was captured before is in the store's last commit.
        self.closed.retain(|table| !table.is_spent());
        self.tables().for_each(Table::begin_capture);
        self.captured = std::mem::take(&mut self.opened);
    }

    fn capture(
        &mut self,
        id: &Arc<str>,
        budget: &mut usize,
        into: &mut Vec<Changes>,
    ) -> Result<bool, Error> {
        into.extend(capture_names(&mut self.captured, id)?);
        for table in self.tables() {
            if !table.capture(id, budget, into)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn committed(&mut self) {
        self.tables().for_each(Table::committed);
    }

    fn memory(&self) -> usize {
        self.sliding.memory() + self.open().map(|slice| slice.table.memory()).sum::<usize>()
    }

    fn evict(&mut self, bytes: usize) {
        let mut missing = bytes.saturating_sub(self.sliding.memory());
        self.sliding.clear();
        // From behind: windows that close last are read back last.
        for slice in self.own.list.iter_mut().rev().chain(self.shared.list.iter_mut().rev()) {
            missing = missing.saturating_sub(slice.table.evict(missing));
        }
    }

    fn entries(&self) -> i64 {
        self.net + self.open().map(|slice| slice.table.net()).sum::<i64>()
    }
}

/// The names of windows that were opened and closed, as changes of the store.
pub(super) fn capture_names(
    captured: &mut Opened,
    id: &Arc<str>,
) -> Result<Option<Changes>, highwater_state::Error> {
    let mut changes = Changes::new(id.clone());
    for (window, open) in std::mem::take(captured) {
        let name = |bytes: &mut Vec<u8>| {
            bytes.extend_from_slice(&window_prefix(window));
            Ok(())
        };
        if open {
            changes.put(OPEN_WINDOWS, name, |_| Ok(()))?;
        } else {
            changes.delete(OPEN_WINDOWS, name)?;
        }
    }
    Ok(Some(changes).filter(|changes| !changes.is_empty()))
}

/// The bound that an element-wise operator holds a row to, if the row broke it.
pub(crate) fn late_element(bounds: [Bound; 2], time: EventTime) -> Option<Bound> {
    bounds.into_iter().find(|bound| bound.watermark.has_passed(time))
}
