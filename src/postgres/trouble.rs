//! What goes wrong with a database, by what is to be done about it.

use crate::error::{BoxError, Error, ErrorKind};

/// Why an exchange with the server failed.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// It may work in a moment, on another connection.
    Away(BoxError),
    /// The server broke it off, since it ran or waited for too long: it may work in a moment.
    Slow(BoxError),
    /// The database refuses a row.
    Refused(tokio_postgres::Error),
    /// It will not work until somebody mends something.
    Stuck(tokio_postgres::Error),
    /// This is what the flow stops with.
    Final(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Trouble::Final(error)
    }
}

impl Trouble {
    pub(crate) fn of(error: tokio_postgres::Error) -> Self {
        match error.code() {
            Some(code) if ["57014", "55P03"].contains(&code.code()) => {
                Trouble::Slow(with_message(&error).into())
            }
            Some(code) if passes(code.code()) => Trouble::Away(with_message(&error).into()),
            Some(code) if refuses_row(code.code()) => Trouble::Refused(error),
            Some(_) => Trouble::Stuck(error),
            None if is_lost(&error) => Trouble::Away(error.into()),
            None => Trouble::Stuck(error),
        }
    }
}

/// Lost connections, restarts, full servers, deadlocks, idle sessions, and servers that only read.
fn passes(code: &str) -> bool {
    ["08", "40", "53"].iter().any(|class| code.starts_with(class))
        || ["57P01", "57P02", "57P03", "57P05", "25P03", "25006"].contains(&code)
}

/// Data that does not fit, constraints, and what triggers raise.
fn refuses_row(code: &str) -> bool {
    ["22", "23", "44"].iter().any(|class| code.starts_with(class)) || code == "P0001"
}

/// Whether the connection is gone, or was never there.
fn is_lost(error: &tokio_postgres::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if error.is::<std::io::Error>() {
            return true;
        }
        cause = error.source();
    }
    // The driver has no other mark for a connection that was not made in time.
    error.is_closed() || error.to_string().contains("timeout")
}

/// The server's own words: what the driver prints is only "db error".
pub(crate) fn with_message(error: &tokio_postgres::Error) -> String {
    let Some(db) = error.as_db_error() else { return error.to_string() };
    let mut text = format!("{} (SQLSTATE {})", db.message(), db.code().code());
    for more in [db.detail(), db.where_(), db.hint()].into_iter().flatten() {
        text.push_str("; ");
        text.push_str(more);
    }
    text
}

/// An error that says what to do.
pub(crate) fn describe(what: &str, error: &tokio_postgres::Error) -> Error {
    let code = error.code().map_or("", |code| code.code());
    let (kind, advice) = match code {
        "42501" => (ErrorKind::Io, "the role lacks a permission: grant it"),
        "42P01" => (ErrorKind::Io, "a table is missing: create it, or mend its name"),
        "3F000" => (ErrorKind::Io, "a schema is missing: create it, or mend its name"),
        "3D000" => (ErrorKind::Io, "there is no such database"),
        "42703" => (ErrorKind::Input, "a column is missing"),
        code if code.starts_with("28") => (ErrorKind::Io, "the database lets this role not in"),
        code if refuses_row(code) => (ErrorKind::Input, "the database refuses a row"),
        code if code.starts_with("42") => (ErrorKind::Plan, "the statement is wrong"),
        _ => (ErrorKind::Io, "the database refuses"),
    };
    Error::new(kind, format!("{what}: {advice}: {}", with_message(error)))
}
