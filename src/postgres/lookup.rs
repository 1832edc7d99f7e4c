//! A table as the outside store of a lookup join.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_postgres::{Client, Row, Statement};

use super::catalog::{Class, Table};
use super::copy_text::cell::{Cell, has_nul};
use super::pool::Pool;
use super::{Params, Postgres, Trouble, bounded, quoted, quoted_name};
use crate::error::{BoxError, Error, ErrorKind};
use crate::event::Stored;
use crate::{Key, Lookup};

/// A table that is asked for the rows of keys: made by [`Postgres::lookup`].
///
/// All keys of a request go in one query, by up to four connections at once. A connection that is
/// lost is made anew, until the join's own time-out strikes.
pub struct PostgresLookup<K, V> {
    asked: Arc<Asked>,
    types: PhantomData<fn(K) -> V>,
}

struct Asked {
    database: Postgres,
    table: String,
    key: String,
    column: Option<String>,
    pool: Pool<Session>,
}

/// A connection, and the query for it.
struct Session {
    client: Client,
    query: Statement,
    /// Turns keys into what the column holds, and does no more; prepared when it is needed.
    cast_text: String,
    cast: Option<Statement>,
    class: Class,
}

impl Postgres {
    /// A table (or a view) for [`Keyed::lookup`](crate::Keyed::lookup), asked by the column
    /// `key`, on which it should have a unique index: a second row of a key is an error. A key
    /// that the column cannot hold, such as text that is no `uuid` or a number that is too large,
    /// has no row; each costs some queries more. A row
    /// becomes a `V` by the names of its columns, through JSON: times are RFC 3339 text in UTC,
    /// `bytea` is text in hex, and integers are exact.
    ///
    /// ```no_run
    /// use highwater::postgres::Postgres;
    /// use highwater::prelude::*;
    ///
    /// #[derive(Clone, serde::Serialize, serde::Deserialize)]
    /// struct Order { customer: i64, amount: i64, at: EventTime }
    /// #[derive(Clone, serde::Serialize, serde::Deserialize)]
    /// struct Customer { id: i64, name: String, since: EventTime }
    ///
    /// let database = Postgres::at("host=localhost user=app dbname=shop");
    /// let flow = Flow::new("orders");
    /// flow.source("orders", JsonLinesFiles::<Order>::glob("orders/*.jsonl"))
    ///     .event_time(|o| o.at, Disorder::at_most(minutes(1)))
    ///     .key_by(|o| &o.customer)
    ///     .lookup("customers", database.lookup::<i64, Customer>("customers", "id"))
    ///     .left(|_, order, customer| (order.amount, customer.map(|c| c.name.clone())))
    ///     .sink("out", Stdout::json());
    /// flow.run(Settings::at("state"))?;
    /// # Ok::<(), Error>(())
    /// ```
    #[must_use]
    pub fn lookup<K, V>(
        &self,
        table: impl Into<String>,
        key: impl Into<String>,
    ) -> PostgresLookup<K, V> {
        let asked = Asked {
            database: self.clone(),
            table: table.into(),
            key: key.into(),
            column: None,
            pool: Pool::default(),
        };
        PostgresLookup { asked: Arc::new(asked), types: PhantomData }
    }
}

impl<K, V> PostgresLookup<K, V> {
    /// Makes `V` of this column alone, and not of the whole row. A null is no value.
    ///
    /// ```
    /// use highwater::postgres::Postgres;
    /// let database = Postgres::at("host=localhost user=app");
    /// let rates = database.lookup::<String, f64>("rates", "currency").column("per_euro");
    /// # let _ = rates;
    /// ```
    #[must_use]
    pub fn column(self, name: impl Into<String>) -> Self {
        let Asked { database, table, key, .. } = &*self.asked;
        let mut made = database.lookup(table, key);
        if let Some(asked) = Arc::get_mut(&mut made.asked) {
            asked.column = Some(name.into());
        }
        made
    }
}

impl<K, V> fmt::Debug for PostgresLookup<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Asked { database, table, key, .. } = &*self.asked;
        write!(f, "PostgresLookup({}, table {table}, by {key})", database.place())
    }
}

impl<K: Key + Serialize, V: Stored + DeserializeOwned> Lookup<K> for PostgresLookup<K, V> {
    type Value = V;

    fn get(
        &self,
        keys: Vec<K>,
    ) -> impl Future<Output = Result<Vec<Option<V>>, BoxError>> + Send + 'static {
        let asked = self.asked.clone();
        async move {
            let found = asked.get(&keys).await?;
            let value = |json: Option<String>| match json {
                Some(json) => asked.value(&json).map(Some),
                None => Ok(None),
            };
            Ok(found.into_iter().map(value).collect::<Result<Vec<_>, _>>()?)
        }
    }
}

impl Asked {
    fn what(&self) -> String {
        format!("the table {} cannot be asked", quoted_name(&self.table))
    }

    fn value<V: DeserializeOwned>(&self, json: &str) -> Result<V, Error> {
        serde_json::from_str(json).map_err(|e| {
            let (table, name) = (quoted_name(&self.table), std::any::type_name::<V>());
            let message = format!("a row of the table {table} is no `{name}`: {e}: {json}");
            Error::new(ErrorKind::Input, message)
        })
    }

