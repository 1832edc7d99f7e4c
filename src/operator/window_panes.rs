//! Fixed windows that tell what is in them before, at and after their end.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;

use highwater_state::planted::planted;
use highwater_state::{Changes, Table, decode, hash_key};
use serde::{Deserialize, Serialize};

use super::window::capture_names;
use super::window_tables::{Opened, stored_windows, window_prefix};
use super::{Cx, Judge, LateRows, Logic, RowGuard, typed, user_error};
use crate::aggregate::{Aggregate, Stamp};
use crate::error::Error;
use crate::event::{Batch, Data, LateReason, Origin, Rows};
use crate::keyed::{Backing, Key, KeyOf};
use crate::time::{EventTime, Span, Watermark};
use crate::window::{BadWindow, Emit, FixedWindows, Pane, PaneRules, Timing, Window};

pub(crate) struct WindowPanes<T, K: KeyOf<T>, W, A: Aggregate<T>> {
    key_of: Arc<K>,
    windows: W,
    rules: PaneRules,
    aggregate: Arc<A>,
    backing: Backing,
    /// Open windows with content, by end, then by start. One comes with its first event, and
    /// goes in the tick of its final panes.
    open: Vec<OpenWindow<K::Key, A::State>>,
    /// Tables of closed windows, until a commit has deleted what the store holds of them.
    closed: Vec<Table<K::Key, PaneState<A::State>>>,
    opened: Opened,
    captured: Opened,
    /// Entries of closed windows, for the count.
    net: i64,
    /// Panes of the open tick; empty between ticks.
    panes: Vec<Pane<K::Key, A::Output>>,
    /// The clock of the last tick; unknown after a restart.
    last_clock: Option<i64>,
    types: PhantomData<fn(T)>,
}

struct OpenWindow<K, S> {
    window: Window,
    table: Table<K, PaneState<S>>,
    /// Keys that have something to tell; some may have told it meanwhile.
    untold: Vec<(u64, K)>,
}

/// What is kept of one key and window.
#[derive(Clone, Serialize, Deserialize)]
struct PaneState<S> {
    /// Events since the last pane.
    untold: u64,
    /// The index of the next pane. Never goes back: a restart goes on counting.
    index: u32,
    /// Everything so far; since the last pane, where panes are purging.
    state: S,
    /// The list of keys with something to tell has an entry.
    #[serde(skip)]
    listed: bool,
}

fn decode_state<S: serde::de::DeserializeOwned>(
    bytes: &[u8],
) -> Result<PaneState<S>, highwater_state::Error> {
    let mut state: PaneState<S> = decode(bytes)?;
    if planted("pane-index-reset") {
        state.index = 0;
    }
    Ok(state)
}

impl<K: Key, S: Serialize + serde::de::DeserializeOwned> OpenWindow<K, S> {
    /// Puts back what the last commit holds of a window: which keys have something to tell. Their
    /// state is read when it is needed.
    fn restore(window: Window, backing: &Backing) -> Result<Self, highwater_state::Error> {
        let prefix = window_prefix(window);
        let mut untold = Vec::new();
        backing.scan(&prefix, |key, value| {
            let state: PaneState<S> = decode(value)?;
            if state.untold > 0 {
                let key: K = decode(&key[prefix.len()..])?;
                untold.push((hash_key(&key), key));
            }
            Ok(())
        })?;
        Ok(OpenWindow { window, table: Table::cold(prefix.to_vec()), untold })
    }

    /// Brings everything that the store holds of the window into memory.
    fn gather(&mut self, backing: &Backing) -> Result<(), highwater_state::Error> {
        let prefix = window_prefix(self.window);
        let Backing { store, id, groups, .. } = backing;
        for groups in self.table.incomplete_groups(groups.clone()) {
            store.scan(id, groups, &prefix, &mut |_, key, value| {
                self.table.load(decode(&key[prefix.len()..])?, decode_state(value)?);
                Ok(())
            })?;
        }
        self.table.completed();
        Ok(())
    }
}

impl<T: Data, K: KeyOf<T>, W: FixedWindows, A: Aggregate<T>> WindowPanes<T, K, W, A> {
    pub(crate) fn new(
        backing: Backing,
        key_of: Arc<K>,
        windows: W,
        rules: PaneRules,
        aggregate: Arc<A>,
    ) -> Result<Self, highwater_state::Error> {
        let mut open = Vec::new();
        for window in stored_windows(&backing)? {
            open.push(OpenWindow::restore(window, &backing)?);
        }
        open.sort_by_key(|open| (open.window.end, open.window.start));
        Ok(WindowPanes {
            key_of,
            windows,
            rules,
            aggregate,
            backing,
            open,
            closed: Vec::new(),
            opened: BTreeMap::new(),
            captured: BTreeMap::new(),
            net: 0,
            panes: Vec::new(),
            last_clock: None,
            types: PhantomData,
        })
    }

