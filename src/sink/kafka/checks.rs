//! What is asked of the cluster before the first record: whether there is a topic, and whether
//! what the program wants is within the limits of topic and broker.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context as Polling, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, ResourceSpecifier};
use rdkafka::error::KafkaError;
use rdkafka::metadata::MetadataBroker;

use super::KafkaDelivery;
use super::target::{Target, Waiting};
use crate::error::Error;
use crate::kafka::{Context, Inquirer, failed, is_permanent};

/// How long the broker keeps an offset that nobody renews, where it does not say so.
const RETENTION: Duration = Duration::from_secs(7 * DAY);
const DAY: u64 = 24 * 60 * 60;

/// What a cluster is found to be like.
pub(super) struct Limits {
    /// After how long a mark that was not written must be written again.
    pub(super) renew_after: Duration,
}

/// Checks what can be checked. The clients and the encoders are told what a record may take.
pub(super) fn check(target: &Target, waiting: &Waiting) -> Result<Limits, Error> {
    let topic = &target.topic;
    let mut connection = target.connection.clone();
    connection.connect_within = waiting.left();
    let metadata = Inquirer::connect(&connection)?.metadata(Some(topic))?;
    let known = metadata.topics().iter().find(|known| known.name() == topic);
    if let Some(code) = known.and_then(|known| known.error()) {
        let what = format!("the topic `{topic}` cannot be written");
        return Err(failed(what, KafkaError::MetadataFetch(code.into())));
    }
    // Which one is all the same: they should have the same limits.
    let broker = metadata.brokers().first();
    let [of_topic, of_broker] = configs(target, broker.map(MetadataBroker::id), waiting)?;
    check_topic(target, of_topic.as_ref())?;
    check_broker(target, of_broker.as_ref())
}

fn check_topic(target: &Target, config: Option<&ConfigResource>) -> Result<(), Error> {
    let policy = config.and_then(|config| config.get("cleanup.policy")?.value.as_deref());
    // IMPORTANT: what is once in a commit is never let go of, and would never arrive.
    if !target.keyed && policy.is_some_and(|policy| policy.contains("compact")) {
        return Err(Error::plan(format!(
            "the topic `{}` is compacted, and takes no records without a key: say `.key(..)`",
            target.topic
        )));
    }
    let by_program = target.connection.set_to("message.max.bytes");
    let by_program = by_program.and_then(|value| value.parse().ok());
    let limit = by_program.or_else(|| number(config, "max.message.bytes"));
    if let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()) {
        target.record_limit.store(limit, Ordering::Relaxed);
    }
    Ok(())
}

fn check_broker(target: &Target, config: Option<&ConfigResource>) -> Result<Limits, Error> {
    let wanted = target.transaction_timeout.as_millis();
    let most = number(config, "transaction.max.timeout.ms");
    let exactly_once = target.delivery == KafkaDelivery::ExactlyOnce;
    if let Some(most) = most.filter(|most| exactly_once && wanted > u128::from(*most)) {
        return Err(Error::plan(format!(
            "the transaction time-out is {wanted} ms, and the broker allows {most} ms: shorten \
             `transaction_timeout`, or raise the broker's `transaction.max.timeout.ms`"
        )));
    }
    let minutes = number(config, "offsets.retention.minutes");
    let retention = minutes.map_or(RETENTION, |minutes| Duration::from_secs(minutes * 60));
    if exactly_once && retention < Duration::from_secs(DAY) {
        tracing::warn!(
            ?retention,
            "the broker forgets soon what a flow that stands still has written to `{}`: raise \
             `offsets.retention.minutes`",
            target.topic
        );
    }
    Ok(Limits { renew_after: (retention / 4).min(Duration::from_secs(DAY)) })
}

fn number(config: Option<&ConfigResource>, name: &str) -> Option<u64> {
    config?.get(name)?.value.as_deref()?.parse().ok()
}

/// The configuration of topic and broker, as far as the program may see it: what it may not see,
/// the broker will say when it refuses something.
fn configs(
    target: &Target,
    broker: Option<i32>,
    waiting: &Waiting,
) -> Result<[Option<ConfigResource>; 2], Error> {
    let cannot = "the limits of topic and broker cannot be asked for";
    let admin: AdminClient<Context> = target
        .connection
        .config(&[])?
        .create_with_context(target.connection.context())
        .map_err(|error| failed(cannot, error))?;
    let of_topic = Some(ResourceSpecifier::Topic(&target.topic));
    let asked = [of_topic, broker.map(ResourceSpecifier::Broker)];
    let mut found = [None, None];
    for (asked, found) in asked.iter().zip(&mut found) {
        let Some(asked) = asked else { continue };
        let left = waiting.left().min(Duration::from_secs(30));
        let options = AdminOptions::new().request_timeout(Some(left));
        let answer = block_on(admin.describe_configs([asked], &options));
        *found = match answer.map(|mut all| all.pop()) {
            Ok(Some(Ok(config))) => Some(config),
            Ok(Some(Err(code))) => {
                tracing::warn!(%code, "{cannot}");
                None
            }
            Ok(None) => None,
            Err(error) if is_permanent(&error) => {
                tracing::warn!(%error, "{cannot}");
                None
            }
            Err(error) => return Err(failed(cannot, error)),
        };
    }
    Ok(found)
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for an answer that the client's own thread brings.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut polling = Polling::from_waker(&waker);
    loop {
        if let Poll::Ready(answer) = future.as_mut().poll(&mut polling) {
            return answer;
        }
        std::thread::park();
    }
}
