//! Keyed streams: process functions, and how all keyed rules come into the plan.

use std::panic::Location;
use std::sync::Arc;

use highwater_state::schema_of;

use super::Types;
use super::keyed::{Keyed, Undeclared, stateful};
use super::plan::{BuildCx, Factory, PortRef};
use super::ports::WithLate;
use super::stream::{Spec, Timed};
use crate::event::{Data, Stored};
use crate::keyed::{KeyOf, Plain, Process, Rules, rewrite};
use crate::operator::process::{Order, ProcessKeyed};
use crate::operator::{Class, Logic};

impl<T: Data, K: KeyOf<T>> Keyed<T, K, Timed> {
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
        self.undeclared(id, in_order("process", String::new()), Plain(process), Location::caller())
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
        let spec = on_arrival("process_on_arrival", String::new());
        self.undeclared(id, spec, Plain(process), Location::caller())
    }

    /// Adds keyed rules whose state may grow without bound.
    pub(super) fn undeclared<R: Rules<K::Key, T>>(
        &self,
        id: &str,
        spec: Spec,
        rules: R,
        location: &'static Location<'static>,
    ) -> Undeclared<WithLate<R::Output, T>>
    where
        T: Stored,
    {
        let node = self.add_rules(id, spec, rules, None, location);
        Undeclared::new(self.results(node), self.stream.plan.clone(), node)
    }

    /// The results of an operator behind this stream, with its late port.
    pub(super) fn results<O>(&self, node: usize) -> WithLate<O, T> {
        WithLate::new(self.stream.at(node, 0), self.stream.at(node, 1))
    }

    /// Adds keyed rules, in event-time order if the spec needs order, on arrival otherwise.
    pub(super) fn add_rules<R: Rules<K::Key, T>>(
        &self,
        id: &str,
        mut spec: Spec,
        rules: R,
        signals: Option<PortRef>,
        location: &'static Location<'static>,
    ) -> usize
    where
        T: Stored,
    {
        let (key, state) = (schema_of::<(K::Key, T)>(), schema_of::<R::State>());
        spec.types = Types { key, state, version: R::VERSION };
        if R::CLOCK {
            spec.class = Class::Clock;
        }
        let (key_of, rules) = (self.key_of.clone(), Arc::new(rules));
        let shared = rules.clone();
        spec.rewrite =
            Some(Arc::new(move |old| rewrite(old, R::VERSION, &|old| shared.migrate(old))));
        let event_time = spec.needs_order;
        let make: Factory = Arc::new(move |cx| {
            let BuildCx { backing, ordered_by, .. } = cx;
            let (key_of, rules) = (key_of.clone(), rules.clone());
            let order = Order { event_time, ordered_by: *ordered_by };
            let mut logic = ProcessKeyed::new(backing.clone(), key_of, rules, order, cx.ttl);
            logic.restore()?;
            Ok(Box::new(logic) as Box<dyn Logic>)
        });
        let inputs = [self.stream.port].into_iter().chain(signals).collect();
        self.stream.add(Some(id), spec, inputs, location, make)
    }
}

/// The spec of an operator that acts in event-time order.
pub(super) fn in_order(kind: &'static str, params: String) -> Spec {
    Spec { needs_order: true, ..stateful(kind, params) }
}

/// The spec of an operator that acts in order of arrival.
pub(super) fn on_arrival(kind: &'static str, params: String) -> Spec {
    Spec { class: Class::Arrival, ..stateful(kind, params) }
}
