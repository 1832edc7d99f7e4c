//! Lookup joins: rows with what an outside store says of their keys.

use std::collections::BTreeMap;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use highwater_state::schema_of;

use super::Types;
use super::keyed::Keyed;
use super::plan::Factory;
use super::stream::{Spec, Stream, Timed};
use crate::engine::lookup::{Asker, Asking, Client, Lookup};
use crate::event::Data;
use crate::keyed::KeyOf;
use crate::operator::lookup::LookupJoin as Operator;
use crate::operator::{Class, Logic};
use crate::time::Span;

/// Keys in one request, unless told otherwise.
const BATCH: usize = 256;

/// Requests under way at once, unless told otherwise.
const IN_FLIGHT: usize = 16;

/// How long a request may take, unless told otherwise.
const TIMEOUT: Span = crate::time::seconds(30);

/// A lookup join that waits to be told what comes out: see [`Keyed::lookup`].
#[must_use = "say which rows come out: `.inner(..)` or `.left(..)`"]
pub struct LookupJoin<T, K, Q> {
    keyed: Keyed<T, K, Timed>,
    id: String,
    lookup: Q,
    ttl: Span,
    timeout: Span,
    batch: usize,
    in_flight: usize,
    location: &'static Location<'static>,
}

impl<T: Data, K: KeyOf<T>> Keyed<T, K, Timed> {
    /// Joins each row with what an outside store says of its key. When a tick has all its input,
    /// the store is asked for the keys that are not known, in batches, many at once, on a thread
    /// of its own; the tick ends when all answers are in, and with it go the results. Answers
    /// are committed with the tick. The tick after waits meanwhile, so that latency is that of
    /// the store, and throughput is not.
    ///
    /// What comes out keeps its time, and is of class Clock: the store may say something else
    /// after a crash. An error of the store, or one that takes longer than the
    /// [timeout](LookupJoin::timeout), stops the flow; a restart goes on from the last commit.
    /// `id` names the operator in errors, metrics and state.
    ///
    /// ```
    /// use highwater::prelude::*;
    ///
    /// #[derive(Clone)]
    /// struct Order { customer: u32, at: EventTime }
    ///
    /// let flow = Flow::new("orders");
    /// let orders = flow.source("orders", Memory::of([Order { customer: 7, at: EventTime::MIN }]));
    /// orders
    ///     .event_time(|o| o.at, Disorder::ascending())
    ///     .key_by(|o| &o.customer)
    ///     .lookup("customers", |ids: Vec<u32>| async move {
    ///         // Here a database would be asked.
    ///         Ok(ids.iter().map(|id| Some(format!("customer {id}"))).collect::<Vec<_>>())
    ///     })
    ///     .cached(minutes(10))
    ///     .left(|_, order, name: Option<&String>| (order.customer, name.cloned()))
    ///     .sink("out", Stdout::json());
    /// println!("{}", flow.plan()?);
    /// # Ok::<(), highwater::Error>(())
    /// ```
    #[track_caller]
    pub fn lookup<Q: Lookup<K::Key>>(&self, id: &str, lookup: Q) -> LookupJoin<T, K, Q> {
        LookupJoin {
            keyed: self.clone(),
            id: id.to_owned(),
            lookup,
            ttl: Span::ZERO,
            timeout: TIMEOUT,
            batch: BATCH,
            in_flight: IN_FLIGHT,
            location: Location::caller(),
        }
    }
}

impl<T: Data, K: KeyOf<T>, Q: Lookup<K::Key>> LookupJoin<T, K, Q> {
    /// Answers are good for `ttl` on the tick clock, also that there is no value. Without it, or
    /// with zero, each tick asks for its keys anew.
    pub fn cached(mut self, ttl: Span) -> Self {
        self.ttl = ttl;
        self
    }

    /// A request may take so long; 30 seconds unless told otherwise.
    pub fn timeout(mut self, timeout: Span) -> Self {
        self.timeout = timeout;
        self
    }

    /// A request asks for so many keys at most; 256 unless told otherwise.
    pub fn batches_of(mut self, keys: usize) -> Self {
        self.batch = keys;
        self
    }

    /// So many requests may be under way at once, over all workers; 16 unless told otherwise.
    pub fn in_flight(mut self, requests: usize) -> Self {
        self.in_flight = requests;
        self
    }

    /// Rows whose key the store has a value of; the others are filtered out.
    pub fn inner<O: Data>(
        self,
        f: impl Fn(&K::Key, T, &Q::Value) -> O + Send + Sync + 'static,
    ) -> Stream<O, Timed> {
        self.build("inner", move |key, row, value| value.map(|value| f(key, row, value)))
    }

    /// All rows.
    pub fn left<O: Data>(
        self,
        f: impl Fn(&K::Key, T, Option<&Q::Value>) -> O + Send + Sync + 'static,
    ) -> Stream<O, Timed> {
        self.build("left", move |key, row, value| Some(f(key, row, value)))
    }

    fn fault(&self) -> Option<String> {
        if self.ttl < Span::ZERO {
            Some(format!("answers cannot be good for {}", self.ttl))
        } else if self.timeout <= Span::ZERO {
            Some(format!("a timeout of {} leaves no time to answer", self.timeout))
        } else if self.batch == 0 || self.in_flight == 0 {
            Some("no key could be asked for: a batch or the requests in flight are none".into())
        } else {
            None
        }
    }

    fn build<O: Data, F>(self, kind: &str, output: F) -> Stream<O, Timed>
    where
        F: Fn(&K::Key, T, Option<&Q::Value>) -> Option<O> + Send + Sync + 'static,
    {
        let spec = Spec {
            params: match self.ttl {
                Span::ZERO => format!("{kind}, each tick asks anew"),
                ttl => format!("{kind}, answers are good for {ttl}"),
            },
            class: Class::Clock,
            stateful: true,
            needs_order: true,
            fault: self.fault(),
            types: Types { key: schema_of::<K::Key>(), state: schema_of::<Q::Value>(), version: 1 },
            ..Spec::stateless("lookup")
        };
        let LookupJoin { keyed, id, lookup, ttl, timeout, batch, in_flight, location } = self;
        let timeout = Duration::from_micros(timeout.as_micros().max(0) as u64);
        let client = Arc::new(Client::new(lookup, Asking { batch, in_flight, timeout }));
        let (key_of, output) = (keyed.key_of.clone(), Arc::new(output));
        let make: Factory = Arc::new(move |cx| {
            let mut logic = Operator {
                key_of: key_of.clone(),
                backing: cx.backing.clone(),
                outside: Asker::new(client.clone())?,
                ttl_micros: ttl.as_micros(),
                output: output.clone(),
                cache: cx.backing.cold(Vec::new()),
                expiries: BTreeMap::new(),
                held: Vec::new(),
                missing: None,
            };
            logic.restore()?;
            Ok(Box::new(logic) as Box<dyn Logic>)
        });
        let node = keyed.stream.add(Some(&id), spec, vec![keyed.stream.port], location, make);
        keyed.stream.at(node, 0)
    }
}
