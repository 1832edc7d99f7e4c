//! A session: a transactional producer that has shut out those before it, and the mark that it
//! found then.

use std::time::Duration;

use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::producer::Producer;

use super::failure::{Failure, strike, struck};
use super::fault::KafkaPoint;
use super::marks::{Marks, offsets};
use super::output::{Output, POLL};
use super::target::{Target, Waiting};
use crate::sink::Mark;

/// How long a coordinator may take to restart before a transaction is begun anew.
const RESTARTING: Duration = Duration::from_secs(10);

/// A transactional producer that has shut out those before it.
pub(super) struct Session {
    output: Output,
    group: ConsumerGroupMetadata,
}

impl Session {
    /// Shuts out every producer with this id, and reads the mark as it then is: no transaction of
    /// an older one can change it any more.
    pub(super) fn open(
        target: &Target,
        id: &str,
        waiting: &mut Waiting,
    ) -> Result<(Self, Option<Mark>), Failure> {
        let marks = Marks::connect(target, id)?;
        let output = Output::start(target, id)?;
        strike(target, KafkaPoint::Start)?;
        let producer = &output.producer;
        // A client that knows its brokers finds the coordinator at once, and not after a timer.
        {
            let _call = output.call();
            let _ = producer.client().fetch_metadata(Some(&target.topic), waiting.left());
        }
        let init = |left| producer.init_transactions(left);
        retried(&output, waiting, init).map_err(|error| {
            let what = format!("the transactional id `{id}` cannot be used");
            output.because(Failure::of(what, error))
        })?;
        strike(target, KafkaPoint::Fenced)?;
        let mark = marks.read(waiting)?;
        strike(target, KafkaPoint::Read)?;
        Ok((Session { output, group: marks.group()? }, mark))
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
        }
        let offsets = offsets(&self.output.topic, mark).map_err(failed)?;
        // Records are on their way meanwhile. It is not resumed, and what does not come in time may
        // spoil the transaction: so this is not cut short before a coordinator that is restarting
        // can be back.
        let send = |left: Duration| {
            producer.send_offsets_to_transaction(&offsets, &self.group, left.min(RESTARTING))
        };
        let sent = retried(&self.output, waiting, send);
        if sent.is_err() {
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
        let commit = |left| producer.commit_transaction(left);
        retried(&self.output, waiting, commit).map_err(failed)?;
        strike(target, committed)
    }

    /// Ends a transaction that will not be tried again, so that readers need not wait for its
    /// time-out.
    pub(super) fn abort(&self) {
        if let Err(error) = self.output.producer.abort_transaction(Duration::from_secs(5)) {
            tracing::debug!(%error, "a transaction was left open");
        }
    }
}

/// Goes on with a call that was cut short, as long as that may help.
fn retried(
    output: &Output,
    waiting: &Waiting,
    mut call: impl FnMut(Duration) -> KafkaResult<()>,
) -> KafkaResult<()> {
    let _call = output.call();
    loop {
        match call(waiting.left()) {
            Err(KafkaError::Transaction(error)) if error.is_retriable() && !waiting.is_over() => {
                std::thread::sleep(POLL);
            }
            result => return result,
        }
    }
}
