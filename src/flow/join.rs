//! Joins of two keyed streams.

use std::panic::Location;
use std::sync::Arc;

use highwater_state::schema_of;

use super::Types;
use super::keyed::Keyed;
use super::plan::{Factory, OutPort};
use super::ports::WithLate;
use super::stream::{Spec, Timed};
use crate::event::{Data, Stored};
use crate::keyed::{Either, KeyOf};
use crate::operator::Logic;
use crate::operator::interval::Interval;
use crate::operator::interval_join::{IntervalJoin as Operator, IntervalSpec, JoinKind};
use crate::time::Span;

/// Two keyed streams that are to be joined: see [`Keyed::join`].
#[must_use = "say how: `.interval(..)`, `.window(..)` or `.as_of(..)`"]
pub struct Join<L, R, A, B> {
    pub(super) left: Keyed<L, A, Timed>,
    pub(super) right: Keyed<R, B, Timed>,
}

impl<L: Data, A: KeyOf<L>> Keyed<L, A, Timed> {
    /// Joins these rows, the left ones, with rows of another stream that have the same key. How
    /// they must lie in time is said next.
    pub fn join<R: Data, B: KeyOf<R, Key = A::Key>>(
        &self,
        right: &Keyed<R, B, Timed>,
    ) -> Join<L, R, A, B> {
        Join { left: self.clone(), right: right.clone() }
    }
}

impl<L: Stored, R: Stored, A: KeyOf<L>, B: KeyOf<R, Key = A::Key>> Join<L, R, A, B> {
    /// Joins rows that lie close to each other: a left row with the right ones whose time is in
    /// `[left + lower, left + upper]`, both included. `id` names the operator in errors, metrics
    /// and state.
    ///
    /// Rows are joined when the second one of a pair comes, and a pair has the time of the later
    /// one. A row is late by the promise of its own partition, and all others meet all their
    /// partners. State is bounded by the interval: a row goes when the watermark, the minimum of
    /// both sides, is past the time of its last possible partner. Then, and not before, a row
    /// that has met none comes out alone, if the join is one that tells: a left one at
    /// `max(left, left + upper)`, a right one at `max(right, right - lower)`. All rows that are
    /// kept are in memory.
    ///
    /// ```
    /// use highwater::prelude::*;
    ///
    /// #[derive(Clone, serde::Serialize, serde::Deserialize)]
    /// struct Order { id: u32, at: EventTime }
    /// #[derive(Clone, serde::Serialize, serde::Deserialize)]
    /// struct Payment { order: u32, at: EventTime }
    ///
    /// let flow = Flow::new("orders");
    /// let orders = flow.source("orders", Memory::of([Order { id: 7, at: EventTime::MIN }]));
    /// let paid = flow.source("payments", Memory::of([Payment { order: 7, at: EventTime::MIN }]));
    /// let orders = orders.event_time(|o| o.at, Disorder::ascending()).key_by(|o| &o.id);
    /// let paid = paid.event_time(|p| p.at, Disorder::ascending()).key_by(|p| &p.order);
    /// orders
    ///     .join(&paid)
    ///     .interval("paid-in-time", Span::ZERO, minutes(30))
    ///     .left(|id, _order, payment| (*id, payment.is_some()))
    ///     .drop_late("an example")
    ///     .sink("out", Stdout::json());
    /// println!("{}", flow.plan()?);
    /// # Ok::<(), highwater::Error>(())
    /// ```
    #[track_caller]
    pub fn interval(
        self,
        id: &str,
        lower: Span,
        upper: Span,
    ) -> IntervalJoin<L, R, A, B, impl Fn(&L, &R) -> bool + Send + Sync + 'static> {
        IntervalJoin {
            join: self,
            id: id.to_owned(),
            interval: Interval { lower, upper },
            condition: |_: &L, _: &R| true,
            conditional: false,
            location: Location::caller(),
        }
    }
}

/// An interval join that waits to be told which rows come out: see [`Join::interval`].
#[must_use = "say which rows come out: `.inner(..)`, `.left(..)`, `.semi()`, .."]
pub struct IntervalJoin<L, R, A, B, C> {
    join: Join<L, R, A, B>,
    id: String,
    interval: Interval,
    condition: C,
    conditional: bool,
    location: &'static Location<'static>,
}

/// What comes out of a join, and the late rows of both sides.
pub type Joined<O, L, R> = WithLate<O, Either<L, R>>;

