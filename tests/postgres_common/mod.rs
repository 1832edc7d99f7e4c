//! A database for one test: a schema of its own on the shared server, or a server of its own.

// Every test binary uses some of it.
#![allow(dead_code)]

use std::collections::BTreeMap;

use highwater::postgres::Postgres;
use highwater::prelude::*;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::servers::{self, Server};

pub struct Db {
    pub server: Server,
    /// How to connect, with the schema.
    pub at: String,
    runtime: Runtime,
}

impl Db {
    pub fn shared() -> Option<Self> {
        servers::postgres().map(Self::on)
    }

    pub fn private() -> Option<Self> {
        servers::private_postgres().map(Self::on)
    }

    fn on(server: Server) -> Self {
        let schema = servers::unique("hw").replace('-', "_");
        let at = format!("{} options='-c search_path={schema}'", server.address());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let db = Db { server, at, runtime };
        db.run(&format!("create schema {schema}"));
        db
    }

    /// The schema of another process.
    pub fn at(self, at: &str) -> Self {
        Db { at: at.to_owned(), ..self }
    }

    pub fn postgres(&self) -> Postgres {
        Postgres::at(&self.at)
    }

    /// The same database for another role.
    pub fn postgres_as(&self, role: &str) -> Postgres {
        Postgres::at(self.at.replace("user=highwater", &format!("user={role}")))
    }

    async fn connect(&self) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.at, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    pub fn run(&self, statements: &str) {
        self.runtime.block_on(async {
            self.connect().await.batch_execute(statements).await.unwrap();
        });
    }

    /// Rows as text, with `|` between columns and `-` for null.
    pub fn rows(&self, query: &str) -> Vec<String> {
        self.runtime.block_on(async {
            let answer = self.connect().await.simple_query(query).await.unwrap();
            let rows = answer.iter().filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some(row),
                _ => None,
            });
            let text = |row: &tokio_postgres::SimpleQueryRow| {
                (0..row.len()).map(|n| row.get(n).unwrap_or("-")).collect::<Vec<_>>().join("|")
            };
            rows.map(text).collect()
        })
    }

    pub fn one(&self, query: &str) -> String {
        self.rows(query).concat()
    }
}

/// An event of the flows under test.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event {
    pub key: String,
    pub at: EventTime,
}

/// Events in order of time, of keys that come often and keys that come once.
pub fn events(count: i64) -> Vec<Event> {
    let event = |n: i64| Event {
        key: if n % 10 == 0 { format!("rare {n}") } else { format!("key\t{}", n * 7 % 13) },
        at: EventTime::from_micros(n * 40_000),
    };
    (0..count).map(event).collect()
}

/// What windows of one second make of them: key, start in seconds, count.
pub fn counts(events: &[Event]) -> Vec<String> {
    let mut counts: BTreeMap<(&str, i64), u64> = BTreeMap::new();
    for event in events {
        *counts.entry((&event.key, event.at.as_micros() / 1_000_000)).or_default() += 1;
    }
    let mut rows: Vec<String> =
        counts.into_iter().map(|((key, start), n)| format!("{key}|{start}|{n}")).collect();
    rows.sort();
    rows
}

/// The count of the last window of each key.
pub fn latest(events: &[Event]) -> Vec<String> {
    let mut last: BTreeMap<String, (i64, String)> = BTreeMap::new();
    for row in counts(events) {
        let mut parts = row.split('|');
        let (key, start) = (parts.next().unwrap(), parts.next().unwrap().parse().unwrap());
        let entry = last.entry(key.to_owned()).or_default();
        if entry.1.is_empty() || entry.0 < start {
            *entry = (start, row.clone());
        }
    }
    let mut rows: Vec<String> = last.into_values().map(|(_, row)| row).collect();
    rows.sort();
    rows
}

/// Tables for windows: one to append to, without any constraint, and one by key.
pub const TABLES: &str = "\
    create table counts (key text, start timestamptz, \"end\" timestamptz, value bigint); \
    create table latest (key text primary key, start timestamptz, value bigint, \
        \"end\" timestamptz)";

/// The rows of such a table, as the functions above give them.
pub fn stored(db: &Db, table: &str) -> Vec<String> {
    let query = format!("select key, extract(epoch from start)::bigint, value from {table}");
    let mut rows = db.rows(&query);
    rows.sort();
    rows
}
