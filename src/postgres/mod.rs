//! A PostgreSQL database as sink, as bounded source and as lookup table (feature `postgres`).
//!
//! [`Postgres`] says where the database is, and makes the three:
//!
//! | | |
//! |---|---|
//! | [`append`](Postgres::append), [`upsert`](Postgres::upsert) | a sink, exactly once |
//! | [`query`](Postgres::query) | a bounded source, in partitions of a key's range |
//! | [`lookup`](Postgres::lookup) | a table for [`Keyed::lookup`](crate::Keyed::lookup) |

mod blocking;
mod catalog;
mod copy_text;
mod layout;
mod lookup;
mod pool;
mod sample;
mod session;
mod trouble;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use lookup::PostgresLookup;
use tokio_postgres::Socket;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::types::{ToSql, Type};

pub(crate) use blocking::Blocking;
pub(crate) use catalog::{Column, Table, Unique, quoted, quoted_name};
pub(crate) use copy_text::{Line, line_as_json, without_nul};
pub(crate) use layout::Layout;
pub(crate) use pool::Pool;
pub(crate) use session::bounded;
pub(crate) use trouble::{Trouble, describe, with_message};

#[cfg(feature = "testing")]
#[doc(hidden)]
pub use crate::sink::postgres::Fault;
pub use crate::sink::postgres::{PostgresSink, Violations};
pub use crate::source::postgres::{PostgresQuery, PostgresSource};

use session::{Connect, Plain, Secured};

/// The parameters of a statement.
pub(crate) type Params<'a, const N: usize> = [&'a (dyn ToSql + Sync); N];

/// Parameters whose types are said, so that the server need not be asked for them first.
pub(crate) type TypedParams<'a, const N: usize> = [(&'a (dyn ToSql + Sync), Type); N];

/// Where a PostgreSQL database is, and how long it is waited for.
///
/// Connections are made when the flow starts. One that is lost (the server restarts, the network
/// breaks) is made anew, for as long as [`reconnect_for`](Postgres::reconnect_for) says.
///
/// ```no_run
/// use highwater::postgres::Postgres;
/// use highwater::prelude::*;
///
/// #[derive(Clone, serde::Serialize, serde::Deserialize)]
/// struct Click { user: String, at: EventTime }
///
/// let database = Postgres::at("host=localhost user=app dbname=clicks");
/// let flow = Flow::new("clicks");
/// flow.source("clicks", JsonLinesFiles::<Click>::glob("clicks/*.jsonl"))
///     .event_time(|c| c.at, Disorder::at_most(minutes(1)))
///     .key_by(|c| &c.user)
///     .window("per-hour", Tumbling::of(hours(1)))
///     .aggregate(Count)
///     .drop_late("an example")
///     // create table clicks_per_hour (key text, "start" timestamptz, "end" timestamptz,
///     //     value bigint, primary key (key, "start"))
///     .sink("out", database.upsert("clicks_per_hour", ["key", "start"]));
/// flow.run(Settings::at("state"))?;
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone)]
pub struct Postgres {
    /// As given; checked when the flow starts.
    at: String,
    connect: Arc<dyn Connect>,
    reconnect_for: Duration,
    timeout: Duration,
}

impl Postgres {
    /// A database, by a connection string of PostgreSQL: `host=.. port=.. user=.. dbname=..`, or
    /// `postgresql://user@host:port/dbname`. Everything that the client takes can be said in it,
    /// such as `options='-c search_path=sales'`, `target_session_attrs=read-write`, several hosts,
    /// or the time-outs of TCP. A wrong one is an error at the start of the flow.
    ///
    /// ```
    /// use highwater::postgres::Postgres;
    /// let database = Postgres::at("host=db.example user=app password=secret dbname=sales");
    /// assert!(!format!("{database:?}").contains("secret"));
    /// ```
    #[must_use]
    pub fn at(connection: impl Into<String>) -> Self {
        Postgres {
            at: connection.into(),
            connect: Arc::new(Plain),
            reconnect_for: Duration::from_secs(60),
            timeout: Duration::from_secs(60),
        }
    }

    /// Secures connections by TLS, with a connector of your choice, such as that of
    /// `tokio-postgres-rustls` or `postgres-native-tls`. Without one, connections are plain, and
    /// `sslmode=require` is an error.
    #[must_use]
    pub fn tls<T>(mut self, connector: T) -> Self
    where
        T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
        T::Stream: Send + 'static,
        T::TlsConnect: Send + 'static,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        self.connect = Arc::new(Secured(connector));
        self
    }

    /// For how long a database that is away is asked for again and again, at the start and in the
    /// middle, before the flow stops with an error of kind [`Io`](crate::ErrorKind::Io). 60
    /// seconds by default. Meanwhile the flow holds its output back, and then its input too.
    #[must_use]
    pub fn reconnect_for(mut self, time: Duration) -> Self {
        self.reconnect_for = time;
        self
    }

    /// The longest that one statement may take or wait for a lock, 60 seconds by default. What
    /// takes longer is broken off, and tried again for as long as
    /// [`reconnect_for`](Postgres::reconnect_for) says; the error then names this setting.
    /// A commit of much output is one statement.
    #[must_use]
    pub fn timeout(mut self, time: Duration) -> Self {
        self.timeout = time;
        self
    }

    /// The database's name for messages and plans: without user and password.
    pub(crate) fn place(&self) -> String {
        self.at.parse().map_or_else(
            |_| "a PostgreSQL database".to_owned(),
            |config: tokio_postgres::Config| session::place(&config),
        )
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Postgres({})", self.place())
    }
}
