//! What the source and the sink for Apache Kafka share: how a client is configured, what its log
//! and its errors become, and what can be asked of a cluster.

mod caller;
mod error;
mod reach;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::client::{Client, ClientContext};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use rdkafka::statistics::Statistics;

pub(crate) use caller::Caller;
pub(crate) use error::{failed, is_permanent, reason};
pub(crate) use reach::Wait;

use crate::error::Error;
use crate::source::signal::lock;
use crate::time::clock::monotonic;

/// How long a start waits for a cluster, unless the program says otherwise.
const CONNECT_WITHIN: Duration = Duration::from_secs(30);

/// Which cluster, and how to reach it.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    servers: String,
    /// Properties of the client that the program sets: they have the last word.
    properties: BTreeMap<String, String>,
    pub(crate) connect_within: Duration,
}

impl Default for Connection {
    fn default() -> Self {
        let (servers, properties) = (String::new(), BTreeMap::new());
        Connection { servers, properties, connect_within: CONNECT_WITHIN }
    }
}

impl Connection {
    /// `host:port` of some brokers of the cluster, separated by commas.
    pub(crate) fn at(&mut self, servers: impl Into<String>) {
        self.servers = servers.into();
    }

    /// The escape hatch: a property of librdkafka by its name.
    pub(crate) fn property(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.properties.insert(name.into(), value.into());
    }

    /// Refuses a property that the program must not set, and says what decides it instead.
    pub(crate) fn reserve(&self, name: &str, instead: &str) -> Result<(), Error> {
        if self.properties.contains_key(name) {
            return Err(Error::plan(format!("the property `{name}` cannot be set: {instead}")));
        }
        Ok(())
    }

    /// What the program set a property to.
    pub(crate) fn set_to(&self, name: &str) -> Option<&str> {
        self.properties.get(name).map(String::as_str)
    }

    pub(crate) fn servers(&self) -> &str {
        &self.servers
    }

    /// What a client of this connection is given.
    pub(crate) fn context(&self) -> Context {
        // A property has the last word here too.
        Context::new(self.set_to("bootstrap.servers").unwrap_or(&self.servers))
    }

    /// The configuration of a client: defaults for any, those of the caller, and what the program
    /// says, in this order.
    pub(crate) fn config(&self, defaults: &[(&str, &str)]) -> Result<ClientConfig, Error> {
        if self.servers.is_empty() {
            let message = "no broker is named: say `.at(\"host:9092\")`";
            return Err(Error::plan(message));
        }
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.servers);
        config.set("client.id", "highwater");
        // A broker that comes back is noticed within a second.
        config.set("reconnect.backoff.max.ms", "1000");
        config.set("socket.keepalive.enable", "true");
        for (name, value) in defaults {
            config.set(*name, *value);
        }
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        Ok(config)
    }
}

/// Receives the log and the errors of a client.
#[derive(Clone)]
pub(crate) struct Context {
    /// Where it looks for the cluster at first.
    servers: Arc<str>,
    last_error: Arc<Mutex<Option<String>>>,
    statistics: Arc<Mutex<Option<Statistics>>>,
}

thread_local! {
    /// Where the partition ends whose queue this thread polls.
    static END: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Where the partition ends of which this thread has just heard that it ends: behind marks of
/// transactions, and behind records that were taken back. The client says so in words only.
pub(crate) fn take_end() -> Option<u64> {
    END.take()
}

/// Finds the offset in "reached end of partition at offset 5 (HighwaterMark 5)".
fn end_in(why: &str) -> Option<u64> {
    let (_, end) = why.split_once("end of partition at offset ")?;
    end.split_once(' ')?.0.parse().ok()
}

impl Context {
    fn new(servers: &str) -> Self {
        Context { servers: servers.into(), last_error: Arc::default(), statistics: Arc::default() }
    }

    /// For a client that gets no answers: it may have forgotten whom to ask.
    pub(crate) fn reach_again<C: ClientContext>(&self, client: &Client<C>) {
        reach::reach_again(client, &self.servers);
    }

    /// What the client complained of last: it says why a request went unanswered.
    pub(crate) fn last_error(&self) -> Option<String> {
        lock(&self.last_error).clone()
    }

    /// How the client is, if it has said so since it was asked last.
    pub(crate) fn take_statistics(&self) -> Option<Statistics> {
        lock(&self.statistics).take()
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning => tracing::warn!(facility, "kafka client: {message}"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
                tracing::info!(facility, "kafka client: {message}");
            }
            RDKafkaLogLevel::Debug => tracing::debug!(facility, "kafka client: {message}"),
        }
    }

    fn stats(&self, statistics: Statistics) {
        *lock(&self.statistics) = Some(statistics);
    }

    fn error(&self, error: KafkaError, why: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::PartitionEOF) {
            END.set(end_in(why));
            return;
        }
        tracing::warn!(%error, "kafka client: {why}");
        // That all brokers are down says less than what was said of one of them.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            *lock(&self.last_error) = Some(why.to_owned());
        }
    }
}

