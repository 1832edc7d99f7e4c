//! Tables of PostgreSQL, exactly once.

mod apply;
mod encode;
mod faults;
mod letter;
mod marks;
mod writer;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Encoder, Guarantee, Opening, Sink, SinkWriter};
use crate::error::Error;
use crate::event::Data;
use crate::postgres::{Layout, Postgres, Table};
#[cfg(feature = "testing")]
#[doc(hidden)]
pub use faults::Fault;
use faults::Faults;

/// What to do with a row that the database refuses: one that violates a constraint, that does not
/// fit the type of its column, at which a trigger raises an error, or that holds what PostgreSQL
/// cannot store, such as a NUL character.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Violations {
    /// Stop the flow with an error that has the database's words. Nothing of the commit is
    /// visible; a restart tries again.
    #[default]
    Fail,
    /// Put it into this table with the reason, in the same transaction as the other rows, so
    /// exactly once too. The table is made if it is missing; its columns are `flow`, `sink` and
    /// `tick` (of the commit), `row` (JSON, with every value as the text that was sent, and U+FFFD
    /// in place of NUL), `error`, and `at` (when it was refused).
    ///
    /// Without refused rows it costs nothing. A commit with some is applied again in halves, and
    /// those in halves, so that a refused row costs some 20 statements. With
    /// [`upsert`](Postgres::upsert), a row that a later one of its key replaces in the same commit
    /// may not be looked at.
    DeadLetters(String),
}

impl Violations {
    /// Refused rows go into a table.
    #[must_use]
    pub fn dead_letters(table: impl Into<String>) -> Self {
        Violations::DeadLetters(table.into())
    }
}

/// Writes rows to a table of a PostgreSQL database, exactly once: made by
/// [`Postgres::append`] and [`Postgres::upsert`].
///
/// # Which field goes where
/// A row is a struct (or what serde makes of one), and each of its fields belongs to the column of
/// its name. A field that is a struct or tuple itself is taken apart: the field at the end of the
/// path `window.start` belongs to the column `window_start` or, if there is none, to `start`. So
/// the results of a window fit a table with the columns `key`, `start`, `end` and `value`. A
/// struct, list or map goes whole into a column of type `json` or `jsonb` of its name, a list into
/// an array. Columns that have no field take their default. Names of columns and tables are taken
/// as they stand, capital letters too; `schema.table` is understood.
///
/// | in the row | column |
/// |---|---|
/// | `bool` | `boolean` |
/// | integers | `smallint`, `integer`, `bigint`, `numeric`, `real`, `double precision` |
/// | floats | `real`, `double precision`, `numeric`; NaN and the infinities stay what they are |
/// | text, enums without contents | `text`, `varchar`, dates, `uuid`, enums, `inet`, `numeric`, and others that PostgreSQL reads from text |
/// | [`EventTime`](crate::EventTime) and other times as RFC 3339 | `timestamptz` (`timestamp` ignores a zone); the ends of time are `infinity` and `-infinity` |
/// | bytes, `Vec<u8>` | `bytea` |
/// | `Vec<T>` | `T[]` |
/// | anything | `json`, `jsonb`; NaN becomes null |
/// | `None`, `()` | null |
///
/// The table is looked at when the flow starts: a missing column, a field of another kind than
/// its column, a missing permission or index are errors then. (A type whose fields cannot be
/// found out without a row, such as one with `#[serde(flatten)]`, is checked at the first row.)
/// A number that is too large for its column is refused by the database: see [`Violations`].
///
/// # Exactly once
/// The rows of a commit are part of that commit until the database has them. They go there by
/// COPY in one transaction, which also notes in the table `highwater_sinks` what has been taken.
/// A connection that is lost in the middle is made anew, and that table tells whether the
/// transaction took place. A second copy of the flow that is started by mistake takes the table
/// over, and stops the first one with an error; a start on an older copy of the state is refused.
/// `highwater_sinks` is made if it is missing; a role that may not do so gets an error with the
/// statement.
///
/// Deferred constraints are checked at each statement. The database must keep what it has
/// committed: `fsync` must be on there; `synchronous_commit` is switched on where it is off.
///
/// # Memory
/// The rows of one commit are in memory once, as text.
#[derive(Clone)]
pub struct PostgresSink {
    database: Postgres,
    table: String,
    /// The columns of an upsert's key; empty where rows are appended.
    key: Vec<String>,
    violations: Violations,
    marks: String,
    adopt: bool,
    faults: Faults,
    target: Own,
}

/// What the encoders need to know of the table; from when the writer is opened.
#[derive(Default)]
struct Target {
    table: Mutex<Option<Arc<Table>>>,
    /// `None` for as long as it takes a row to find out.
    layout: Mutex<Option<Arc<Layout>>>,
}

