//! Streams: what can be done with rows that have no key.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;

use super::SharedPlan;
use super::Types;
use super::erased::TypedSink;
use super::keyed::Keyed;
use super::plan::{Body, BuildCx, Factory, Node, OutPort, PortRef, Rewrite};
use super::ports::TimedStream;
use crate::error::BoxError;
use crate::event::Data;
use crate::keyed::{Computed, Key, KeyOf, Lent};
use crate::operator::element::{FlatMap, Inspect, Map, Split, TryMap};
use crate::operator::event_time::AssignTime;
use crate::operator::key_by::KeyBy;
use crate::operator::per_tick::{Gather, PerTick};
use crate::operator::union::Union;
use crate::operator::{Class, Logic};
use crate::sink::Sink;
use crate::time::{Disorder, EventTime, Skew, Tick};

/// A stream in the order of its partitions, without event time yet: only here can event time be
/// assigned.
#[derive(Clone, Copy, Debug)]
pub enum Raw {}

/// A stream whose rows have an event time.
#[derive(Clone, Copy, Debug)]
pub enum Timed {}

/// A stream that has no event time, and no partition order by which it could get one.
#[derive(Clone, Copy, Debug)]
pub enum Untimed {}

/// A stream of which later rows replace earlier ones: panes of windows. What counts or keeps rows
/// would count them twice, so it cannot stand behind it.
#[derive(Clone, Copy, Debug)]
pub enum Updates {}

/// Streams whose rows are facts, each for itself: all but [`Updates`].
pub trait Facts: sealed::Sealed + 'static {}
impl Facts for Raw {}
impl Facts for Timed {}
impl Facts for Untimed {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Raw {}
    impl Sealed for super::Timed {}
    impl Sealed for super::Untimed {}
}

/// A stream of rows of type `T`; `M` says what is known of their time: [`Raw`], [`Timed`] or
/// [`Untimed`]; or that they are [`Updates`]. Handles are cheap to clone, and a stream may be used
/// more than once.
pub struct Stream<T, M> {
    pub(crate) plan: SharedPlan,
    pub(crate) port: PortRef,
    types: PhantomData<fn() -> (T, M)>,
}

impl<T, M> Clone for Stream<T, M> {
    fn clone(&self) -> Self {
        Stream::new(self.plan.clone(), self.port)
    }
}

/// What an operator is, apart from where it is added.
pub(crate) struct Spec {
    pub(crate) kind: &'static str,
    pub(crate) params: String,
    pub(crate) class: Class,
    pub(crate) stateful: bool,
    pub(crate) needs_order: bool,
    pub(crate) outputs: Vec<OutPort>,
    pub(crate) types: Types,
    pub(crate) fault: Option<String>,
    pub(crate) rewrite: Option<Rewrite>,
}

impl Spec {
    pub(crate) fn stateless(kind: &'static str) -> Self {
        Spec {
            kind,
            params: String::new(),
            class: Class::Input,
            stateful: false,
            needs_order: false,
            outputs: vec![OutPort::main()],
            types: Types::default(),
            fault: None,
            rewrite: None,
        }
    }
}

impl<T, M> Stream<T, M> {
    pub(crate) fn new(plan: SharedPlan, port: PortRef) -> Self {
        Stream { plan, port, types: PhantomData }
    }

    /// Adds an operator behind this stream and returns its node.
    pub(crate) fn add(
        &self,
        id: Option<&str>,
        spec: Spec,
        inputs: Vec<PortRef>,
        location: &'static Location<'static>,
        factory: Factory,
    ) -> usize {
        let id = match id {
            Some(id) => id.to_owned(),
            None => self.plan.lock().derived_id(self.port, spec.kind),
        };
        self.plan.add(Node {
            id: id.into(),
            kind: spec.kind,
            params: spec.params,
            class: spec.class,
            stateful: spec.stateful,
            needs_order: spec.needs_order,
            inputs,
            outputs: spec.outputs,
            body: Body::Operator(factory),
            location,
            types: spec.types,
            fault: spec.fault,
            ttl: None,
            ttl_fault: None,
            rewrite: spec.rewrite,
        })
    }

    /// Another output port of the same plan.
    pub(crate) fn at<U, N>(&self, node: usize, port: usize) -> Stream<U, N> {
        Stream::new(self.plan.clone(), PortRef { node, port })
    }
}

fn factory<L: Logic + 'static>(make: impl Fn() -> L + Send + Sync + 'static) -> Factory {
    Arc::new(move |_: &BuildCx| Ok(Box::new(make()) as Box<dyn Logic>))
}

