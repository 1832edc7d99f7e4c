//! Keyed streams: running aggregates and process functions; windows are begun here.

use std::any::TypeId;
use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;

use highwater_state::{Table, schema_of};
use serde::de::DeserializeOwned;

use super::plan::{BuildCx, Factory, OutPort};
use super::stream::{Facts, Spec, Stream, Timed, Untimed, WithLate};
use super::windowed::{WindowKind, Windowed};
use super::{SharedPlan, Types};
use crate::aggregate::Aggregate;
use crate::event::{Data, Stored};
use crate::keyed::{Expiries, Key, KeyOf, Process, Ttl};
use crate::operator::process::{Order, ProcessKeyed};
use crate::operator::running::Running;
use crate::operator::{Class, Logic};

/// A stream whose rows go to the worker that owns their key.
pub struct Keyed<T, K, M> {
    pub(crate) stream: Stream<T, M>,
    pub(crate) key_of: Arc<K>,
}

impl<T, K, M> Clone for Keyed<T, K, M> {
    fn clone(&self) -> Self {
        Keyed { stream: self.stream.clone(), key_of: self.key_of.clone() }
    }
}

/// The shape of a stateful operator with a late port.
pub(super) fn stateful(kind: &'static str, params: String) -> Spec {
    Spec {
        params,
        stateful: true,
        outputs: vec![OutPort::main(), OutPort::heard("late")],
        ..Spec::stateless(kind)
    }
}

/// The types of an operator whose state has no version of its own.
pub(super) fn types<K: Key, S: DeserializeOwned>() -> Types {
    Types { key: schema_of::<K>(), state: schema_of::<S>(), version: 1 }
}

impl<T: Data, K: KeyOf<T>> Keyed<T, K, Timed> {
    /// Assigns rows to windows, to be aggregated. `id` names the operator in errors, metrics and
    /// state.
    #[track_caller]
    pub fn window<W: WindowKind<T>>(&self, id: &str, windows: W) -> Windowed<T, K, W> {
        Windowed::new(self.clone(), id, windows, Location::caller())
    }

    /// A process function in event-time order: accepted events wait until the watermark passes
    /// them, then events and timers come in order of time, a timer before an event of equal time.
    #[track_caller]
    pub fn process<P: Process<K::Key, T>>(
        &self,
        id: &str,
        process: P,
    ) -> Undeclared<WithLate<P::Output, T>>
    where
        T: Stored,
    {
        let spec = Spec { needs_order: true, ..stateful("process", String::new()) };
        self.add_process(id, spec, true, process)
    }

    /// A process function that acts at once, in order of arrival; timers fire at the end of the
    /// tick in which the watermark passes them.
    #[track_caller]
    pub fn process_on_arrival<P: Process<K::Key, T>>(
        &self,
        id: &str,
        process: P,
    ) -> Undeclared<WithLate<P::Output, T>>
    where
        T: Stored,
    {
        let spec = Spec { class: Class::Arrival, ..stateful("process_on_arrival", String::new()) };
        self.add_process(id, spec, false, process)
    }

    #[track_caller]
    fn add_process<P: Process<K::Key, T>>(
        &self,
        id: &str,
        mut spec: Spec,
        event_time_order: bool,
        process: P,
    ) -> Undeclared<WithLate<P::Output, T>>
    where
        T: Stored,
    {
        let (key, state) = (schema_of::<(K::Key, T)>(), schema_of::<P::State>());
        spec.types = Types { key, state, version: P::VERSION };
        let (key_of, process) = (self.key_of.clone(), Arc::new(process));
        let make: Factory = Arc::new(move |cx| {
            let BuildCx { backing, ordered_by, .. } = cx;
            let (key_of, process) = (key_of.clone(), process.clone());
            let order = Order { event_time: event_time_order, ordered_by: *ordered_by };
            let mut logic = ProcessKeyed::new(backing.clone(), key_of, process, order, cx.ttl);
            logic.restore()?;
            Ok(Box::new(logic) as Box<dyn Logic>)
        });
        let inputs = vec![self.stream.port];
        let node = self.stream.add(Some(id), spec, inputs, Location::caller(), make);
        let stream = WithLate::new(self.stream.at(node, 0), self.stream.at(node, 1));
        Undeclared { stream, plan: self.stream.plan.clone(), node }
    }
}

impl<T: Data, K: KeyOf<T>, M: Facts> Keyed<T, K, M> {
    /// A running aggregate: in each tick, the new value of every key that changed. In order of
    /// arrival, without event time; nothing is late.
    #[track_caller]
    pub fn running<A: Aggregate<T>>(
        &self,
        id: &str,
        aggregate: A,
    ) -> Undeclared<RunningStream<T, K, A>>
    where
        A::State: Clone,
    {
        let spec = Spec {
            params: aggregate.describe(),
            class: Class::Arrival,
            stateful: true,
            types: types::<K::Key, A::State>(),
            ..Spec::stateless("running")
        };
        let (key_of, aggregate) = (self.key_of.clone(), Arc::new(aggregate));
        let make: Factory = Arc::new(move |cx| {
            let mut logic = Running {
                key_of: key_of.clone(),
                aggregate: aggregate.clone(),
                backing: cx.backing.clone(),
                table: Table::cold(Vec::new()),
                changed: Vec::new(),
                ttl: cx.ttl,
                expiries: Expiries::default(),
                types: PhantomData,
            };
            logic.restore()?;
            Ok(Box::new(logic) as Box<dyn Logic>)
        });
        let inputs = vec![self.stream.port];
        let node = self.stream.add(Some(id), spec, inputs, Location::caller(), make);
        if TypeId::of::<M>() != TypeId::of::<Timed>() {
            self.stream.plan.lock().nodes[node].ttl_fault = Some("a ttl needs event time");
        }
        Undeclared { stream: self.stream.at(node, 0), plan: self.stream.plan.clone(), node }
    }
}

/// Keys and the new values of their running aggregates.
pub type RunningStream<T, K, A> =
    Stream<(<K as KeyOf<T>>::Key, <A as Aggregate<T>>::Output), Untimed>;

/// An operator whose state may grow without bound: the program must say that it may.
#[must_use = "say `.ttl(..)` or `.unbounded()`: how long is the state of a key kept?"]
pub struct Undeclared<S> {
    stream: S,
    plan: SharedPlan,
    node: usize,
}

impl<S> Undeclared<S> {
    /// The state of a key is kept until the operator itself forgets it.
    pub fn unbounded(self) -> S {
        self.stream
    }

    /// The state of a key is kept for some event time after it was last used; its timers stay.
    pub fn ttl(self, ttl: Ttl) -> S {
        let mut plan = self.plan.lock();
        let node = &mut plan.nodes[self.node];
        let comma = if node.params.is_empty() { "" } else { ", " };
        node.params = format!("{}{comma}{ttl}", node.params);
        node.fault = node.fault.take().or(ttl.fault()).or(node.ttl_fault.map(ToOwned::to_owned));
        node.ttl = Some(ttl);
        drop(plan);
        self.stream
    }
}
