//! Pages of rows in the order of their key, fetched ahead of the reader.

use std::ops::Range;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{Receiver, Sender, channel, error::TryRecvError};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Statement};

use crate::error::{Error, ErrorKind};
use crate::postgres::{Params, Pool, Postgres, Trouble, bounded, quoted};
use crate::source::policy::Bad;
use crate::source::{Fetched, ReadState, Reader, Undecodable, Waker};

/// Rows of one page.
const PAGE: usize = 2_000;

/// Pages that wait for the reader.
const AHEAD: usize = 2;

/// A row: its key, and its columns as JSON.
type Row = (i64, String);

pub(super) enum Message {
    /// Rows, and whether they are the last ones.
    Page(Vec<Row>, bool),
    Failed(Error),
}

/// How pages are asked for.
pub(super) struct Pages {
    database: Postgres,
    key: String,
    query: String,
    pool: Pool<Session>,
}

struct Session {
    client: Client,
    page: Statement,
}

impl Pages {
    pub(super) fn new(database: Postgres, query: &str, key: String) -> Self {
        let (query, column) = (query.trim().trim_end_matches(';'), quoted(&key));
        let query = format!(
            "select highwater_row.{column}, row_to_json(highwater_row)::text \
             from ({query}) highwater_row order by highwater_row.{column} limit {PAGE}"
        );
        Pages { database, key, query, pool: Pool::default() }
    }

    pub(super) fn describe(&self) -> String {
        format!("{}, by {}", self.database.place(), self.key)
    }

    /// Fetches pages until the range has ended or nobody wants them.
    pub(super) fn start(
        self: Arc<Self>,
        runtime: &Runtime,
        range: Range<i64>,
        waker: Waker,
    ) -> Receiver<Message> {
        let (pages, inbox) = channel(AHEAD);
        runtime.spawn(async move {
            if let Err(error) = self.fetch_all(range, &pages, &waker).await {
                let _ = pages.send(Message::Failed(error)).await;
            }
            waker.wake();
        });
        inbox
    }

    async fn fetch_all(
        &self,
        mut range: Range<i64>,
        pages: &Sender<Message>,
        waker: &Waker,
    ) -> Result<(), Error> {
        loop {
            let rows = self.fetch(&range).await?;
            let last = rows.last().map(|row| row.0).filter(|_| rows.len() == PAGE);
            if pages.send(Message::Page(rows, last.is_none())).await.is_err() {
                return Ok(());
            }
            waker.wake();
            let Some(last) = last else { return Ok(()) };
            range.start = last.saturating_add(1);
        }
    }

    async fn fetch(&self, range: &Range<i64>) -> Result<Vec<Row>, Error> {
        let _place = self.pool.place().await;
        let mut patience = self.database.patience();
        loop {
            match self.try_fetch(range).await {
                Ok(rows) => return self.checked(rows, range),
                Err(trouble) => patience.wait("rows cannot be read", trouble).await?,
            }
        }
    }

    async fn try_fetch(&self, range: &Range<i64>) -> Result<Vec<Row>, Trouble> {
        let limit = self.database.limit();
        let session = match self.pool.take().filter(|session| !session.client.is_closed()) {
            Some(session) => session,
            None => {
                let client = self.database.connect_once().await?;
                let types = [Type::INT8, Type::INT8];
                let page = bounded(limit, client.prepare_typed(&self.query, &types)).await?;
                self.check_key(&page)?;
                Session { client, page }
            }
        };
        let params: Params<'_, 2> = [&range.start, &range.end];
        let query = session.client.query(&session.page, &params);
        let rows = bounded(limit, query).await?;
        let row = |row: &tokio_postgres::Row| {
            let key = key_of(row).map_err(Trouble::of)?;
            let json: String = row.try_get(1).map_err(Trouble::of)?;
            let Some(key) = key else {
                let message = format!("the key `{}` of a row is null: {json}", self.key);
                return Err(Error::input(message).into());
            };
            Ok((key, json))
        };
        let rows: Result<Vec<Row>, Trouble> = rows.iter().map(row).collect();
        self.pool.give(session);
        rows
    }