impl ConsumerContext for Context {}

/// A client that only asks things of the cluster. Topics are not created by asking.
pub(crate) struct Inquirer {
    client: BaseConsumer<Context>,
    within: Duration,
}

impl Inquirer {
    pub(crate) fn connect(connection: &Connection) -> Result<Self, Error> {
        // Without a group it is a plain client.
        let mut config = connection.config(&[])?;
        config.remove("group.id");
        let client = config.create_with_context(connection.context());
        let client = client.map_err(|e| failed("the client cannot be made", e))?;
        Ok(Inquirer { client, within: connection.connect_within })
    }

    pub(crate) fn client(&self) -> &BaseConsumer<Context> {
        &self.client
    }

    /// What the cluster says of one topic, or of all.
    pub(crate) fn metadata(&self, topic: Option<&str>) -> Result<Metadata, Error> {
        metadata(&self.client, topic, self.within)
    }

    /// By what the cluster is known again.
    pub(crate) fn cluster_id(&self) -> Result<String, Error> {
        self.client.client().fetch_cluster_id(self.within).ok_or_else(|| {
            let why = "the cluster did not say its id in time";
            Error::io(why, reason(&self.client.context().last_error()))
        })
    }
}

/// How long to wait before something is asked again.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Asks again for as long as the answer may be another one soon: a broker that has just started
/// leads its partitions a moment later. An answer that did not come is not asked for twice.
pub(crate) fn patiently<R>(
    within: Duration,
    ask: impl Fn(Duration) -> KafkaResult<R>,
) -> KafkaResult<R> {
    let until = monotonic() + within;
    loop {
        let left = until.saturating_duration_since(monotonic());
        match ask(left.max(AGAIN_AFTER)) {
            Err(error) if left > AGAIN_AFTER && !is_permanent(&error) && !is_timeout(&error) => {
                tracing::debug!(%error, "asking again");
                std::thread::sleep(AGAIN_AFTER);
            }
            answer => return answer,
        }
    }
}

fn is_timeout(error: &KafkaError) -> bool {
    let code = error.rdkafka_error_code();
    matches!(code, Some(RDKafkaErrorCode::OperationTimedOut | RDKafkaErrorCode::RequestTimedOut))
}

/// What the cluster says of one topic, or of all.
pub(crate) fn metadata(
    client: &BaseConsumer<Context>,
    topic: Option<&str>,
    within: Duration,
) -> Result<Metadata, Error> {
    let ask = |within| match client.fetch_metadata(topic, within) {
        // No broker is alive, and the client has forgotten all.
        Ok(answer) if answer.brokers().is_empty() => {
            client.context().reach_again(client.client());
            Err(KafkaError::MetadataFetch(RDKafkaErrorCode::BrokerNotAvailable))
        }
        answer => answer,
    };
    patiently(within, ask).map_err(|error| {
        // What the client has to say of its brokers waits in its queue.
        for _ in 0..100 {
            if client.poll(Duration::ZERO).is_none() && client.context().last_error().is_some() {
                break;
            }
        }
        let what = format!("no answer from the Kafka cluster within {within:?}");
        match client.context().last_error() {
            Some(why) if !is_permanent(&error) => Error::io(what, reason(&Some(why))),
            _ if is_permanent(&error) => failed("the Kafka cluster refused", error),
            _ => Error::io(what, error),
        }
    })
}
