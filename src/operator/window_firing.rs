//! A window that closes, a part after the other: what the store holds of it comes into memory,
//! and results go out, for some key groups at a time.

use std::ops::Range;

use highwater_state::planted::planted;
use highwater_state::{KeyGroup, hash_key};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Cx;
use super::window::WindowAggregate;
use super::window_results::Results;
use super::window_sliding::Merged;
use super::window_tables::Slice;
use crate::aggregate::Aggregate;
use crate::error::Error;
use crate::event::Data;
use crate::keyed::{Backing, Key, KeyOf};
use crate::time::{Span, Watermark};
use crate::window::{FixedWindows, Window};

/// About so many results are made before those that follow wait until they are on their way.
pub(super) const RESULTS: usize = 8_192;

/// A part of a table of which nothing is known but that it may be large.
const PARTS: KeyGroup = 64;

/// A window of which not all results have been made.
pub(super) struct Firing<K, S> {
    pub(super) window: Window,
    pub(super) rest: Rest<K, S>,
}

/// What is left of it.
pub(super) enum Rest<K, S> {
    Table(Box<Closing<K, S>>),
    /// What slices that windows share hold together.
    Merged(Box<dyn Iterator<Item = (K, S)>>),
}

/// A table that is emptied, in order of its key groups.
pub(super) struct Closing<K, S> {
    pub(super) slice: Slice<K, S>,
    left: Range<KeyGroup>,
    /// How many groups the next part has.
    width: KeyGroup,
}

impl<K: Key, S: Serialize> Closing<K, S> {
    pub(super) fn new(slice: Slice<K, S>, groups: Range<KeyGroup>) -> Self {
        let (table, count) = (&slice.table, groups.end - groups.start);
        let parts = if table.is_complete() {
            KeyGroup::try_from(table.len() / RESULTS + 1).unwrap_or(KeyGroup::MAX)
        } else {
            PARTS
        };
        Closing { left: groups, width: (count / parts).max(1), slice }
    }

    pub(super) fn is_done(&self) -> bool {
        self.left.is_empty()
    }

    /// Empties the next part, and by the next commit what the store holds of it.
    pub(super) fn part<T, A: Aggregate<T, State = S>>(
        &mut self,
        backing: &Backing,
        aggregate: &A,
        mut visit: impl FnMut(K, S),
    ) -> Result<(), Error>
    where
        S: DeserializeOwned,
    {
        let mut end = self.left.start.saturating_add(self.width).min(self.left.end);
        if self.slice.table.is_complete() {
            // To the end of what lies together in memory.
            end = self.slice.table.part(end.saturating_sub(1)).end.min(self.left.end);
        }
        let part = self.left.start..end;
        self.slice.gather(backing, aggregate, part.clone())?;
        let mut count = 0;
        let visit = |key, state| {
            count += 1;
            visit(key, state);
        };
        if part == backing.groups {
            // All that there is on this worker: nobody needs to look to which group a key belongs.
            self.slice.table.drain(visit);
        } else {
            self.slice.table.drain_groups(part, visit);
        }
        self.left.start = end;
        if count < RESULTS / 4 {
            self.width = self.width.saturating_mul(2);
        } else if count > RESULTS {
            self.width = (self.width / 2).max(1);
        }
        if self.is_done() {
            self.slice.table.completed();
        }
        Ok(())
    }
}

impl<T: Data, K: KeyOf<T>, W: FixedWindows, A: Aggregate<T>> WindowAggregate<T, K, W, A> {
    /// Whether a window has had its result.
    fn is_over(&self, window: Window, watermark: Watermark) -> bool {
        let early = planted("window-cleanup-early");
        window.is_over_by(watermark, if early { Span::ZERO } else { self.lateness })
    }

    /// The next window to fire, in order of end.
    pub(super) fn next_over(&mut self, cx: &Cx) -> Option<Window> {
        while let Some((end, start)) = self.pending.first().copied() {
            // It fired before the restart.
            if !self.is_over(Window { start, end }, cx.before) {
                break;
            }
            self.pending.pop_first();
        }
        let own = self.own.list.first().map(|slice| (slice.window.end, slice.window.start));
        let next = self.pending.first().copied().into_iter().chain(own).min();
        let next = next.map(|(end, start)| Window { start, end });
        next.filter(|window| self.is_over(*window, cx.now))
    }

