//! A session: a transactional producer that has shut out those before it, and the mark that it
//! found then.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::producer::Producer;

use super::failure::{Failure, strike, struck};
use super::fault::KafkaPoint;
use super::marks::{Marks, offsets};
use super::output::{Output, POLL};
use super::target::{Target, Waiting};
use crate::error::Error;
use crate::kafka::{Caller, Wait};
use crate::sink::Mark;

/// How long the client may take for a mark or a commit, within which a coordinator can restart.
/// After that a new session settles what became of it.
const ANSWER: Duration = Duration::from_secs(10);

/// So much later it is not believed any more that a call returns.
const GRACE: Duration = Duration::from_secs(1);

/// Up to so many bytes of records are on their way while the mark is sent. It may go to the same
/// broker, behind them: with more, its time would be a matter of the network's speed.
const BESIDE_MARK: usize = 256 * 1024;

/// A transactional producer that has shut out those before it.
pub(super) struct Session {
    output: Output,
    group: Arc<ConsumerGroupMetadata>,
    caller: Caller,
}

impl Session {
    /// Shuts out every producer with this id, and reads the mark as it then is: no transaction of
    /// an older one can change it any more.
    pub(super) fn open(
        target: &Target,
        id: &str,
        waiting: &mut Waiting,
    ) -> Result<(Self, Option<Mark>), Failure> {
        let caller = Caller::start();
        let caller = caller.map_err(|e| Error::io("cannot start a thread", e))?;
        let marks = Marks::connect(target, id)?;
        let output = Output::start(target, id)?;
        strike(target, KafkaPoint::Start)?;
        let producer = &output.producer;
        // A client that knows its brokers finds the coordinator at once, and not after a timer.
        let within = Wait::slice(waiting.left());
        let _ = producer.client().fetch_metadata(Some(&target.topic), within);
        let (client, left) = (producer.clone(), waiting.left());
        let init = move |left| client.init_transactions(left);
        retried(&output, &caller, left, init).map_err(|error| {
            let what = format!("the transactional id `{id}` cannot be used");
            output.because(Failure::of(what, error))
        })?;
        strike(target, KafkaPoint::Fenced)?;
        let mark = marks.read(waiting)?;
        strike(target, KafkaPoint::Read)?;
        Ok((Session { output, group: Arc::new(marks.group()?), caller }, mark))
    }

    /// One transaction: the records of a letter, if there is one, and the mark.
    pub(super) fn transact(
        &self,
        target: &Target,
        letter: Option<&[u8]>,
        mark: &Mark,
        waiting: &Waiting,
    ) -> Result<(), Failure> {
        use KafkaPoint as Point;
        // Points of a claim, or of a letter.
        let [begun, marked, unanswered, committed] = match letter {
            None => [Point::Claiming, Point::ClaimSent, Point::ClaimUnanswered, Point::Claimed],
            Some(_) => [Point::Begun, Point::Marked, Point::Unanswered, Point::Committed],
        };
        let producer = &self.output.producer;
        let failed = |error| self.output.because(Failure::of("a transaction failed", error));
        producer.begin_transaction().map_err(failed)?;
        strike(target, begun)?;
        if let Some(letter) = letter {
            let given = |number| strike(target, Point::Produced(number));
            self.output.produce(letter, waiting, given)?;
            if letter.len() > BESIDE_MARK {
                self.output.arrived(waiting)?;
            }
        }
        let sent = self.send(target, mark, waiting);
        if let Err(KafkaError::Transaction(_)) = sent {
            // What became of a record says more than that its transaction failed.
            self.output.arrived(waiting)?;
        }
        sent.map_err(failed)?;
        strike(target, marked)?;
        if letter.is_some() {
            self.output.arrived(waiting)?;
            strike(target, Point::Flushed)?;
        }
        if target.strikes(unanswered) {
            let _ = producer.commit_transaction(Duration::from_millis(1));
            return Err(struck(unanswered));
        }
        let (client, left) = (producer.clone(), waiting.left().min(ANSWER));
        let commit = move |left| client.commit_transaction(left);
        retried(&self.output, &self.caller, left, commit).map_err(failed)?;
        strike(target, committed)
    }

    /// Sends the mark. This is not resumed, and what does not come in time may spoil the
    /// transaction: so it is not cut short before a coordinator that is restarting can be back.
    fn send(&self, target: &Target, mark: &Mark, waiting: &Waiting) -> KafkaResult<()> {
        let offsets = offsets(&self.output.topic, mark)?;
        let (client, group) = (self.output.producer.clone(), self.group.clone());
        let send = move |left| client.send_offsets_to_transaction(&offsets, &group, left);
        let left = waiting.left().min(ANSWER);
        let sent = retried(&self.output, &self.caller, left, send);
        if target.strikes(KafkaPoint::MarkUnanswered) {
            // As a call that does not return.
            std::mem::forget(self.output.producer.clone());
            return Err(no_answer());
        }
        sent
    }

    /// Ends a transaction that will not be tried again, so that readers need not wait for its
    /// time-out.
    pub(super) fn abort(&self) {
        if let Err(error) = self.output.producer.abort_transaction(Duration::from_secs(5)) {
            tracing::debug!(%error, "a transaction was left open");
        }
    }
}

/// Makes a call, and again for as long as the client says that this may help.
fn retried(
    output: &Output,
    caller: &Caller,
    within: Duration,
    call: impl Fn(Duration) -> KafkaResult<()> + Send + Sync + 'static,
) -> KafkaResult<()> {
    let (call, until) = (Arc::new(call), Waiting::new(within));
    loop {
        let (left, call) = (until.left(), call.clone());
        let returned = caller.call(left + GRACE, move || call(left), || output.reach_again());
        match returned {
            Some(Err(KafkaError::Transaction(error)))
                if error.is_retriable() && !until.is_over() =>
            {
                std::thread::sleep(POLL);
            }
            Some(result) => return result,
            None => {
                output.leave();
                return Err(no_answer());
            }
        }
    }
}

fn no_answer() -> KafkaError {
    KafkaError::Global(Code::OperationTimedOut)
}
