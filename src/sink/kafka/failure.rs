//! What an error of the client means for a sink.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use super::fault::KafkaPoint;
use super::target::Target;
use crate::error::{BoxError, Error};
use crate::kafka::{failed, is_permanent};

/// Why something did not succeed.
#[derive(Debug)]
pub(super) enum Failure {
    /// A new session may succeed.
    Passing(Error),
    /// It will not succeed until the user has done something.
    Final(Error),
    /// A test ends the sink here, as a crash would: nothing may be done any more.
    Struck(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Final(error)
    }
}

impl Failure {
    pub(super) fn of(what: impl Into<String>, cause: KafkaError) -> Self {
        let what = what.into();
        let code = cause.rdkafka_error_code();
        if let Some(advice) = code.and_then(advice) {
            return Failure::Final(Error::io(format!("{what}: {advice}"), cause));
        }
        let passing = code.is_some_and(may_pass) || !is_permanent(&cause);
        let error = failed(what, cause);
        if passing { Failure::Passing(error) } else { Failure::Final(error) }
    }

    pub(super) fn error(self) -> Error {
        match self {
            Failure::Passing(error) | Failure::Final(error) | Failure::Struck(error) => error,
        }
    }
}

/// Ends here, if a test wants it.
pub(super) fn strike(target: &Target, point: KafkaPoint) -> Result<(), Failure> {
    if target.strikes(point) { Err(struck(point)) } else { Ok(()) }
}

pub(super) fn struck(point: KafkaPoint) -> Failure {
    Failure::Struck(Error::io("struck on purpose", BoxError::from(format!("{point:?}"))))
}

/// Whoever is shut out learns from the mark by whom; a topic may be unknown to a broker that has
/// just started.
fn may_pass(code: Code) -> bool {
    matches!(
        code,
        Code::Fatal
            | Code::Fenced
            | Code::ProducerFenced
            | Code::InvalidProducerEpoch
            | Code::UnknownTopic
            | Code::UnknownTopicOrPartition
            | Code::UnknownPartition
    )
}

/// What the user must do about errors that only a producer has.
fn advice(code: Code) -> Option<&'static str> {
    Some(match code {
        Code::MessageSizeTooLarge => {
            "a record is larger than the topic takes: raise its `max.message.bytes`"
        }
        Code::InvalidTransactionTimeout => {
            "the transaction time-out is above the broker's `transaction.max.timeout.ms`"
        }
        Code::InvalidTimestamp | Code::InvalidRecord => {
            "the topic refuses a record. One that is compacted takes none without a key. \
             Timestamps must be within its `message.timestamp.before.max.ms` and \
             `message.timestamp.after.max.ms`: raise these, or set `message.timestamp.type` to \
             `LogAppendTime`"
        }
        _ => return None,
    })
}
