//! Keyed streams beside a stream that every key sees.

use std::marker::PhantomData;
use std::ops::Deref;
use std::panic::Location;
use std::sync::Arc;

use highwater_state::schema_of;

use super::keyed::{Keyed, Undeclared};
use super::keyed_process::in_order;
use super::plan::{Factory, OutPort, PortRef};
use super::ports::{WithLate, drop_port};
use super::stream::{Spec, Stream, Timed, Untimed};
use crate::event::{Data, Late, Stored};
use crate::keyed::{BroadcastProcess, Broadcasting, KeyOf};
use crate::operator::Logic;
use crate::operator::broadcast::Broadcast;

/// A keyed stream beside a stream whose rows go to every worker.
#[must_use = "a broadcast does nothing until it is processed"]
pub struct WithBroadcast<T, K, B> {
    keyed: Keyed<T, K, Timed>,
    control: Stream<B, Timed>,
    location: &'static Location<'static>,
}

impl<T: Data, K: KeyOf<T>> Keyed<T, K, Timed> {
    /// Lets a process function see, beside the events of a key, the rows of `control`, which
    /// change a state that all keys share: see [`BroadcastProcess`].
    #[track_caller]
    pub fn with_broadcast<B: Data>(&self, control: &Stream<B, Timed>) -> WithBroadcast<T, K, B> {
        let (keyed, control) = (self.clone(), control.clone());
        WithBroadcast { keyed, control, location: Location::caller() }
    }
}

impl<T: Stored, K: KeyOf<T>, B: Stored> WithBroadcast<T, K, B> {
    /// A process function in event-time order; at equal times timers come first, then what is
    /// broadcast, then events.
    pub fn process<P: BroadcastProcess<K::Key, T, B>>(
        self,
        id: &str,
        process: P,
    ) -> Undeclared<BroadcastResults<P::Output, T, B>> {
        let WithBroadcast { keyed, control, location } = self;
        let make: Factory = Arc::new(|cx| {
            let logic = Broadcast::<B> { workers: cx.workers, types: PhantomData };
            Ok(Box::new(logic) as Box<dyn Logic>)
        });
        let spec = Spec { outputs: vec![OutPort::exchange()], ..Spec::stateless("broadcast") };
        let everywhere = control.add(None, spec, vec![control.port], location, make);
        // There is no migration of what is shared: its shape is a parameter.
        let (rows, shared) = (schema_of::<B>(), schema_of::<P::Shared>());
        let params = format!("broadcast rows {rows:016x}, shared state {shared:016x}");
        let mut spec = in_order("broadcast_process", params);
        spec.outputs.push(OutPort::heard("late_broadcast"));
        let rules = Broadcasting { process, rows: PhantomData };
        let signals = PortRef { node: everywhere, port: 0 };
        let node = keyed.add_rules(id, spec, rules, Some(signals), location);
        let (results, late) = (keyed.results(node), keyed.stream.at(node, 2));
        Undeclared::new(BroadcastResults { results, late }, keyed.stream.plan, node)
    }
}

/// The results of a [`BroadcastProcess`], with a late port for each input.
pub struct BroadcastResults<O, T, B> {
    results: WithLate<O, T>,
    late: Stream<Late<B>, Untimed>,
}

impl<O, T, B> BroadcastResults<O, T, B> {
    /// The broadcast rows that came too late: they change nothing.
    #[must_use]
    pub fn late_broadcast(&self) -> Stream<Late<B>, Untimed> {
        self.late.clone()
    }

    /// Leaves late broadcast rows unheard, for a reason that the plan prints. They are still
    /// counted.
    pub fn drop_late_broadcast(self, why: &str) -> WithLate<O, T> {
        drop_port(&self.late, why);
        self.results
    }
}

impl<O, T, B> Deref for BroadcastResults<O, T, B> {
    type Target = WithLate<O, T>;
    fn deref(&self) -> &WithLate<O, T> {
        &self.results
    }
}
