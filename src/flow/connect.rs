//! Two keyed streams as one, for operators with two inputs.

use std::panic::Location;
use std::sync::Arc;

use super::keyed::Keyed;
use super::plan::{Factory, Plan, PortRef};
use super::stream::{Spec, Stream, Timed};
use crate::event::Data;
use crate::keyed::{Either, EitherKey, KeyOf};
use crate::operator::Logic;
use crate::operator::lift::Lift;
use crate::operator::union::Union;

/// The kind of the operator in which the sides of connected streams meet.
const CONNECT: &str = "connect";

impl<L: Data, K: KeyOf<L>> Keyed<L, K, Timed> {
    /// These rows and those of another stream with keys of the same type, as one keyed stream:
    /// any operator behind it has two inputs, and sees the rows of a key from both. Its
    /// watermark is the minimum of both sides. In event-time order, events of equal time come
    /// by (source, partition, position), or by what made them, as everywhere; an event that
    /// comes on both sides, because a stream is connected with itself, comes on the left first.
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
    /// let both = orders.connect(&paid).window("both", Tumbling::of(hours(1))).aggregate(Count);
    /// both.drop_late("an example").sink("out", Stdout::json());
    /// println!("{}", flow.plan()?);
    /// # Ok::<(), highwater::Error>(())
    /// ```
    #[track_caller]
    pub fn connect<R: Data, K2: KeyOf<R, Key = K::Key>>(
        &self,
        other: &Keyed<R, K2, Timed>,
    ) -> Keyed<Either<L, R>, EitherKey<K, K2>, Timed> {
        self.connect_at(other, Location::caller())
    }

    pub(super) fn connect_at<R: Data, K2: KeyOf<R, Key = K::Key>>(
        &self,
        other: &Keyed<R, K2, Timed>,
        location: &'static Location<'static>,
    ) -> Keyed<Either<L, R>, EitherKey<K, K2>, Timed> {
        let sides_before = sides(&self.stream.plan.lock(), self.stream.port);
        let left = lift(&self.stream, Either::<L, R>::Left, 0, location);
        let right = lift(&other.stream, Either::<L, R>::Right, sides_before, location);
        let make: Factory = Arc::new(|_| Ok(Box::new(Union) as Box<dyn Logic>));
        let inputs = vec![left.port, right.port];
        let node = self.stream.add(None, Spec::stateless(CONNECT), inputs, location, make);
        let key_of = EitherKey { left: self.key_of.clone(), right: other.key_of.clone() };
        Keyed { stream: self.stream.at(node, 0), key_of: Arc::new(key_of) }
    }
}

fn lift<T: Data, U: Data>(
    stream: &Stream<T, Timed>,
    side: fn(T) -> U,
    sides_before: u32,
    location: &'static Location<'static>,
) -> Stream<U, Timed> {
    let make: Factory =
        Arc::new(move |_| Ok(Box::new(Lift { side, sides_before }) as Box<dyn Logic>));
    let node = stream.add(None, Spec::stateless("lift"), vec![stream.port], location, make);
    stream.at(node, 0)
}

/// How many streams meet in this one.
fn sides(plan: &Plan, port: PortRef) -> u32 {
    let node = &plan.nodes[port.node];
    if node.kind != CONNECT {
        return 1;
    }
    let lifted = node.inputs.iter().map(|lift| &plan.nodes[lift.node]);
    lifted.flat_map(|lift| &lift.inputs).map(|input| sides(plan, *input)).sum()
}
