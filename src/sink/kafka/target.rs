//! What the program said of the topic, and the clients that follow from it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rdkafka::ClientConfig;

use super::KafkaDelivery;
use super::fault::{KafkaPoint, Strikes};
use crate::error::Error;
use crate::kafka::Connection;
use crate::sink::Opening;
use crate::time::clock::{Clock, SystemClock};

/// What a client takes for a record, until the topic has been asked.
const RECORD_LIMIT_BYTES: usize = 1_000_000;

/// The least that the client takes for a limit.
const RECORD_MIN_BYTES: usize = 1_000;

/// What a client takes in before the writer must wait. It holds a copy of every record.
const QUEUE_KIB: usize = 32 * 1024;

#[derive(Clone)]
pub(super) struct Target {
    pub(super) topic: String,
    pub(super) connection: Connection,
    pub(super) delivery: KafkaDelivery,
    pub(super) transactional_id: Option<String>,
    pub(super) transaction_timeout: Duration,
    pub(super) patience: Duration,
    pub(super) adopt: bool,
    /// Records have keys.
    pub(super) keyed: bool,
    /// What a record may take, as far as is known: the encoders look at it.
    pub(super) record_limit: Arc<AtomicUsize>,
    pub(super) strikes: Option<Strikes>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Properties may hold passwords.
        f.write_str(&self.describe())
    }
}

impl Target {
    pub(super) fn new(topic: String) -> Self {
        Target {
            topic,
            connection: Connection::default(),
            delivery: KafkaDelivery::ExactlyOnce,
            transactional_id: None,
            transaction_timeout: Duration::from_secs(60),
            patience: Duration::from_secs(120),
            adopt: false,
            keyed: false,
            record_limit: Arc::new(AtomicUsize::new(RECORD_LIMIT_BYTES)),
            strikes: None,
        }
    }

    pub(super) fn describe(&self) -> String {
        let delivery = match self.delivery {
            KafkaDelivery::ExactlyOnce => "exactly once",
            KafkaDelivery::Idempotent => "idempotent",
            KafkaDelivery::AtLeastOnce => "at least once",
        };
        format!("Kafka topic {} at {}, {delivery}", self.topic, self.connection.servers())
    }

    /// The transactional id, and the group of the mark.
    pub(super) fn id(&self, opening: &Opening<'_>) -> String {
        let Opening { flow, sink, .. } = opening;
        self.transactional_id.clone().unwrap_or_else(|| format!("highwater-{flow}-{sink}"))
    }

    /// Whether a test wants the sink to end here.
    pub(super) fn strikes(&self, point: KafkaPoint) -> bool {
        self.strikes.as_ref().is_some_and(|strikes| strikes(point))
    }

    /// A client that reads the offsets of a group and is no member of it. With `read_committed`
    /// it gets no answer while a transaction with such an offset is open.
    pub(super) fn reader(&self, group: &str, isolation: &str) -> Result<ClientConfig, Error> {
        let mut config = self.connection.config(&[])?;
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("isolation.level", isolation);
        Ok(config)
    }

    pub(super) fn producer(&self, id: &str) -> Result<ClientConfig, Error> {
        let limit = self.record_limit.load(Ordering::Relaxed).max(RECORD_MIN_BYTES);
        let patience = self.patience.as_millis().max(1).to_string();
        let mut defaults = vec![
            ("message.max.bytes", limit.to_string()),
            ("batch.size", limit.min(RECORD_LIMIT_BYTES).to_string()),
            ("queue.buffering.max.kbytes", QUEUE_KIB.max(limit / 512).to_string()),
            ("partitioner", "murmur2_random".to_owned()),
        ];
        self.connection.reserve("transactional.id", "`.transactional_id(..)`")?;
        self.connection.reserve("transaction.timeout.ms", "`.transaction_timeout(..)`")?;
        self.connection.reserve("enable.idempotence", "`.delivery(..)`")?;
        let own = match self.delivery {
            KafkaDelivery::ExactlyOnce => {
                // Records wait for their transaction, and so in batches, whatever the linger is.
                defaults.push(("linger.ms", "0".to_owned()));
                // The first time; then twice as long each time, up to a second. While the broker is
                // still at the end of one transaction, the next one has to ask twice.
                defaults.push(("retry.backoff.ms", "20".to_owned()));
                let timeout = self.transaction_timeout.as_millis().to_string();
                vec![("transactional.id", id.to_owned()), ("transaction.timeout.ms", timeout)]
            }
            KafkaDelivery::Idempotent => {
                defaults.push(("message.timeout.ms", patience));
                vec![("enable.idempotence", "true".to_owned())]
            }
            KafkaDelivery::AtLeastOnce => {
                defaults.push(("message.timeout.ms", patience));
                vec![("acks", "all".to_owned())]
            }
        };
        let defaults: Vec<_> = defaults.iter().map(|(name, value)| (*name, &value[..])).collect();
        let mut config = self.connection.config(&defaults)?;
        // The sink stands on these, whatever the program says.
        for (name, value) in own {
            config.set(name, value);
        }
        Ok(config)
    }
}

/// The longest wait that a client is asked for at once.
const LONGEST: Duration = Duration::from_secs(3_600);

/// Tries again, less and less often, for as long as the program said.
pub(super) struct Waiting {
    clock: SystemClock,
    until_micros: i64,
    pause: Duration,
}

impl Waiting {
    pub(super) fn new(patience: Duration) -> Self {
        let clock = SystemClock::new();
        let patience = i64::try_from(patience.as_micros()).unwrap_or(i64::MAX);
        let until_micros = clock.now_micros().saturating_add(patience);
        Waiting { clock, until_micros, pause: Duration::from_millis(10) }
    }

    /// What is left, at least a little, so that whoever asks gets an answer, and no more than the
    /// client can count.
    pub(super) fn left(&self) -> Duration {
        let left = self.until_micros.saturating_sub(self.clock.now_micros());
        Duration::from_micros(u64::try_from(left).unwrap_or(0).max(1_000)).min(LONGEST)
    }

    pub(super) fn is_over(&self) -> bool {
        self.clock.now_micros() >= self.until_micros
    }

    /// Waits before the next try.
    pub(super) fn pause(&mut self) {
        std::thread::sleep(self.pause.min(self.left()));
        self.pause = (self.pause * 2).min(Duration::from_secs(1));
    }
}
