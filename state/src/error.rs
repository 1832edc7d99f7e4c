use std::path::{Path, PathBuf};

/// What can go wrong with a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The directory cannot be used.
    #[error("cannot use the state directory {path}: {message}")]
    Io {
        /// The state directory.
        path: PathBuf,
        /// What the system said.
        message: String,
    },
    /// Another process (or another flow of this one) has the directory open.
    #[error("the state directory {path} is in use by another process")]
    InUse {
        /// The state directory.
        path: PathBuf,
    },
    /// Bytes are not what was written.
    #[error("damaged or foreign state: {0}")]
    Corrupt(String),
    /// A value cannot be encoded.
    #[error("cannot encode a value: {0}")]
    Encode(String),
    /// A commit failed, and whether it took place is unknown: open the store again.
    #[error("whether commit {commit} took place is unknown ({cause}): a restart finds out")]
    Doubtful {
        /// The number of the commit.
        commit: u64,
        /// What the system said.
        cause: String,
    },
    /// An earlier commit failed, and whether it took place is unknown: open the store again.
    #[error("the state can no longer be written ({0}): a restart finds out what is durable")]
    Failed(String),
}

impl Error {
    pub(crate) fn io(path: &Path, error: &std::io::Error) -> Self {
        Error::Io { path: path.to_owned(), message: error.to_string() }
    }

    /// Says where the damage is.
    pub(crate) fn within(self, path: &Path) -> Self {
        match self {
            Error::Corrupt(what) => Error::Corrupt(format!("{}: {what}", path.display())),
            other => other,
        }
    }
}