/// A copy of a sink may be used for rows of another type: it finds out by itself.
#[derive(Default)]
struct Own(Arc<Target>);

impl Clone for Own {
    fn clone(&self) -> Self {
        Own::default()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Postgres {
    /// A sink that appends rows to a table.
    ///
    /// ```no_run
    /// use highwater::postgres::{Postgres, Violations};
    /// use highwater::prelude::*;
    ///
    /// #[derive(Clone, serde::Serialize, serde::Deserialize)]
    /// struct Reading { sensor: i32, at: EventTime, celsius: Option<f64> }
    ///
    /// let flow = Flow::new("readings");
    /// // create table readings (sensor int not null, at timestamptz, celsius float8)
    /// flow.source("files", JsonLinesFiles::<Reading>::glob("in/*.jsonl")).sink(
    ///     "table",
    ///     Postgres::at("host=localhost user=app")
    ///         .append("readings")
    ///         .violations(Violations::dead_letters("readings_refused")),
    /// );
    /// flow.run(Settings::at("state"))?;
    /// # Ok::<(), Error>(())
    /// ```
    #[must_use]
    pub fn append(&self, table: impl Into<String>) -> PostgresSink {
        self.sink(table.into(), Vec::new())
    }

    /// A sink that puts rows into a table in place of those with the same key: the columns named
    /// here, on which the table must have a unique index or a primary key. They
    /// must not be null: a column that may be is an error at the start, unless the index is
    /// `nulls not distinct`, to which two nulls are the same key. The last row of a key
    /// counts. For results of windows the key is that of the result, and `start`; updated panes
    /// then replace earlier ones.
    ///
    /// ```
    /// use highwater::postgres::Postgres;
    /// use highwater::WindowResult;
    /// use highwater::sink::{Guarantee, Sink};
    ///
    /// let sink = Postgres::at("host=localhost user=app").upsert("hourly", ["key", "start"]);
    /// let guarantee = Sink::<WindowResult<String, f64>>::guarantee(&sink);
    /// assert_eq!(guarantee, Guarantee::ExactlyOnce);
    /// ```
    #[must_use]
    pub fn upsert<K: Into<String>>(
        &self,
        table: impl Into<String>,
        key: impl IntoIterator<Item = K>,
    ) -> PostgresSink {
        self.sink(table.into(), key.into_iter().map(Into::into).collect())
    }

    fn sink(&self, table: String, key: Vec<String>) -> PostgresSink {
        PostgresSink {
            database: self.clone(),
            table,
            key,
            violations: Violations::Fail,
            marks: "highwater_sinks".to_owned(),
            adopt: false,
            faults: Faults::default(),
            target: Own::default(),
        }
    }
}

impl PostgresSink {
    /// What to do with rows that the database refuses; by default the flow stops.
    #[must_use]
    pub fn violations(mut self, policy: Violations) -> Self {
        self.violations = policy;
        self
    }

    /// The table that says what has been taken, for all sinks: by default `highwater_sinks` in
    /// the first schema of the search path. It must be in the same database as the rows. A sink
    /// that is pointed to another one later forgets what it has sent.
    #[must_use]
    pub fn marks_in(mut self, table: impl Into<String>) -> Self {
        self.marks = table.into();
        self
    }

    /// Goes on although the table holds output of a run that the state knows nothing of: for one
    /// start, after the state or the database was restored from a backup. Output that the state
    /// makes a second time will be in the table twice (with `upsert`, once).
    #[must_use]
    pub fn adopt(mut self) -> Self {
        self.adopt = true;
        self
    }

    /// Breaks at points of the way, for tests.
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    #[must_use]
    pub fn faulty(
        mut self,
        decide: impl Fn(&'static str) -> Fault + Send + Sync + 'static,
    ) -> Self {
        self.faults = Faults::new(decide);
        self
    }
}

impl fmt::Debug for PostgresSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresSink")
            .field("database", &self.database)
            .field("table", &self.table)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl<T: Data + Serialize + DeserializeOwned> Sink<T> for PostgresSink {
    fn describe(&self) -> String {
        let how = match self.key.is_empty() {
            true => "appended".to_owned(),
            false => format!("by {}", self.key.join(", ")),
        };
        format!("postgres {}, table {}, {how}", self.database.place(), self.table)
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn encoder(&self) -> Box<dyn Encoder<T>> {
        let keeps_refused = self.violations != Violations::Fail;
        Box::new(encode::Rows::new(self.target.0.clone(), keeps_refused))
    }

    fn open(&self, opening: &Opening<'_>) -> Result<Box<dyn SinkWriter>, Error> {
        Ok(Box::new(writer::Writer::open(self, opening, Layout::of_type::<T>)?))
    }
}