impl<L, R, A, B, C> IntervalJoin<L, R, A, B, C>
where
    L: Stored,
    R: Stored,
    A: KeyOf<L>,
    B: KeyOf<R, Key = A::Key>,
    C: Fn(&L, &R) -> bool + Send + Sync + 'static,
{
    /// Partners must fulfil `condition` too. Rows that find no such partner have found none.
    pub fn on<D>(self, condition: D) -> IntervalJoin<L, R, A, B, D>
    where
        D: Fn(&L, &R) -> bool + Send + Sync + 'static,
    {
        let IntervalJoin { join, id, interval, location, .. } = self;
        IntervalJoin { join, id, interval, condition, conditional: true, location }
    }

    /// Pairs.
    pub fn inner<O: Data>(
        self,
        f: impl Fn(&A::Key, &L, &R) -> O + Send + Sync + 'static,
    ) -> Joined<O, L, R> {
        self.build(JoinKind::Inner, move |key, l, r| Some(f(key, l?, r?)))
    }

    /// Pairs, and each left row that has met no partner.
    pub fn left<O: Data>(
        self,
        f: impl Fn(&A::Key, &L, Option<&R>) -> O + Send + Sync + 'static,
    ) -> Joined<O, L, R> {
        self.build(JoinKind::Left, move |key, l, r| Some(f(key, l?, r)))
    }

    /// Pairs, and each right row that has met no partner.
    pub fn right<O: Data>(
        self,
        f: impl Fn(&A::Key, Option<&L>, &R) -> O + Send + Sync + 'static,
    ) -> Joined<O, L, R> {
        self.build(JoinKind::Right, move |key, l, r| Some(f(key, l, r?)))
    }

    /// Pairs, and each row of both sides that has met no partner. `f` gets one row or both.
    pub fn full<O: Data>(
        self,
        f: impl Fn(&A::Key, Option<&L>, Option<&R>) -> O + Send + Sync + 'static,
    ) -> Joined<O, L, R> {
        self.build(JoinKind::Full, move |key, l, r| Some(f(key, l, r)))
    }

    /// Each left row that has a partner, once: it comes, and goes from the state, when it meets
    /// its first partner, but has the time `max(left, left + upper)`, as rows without a partner
    /// have. Which partner happens to be the first to come must not show.
    pub fn semi(self) -> Joined<L, L, R> {
        self.build(JoinKind::Semi, |_, l, _| l.cloned())
    }

    /// Each left row that has no partner, when none can come any more.
    pub fn anti(self) -> Joined<L, L, R> {
        self.build(JoinKind::Anti, |_, l, _| l.cloned())
    }

    fn build<O: Data, F>(self, kind: JoinKind, output: F) -> Joined<O, L, R>
    where
        F: Fn(&A::Key, Option<&L>, Option<&R>) -> Option<O> + Send + Sync + 'static,
    {
        let IntervalJoin { join, id, interval, condition, conditional, location } = self;
        let on = if conditional { ", on a condition" } else { "" };
        let spec = Spec {
            params: format!("{kind}, {interval}{on}; {}", interval.state_bound()),
            needs_order: true,
            fault: interval.check().err(),
            types: Types { key: schema_of::<A::Key>(), state: schema_of::<(L, R)>(), version: 1 },
            ..two_sided("interval_join")
        };
        let (left_key, right_key) = (join.left.key_of.clone(), join.right.key_of.clone());
        let (condition, output) = (Arc::new(condition), Arc::new(output));
        let make: Factory = Arc::new(move |cx| {
            let spec = IntervalSpec {
                left_key: left_key.clone(),
                right_key: right_key.clone(),
                interval,
                kind,
                condition: condition.clone(),
                output: output.clone(),
            };
            let logic: Operator<L, R, A, B, C, F, O> =
                Operator::new(spec, &cx.backing, cx.ordered_by)?;
            Ok(Box::new(logic) as Box<dyn Logic>)
        });
        let both = join.left.connect_at(&join.right, location).stream;
        let node = both.add(Some(&id), spec, vec![both.port], location, make);
        WithLate::new(both.at(node, 0), both.at(node, 1))
    }
}

/// The shape of a stateful operator over the rows of two streams.
pub(super) fn two_sided(kind: &'static str) -> Spec {
    let outputs = vec![OutPort::main(), OutPort::heard("late")];
    Spec { stateful: true, outputs, ..Spec::stateless(kind) }
}