    fn find(&self, window: Window) -> Result<usize, usize> {
        let order = (window.end, window.start);
        self.open.binary_search_by_key(&order, |open| (open.window.end, open.window.start))
    }

    /// Reads the state of the batch's keys that is not in memory.
    fn read_back(&mut self, batch: &Batch<T>) -> Result<(), Error> {
        if self.open.iter().all(|open| open.table.is_complete()) {
            return Ok(());
        }
        let mut wanted: BTreeMap<usize, Vec<(u64, K::Key)>> = BTreeMap::new();
        for (index, row) in batch.rows.iter().enumerate() {
            let mut all = Vec::new();
            self.windows.for_each(batch.times[index], |window| all.push(window));
            for at in all.into_iter().filter_map(|window| self.find(window).ok()) {
                let key = self.key_of.with_key(row, Clone::clone);
                wanted.entry(at).or_default().push((batch.hashes[index], key));
            }
        }
        for (at, keys) in wanted {
            self.backing.read_back_keys(&mut self.open[at].table, keys, decode_state)?;
        }
        Ok(())
    }

    /// Adds a row to a window; a pane comes at once if the row completes a count.
    fn add(&mut self, window: Window, batch: &Batch<T>, index: usize, before: Watermark) {
        let at = match self.find(window) {
            Ok(at) => at,
            Err(at) => {
                self.opened.insert(window, true);
                let table = self.backing.table(window_prefix(window).to_vec(), 0);
                self.open.insert(at, OpenWindow { window, table, untold: Vec::new() });
                at
            }
        };
        let Self { key_of, aggregate, open, rules, panes, .. } = self;
        let OpenWindow { table, untold, .. } = &mut open[at];
        let (row, time, hash) = (&batch.rows[index], batch.times[index], batch.hashes[index]);
        let stamp = || Stamp { time, order: batch.origin.order(index) };
        key_of.with_key(row, |key| {
            let begin = || {
                let state = aggregate.init();
                PaneState { untold: 0, index: 0, state, listed: false }
            };
            let kept = table.update(hash, key, begin);
            aggregate.add(&mut kept.state, row, &stamp);
            kept.untold += 1;
            let counted = matches!(rules.emit, Emit::EveryCount(n) if kept.untold >= n);
            if counted && !window.is_closed_by(before) {
                panes.push(kept.tell(key, window, Timing::Early, rules, &**aggregate));
            } else if !kept.listed {
                kept.listed = true;
                untold.push((hash, key.clone()));
            }
        });
    }

    /// Tells what the keys of one window have to tell.
    fn tell(&mut self, at: usize, timing: Timing) -> Result<(), Error> {
        let Self { open, backing, panes, rules, aggregate, .. } = self;
        let OpenWindow { window, table, untold } = &mut open[at];
        let keys = std::mem::take(untold);
        if !table.is_complete() {
            backing.read_back_keys(table, keys.clone(), decode_state)?;
        }
        for (hash, key) in keys {
            let Some(kept) = table.get_mut(hash, &key) else { continue };
            kept.listed = false;
            if kept.untold > 0 {
                panes.push(kept.tell(&key, *window, timing, rules, &**aggregate));
            }
        }
        Ok(())
    }

    /// Tells the final pane of each key, and lets the window go.
    fn finish(&mut self, timing: Timing) -> Result<(), Error> {
        let mut open = self.open.remove(0);
        open.gather(&self.backing)?;
        self.opened.insert(open.window, false);
        let Self { panes, aggregate, rules, net, .. } = self;
        open.table.drain(|key, kept| {
            let value = aggregate.finish(kept.state);
            panes.push(rules.pane(key, open.window, value, kept.index, timing, true));
        });
        *net += open.table.net();
        if !open.table.is_spent() {
            self.closed.push(open.table);
        }
        Ok(())
    }

    /// Whether early panes are due on the clock of ticks; and when to look again.
    fn clock_passes(&mut self, cx: &mut Cx) -> bool {
        let Emit::EveryClock(span) = self.rules.emit else { return false };
        let (span, now) = (span.as_micros(), cx.clock_micros);
        let last = self.last_clock.replace(now);
        let passed = last.is_none_or(|last| last.div_euclid(span) < now.div_euclid(span));
        if !passed && self.open.iter().any(|open| !open.untold.is_empty()) {
            let next = now.saturating_sub(now.rem_euclid(span)).saturating_add(span);
            cx.wake_at_micros = Some(next);
        }
        passed
    }

    fn tables(&mut self) -> impl Iterator<Item = &mut Table<K::Key, PaneState<A::State>>> {
        self.open.iter_mut().map(|open| &mut open.table).chain(&mut self.closed)
    }

