//! The interval join: rows of two sides that lie close to each other in time.

use std::fmt;
use std::sync::Arc;

use highwater_state::Changes;
use highwater_state::planted::planted;

use super::interval::Interval;
use super::join_results::Results;
use super::join_rows::{JoinRows, Kept, Seen};
use super::waiting::Place;
use super::window::late_element;
use super::{Cx, Judge, LateRows, Logic, RowGuard, typed};
use crate::error::Error;
use crate::event::{BATCH_ROWS, Data, Rows, Stored};
use crate::keyed::{Backing, Either, KeyOf, encode_key};
use crate::time::{EventTime, Span, Watermark};

/// First byte of an entry's key: the side.
const LEFT: u8 = 0;
const RIGHT: u8 = 1;

/// Which rows come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JoinKind {
    /// Pairs.
    Inner,
    /// Pairs, and left rows without a partner.
    Left,
    /// Pairs, and right rows without a partner.
    Right,
    /// Pairs, and rows of both sides without a partner.
    Full,
    /// Left rows that have a partner, once each.
    Semi,
    /// Left rows that have none.
    Anti,
}

impl JoinKind {
    fn tells_pairs(self) -> bool {
        !matches!(self, JoinKind::Semi | JoinKind::Anti)
    }

    pub(crate) fn tells_lone_left(self) -> bool {
        matches!(self, JoinKind::Left | JoinKind::Full | JoinKind::Anti)
    }

    pub(crate) fn tells_lone_right(self) -> bool {
        matches!(self, JoinKind::Right | JoinKind::Full)
    }
}

impl fmt::Display for JoinKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            JoinKind::Inner => "inner",
            JoinKind::Left => "left",
            JoinKind::Right => "right",
            JoinKind::Full => "full",
            JoinKind::Semi => "semi",
            JoinKind::Anti => "anti",
        })
    }
}

/// What the join is asked for: partners, and what to make of them.
pub(crate) struct IntervalSpec<A, B, C, F> {
    pub(crate) left_key: Arc<A>,
    pub(crate) right_key: Arc<B>,
    pub(crate) interval: Interval,
    pub(crate) kind: JoinKind,
    /// What partners must fulfil beside key and time.
    pub(crate) condition: Arc<C>,
    /// Makes a result of a pair or of a row without a partner.
    pub(crate) output: Arc<F>,
}

/// Rows are joined when the second of a pair comes. A row goes when the watermark is beyond the
/// last time of its partners: what is accepted later has no earlier time, so it could not have
/// met the row. What comes out has no time before the watermark of the tick before.
pub(crate) struct IntervalJoin<L, R, A, B, C, F, O> {
    spec: IntervalSpec<A, B, C, F>,
    left: JoinRows<L>,
    right: JoinRows<R>,
    results: Results<O>,
}

