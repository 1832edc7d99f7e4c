//! A topic of Apache Kafka, exactly once, or at least once.
//!
//! A letter holds the records of one commit ([`letter`]). The writer of exactly once ([`exact`])
//! sends it in one transaction together with its mark ([`marks`]), as a [`session`]; the other one
//! ([`plain`]) produces as it goes.

mod checks;
mod exact;
mod failure;
mod fault;
mod letter;
mod marks;
mod output;
mod plain;
mod rows;
mod session;
mod target;

use std::fmt;
use std::time::Duration;

pub use fault::KafkaPoint;
pub use rows::{Json, KafkaValue};

use rows::Rows;
use target::Target;

use super::{Encoder, Guarantee, Opening, Sink, SinkWriter};
use crate::error::{BoxError, Error};
use crate::event::Data;

/// What the Kafka sink does to be understood as having written a row once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KafkaDelivery {
    /// Rows of a commit appear in one transaction, each once, to readers with
    /// `isolation.level=read_committed`.
    #[default]
    ExactlyOnce,
    /// Rows appear as soon as they are there, before their commit. After a crash those since the
    /// last commit appear again. The client itself repeats none and keeps the order.
    Idempotent,
    /// As before; and a client that had no answer repeats what it sent.
    AtLeastOnce,
}

/// Writes each row as a record of a Kafka topic; as JSON, if nothing else is said.
///
/// A record has the row's event time as its timestamp, in milliseconds; records without an event
/// time have the time at which they were produced. Mind that a broker removes records by their
/// timestamps (`retention.ms`), also those that are old when they come. The partition follows
/// from the key, as with Java's client (`murmur2_random`); records without a key are spread.
///
/// **Exactly once**, the default: the records of a commit are part of it, and go to the topic in
/// one Kafka transaction when it is durable, together with an offset of a consumer group that
/// says which commit this was. After a crash the next start reads that offset, and sends what is
/// missing. So a copy of a flow that was started by mistake is shut out, and a state that is
/// older than the topic is refused. The group and the transactional id have the name
/// `highwater-{flow}-{sink}`. The program needs the rights to write and read the topic, to write
/// with the transactional id, and to read the group. The broker answers a commit before its mark
/// is in every partition: readers with `read_committed` see the records a moment later.
///
/// The broker forgets the offset when nothing was written for `offsets.retention.minutes`, a week
/// by default. A flow that runs renews it; one that stands still for longer may have to be
/// [adopted](Kafka::adopt).
///
/// ```no_run
/// use highwater::prelude::*;
/// use highwater::sink::Kafka;
///
/// # fn windows(flow: &Flow) -> Stream<WindowResult<String, u64>, Timed> { todo!() }
/// let flow = Flow::new("departures");
/// let counts = windows(&flow);
/// let topic = Kafka::to("departures-by-hour").at("127.0.0.1:9092");
/// counts.sink("out", topic.key(|row: &WindowResult<String, u64>| row.key.clone()));
/// flow.run(Settings::at("state"))?;
/// # Ok::<(), highwater::Error>(())
/// ```
pub struct Kafka<T, V = Json> {
    target: Target,
    rows: Rows<T, V>,
}

impl<T> Kafka<T, Json> {
    /// A topic, which must exist. Rows are written as JSON.
    ///
    /// ```
    /// use highwater::sink::{Kafka, Sink};
    ///
    /// let sink = Kafka::<u64>::to("counts").at("127.0.0.1:9092");
    /// assert_eq!(sink.describe(), "Kafka topic counts at 127.0.0.1:9092, exactly once");
    /// ```
    #[must_use]
    pub fn to(topic: impl Into<String>) -> Self {
        let target = Target::new(topic.into());
        Kafka { rows: Rows::new(Json, target.record_limit.clone()), target }
    }
}

impl<T, V> Kafka<T, V> {
    /// Where brokers of the cluster are found: `host:port`, several of them with commas between.
    #[must_use]
    pub fn at(mut self, servers: impl Into<String>) -> Self {
        self.target.connection.at(servers);
        self
    }

    /// The key of a record. Without one, records have none, which a topic that is compacted does
    /// not take: that is refused at the start.
    ///
    /// ```
    /// use highwater::sink::Kafka;
    ///
    /// let sink = Kafka::to("counts").key(|row: &(String, u64)| row.0.clone());
    /// # let _ = sink;
    /// ```
    #[must_use]
    pub fn key<K: Into<Vec<u8>>>(mut self, key: impl Fn(&T) -> K + Send + Sync + 'static) -> Self {
        self.target.keyed = true;
        self.rows.set_key(move |row| key(row).into());
        self
    }