    fn send(&mut self, cx: &mut Cx) {
        let rows = std::mem::take(&mut self.panes);
        let batch = Batch {
            times: rows.iter().map(|pane| pane.window.last_time()).collect(),
            rows,
            hashes: Vec::new(),
            origin: Origin::Unordered,
            stragglers: Vec::new(),
            floor: Watermark::Unknown,
            behind: LateReason::Returned,
        };
        cx.send(0, batch);
    }
}

impl<S: Clone> PaneState<S> {
    fn tell<T, K: Key, A: Aggregate<T, State = S>>(
        &mut self,
        key: &K,
        window: Window,
        timing: Timing,
        rules: &PaneRules,
        aggregate: &A,
    ) -> Pane<K, A::Output> {
        let value = if rules.purging {
            aggregate.finish(std::mem::replace(&mut self.state, aggregate.init()))
        } else {
            aggregate.peek(&self.state)
        };
        let index = self.index;
        self.untold = 0;
        self.index += 1;
        let last = planted("pane-final-early") && timing == Timing::OnTime;
        rules.pane(key.clone(), window, value, index, timing, last)
    }
}

impl<T: Data, K: KeyOf<T>, W: FixedWindows, A: Aggregate<T>> Logic for WindowPanes<T, K, W, A> {
    fn batch(&mut self, _: usize, rows: Box<dyn Rows>, cx: &mut Cx) -> Result<(), Error> {
        let batch = typed::<T>(rows)?;
        cx.counters.events_in += batch.len() as u64;
        self.read_back(&batch)?;
        let mut judge = Judge::new(&batch, cx.before);
        let on_time = judge.all_on_time();
        let (mut late, lateness) = (LateRows::new(), self.rules.lateness);
        let mut open = Vec::new();
        let mut guard = RowGuard::new(&batch.origin);
        for (index, row) in batch.rows.iter().enumerate() {
            guard.index = index;
            let bounds = if on_time { None } else { Some(judge.bounds(index)) };
            let (time, mut missed) = (batch.times[index], None);
            let judged = |window: Window| {
                let mut bounds = bounds.iter().flatten();
                match bounds.find(|b| window.is_over_by(b.watermark, lateness)) {
                    Some(bound) => {
                        missed.get_or_insert((window, *bound));
                    }
                    None => open.push(window),
                }
            };
            let bad = |e: BadWindow| user_error(e.into(), &batch.origin, index);
            self.windows.assign(time, judged).map_err(bad)?;
            match missed {
                _ if !open.is_empty() => cx.counters.used += 1,
                Some((window, bound)) => {
                    late.push(row.clone(), time, Some(window), bound, &batch.origin, index);
                }
                None => cx.counters.filtered += 1,
            }
            for window in open.drain(..) {
                self.add(window, &batch, index, cx.before);
            }
        }
        drop(guard);
        late.send(1, cx);
        Ok(())
    }

    fn tick_end(&mut self, cx: &mut Cx) -> Result<(), Error> {
        let early = self.rules.passes(cx.before, cx.now) | self.clock_passes(cx);
        let mut at = 0;
        while let Some(window) = self.open.get(at).map(|open| open.window) {
            let timing = self.rules.timing(window, cx.before, cx.now);
            // Windows are sorted by end: those whose time is over stand in front.
            if at == 0 && self.rules.is_over(window, cx.now) {
                self.finish(timing.unwrap_or(Timing::OnTime))?;
                continue;
            }
            match timing {
                Some(timing) => self.tell(at, timing)?,
                None if early => self.tell(at, Timing::Early)?,
                None => break,
            }
            at += 1;
        }
        let largest = self.panes.iter().map(|pane| pane.window.last_time()).max();
        cx.largest = cx.largest.max(largest);
        self.send(cx);
        Ok(())
    }

    fn begin_capture(&mut self) {
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
        self.open.iter().map(|open| open.table.memory()).sum()
    }

    fn evict(&mut self, bytes: usize) {
        let mut missing = bytes;
        for open in self.open.iter_mut().rev() {
            missing = missing.saturating_sub(open.table.evict(missing));
        }
    }

    fn entries(&self) -> i64 {
        self.net + self.open.iter().map(|open| open.table.net()).sum::<i64>()
    }
}

impl PaneRules {
    fn pane<K, V>(
        &self,
        key: K,
        window: Window,
        value: V,
        index: u32,
        timing: Timing,
        is_final: bool,
    ) -> Pane<K, V> {
        let expires = window.end + self.lateness.max(Span::ZERO);
        Pane { key, window, value, index, timing, is_final, expires }
    }
}

/// Whether the final pane of a window has come, by the time that its panes carry.
pub(super) fn has_expired(expires: EventTime, watermark: Watermark) -> bool {
    Window { start: EventTime::MIN, end: expires }.is_closed_by(watermark)
}
