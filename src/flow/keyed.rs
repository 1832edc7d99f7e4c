//! Keyed streams: running aggregates; windows are begun here.

use std::any::TypeId;
use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;

use highwater_state::schema_of;
use serde::de::DeserializeOwned;

use super::plan::{Factory, OutPort};
use super::stream::{Facts, Spec, Stream, Timed, Untimed};
use super::windowed::{WindowKind, Windowed};
use super::{SharedPlan, Types};
use crate::aggregate::Aggregate;
use crate::event::Data;
use crate::keyed::{Expiries, Key, KeyOf, Ttl};
use crate::operator::running::{Changed, Running};
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
}

impl<T: Data, K: KeyOf<T>, M: Facts> Keyed<T, K, M> {
    /// A running aggregate: in each tick, the new value of every key that changed. In order of
    /// arrival, without event time; nothing is late.
    #[track_caller]
    pub fn running<A: Aggregate<T>>(
        &self,
        id: &str,
        aggregate: A,
    ) -> Undeclared<RunningStream<T, K, A>> {
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
                table: cx.backing.cold(Vec::new()),
                changed: Changed::new(),
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

/// Gives an operator a ttl.
pub(super) fn declare_ttl(plan: &SharedPlan, node: usize, ttl: Ttl) {
    let mut plan = plan.lock();
    let node = &mut plan.nodes[node];
    let comma = if node.params.is_empty() { "" } else { ", " };
    node.params = format!("{}{comma}{ttl}", node.params);
    let on_arrival = (ttl.on_read && !node.needs_order)
        .then(|| format!("{ttl}: reads count only in event-time order, and it acts on arrival"));
    let unfit = node.ttl_fault.map(ToOwned::to_owned);
    node.fault = node.fault.take().or(ttl.fault()).or(unfit).or(on_arrival);
    node.ttl = Some(ttl);
}

impl<S> Undeclared<S> {
    pub(super) fn new(stream: S, plan: SharedPlan, node: usize) -> Self {
        Undeclared { stream, plan, node }
    }

    /// Says why the operator cannot have a ttl.
    pub(super) fn refuse_ttl(&self, why: &'static str) {
        self.plan.lock().nodes[self.node].ttl_fault = Some(why);
    }

    /// The state of a key is kept until the operator itself forgets it.
    pub fn unbounded(self) -> S {
        self.stream
    }

    /// The state of a key is kept for some event time after it was last used; its timers stay.
    ///
    /// Reads can count only where events come in order of event time: on arrival, whether a read
    /// came in time would depend on how events happened to be cut into ticks, so
    /// [`Ttl::from_read`] does not build there.
    pub fn ttl(self, ttl: Ttl) -> S {
        declare_ttl(&self.plan, self.node, ttl);
        self.stream
    }
}
