//! What an error of the client means for a program.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::error::{BoxError, Error, ErrorKind};

/// The error of a flow for an error of the client: `what` says what was attempted.
pub(crate) fn failed(what: impl Into<String>, cause: KafkaError) -> Error {
    let (kind, advice) = meaning(&cause);
    let what = what.into();
    let message = if advice.is_empty() { what } else { format!("{what}: {advice}") };
    Error::new(kind, message).because(cause)
}

/// Whether trying again cannot help, as far as the code tells: what is not known to be permanent
/// is tried again.
pub(crate) fn is_permanent(error: &KafkaError) -> bool {
    match error {
        KafkaError::MessageConsumptionFatal(_)
        | KafkaError::ClientConfig(..)
        | KafkaError::ClientCreation(_) => true,
        _ => error.rdkafka_error_code().is_some_and(|code| !meaning_of(code).1.is_empty()),
    }
}

/// What a client said last, as the cause of an error.
pub(crate) fn reason(last: &Option<String>) -> BoxError {
    last.clone().unwrap_or_else(|| "the client does not say why".to_owned()).into()
}

fn meaning(error: &KafkaError) -> (ErrorKind, &'static str) {
    match error {
        KafkaError::ClientConfig(..) => (ErrorKind::Plan, "mend the property that it names"),
        KafkaError::ClientCreation(_) => (ErrorKind::Plan, "mend the properties of the client"),
        _ => error.rdkafka_error_code().map_or((ErrorKind::Io, ""), meaning_of),
    }
}

/// What the user must do; nothing where trying again may help.
fn meaning_of(code: RDKafkaErrorCode) -> (ErrorKind, &'static str) {
    use RDKafkaErrorCode as Code;
    match code {
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
            (ErrorKind::Input, "there is no such topic or partition: create it, or mend its name")
        }
        Code::InvalidTopic => (ErrorKind::Plan, "this cannot be the name of a topic"),
        Code::TopicAuthorizationFailed => {
            (ErrorKind::Io, "access to the topic is refused: give the program's user the right")
        }
        Code::GroupAuthorizationFailed => {
            (ErrorKind::Io, "access to the group is refused: give the program's user the right")
        }
        Code::TransactionalIdAuthorizationFailed => (
            ErrorKind::Io,
            "access to the transactional id is refused: give the program's user the right",
        ),
        Code::ClusterAuthorizationFailed => {
            (ErrorKind::Io, "access to the cluster is refused: give the program's user the right")
        }
        Code::Authentication | Code::SaslAuthenticationFailed => {
            (ErrorKind::Io, "the cluster does not know the program's user, or its password")
        }
        Code::OffsetOutOfRange | Code::AutoOffsetReset => {
            (ErrorKind::Input, "the offset is not on the broker")
        }
        Code::MessageSizeTooLarge | Code::InvalidMessageSize => {
            (ErrorKind::Input, "a message is larger than the topic takes")
        }
        Code::BadMessage | Code::InvalidMessage => (ErrorKind::Input, "a message is damaged"),
        Code::NotImplemented | Code::UnsupportedFeature | Code::UnsupportedVersion => {
            (ErrorKind::Plan, "this broker and this build of the client do not fit together")
        }
        Code::Fatal | Code::Fenced | Code::ProducerFenced => {
            (ErrorKind::Io, "the client cannot go on")
        }
        _ => (ErrorKind::Io, ""),
    }
}
