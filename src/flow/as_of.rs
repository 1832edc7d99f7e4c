//! As-of joins: rows with the version of their key that was in force.

use std::panic::Location;
use std::sync::Arc;

use highwater_state::schema_of;

use super::Types;
use super::join::{Join, Joined, two_sided};
use super::plan::Factory;
use super::ports::WithLate;
use super::stream::Spec;
use crate::event::{Data, Stored};
use crate::keyed::KeyOf;
use crate::operator::Logic;
use crate::operator::as_of::{AsOfJoin as Operator, AsOfSpec};
use crate::time::Span;

/// An as-of join whose state may grow without bound: the program must say that it may, or how
/// old a version may be.
#[must_use = "say `.within(..)` or `.unbounded()`: how long is a version good for?"]
pub struct AsOf<L, R, A, B> {
    join: Join<L, R, A, B>,
    id: String,
    location: &'static Location<'static>,
}

/// An as-of join that waits to be told which rows come out: see [`Join::as_of`].
#[must_use = "say which rows come out: `.inner(..)` or `.left(..)`"]
pub struct AsOfJoin<L, R, A, B> {
    join: Join<L, R, A, B>,
    id: String,
    within: Option<Span>,
    location: &'static Location<'static>,
}

impl<L: Stored, R: Stored, A: KeyOf<L>, B: KeyOf<R, Key = A::Key>> Join<L, R, A, B> {
    /// Joins each left row with the version of its key that was in force: the newest right row
    /// with `right <= left`, by time; of those at one time, the last by (source, partition,
    /// position). At equal times right comes before left. A left row waits until the watermark,
    /// the minimum of both sides, has passed its time, and the result has that time. Of the
    /// versions that the watermark has passed, only the newest of each key is kept. `id` names
    /// the operator in errors, metrics and state.
    ///
    /// ```
    /// use highwater::prelude::*;
    ///
    /// #[derive(Clone, serde::Serialize, serde::Deserialize)]
    /// struct Sale { item: u32, at: EventTime }
    /// #[derive(Clone, serde::Serialize, serde::Deserialize)]
    /// struct Price { item: u32, at: EventTime, cents: u64 }
    ///
    /// let flow = Flow::new("sales");
    /// let sales = flow.source("sales", Memory::of([Sale { item: 7, at: EventTime::MIN }]));
    /// let price = Price { item: 7, at: EventTime::MIN, cents: 250 };
    /// let prices = flow.source("prices", Memory::of([price]));
    /// let sales = sales.event_time(|s| s.at, Disorder::ascending()).key_by(|s| &s.item);
    /// let prices = prices.event_time(|p| p.at, Disorder::ascending()).key_by(|p| &p.item);
    /// sales
    ///     .join(&prices)
    ///     .as_of("priced")
    ///     .within(days(30))
    ///     .left(|item, _sale, price| (*item, price.map(|p| p.cents)))
    ///     .drop_late("an example")
    ///     .sink("out", Stdout::json());
    /// println!("{}", flow.plan()?);
    /// # Ok::<(), highwater::Error>(())
    /// ```
    #[track_caller]
    pub fn as_of(self, id: &str) -> AsOf<L, R, A, B> {
        AsOf { join: self, id: id.to_owned(), location: Location::caller() }
    }
}

impl<L, R, A, B> AsOf<L, R, A, B> {
    /// A version is good for `age`: one with `right < left - age` is not taken, and goes when
    /// the watermark is past its time and `age`.
    pub fn within(self, age: Span) -> AsOfJoin<L, R, A, B> {
        let AsOf { join, id, location } = self;
        AsOfJoin { join, id, within: Some(age), location }
    }

    /// A version is good until the next one comes: the last one of each key is kept for ever.
    pub fn unbounded(self) -> AsOfJoin<L, R, A, B> {
        let AsOf { join, id, location } = self;
        AsOfJoin { join, id, within: None, location }
    }
}

impl<L: Stored, R: Stored, A: KeyOf<L>, B: KeyOf<R, Key = A::Key>> AsOfJoin<L, R, A, B> {
    /// Left rows that have a version.
    pub fn inner<O: Data>(
        self,
        f: impl Fn(&A::Key, &L, &R) -> O + Send + Sync + 'static,
    ) -> Joined<O, L, R> {
        self.build("inner", move |key, l, r| Some(f(key, l, r?)))
    }

    /// All left rows.
    pub fn left<O: Data>(
        self,
        f: impl Fn(&A::Key, &L, Option<&R>) -> O + Send + Sync + 'static,
    ) -> Joined<O, L, R> {
        self.build("left", move |key, l, r| Some(f(key, l, r)))
    }

    fn build<O: Data, F>(self, kind: &str, output: F) -> Joined<O, L, R>
    where
        F: Fn(&A::Key, &L, Option<&R>) -> Option<O> + Send + Sync + 'static,
    {
        let AsOfJoin { join, id, within, location } = self;
        let params = match within {
            Some(age) => format!("{kind}, a version is good for {age}"),
            None => format!("{kind}, the last version of each key is kept for ever"),
        };
        let fault = within.filter(|age| *age < Span::ZERO);
        let spec = Spec {
            params,
            needs_order: true,
            fault: fault.map(|age| format!("no version is good for {age}: it is below zero")),
            types: Types {
                key: schema_of::<(A::Key, L, R)>(),
                state: schema_of::<R>(),
                version: 1,
            },
            ..two_sided("as_of_join")
        };
        let (left_key, right_key) = (join.left.key_of.clone(), join.right.key_of.clone());
        let output = Arc::new(output);
        let make: Factory = Arc::new(move |cx| {
            let (left_key, right_key) = (left_key.clone(), right_key.clone());
            let spec = AsOfSpec { left_key, right_key, within, output: output.clone() };
            let logic: Operator<L, R, A, B, F, O> =
                Operator::new(spec, &cx.backing, cx.ordered_by)?;
            Ok(Box::new(logic) as Box<dyn Logic>)
        });
        let both = join.left.connect_at(&join.right, location).stream;
        let node = both.add(Some(&id), spec, vec![both.port], location, make);
        WithLate::new(both.at(node, 0), both.at(node, 1))
    }
}