impl<T: Data, M: 'static> Stream<T, M> {
    #[track_caller]
    fn element<U, L: Logic + 'static>(
        &self,
        kind: &'static str,
        make: impl Fn() -> L + Send + Sync + 'static,
    ) -> Stream<U, M> {
        let inputs = vec![self.port];
        let node = self.add(None, Spec::stateless(kind), inputs, Location::caller(), factory(make));
        self.at(node, 0)
    }

    /// One row in, one row out.
    #[track_caller]
    pub fn map<U: Data>(&self, f: impl Fn(T) -> U + Send + Sync + 'static) -> Stream<U, M> {
        let f = Arc::new(f);
        self.element("map", move || Map { f: f.clone(), types: PhantomData })
    }

    /// One row in, one row out, or an error, which stops the flow and names the row's partition
    /// and position.
    #[track_caller]
    pub fn try_map<U: Data>(
        &self,
        f: impl Fn(T) -> Result<U, BoxError> + Send + Sync + 'static,
    ) -> Stream<U, M> {
        let f = Arc::new(f);
        self.element("try_map", move || TryMap { f: f.clone(), types: PhantomData })
    }

    /// Keeps the rows that `f` accepts. The others count as filtered.
    #[track_caller]
    pub fn filter(&self, f: impl Fn(&T) -> bool + Send + Sync + 'static) -> Stream<T, M> {
        let f = Arc::new(f);
        self.element("filter", move || Split { f: f.clone(), types: PhantomData, both: false })
    }

    /// One row in, one row or none out.
    #[track_caller]
    pub fn filter_map<U: Data>(
        &self,
        f: impl Fn(T) -> Option<U> + Send + Sync + 'static,
    ) -> Stream<U, M> {
        let f = Arc::new(f);
        self.element("filter_map", move || FlatMap { f: f.clone(), types: PhantomData })
    }

    /// One row in, any number out; all of them share the row's time.
    #[track_caller]
    pub fn flat_map<U: Data, I: IntoIterator<Item = U> + 'static>(
        &self,
        f: impl Fn(T) -> I + Send + Sync + 'static,
    ) -> Stream<U, M> {
        let f = Arc::new(f);
        self.element("flat_map", move || FlatMap { f: f.clone(), types: PhantomData })
    }

    /// Looks at each row on its way.
    #[track_caller]
    pub fn inspect(&self, f: impl Fn(&T) + Send + Sync + 'static) -> Stream<T, M> {
        let f = Arc::new(f);
        self.element("inspect", move || Inspect { f: f.clone(), types: PhantomData })
    }

    /// Two streams: the rows that `f` accepts, and the others.
    #[track_caller]
    pub fn split(
        &self,
        f: impl Fn(&T) -> bool + Send + Sync + 'static,
    ) -> (Stream<T, M>, Stream<T, M>) {
        let f = Arc::new(f);
        let others = OutPort { name: "others", ..OutPort::default() };
        let spec = Spec { outputs: vec![OutPort::main(), others], ..Spec::stateless("split") };
        let make = move || Split { f: f.clone(), types: PhantomData, both: true };
        let node = self.add(None, spec, vec![self.port], Location::caller(), factory(make));
        (self.at(node, 0), self.at(node, 1))
    }

    #[track_caller]
    fn join_all<N>(&self, others: &[&Stream<T, M>]) -> Stream<T, N> {
        let inputs = [self.port].into_iter().chain(others.iter().map(|s| s.port)).collect();
        let make = factory(|| Union);
        let node = self.add(None, Spec::stateless("union"), inputs, Location::caller(), make);
        self.at(node, 0)
    }

    /// Calls `f` with everything that arrives in a tick, from all workers, gathered on one:
    /// once per tick that has rows. Rows stand in order of arrival.
    #[track_caller]
    pub fn per_tick<U: Data, I: IntoIterator<Item = U> + 'static>(
        &self,
        id: &str,
        f: impl Fn(Tick, Vec<T>) -> I + Send + Sync + 'static,
    ) -> Stream<U, Untimed> {
        let location = Location::caller();
        let gather = Spec { outputs: vec![OutPort::exchange()], ..Spec::stateless("gather") };
        let make = factory(|| Gather::<T> { types: PhantomData });
        let gathered = self.add(None, gather, vec![self.port], location, make);
        let f = Arc::new(f);
        let make = factory(move || PerTick { f: f.clone(), rows: Vec::new(), types: PhantomData });
        let spec = Spec { class: Class::Arrival, ..Spec::stateless("per_tick") };
        let inputs = vec![PortRef { node: gathered, port: 0 }];
        let node = self.add(Some(id), spec, inputs, location, make);
        self.at(node, 0)
    }

    /// Sends the rows to a sink. `id` names it in errors, metrics and state.
    #[track_caller]
    pub fn sink(&self, id: &str, sink: impl Sink<T>) {
        let params = sink.describe();
        self.plan.add(Node {
            id: id.into(),
            kind: "sink",
            params,
            class: Class::Input,
            stateful: false,
            needs_order: false,
            inputs: vec![self.port],
            outputs: Vec::new(),
            body: Body::Sink(Arc::new(TypedSink { sink: Box::new(sink) })),
            location: Location::caller(),
            types: Types::default(),
            fault: None,
            ttl: None,
            ttl_fault: None,
            rewrite: None,
        });
    }

    #[track_caller]
    fn keyed<K: KeyOf<T>>(&self, key_of: K) -> Keyed<T, K, M> {
        let key_of = Arc::new(key_of);
        let shared = key_of.clone();
        let make: Factory = Arc::new(move |cx| {
            let (key_of, workers) = (shared.clone(), cx.workers);
            Ok(Box::new(KeyBy { key_of, workers, types: PhantomData }))
        });
        let spec = Spec { outputs: vec![OutPort::exchange()], ..Spec::stateless("key_by") };
        let node = self.add(None, spec, vec![self.port], Location::caller(), make);
        Keyed { stream: self.at(node, 0), key_of }
    }

    /// Groups rows by a key that is part of the row. The key is not cloned on the way.
    #[track_caller]
    pub fn key_by<K: Key, F>(&self, key: F) -> Keyed<T, Lent<K, F>, M>
    where
        F: Fn(&T) -> &K + Send + Sync + 'static,
    {
        self.keyed(Lent(key, PhantomData))
    }

    /// Groups rows by a key that is computed from the row. `key` must be a pure function.
    #[track_caller]
    pub fn key_with<K: Key, F>(&self, key: F) -> Keyed<T, Computed<F>, M>
    where
        F: Fn(&T) -> K + Send + Sync + 'static,
    {
        self.keyed(Computed(key))
    }
}