    /// The value of a record, in place of JSON: a closure appends its bytes.
    ///
    /// ```
    /// use highwater::sink::Kafka;
    ///
    /// let sink = Kafka::to("counts").value(|row: &(String, u64), bytes: &mut Vec<u8>| {
    ///     bytes.extend_from_slice(&row.1.to_be_bytes());
    ///     Ok(())
    /// });
    /// # let _ = sink;
    /// ```
    #[must_use]
    pub fn value<F>(self, value: F) -> Kafka<T, F>
    where
        F: Fn(&T, &mut Vec<u8>) -> Result<(), BoxError> + Send + Sync + 'static,
    {
        Kafka { target: self.target, rows: self.rows.with_value(value) }
    }

    /// Headers of a record. Without them, records have none.
    ///
    /// ```
    /// use highwater::sink::Kafka;
    ///
    /// let sink = Kafka::to("counts")
    ///     .headers(|row: &u64| vec![("parity".to_owned(), vec![(row % 2) as u8])]);
    /// # let _ = sink;
    /// ```
    #[must_use]
    pub fn headers(
        mut self,
        headers: impl Fn(&T) -> Vec<(String, Vec<u8>)> + Send + Sync + 'static,
    ) -> Self {
        self.rows.set_headers(headers);
        self
    }

    /// What the sink promises; exactly once by default.
    ///
    /// ```
    /// use highwater::sink::{Guarantee, Kafka, KafkaDelivery, Sink};
    ///
    /// let sink = Kafka::<u64>::to("counts").delivery(KafkaDelivery::Idempotent);
    /// assert_eq!(sink.guarantee(), Guarantee::AtLeastOnce);
    /// ```
    #[must_use]
    pub fn delivery(mut self, delivery: KafkaDelivery) -> Self {
        self.target.delivery = delivery;
        self
    }

    /// The transactional id, and the consumer group whose offset is the mark; by default
    /// `highwater-{flow}-{sink}`. Two flows on one cluster must not have the same, and a flow must
    /// keep its own.
    #[must_use]
    pub fn transactional_id(mut self, id: impl Into<String>) -> Self {
        self.target.transactional_id = Some(id.into());
        self
    }

    /// How long a transaction may take before the broker ends it; a minute by default. It must
    /// not be more than the broker's `transaction.max.timeout.ms`. A reader with
    /// `read_committed` waits that long for a flow that was killed, unless it starts again.
    #[must_use]
    pub fn transaction_timeout(mut self, timeout: Duration) -> Self {
        self.target.transaction_timeout = timeout;
        self
    }

    /// How long to wait for a broker that is away, at a start and later, before the flow stops;
    /// two minutes by default. Nothing is lost when it does.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.target.patience = patience;
        self
    }

    /// Lets this start write to a topic that holds what its state knows nothing of: after a
    /// restore from a snapshot, or when the broker has forgotten the offset. What came after the
    /// state's last commit will be in the topic twice, and the output of that commit may be. To
    /// be taken out again after one start.
    #[must_use]
    pub fn adopt(mut self) -> Self {
        self.target.adopt = true;
        self
    }

    /// A property of the client by its name in librdkafka, such as `compression.type` or
    /// `security.protocol`.
    #[must_use]
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.target.connection.property(name, value);
        self
    }

    /// Ends the sink at the points for which `strikes` says so.
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    #[must_use]
    pub fn strike(mut self, strikes: impl Fn(KafkaPoint) -> bool + Send + Sync + 'static) -> Self {
        self.target.strikes = Some(std::sync::Arc::new(strikes));
        self
    }
}

impl<T, V> fmt::Debug for Kafka<T, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kafka").field("target", &self.target).finish_non_exhaustive()
    }
}

impl<T: Data, V: KafkaValue<T>> Sink<T> for Kafka<T, V> {
    fn describe(&self) -> String {
        self.target.describe()
    }

    fn guarantee(&self) -> Guarantee {
        match self.target.delivery {
            KafkaDelivery::ExactlyOnce => Guarantee::ExactlyOnce,
            KafkaDelivery::Idempotent | KafkaDelivery::AtLeastOnce => Guarantee::AtLeastOnce,
        }
    }

    fn encoder(&self) -> Box<dyn Encoder<T>> {
        Box::new(self.rows.encoder())
    }

    fn open(&self, opening: &Opening<'_>) -> Result<Box<dyn SinkWriter>, Error> {
        Ok(match self.target.delivery {
            KafkaDelivery::ExactlyOnce => Box::new(exact::open(&self.target, opening)?),
            _ => Box::new(plain::open(&self.target, opening)?),
        })
    }
}
