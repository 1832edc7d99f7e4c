//! The sink's half on the thread that commits: letters into transactions.

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::{Client, Statement};

use super::apply::{DeadLetters, Way, apply};
use super::encode::Encoded;
use super::faults::{Fault, Faults, broken};
use super::letter::{self, Footer, Opened, Refused};
use super::marks::Marks;
use super::{PostgresSink, Violations, lock};
use crate::error::{Error, ErrorKind};
use crate::postgres::{Blocking, Layout, Postgres, Table, Trouble, Unique, bounded, quoted_name};
use crate::sink::{Chunk, Claim, CommitInfo, Letter, Opening, SinkWriter};
use crate::time::Tick;

/// One connection, and what has been prepared in it.
pub(super) struct Session {
    client: Client,
    pub(super) limit: Duration,
    pub(super) faults: Faults,
    way: Option<Way>,
    /// Prepared when the way was.
    pub(super) copy: Option<Statement>,
}

impl Session {
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Runs statements whose answers do not count.
    pub(super) async fn run(&self, statements: &str) -> Result<(), Trouble> {
        bounded(self.limit, self.client.batch_execute(statements)).await
    }

    /// Commits. A fault at this point strikes when the server has the statement, and before
    /// anybody has its answer.
    pub(super) async fn commit(&self, point: &'static str) -> Result<(), Trouble> {
        match self.faults.ask(point) {
            Fault::None => self.run("commit").await,
            fault => {
                let unheard = Duration::from_micros(150);
                let _ = tokio::time::timeout(unheard, self.client.batch_execute("commit")).await;
                broken(fault, point)
            }
        }
    }
}

/// Everything that outlives a connection.
struct Target {
    sink: PostgresSink,
    marks: Marks,
    dead: Option<DeadLetters>,
    session: Option<Session>,
}

pub(super) struct Writer {
    blocking: Blocking,
    target: Target,
    claim: Claim,
    /// The claim is part of a commit.
    staged: bool,
    layout: Option<Arc<Layout>>,
    lines: Vec<u8>,
    refused: Vec<Refused>,
}

/// Finds out where the fields of the rows go.
type Look = fn(&Table) -> Result<Option<Layout>, Error>;

impl Writer {
    pub(super) fn open(
        sink: &PostgresSink,
        opening: &Opening<'_>,
        look: Look,
    ) -> Result<Self, Error> {
        let blocking = Blocking::new()?;
        sink.faults.outside("open")?;
        let dead = match &sink.violations {
            Violations::Fail => None,
            Violations::DeadLetters(table) => {
                Some(DeadLetters::new(table, opening.flow, opening.sink))
            }
        };
        let marks = Marks::new(&sink.marks, opening);
        let mut target = Target { sink: sink.clone(), marks, dead, session: None };
        let (table, claim) = blocking.wait(target.open(opening, look))?;
        *lock(&sink.target.0.layout) = table.1.map(Arc::new);
        *lock(&sink.target.0.table) = Some(Arc::new(table.0));
        sink.faults.outside("opened")?;
        let (lines, refused) = (Vec::new(), Vec::new());
        Ok(Writer { blocking, target, claim, staged: false, layout: None, lines, refused })
    }
}

impl Target {
    fn database(&self) -> &Postgres {
        &self.sink.database
    }

    async fn open(
        &mut self,
        opening: &Opening<'_>,
        look: Look,
    ) -> Result<((Table, Option<Layout>), Claim), Error> {
        let mut patience = self.database().patience();
        loop {
            match self.try_open(opening, look).await {
                Ok(opened) => return Ok(opened),
                Err(trouble) => {
                    self.session = None;
                    patience.wait("the sink cannot be opened", trouble).await?;
                }
            }
        }
    }

    async fn try_open(
        &mut self,
        opening: &Opening<'_>,
        look: Look,
    ) -> Result<((Table, Option<Layout>), Claim), Trouble> {
        self.connect().await?;
        let session = self.session.as_ref().ok_or_else(gone)?;
        let needed: &[&str] = match self.sink.key.is_empty() {
            true => &["INSERT"],
            false => &["INSERT", "UPDATE", "SELECT"],
        };
        let table = Table::read(self.database(), &session.client, &self.sink.table, needed).await?;
        check(&table, &self.sink.key)?;
        let layout = look(&table)?;
        if let Some(layout) = &layout {
            check_key(&table, layout, &self.sink.key)?;
        }
        session.faults.at("looked at")?;
        self.marks.ensure(session).await?;
        if let Some(dead) = &self.dead {
            dead.ensure(session).await?;
        }
        session.faults.at("tables made")?;
        let claim = self.marks.claim(session, opening, self.sink.adopt).await?;
        Ok(((table, layout), claim))
    }

    async fn connect(&mut self) -> Result<(), Trouble> {
        let faults = self.sink.faults.clone();
        faults.at("connect")?;
        let client = self.database().connect_once().await?;
        let limit = self.database().limit();
        self.session = Some(Session { client, limit, faults, way: None, copy: None });
        self.sink.faults.at("connected")
    }

    async fn send(&mut self, claim: &Claim, letter: &Letter<'_>) -> Result<(), Error> {
        let opened = letter::open(letter.bytes)?;
        let mut patience = self.database().patience();
        loop {
            match self.try_send(claim, letter.tick, &opened).await {
                Ok(()) => return Ok(()),
                Err(trouble) => {
                    // What became of its transaction is known by the mark.
                    self.session = None;
                    patience.wait("the output of a commit cannot be sent", trouble).await?;
                }
            }
        }
    }

