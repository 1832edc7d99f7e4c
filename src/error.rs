//! What can go wrong, by what the user must do about it.

use std::fmt;
use std::sync::Arc;

use crate::event::Partition;

/// Any error behind an [`Error`].
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// What the user must do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Change the program: the flow does not make sense as built.
    Plan,
    /// Mend the input, or say with [`Undecodable`](crate::source::Undecodable) what to do with it.
    Input,
    /// Mend the closure or component that panicked or returned an error.
    UserCode,
    /// Look at the state directory: it is of another flow, in use, damaged, or of another plan.
    State,
    /// Look at the machine: a file, a directory or a socket could not be used. A restart goes on
    /// from the last commit.
    Io,
    /// Report it: a rule that the engine should keep was broken.
    Bug,
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ErrorKind::Plan => "the flow cannot be built",
            ErrorKind::Input => "bad input",
            ErrorKind::UserCode => "user code failed",
            ErrorKind::State => "unusable state",
            ErrorKind::Io => "input or output failed",
            ErrorKind::Bug => "a bug in highwater",
        })
    }
}

/// The error of a flow: what to do about it, where it happened, and why.
///
/// [`Display`](fmt::Display) prints this error alone; the cause is behind
/// [`source`](std::error::Error::source).
pub struct Error {
    kind: ErrorKind,
    message: String,
    place: Box<Place>,
    cause: Option<BoxError>,
}

#[derive(Debug, Default)]
struct Place {
    operator: Option<String>,
    partition: Option<Arc<Partition>>,
    position: Option<u64>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into(), place: Box::default(), cause: None }
    }

    /// An input error, for sources of your own: the message says what is wrong with the input.
    #[must_use]
    pub fn input(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Input, message)
    }

    /// An I/O error, for sources and sinks of your own: the message says what was attempted.
    #[must_use]
    pub fn io(message: impl Into<String>, cause: impl Into<BoxError>) -> Self {
        Self::new(ErrorKind::Io, message).because(cause)
    }

    pub(crate) fn plan(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Plan, message)
    }

    pub(crate) fn state(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::State, message)
    }

    pub(crate) fn bug(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Bug, message)
    }

    /// Names the cause.
    #[must_use]
    pub fn because(mut self, cause: impl Into<BoxError>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Names the operator, unless one is named already.
    pub(crate) fn in_operator(mut self, operator: &str) -> Self {
        self.place.operator.get_or_insert_with(|| operator.to_owned());
        self
    }

    pub(crate) fn in_partition(mut self, partition: &Arc<Partition>) -> Self {
        self.place.partition.get_or_insert_with(|| partition.clone());
        self
    }

    /// Names the position in the partition, unless one is named already.
    #[must_use]
    pub fn at_position(mut self, position: u64) -> Self {
        self.place.position.get_or_insert(position);
        self
    }

    /// What the user must do.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The id of the operator it happened in.
    #[must_use]
    pub fn operator(&self) -> Option<&str> {
        self.place.operator.as_deref()
    }

    /// The name of the partition whose event was at fault.
    #[must_use]
    pub fn partition(&self) -> Option<&str> {
        self.place.partition.as_deref().map(Partition::name)
    }

    /// The position in the partition of the event at fault.
    #[must_use]
    pub fn position(&self) -> Option<u64> {
        self.place.position
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        if let Some(operator) = self.operator() {
            write!(f, " in `{operator}`")?;
        }
        if let Some(partition) = self.partition() {
            write!(f, ", partition `{partition}`")?;
        }
        if let Some(position) = self.position() {
            write!(f, ", position {position}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// For a `main` that returns this error: what `Display` says, and the chain of causes.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            write!(f, "\n  because: {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}

impl From<highwater_state::Error> for Error {
    fn from(error: highwater_state::Error) -> Self {
        let kind = match error {
            highwater_state::Error::Io { .. } | highwater_state::Error::Doubtful { .. } => {
                ErrorKind::Io
            }
            _ => ErrorKind::State,
        };
        Error::new(kind, error.to_string())
    }
}

/// What a panic said, as far as it can be read.
pub(crate) fn panic_message(payload: &(dyn std::any::Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}
