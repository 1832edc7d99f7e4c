//! Connections: made, set up, and waited for.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio_postgres::config::Host;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{Client, Config, Connection, NoTls, Socket};

use super::{Postgres, Trouble};
use crate::error::{Error, ErrorKind};
use crate::time::clock::{Clock, SystemClock};

/// How long a connection may take to be made, unless the connection string says so.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What the server's own time-out may be late by before the connection counts as lost.
const GRACE: Duration = Duration::from_secs(5);

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A boxed future of a connection.
type Connecting = Pin<Box<dyn Future<Output = Result<Client, tokio_postgres::Error>> + Send>>;

/// Makes connections, secured or not.
pub(super) trait Connect: Send + Sync {
    fn connect(&self, config: Config) -> Connecting;
}

pub(super) struct Plain;

impl Connect for Plain {
    fn connect(&self, config: Config) -> Connecting {
        Box::pin(async move { config.connect(NoTls).await.map(served) })
    }
}

pub(super) struct Secured<T>(pub(super) T);

impl<T> Connect for Secured<T>
where
    T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
    T::Stream: Send + 'static,
    T::TlsConnect: Send + 'static,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    fn connect(&self, config: Config) -> Connecting {
        let connector = self.0.clone();
        Box::pin(async move { config.connect(connector).await.map(served) })
    }
}

/// The half that moves bytes is a task of the runtime that asked: no thread is started.
fn served<S>((client, connection): (Client, Connection<Socket, S>)) -> Client
where
    S: tokio_postgres::tls::TlsStream + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to PostgreSQL ended");
        }
    });
    client
}

/// Hosts, ports and database of a connection, for people.
pub(super) fn place(config: &Config) -> String {
    let hosts = config.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) => name.clone(),
        #[cfg(unix)]
        Host::Unix(path) => path.display().to_string(),
    });
    let mut hosts: Vec<String> = hosts.collect();
    if hosts.is_empty() {
        hosts = config.get_hostaddrs().iter().map(ToString::to_string).collect();
    }
    let ports: Vec<String> = config.get_ports().iter().map(ToString::to_string).collect();
    let ports = if ports.is_empty() { "5432".to_owned() } else { ports.join(",") };
    let name = config.get_dbname().or(config.get_user()).unwrap_or_default();
    format!("{}:{ports}/{name}", hosts.join(","))
}

impl Postgres {
    /// What an exchange with the server may take before its connection counts as lost.
    pub(crate) fn limit(&self) -> Duration {
        self.timeout + GRACE
    }

    fn config(&self) -> Result<Config, Error> {
        let mut config: Config = self.at.parse().map_err(|e: tokio_postgres::Error| {
            Error::plan("the connection string of a PostgreSQL database is wrong").because(e)
        })?;
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        if config.get_application_name().is_none() {
            config.application_name("highwater");
        }
        Ok(config)
    }

    /// Makes one connection, once.
    pub(crate) async fn connect_once(&self) -> Result<Client, Trouble> {
        let config = self.config().map_err(Trouble::Final)?;
        let client = bounded(self.limit(), self.connect.connect(config)).await?;
        let millis = self.timeout.as_millis().max(1);
        // Exactly once rests on commits that are durable: a role or database may have set
        // otherwise. A client that is gone without a word must not keep its locks.
        let setup = format!(
            "set statement_timeout = {millis}; set lock_timeout = {millis}; \
             set idle_in_transaction_session_timeout = {millis}; set timezone = 'UTC'; \
             set datestyle = 'ISO'; \
             select set_config('synchronous_commit', 'on', false) \
             where current_setting('synchronous_commit') = 'off'"
        );
        bounded(self.limit(), client.batch_execute(&setup)).await?;
        Ok(client)
    }

    /// Patience with this database.
    pub(crate) fn patience(&self) -> Patience {
        Patience {
            place: self.place(),
            limit: self.reconnect_for,
            timeout: self.timeout,
            pause: FIRST_PAUSE,
            clock: SystemClock::new(),
            failing_since: None,
        }
    }
}

/// Waits for an exchange with the server, but not for ever.
pub(crate) async fn bounded<T>(
    limit: Duration,
    exchange: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, Trouble> {
    match tokio::time::timeout(limit, exchange).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Trouble::of(error)),
        Err(_) => Err(Trouble::Away(format!("there was no answer for {limit:?}").into())),
    }
}

/// Pauses between attempts, longer and longer, until it has failed for too long.
pub(crate) struct Patience {
    place: String,
    limit: Duration,
    /// Of one statement.
    timeout: Duration,
    pause: Duration,
    clock: SystemClock,
    /// On the clock.
    failing_since: Option<i64>,
}

impl Patience {
    /// Waits before the next attempt.
    ///
    /// # Errors
    /// What the trouble was, once it has lasted for too long, or if it will not go away.
    pub(crate) async fn wait(&mut self, what: &str, trouble: Trouble) -> Result<(), Error> {
        let (cause, slow) = match trouble {
            Trouble::Final(error) => return Err(error),
            Trouble::Refused(error) | Trouble::Stuck(error) => {
                return Err(super::describe(what, &error).because(error));
            }
            Trouble::Away(cause) => (cause, false),
            Trouble::Slow(cause) => (cause, true),
        };
        let now = self.clock.now_micros();
        let since = *self.failing_since.get_or_insert(now);
        let failing = Duration::from_micros(u64::try_from(now - since).unwrap_or_default());
        if failing + self.pause > self.limit {
            let (place, limit) = (&self.place, self.limit);
            let message = if slow {
                format!(
                    "{what}: the database {place} broke the statement off again and again for \
                     {limit:?}: it takes longer, or waits longer for a lock, than `timeout` \
                     allows ({:?}): raise that, or find out who holds the lock",
                    self.timeout
                )
            } else {
                format!(
                    "{what}: the database {place} could not be used for {limit:?} (see \
                     `reconnect_for`)"
                )
            };
            return Err(Error::new(ErrorKind::Io, message).because(cause));
        }
        tracing::warn!(database = %self.place, %cause, "{what}: trying again");
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}