    async fn try_send(
        &mut self,
        claim: &Claim,
        tick: Tick,
        letter: &Opened<'_>,
    ) -> Result<(), Trouble> {
        if self.session.as_ref().is_none_or(|session| session.client.is_closed()) {
            self.connect().await?;
        }
        let session = self.session.as_mut().ok_or_else(gone)?;
        let columns = &letter.footer.columns;
        if !session.way.as_ref().is_some_and(|way| way.suits(columns)) {
            let way = Way::new(&self.sink.table, columns, &self.sink.key);
            session.copy = Some(way.prepare(session).await?);
            session.way = Some(way);
        }
        let session = &*session;
        let way = session.way.as_ref().ok_or_else(gone)?;
        session.run("begin isolation level read committed; set constraints all immediate").await?;
        session.faults.at("begun")?;
        // It is locked from here on: another start waits, and so does our own next attempt if
        // this transaction is still under way.
        let before = self.marks.read(session).await?;
        session.faults.at("mark read")?;
        if !claim.takes(&before, tick)? {
            return session.run("rollback").await;
        }
        apply(session, way, letter, self.dead.as_ref(), tick).await?;
        session.faults.at("applied")?;
        let after = crate::sink::Mark { sent: Some(claim.stamp(tick)), ..before };
        self.marks.write(session, &before, &after).await?;
        session.faults.at("mark written")?;
        session.commit("commit").await?;
        session.faults.at("committed")
    }
}

fn gone() -> Trouble {
    Trouble::Away("there is no connection".into())
}

/// Whether the table can be what the sink needs.
fn check(table: &Table, key: &[String]) -> Result<(), Error> {
    table.check_granted()?;
    if key.is_empty() {
        return Ok(());
    }
    let at = quoted_name(&table.name);
    if let Some(name) = key.iter().find(|name| table.column(name).is_none()) {
        let message = format!("the table {at} has no column `{name}`, which is to be in the key");
        return Err(Error::new(ErrorKind::Plan, message));
    }
    let is_key = |index: &&Unique| {
        index.columns.len() == key.len() && key.iter().all(|name| index.columns.contains(name))
    };
    let indexes: Vec<&Unique> = table.unique.iter().filter(is_key).collect();
    if indexes.is_empty() {
        let names: Vec<String> = key.iter().map(|name| crate::postgres::quoted(name)).collect();
        let message = format!(
            "the table {at} has no unique index on the columns of the key: have it made by \
             `create unique index on {at} ({})`",
            names.join(", ")
        );
        return Err(Error::new(ErrorKind::Plan, message));
    }
    let is_nullable = |name: &&String| table.column(name).is_some_and(|column| column.nullable);
    match key.iter().find(is_nullable).filter(|_| !indexes.iter().any(|index| index.nulls_equal)) {
        Some(name) => Err(Error::new(
            ErrorKind::Plan,
            format!(
                "the column `{name}` of the table {at} is in the key and may be null, and rows \
                 with a null there would be added again and again, since no null is equal to \
                 another: `alter table {at} alter column {} set not null`, or make the unique \
                 index with `nulls not distinct` (PostgreSQL 15 and later)",
                crate::postgres::quoted(name)
            ),
        )),
        None => Ok(()),
    }
}

fn check_key(table: &Table, layout: &Layout, key: &[String]) -> Result<(), Error> {
    match key.iter().find(|name| !layout.columns.contains(name)) {
        Some(name) => Err(Error::new(
            ErrorKind::Plan,
            format!(
                "the rows have no field for the column `{name}` of the table {}, which is in the \
                 key",
                quoted_name(&table.name)
            ),
        )),
        None => Ok(()),
    }
}

impl SinkWriter for Writer {
    fn write(&mut self, _: Tick, chunk: Chunk) -> Result<(), Error> {
        let Ok(encoded) = chunk.downcast::<Encoded>() else {
            return Err(Error::bug("a chunk for PostgreSQL is of another kind"));
        };
        let Encoded { layout, mut lines, mut refused } = *encoded;
        self.layout = Some(layout);
        self.refused.append(&mut refused);
        if self.lines.is_empty() {
            self.lines = lines;
        } else {
            self.lines.append(&mut lines);
        }
        Ok(())
    }

    fn stage(&mut self, _: &CommitInfo) -> Result<Vec<u8>, Error> {
        self.target.sink.faults.outside("staged")?;
        self.staged = true;
        Ok(self.claim.token())
    }

    /// A claim that is in no commit is not this flow's at the next start.
    fn due_micros(&self) -> Option<i64> {
        if self.staged { None } else { Some(i64::MIN) }
    }

    fn outbox(&mut self) -> Option<Vec<u8>> {
        let layout = self.layout.take()?;
        let (mut lines, refused) =
            (std::mem::take(&mut self.lines), std::mem::take(&mut self.refused));
        let footer = Footer { columns: layout.columns.clone(), refused };
        letter::seal(&mut lines, &footer);
        Some(lines)
    }

    fn send(&mut self, letter: &Letter<'_>) -> Result<(), Error> {
        self.target.sink.faults.outside("commit durable")?;
        self.blocking.wait(self.target.send(&self.claim, letter))?;
        self.target.sink.faults.outside("sent")
    }

    fn publish(&mut self) -> Result<(), Error> {
        self.target.sink.faults.outside("published")
    }
}