impl<L, R, A, B, C, F, O> IntervalJoin<L, R, A, B, C, F, O>
where
    L: Stored,
    R: Stored,
    A: KeyOf<L>,
    B: KeyOf<R, Key = A::Key>,
    C: Fn(&L, &R) -> bool,
    F: Fn(&A::Key, Option<&L>, Option<&R>) -> Option<O>,
    O: Data,
{
    pub(crate) fn new(
        spec: IntervalSpec<A, B, C, F>,
        backing: &Backing,
        ordered_by: Option<u32>,
    ) -> Result<Self, highwater_state::Error> {
        let mut left = JoinRows::new(LEFT, backing.id.clone());
        let mut right = JoinRows::new(RIGHT, backing.id.clone());
        backing.scan(&[LEFT], |key, value| left.restore(&key[1..], value))?;
        backing.scan(&[RIGHT], |key, value| right.restore(&key[1..], value))?;
        Ok(IntervalJoin { spec, left, right, results: Results::new(ordered_by) })
    }

    /// Joins a left row with the right ones that are there, and keeps it for those to come.
    fn accept_left(&mut self, place: Place, row: L) -> Result<(), Error> {
        let Self { spec, left, right, results } = self;
        let mut matched = false;
        let mut failed = Ok(());
        right.visit(place.hash, spec.interval.of_left(place.time), |kept| {
            // Where only whether there is a partner counts, the first one tells.
            let told = matched && !spec.kind.tells_pairs();
            if failed.is_err() || told || !spec.are_partners(&place, &row, kept) {
                return Seen::Other;
            }
            matched = true;
            if spec.kind.tells_pairs() {
                failed = spec.tell(results, Some((&place, &row)), Some((&kept.place, &kept.row)));
            }
            Seen::Matched
        })?;
        failed?;
        match spec.kind {
            JoinKind::Semi if matched => spec.tell(results, Some((&place, &row)), None)?,
            JoinKind::Anti if matched => {}
            _ => left.push(place, row, matched),
        }
        Ok(())
    }

    /// The same from the other side.
    fn accept_right(&mut self, place: Place, row: R) -> Result<(), Error> {
        let Self { spec, left, right, results } = self;
        let mut matched = false;
        let mut failed = Ok(());
        left.visit(place.hash, spec.interval.of_right(place.time), |kept| {
            if failed.is_err() || !spec.are_partners_of_right(kept, &place, &row) {
                return Seen::Other;
            }
            matched = true;
            match spec.kind {
                JoinKind::Anti => Seen::Done,
                JoinKind::Semi => {
                    failed = spec.tell(results, Some((&kept.place, &kept.row)), None);
                    Seen::Done
                }
                _ => {
                    let pair = (Some((&kept.place, &kept.row)), Some((&place, &row)));
                    failed = spec.tell(results, pair.0, pair.1);
                    Seen::Matched
                }
            }
        })?;
        failed?;
        right.push(place, row, matched);
        Ok(())
    }

    /// Lets rows go that can find no partner any more, and tells of those that have found none.
    fn let_go(&mut self, watermark: Watermark) -> Result<(), Error> {
        let Self { spec, left, right, results } = self;
        let Interval { lower, upper } = spec.interval;
        let over = |end: EventTime| match watermark {
            Watermark::At(at) if planted("join-evicts-early") => end <= at,
            watermark => watermark.has_passed(end),
        };
        left.let_go(
            |time| over(time + upper),
            |kept| {
                let lone = spec.kind.tells_lone_left() && !kept.matched;
                let times = if lone { 1 + usize::from(planted("outer-row-twice")) } else { 0 };
                (0..times)
                    .try_for_each(|_| spec.tell(results, Some((&kept.place, &kept.row)), None))
            },
        )?;
        right.let_go(
            |time| over(time - lower),
            |kept| match spec.kind.tells_lone_right() && !kept.matched {
                true => spec.tell(results, None, Some((&kept.place, &kept.row))),
                false => Ok(()),
            },
        )
    }
}

impl<A, B, C, F> IntervalSpec<A, B, C, F> {
    fn are_partners<L, R>(&self, place: &Place, left: &L, right: &Kept<R>) -> bool
    where
        A: KeyOf<L>,
        B: KeyOf<R, Key = A::Key>,
        C: Fn(&L, &R) -> bool,
    {
        self.interval.holds(place.time, right.place.time)
            && self.same_key(left, &right.row)
            && (self.condition)(left, &right.row)
    }

    fn are_partners_of_right<L, R>(&self, left: &Kept<L>, place: &Place, right: &R) -> bool
    where
        A: KeyOf<L>,
        B: KeyOf<R, Key = A::Key>,
        C: Fn(&L, &R) -> bool,
    {
        self.interval.holds(left.place.time, place.time)
            && self.same_key(&left.row, right)
            && (self.condition)(&left.row, right)
    }

    /// Rows are looked up by the hash of their key, and two keys may have one hash.
    fn same_key<L, R>(&self, left: &L, right: &R) -> bool
    where
        A: KeyOf<L>,
        B: KeyOf<R, Key = A::Key>,
    {
        self.left_key.with_key(left, |a| self.right_key.with_key(right, |b| a == b))
    }

