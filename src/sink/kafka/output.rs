//! A client that produces records, and learns what becomes of them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{
    BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext, PurgeConfig,
};

use super::failure::Failure;
use super::letter::{Record, Records};
use super::target::{Target, Waiting};
use crate::error::Error;
use crate::kafka::{Context, Wait};
use crate::source::signal::lock;

/// Between two questions to the client whether it has something to say.
pub(super) const POLL: Duration = Duration::from_millis(1);

/// After so many records the client is asked what has become of earlier ones.
const RECORDS_PER_POLL: usize = 1_000;

/// How often a client that is left behind is asked for what it has let go.
const LAST_POLLS: usize = 10;

/// What becomes of records.
pub(super) struct Deliveries {
    client: Context,
    failed: Mutex<Option<KafkaError>>,
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.client.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, why: &str) {
        self.client.error(error, why);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            let mut failed = lock(&self.failed);
            // Those that go with the one at fault say nothing of it.
            if failed.as_ref().is_none_or(is_purged) {
                *failed = Some(error.clone());
            }
        }
    }
}

fn is_purged(error: &KafkaError) -> bool {
    matches!(error.rdkafka_error_code(), Some(Code::PurgeQueue | Code::PurgeInflight))
}

/// A client that produces.
pub(super) struct Output {
    pub(super) topic: String,
    pub(super) producer: Arc<BaseProducer<Deliveries>>,
}

impl Output {
    pub(super) fn start(target: &Target, id: &str) -> Result<Self, Failure> {
        let deliveries =
            Deliveries { client: target.connection.context(), failed: Mutex::default() };
        let producer: Result<BaseProducer<_>, _> =
            target.producer(id)?.create_with_context(deliveries);
        let producer = producer.map_err(|e| Failure::of("the client cannot be made", e))?;
        Ok(Output { topic: target.topic.clone(), producer: Arc::new(producer) })
    }

    /// The client may have forgotten whom to ask.
    pub(super) fn reach_again(&self) {
        self.producer.context().client.reach_again(self.producer.client());
    }

    /// The client is left behind with a call that does not return. Its records are let go, as far
    /// as that can be done without waiting: they are sent by another one.
    pub(super) fn leave(&self) {
        tracing::warn!("a call into a Kafka client does not return: the client is left behind");
        self.producer.purge(PurgeConfig::default().queue().inflight().non_blocking());
        for _ in 0..LAST_POLLS {
            self.producer.poll(Duration::from_millis(10));
        }
    }

    /// Gives the records of a letter to the client, which sends them as it can.
    pub(super) fn produce(
        &self,
        letter: &[u8],
        waiting: &Waiting,
        mut given: impl FnMut(usize) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let (mut records, mut wait) = (Records::of(letter)?, Wait::begin());
        let mut number = 0;
        while let Some(record) = records.next()? {
            self.give(&record, waiting, &mut wait)?;
            number += 1;
            given(number)?;
            if number % RECORDS_PER_POLL == 0 {
                self.producer.poll(Duration::ZERO);
                self.check()?;
            }
        }
        Ok(())
    }

    fn give(&self, record: &Record<'_>, waiting: &Waiting, wait: &mut Wait) -> Result<(), Failure> {
        let mut message = BaseRecord::<[u8], [u8]>::to(&self.topic);
        message.key = record.key;
        message.payload = record.value;
        message.timestamp = record.time;
        if !record.headers.is_empty() {
            let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
            for (key, value) in &record.headers {
                headers = headers.insert(Header { key, value: Some(*value) });
            }
            message.headers = Some(headers);
        }
        loop {
            let Err((error, back)) = self.producer.send(message) else { return Ok(()) };
            if error.rdkafka_error_code() != Some(Code::QueueFull) {
                // What went wrong before says more than that nothing is taken any more.
                self.producer.poll(Duration::ZERO);
                self.check()?;
                let size = record.size();
                let what = format!("a record of {size} bytes was not taken");
                return Err(Failure::of(what, error));
            }
            message = back;
            self.wait_a_little(waiting, wait)?;
        }
    }

    /// Waits until everything that was given has arrived.
    pub(super) fn arrived(&self, waiting: &Waiting) -> Result<(), Failure> {
        let mut wait = Wait::begin();
        while self.producer.in_flight_count() > 0 {
            self.wait_a_little(waiting, &mut wait)?;
        }
        self.check()
    }

    fn wait_a_little(&self, waiting: &Waiting, wait: &mut Wait) -> Result<(), Failure> {
        // With a time, polling would go on to its end whatever comes, and busily in the last ms.
        let in_flight = self.producer.in_flight_count();
        self.producer.poll(Duration::ZERO);
        self.check()?;
        if self.producer.in_flight_count() == in_flight {
            std::thread::sleep(POLL);
        }
        wait.look(|| self.reach_again());
        if !waiting.is_over() {
            return Ok(());
        }
        let timed_out = KafkaError::MessageProduction(Code::MessageTimedOut);
        Err(self.because(Failure::of("no answer to what was produced", timed_out)))
    }

    fn check(&self) -> Result<(), Failure> {
        match lock(&self.producer.context().failed).take() {
            None => Ok(()),
            Some(error) if is_purged(&error) => Err(self.why_purged(error)),
            Some(error) => Err(self.because(Failure::of("a record did not arrive", error))),
        }
    }

    /// An error of the transaction throws its records away, and is told by the next call.
    fn why_purged(&self, purged: KafkaError) -> Failure {
        let cause = self.producer.begin_transaction().err().unwrap_or(purged);
        Failure::of("records were not taken", cause)
    }

    /// What the client complained of last may say why there is no answer.
    pub(super) fn because(&self, failure: Failure) -> Failure {
        match (failure, self.producer.context().client.last_error()) {
            (Failure::Passing(error), Some(why)) => {
                Failure::Passing(Error::io(format!("the client last complained: {why}"), error))
            }
            (failure, _) => failure,
        }
    }
}