    /// The JSON of each key's row.
    async fn get<K: Serialize>(&self, keys: &[K]) -> Result<Vec<Option<String>>, Error> {
        let _place = self.pool.place().await;
        let mut patience = self.database.patience();
        loop {
            match self.try_get(keys).await {
                Ok(found) => return Ok(found),
                Err(trouble) => patience.wait(&self.what(), trouble).await?,
            }
        }
    }

    async fn try_get<K: Serialize>(&self, keys: &[K]) -> Result<Vec<Option<String>>, Trouble> {
        let mut session = match self.pool.take().filter(|session| !session.client.is_closed()) {
            Some(session) => session,
            None => self.connect().await?,
        };
        let mut texts = Vec::with_capacity(keys.len());
        for key in keys {
            let mut text = Vec::new();
            let cell = Cell { class: session.class, out: &mut text };
            let some = match cell.write(key) {
                Ok(some) => some,
                // No row has it.
                Err(_) if has_nul(key) => false,
                Err(e) => {
                    let message = format!("a key cannot be asked for by `{}`: {e}", self.key);
                    return Err(Trouble::Final(Error::new(ErrorKind::Plan, message)));
                }
            };
            texts.push(some.then(|| String::from_utf8_lossy(&text).into_owned()));
        }
        let rows = match self.ask(&session, &texts).await {
            Err(Trouble::Refused(error)) => {
                if !self.take_unfit(&mut session, &mut texts).await? {
                    return Err(Trouble::Refused(error));
                }
                self.ask(&session, &texts).await?
            }
            asked => asked?,
        };
        let mut found: Vec<Option<String>> = vec![None; keys.len()];
        for row in rows {
            let at: i64 = row.try_get(0).map_err(Trouble::of)?;
            let json: Option<String> = row.try_get(1).map_err(Trouble::of)?;
            let place = usize::try_from(at - 1).ok().and_then(|at| found.get_mut(at));
            let Some(place) = place.filter(|place| place.is_none()) else {
                let message = format!(
                    "{}: there are several rows of one key: `{}` must be unique",
                    self.what(),
                    self.key
                );
                return Err(Trouble::Final(Error::new(ErrorKind::Input, message)));
            };
            *place = json;
        }
        self.pool.give(session);
        Ok(found)
    }

    async fn ask(&self, session: &Session, keys: &[Option<String>]) -> Result<Vec<Row>, Trouble> {
        let params: Params<'_, 1> = [&keys];
        bounded(self.database.limit(), session.client.query(&session.query, &params)).await
    }

    /// Makes null of the keys that the column cannot hold: no row has them. They are found by
    /// halves of halves. Says whether there were any.
    async fn take_unfit(
        &self,
        session: &mut Session,
        keys: &mut [Option<String>],
    ) -> Result<bool, Trouble> {
        let limit = self.database.limit();
        if session.cast.is_none() {
            let cast = session.client.prepare(&session.cast_text);
            session.cast = Some(bounded(limit, cast).await?);
        }
        let Some(cast) = &session.cast else { return Ok(false) };
        let mut found = false;
        let all = 0..keys.len();
        let mut pieces = vec![all];
        while let Some(piece) = pieces.pop() {
            let asked = &keys[piece.clone()];
            let params: Params<'_, 1> = [&asked];
            match bounded(limit, session.client.query(cast, &params)).await {
                Ok(_) => {}
                Err(Trouble::Refused(_)) if piece.len() == 1 => {
                    keys[piece.start] = None;
                    found = true;
                }
                Err(Trouble::Refused(_)) => {
                    let middle = piece.start + piece.len() / 2;
                    pieces.extend([piece.start..middle, middle..piece.end]);
                }
                Err(other) => return Err(other),
            }
        }
        Ok(found)
    }

    async fn connect(&self) -> Result<Session, Trouble> {
        let client = self.database.connect_once().await?;
        let table = Table::read(&self.database, &client, &self.table, &["SELECT"]).await?;
        table.check_granted()?;
        let (at, key) = (quoted_name(&self.table), quoted(&self.key));
        for name in [Some(&self.key), self.column.as_ref()].into_iter().flatten() {
            if table.column(name).is_none() {
                let message = format!("the table {at} has no column `{name}`");
                return Err(Error::new(ErrorKind::Plan, message).into());
            }
        }
        let column = table.column(&self.key);
        let class = column.map_or(Class::Text, |column| column.class);
        let type_name = match column.map_or("text", |column| column.plain_type.as_str()) {
            // Comparing them with a larger integer uses the index, and a key may be larger.
            "smallint" | "integer" => "bigint",
            other => other,
        };
        let value = match &self.column {
            Some(column) => format!("to_json(highwater_t.{})", quoted(column)),
            None => "to_json(highwater_t)".to_owned(),
        };
        let query = format!(
            "select k.n, {value}::text from unnest($1::text[]) with ordinality k(v, n) \
             join {at} highwater_t on highwater_t.{key} = k.v::{type_name}"
        );
        let query = bounded(self.database.limit(), client.prepare(&query)).await?;
        let cast_text = format!("select k.v::{type_name} from unnest($1::text[]) k(v)");
        Ok(Session { client, query, cast_text, cast: None, class })
    }
}