impl<T: Data> Stream<T, Raw> {
    /// Assigns an event time to each row, and with it a promise to each partition: see
    /// [`Disorder`]. There is no such method on a stream that has lost the order of its
    /// partitions, behind `union` for example:
    ///
    /// ```compile_fail
    /// use highwater::prelude::*;
    /// let flow = Flow::new("no order");
    /// let one = flow.source("one", Memory::of([EventTime::MIN]));
    /// let two = flow.source("two", Memory::of([EventTime::MIN]));
    /// one.union(&[&two]).event_time(|t| *t, Disorder::ascending());
    /// ```
    ///
    /// ```
    /// use highwater::prelude::*;
    /// let flow = Flow::new("order");
    /// let one = flow.source("one", Memory::of([EventTime::MIN]));
    /// one.event_time(|t| *t, Disorder::ascending());
    /// ```
    #[track_caller]
    pub fn event_time(
        &self,
        time: impl Fn(&T) -> EventTime + Send + Sync + 'static,
        disorder: Disorder<T>,
    ) -> TimedStream<T> {
        let skewed = match disorder.cap().map(|cap| cap.policy) {
            Some(Skew::DeadLetter) => OutPort::heard("skewed"),
            _ => OutPort { name: "skewed", ..OutPort::default() },
        };
        let spec = Spec {
            params: disorder.to_string(),
            stateful: true,
            fault: disorder.check().err(),
            class: match disorder.cap() {
                Some(cap) if cap.by_clock() => Class::Clock,
                _ => Class::Input,
            },
            outputs: vec![OutPort::main(), skewed],
            ..Spec::stateless("event_time")
        };
        let extract = Arc::new(time);
        let lead = disorder.lead();
        let make: Factory = Arc::new(move |cx: &BuildCx| {
            let mut restored = BTreeMap::new();
            // Partitions, not keys, decide which worker reads: look through all groups.
            let groups = 0..highwater_state::KEY_GROUPS;
            cx.backing.store.scan(&cx.backing.id, groups, &[], &mut |_, key, value| {
                restored.insert(highwater_state::decode(key)?, highwater_state::decode(value)?);
                Ok(())
            })?;
            let logic = AssignTime::new(extract.clone(), disorder.clone(), restored);
            Ok(Box::new(logic) as Box<dyn Logic>)
        });
        let node = self.add(None, spec, vec![self.port], Location::caller(), make);
        self.plan.lock().event_times.insert(node, lead);
        TimedStream::new(self.at(node, 0), self.at(node, 1))
    }

    /// These rows and others, as they come.
    #[track_caller]
    pub fn union(&self, others: &[&Stream<T, Raw>]) -> Stream<T, Untimed> {
        self.join_all(others)
    }
}

impl<T: Data> Stream<T, Timed> {
    /// These rows and others; the watermark is the minimum of all.
    #[track_caller]
    pub fn union(&self, others: &[&Stream<T, Timed>]) -> Stream<T, Timed> {
        self.join_all(others)
    }
}

impl<T: Data> Stream<T, Untimed> {
    /// These rows and others, as they come.
    #[track_caller]
    pub fn union(&self, others: &[&Stream<T, Untimed>]) -> Stream<T, Untimed> {
        self.join_all(others)
    }
}