    /// The order of the key must be that of positions: text has another one, and fractions have
    /// no position of their own.
    fn check_key(&self, page: &Statement) -> Result<(), Error> {
        let found = page.columns().first().map(tokio_postgres::Column::type_);
        if found.is_some_and(|found| [Type::INT2, Type::INT4, Type::INT8].contains(found)) {
            return Ok(());
        }
        let (key, found) = (&self.key, found.map_or("unknown", Type::name));
        Err(Error::new(
            ErrorKind::Plan,
            format!(
                "the key `{key}` of the query is of the type {found}, and must be a smallint, \
                 integer or bigint: read by another column, or cast it in the query, such as \
                 `select .., {key}::bigint as {key}_number`, if it holds nothing but integers"
            ),
        ))
    }

    /// Keys are positions: each is in the range, and greater than the one before.
    fn checked(&self, rows: Vec<Row>, range: &Range<i64>) -> Result<Vec<Row>, Error> {
        let key = &self.key;
        if let Some((outside, _)) = rows.iter().find(|row| !range.contains(&row.0)) {
            return Err(Error::new(
                ErrorKind::Plan,
                format!(
                    "the query gave a row with the {key} {outside}, which is not in {}..{}: it \
                     must ask for `{key} >= $1 and {key} < $2`",
                    range.start, range.end
                ),
            ));
        }
        match rows.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => Err(Error::input(format!(
                "there are several rows with the {key} {}: choose a key that is unique",
                pair[0].0
            ))),
            None => Ok(rows),
        }
    }
}

/// The key of a row, whose type has been checked.
fn key_of(row: &tokio_postgres::Row) -> Result<Option<i64>, tokio_postgres::Error> {
    match row.columns().first().map(tokio_postgres::Column::type_) {
        Some(&Type::INT2) => Ok(row.try_get::<_, Option<i16>>(0)?.map(i64::from)),
        Some(&Type::INT4) => Ok(row.try_get::<_, Option<i32>>(0)?.map(i64::from)),
        _ => row.try_get(0),
    }
}

pub(super) struct PageReader<T> {
    inbox: Receiver<Message>,
    partition: String,
    /// The key at position 0.
    start: i64,
    /// The least key that has not been read.
    next: i64,
    page: std::vec::IntoIter<Row>,
    /// The page is the last one.
    last: bool,
    policy: Undecodable,
    rows: std::marker::PhantomData<fn() -> T>,
}

impl<T> PageReader<T> {
    pub(super) fn new(
        inbox: Receiver<Message>,
        partition: &str,
        start: i64,
        next: i64,
        policy: Undecodable,
    ) -> Self {
        PageReader {
            inbox,
            partition: partition.to_owned(),
            start,
            next,
            page: Vec::new().into_iter(),
            last: false,
            policy,
            rows: std::marker::PhantomData,
        }
    }
}

impl<T: DeserializeOwned> Reader<T> for PageReader<T> {
    fn read(&mut self, limit: usize, fetched: &mut Fetched<T>) -> Result<ReadState, Error> {
        while fetched.len() < limit {
            let Some((key, json)) = self.page.next() else {
                if self.last {
                    return Ok(ReadState::End);
                }
                match self.inbox.try_recv() {
                    Ok(Message::Page(rows, last)) => {
                        (self.page, self.last) = (rows.into_iter(), last);
                        continue;
                    }
                    Ok(Message::Failed(error)) => return Err(error),
                    Err(TryRecvError::Empty) => return Ok(ReadState::Pending),
                    Err(TryRecvError::Disconnected) => {
                        return Err(Error::bug("the thread that reads rows is gone"));
                    }
                }
            };
            let position = key.wrapping_sub(self.start).cast_unsigned();
            match serde_json::from_str(&json) {
                Ok(row) => fetched.push(position, row),
                Err(error) => {
                    let name = std::any::type_name::<T>();
                    let error = format!("the row is no `{name}`: {error}: {json}");
                    let (raw, partition) = (json.as_bytes(), &*self.partition);
                    Bad { raw, error, partition, position }.settle(self.policy, fetched)?;
                }
            }
            self.next = key.saturating_add(1);
        }
        Ok(ReadState::More)
    }

    fn position(&self) -> u64 {
        self.next.wrapping_sub(self.start).cast_unsigned()
    }
}