    /// Begins to close a window: `None` where nothing is in it.
    pub(super) fn begin_firing(
        &mut self,
        window: Window,
    ) -> Result<Option<Firing<K::Key, A::State>>, Error> {
        let own = self.own.take(window);
        let closing = own.map(|slice| Closing::new(slice, self.backing.groups.clone()));
        let rest = if self.pending.remove(&(window.end, window.start)) {
            let mut whole = self.shared_part(window)?;
            if let Some(closing) = closing {
                let aggregate = self.aggregate.clone();
                self.empty(closing, |key, state| {
                    whole.add(hash_key(&key), key, state, |a, b| aggregate.merge(a, b));
                })?;
            }
            Rest::Merged(Box::new(whole.into_entries()))
        } else if let Some(closing) = closing {
            Rest::Table(Box::new(closing))
        } else {
            return Ok(None);
        };
        Ok(Some(Firing { window, rest }))
    }

    /// Sends the next results of a window, and says how many; the window stays if there are more.
    pub(super) fn fire(
        &mut self,
        firing: Firing<K::Key, A::State>,
        cx: &mut Cx,
    ) -> Result<usize, Error> {
        let Firing { window, rest } = firing;
        let mut results = Results::new(window, self.ordered_by);
        let rest = match rest {
            Rest::Table(mut closing) => {
                let (aggregate, mut failed) = (self.aggregate.clone(), Ok(()));
                closing.part(&self.backing, &*aggregate, |key, state| {
                    if let Err(error) = results.push(key, aggregate.finish(state)) {
                        failed = Err(error);
                    }
                })?;
                failed?;
                if closing.is_done() {
                    self.close(closing.slice);
                    None
                } else {
                    Some(Rest::Table(closing))
                }
            }
            Rest::Merged(mut entries) => {
                for (key, state) in entries.by_ref().take(RESULTS) {
                    results.push(key, self.aggregate.finish(state))?;
                }
                (results.rows.len() == RESULTS).then_some(Rest::Merged(entries))
            }
        };
        self.firing = rest.map(|rest| Firing { window, rest });
        cx.largest = cx.largest.max(Some(window.last_time()));
        let count = results.rows.len();
        if count > 0 {
            results.send(self.lateness, cx);
        }
        Ok(count)
    }

    /// What the slices of a window hold together.
    fn shared_part(&mut self, window: Window) -> Result<Merged<K::Key, A::State>, Error> {
        let Self { sliding, shared, aggregate, backing, .. } = self;
        sliding.window(
            window,
            shared,
            |slice| slice.gather_all(backing, &**aggregate),
            |into, from| aggregate.merge(into, from),
        )
    }

    /// Empties a table that is no longer needed, part after part.
    fn empty(
        &mut self,
        mut closing: Closing<K::Key, A::State>,
        mut visit: impl FnMut(K::Key, A::State),
    ) -> Result<(), Error> {
        while !closing.is_done() {
            closing.part(&self.backing, &*self.aggregate, &mut visit)?;
        }
        self.close(closing.slice);
        Ok(())
    }

    /// Lets a table go that has been emptied.
    fn close(&mut self, slice: Slice<K::Key, A::State>) {
        self.opened.insert(slice.name(), false);
        let table = slice.table;
        self.net += table.net();
        if !table.is_spent() {
            self.closed.push(table);
        }
    }

    /// Lets slices go whose last window has fired.
    pub(super) fn drop_slices(&mut self, now: Watermark) -> Result<(), Error> {
        let over = |slice: &&Slice<K::Key, A::State>| {
            let mut last = None;
            self.windows.for_each(slice.window.start, |window| {
                last.get_or_insert(window);
            });
            last.is_none_or(|window| self.is_over(window, now))
        };
        let count = self.shared.list.iter().take_while(over).count();
        self.shared.recent = 0;
        for slice in self.shared.list.drain(..count).collect::<Vec<_>>() {
            // What is to be deleted must be known.
            self.empty(Closing::new(slice, self.backing.groups.clone()), |_, _| ())?;
        }
        Ok(())
    }
}