    /// Tells of a pair, at the later time, or of a row alone, at the last time at which a
    /// partner could have come: before it nobody knew that there would be none.
    fn tell<L, R, O>(
        &self,
        results: &mut Results<O>,
        left: Option<(&Place, &L)>,
        right: Option<(&Place, &R)>,
    ) -> Result<(), Error>
    where
        A: KeyOf<L>,
        B: KeyOf<R, Key = A::Key>,
        F: Fn(&A::Key, Option<&L>, Option<&R>) -> Option<O>,
        O: Data,
    {
        let (l, r) = (left.map(|(_, row)| row), right.map(|(_, row)| row));
        let Interval { lower, upper } = self.interval;
        let time = match (left, right) {
            (Some((l, _)), Some((r, _))) => l.time.max(r.time),
            (Some((l, _)), None) if planted("outer-row-left-time") => l.time,
            (Some((l, _)), None) => l.time.max(l.time + upper),
            (None, Some((r, _))) => r.time.max(r.time - lower),
            (None, None) => return Ok(()),
        };
        let places = [left.map(|(place, _)| place), right.map(|(place, _)| place)];
        let with_key = |key: &A::Key| match (self.output)(key, l, r) {
            Some(row) => results.push(row, time, || Ok(encode_key(key)?), places),
            None => Ok(()),
        };
        match (l, r) {
            (Some(l), _) => self.left_key.with_key(l, with_key),
            (None, Some(r)) => self.right_key.with_key(r, with_key),
            (None, None) => Ok(()),
        }
    }
}

impl<L, R, A, B, C, F, O> Logic for IntervalJoin<L, R, A, B, C, F, O>
where
    L: Stored,
    R: Stored,
    A: KeyOf<L>,
    B: KeyOf<R, Key = A::Key>,
    C: Fn(&L, &R) -> bool,
    F: Fn(&A::Key, Option<&L>, Option<&R>) -> Option<O>,
    O: Data,
{
    fn batch(&mut self, _: usize, rows: Box<dyn Rows>, cx: &mut Cx) -> Result<(), Error> {
        let mut batch = typed::<Either<L, R>>(rows)?;
        cx.counters.events_in += batch.len() as u64;
        let rows = std::mem::take(&mut batch.rows);
        let mut judge = Judge::new(&batch, cx.before);
        let on_time = judge.all_on_time();
        let mut late = LateRows::new();
        let mut guard = RowGuard::new(&batch.origin);
        for (index, row) in rows.into_iter().enumerate() {
            guard.index = index;
            let time = batch.times[index];
            let bound = if on_time { None } else { late_element(judge.bounds(index), time) };
            if let Some(bound) = bound {
                late.push(row, time, None, bound, &batch.origin, index);
                continue;
            }
            cx.counters.used += 1;
            let (order, hash) = (batch.origin.order(index), batch.hashes[index]);
            match row {
                Either::Left(row) => {
                    let place = self.left.place(time, order, hash);
                    self.accept_left(place, row)?;
                }
                Either::Right(row) => {
                    let place = self.right.place(time, order, hash);
                    self.accept_right(place, row)?;
                }
            }
            if self.results.len() >= BATCH_ROWS {
                self.results.send(cx);
            }
        }
        drop(guard);
        self.results.send(cx);
        late.send(1, cx);
        Ok(())
    }

    fn tick_end(&mut self, cx: &mut Cx) -> Result<(), Error> {
        self.let_go(cx.now)?;
        // Rows alone may have later times than any event has had. Semi rows come earlier than
        // in the last tick, so their bound is said whether or not there are any.
        let beyond = match self.spec.kind {
            JoinKind::Semi => self.spec.interval.upper.max(Span::ZERO),
            _ => Span::ZERO,
        };
        let told = self.results.largest();
        cx.largest = cx.largest.map(|time| time + beyond).max(told);
        self.results.send(cx);
        Ok(())
    }

    fn begin_capture(&mut self) {
        self.left.begin_capture();
        self.right.begin_capture();
    }

    fn capture(
        &mut self,
        _: &Arc<str>,
        budget: &mut usize,
        into: &mut Vec<Changes>,
    ) -> Result<bool, Error> {
        Ok(self.left.capture(budget, into)? && self.right.capture(budget, into)?)
    }

    fn memory(&self) -> usize {
        self.left.memory() + self.right.memory()
    }

    fn entries(&self) -> i64 {
        self.left.net() + self.right.net()
    }
}
