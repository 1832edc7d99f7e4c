//! The table that says which start may write, and what has been taken.

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::error::{Error, ErrorKind};
use crate::postgres::{Params, Trouble, TypedParams, bounded, quoted_name};
use crate::sink::{Claim, Mark, Opening, Stamp};
use crate::time::Tick;

use super::writer::Session;

/// Of one sink of one flow.
pub(super) struct Marks {
    table: String,
    flow: String,
    sink: String,
}

impl Marks {
    pub(super) fn new(table: &str, opening: &Opening<'_>) -> Self {
        let (flow, sink) = (opening.flow.to_owned(), opening.sink.to_owned());
        Marks { table: quoted_name(table), flow, sink }
    }

    fn statement(&self) -> String {
        format!(
            "create table {} (flow text, sink text, incarnation bigint not null, \
             sent_by bigint, made_by bigint, tick bigint, primary key (flow, sink))",
            self.table
        )
    }

    /// Makes the table if it is missing.
    pub(super) async fn ensure(&self, session: &Session) -> Result<(), Trouble> {
        ensure(session, &self.table, &self.statement()).await
    }

    /// Takes the target over for a start: in one transaction with reading what it has.
    pub(super) async fn claim(
        &self,
        session: &Session,
        opening: &Opening<'_>,
        adopt: bool,
    ) -> Result<Claim, Trouble> {
        let client = session.client();
        session.run("begin isolation level read committed").await?;
        session.faults.at("claim begun")?;
        let insert = format!(
            "insert into {} (flow, sink, incarnation) values ($1, $2, 0) on conflict do nothing",
            self.table
        );
        let params: Params<'_, 2> = [&self.flow, &self.sink];
        let made = bounded(session.limit, client.execute(&insert, &params)).await?;
        session.faults.at("claim row made")?;
        let mark = self.read(session).await?;
        session.faults.at("claim read")?;
        let claim = Claim::raise(opening, (made == 0).then_some(&mark), adopt)?;
        self.write(session, &mark, &claim.mark()).await?;
        session.faults.at("claim written")?;
        session.commit("claim commit").await?;
        session.faults.at("claimed")?;
        Ok(claim)
    }

    /// Reads the mark, and keeps everybody else from it until the transaction ends.
    pub(super) async fn read(&self, session: &Session) -> Result<Mark, Trouble> {
        let select = format!(
            "select incarnation, sent_by, made_by, tick from {} \
             where flow = $1 and sink = $2 for update",
            self.table
        );
        let params: TypedParams<'_, 2> = [(&self.flow, Type::TEXT), (&self.sink, Type::TEXT)];
        match bounded(session.limit, session.client().query_typed(&select, &params)).await?.first()
        {
            Some(row) => mark(row).map_err(Trouble::of),
            None => Err(Trouble::Final(Error::new(
                ErrorKind::State,
                format!("the row of this sink in {} was deleted while it ran", self.table),
            ))),
        }
    }

    /// Writes the mark that follows on one that was read in this transaction.
    pub(super) async fn write(
        &self,
        session: &Session,
        before: &Mark,
        mark: &Mark,
    ) -> Result<(), Trouble> {
        let update = format!(
            "update {} set incarnation = $4, sent_by = $5, made_by = $6, tick = $7 \
             where flow = $1 and sink = $2 and incarnation = $3",
            self.table
        );
        let sent = |part: fn(&Stamp) -> u64| mark.sent.as_ref().map(part).map(u64::cast_signed);
        let (was, is) = (before.incarnation.cast_signed(), mark.incarnation.cast_signed());
        let (sent_by, made_by) = (sent(|s| s.sent_by), sent(|s| s.made_by));
        let tick = sent(|s| s.tick.0);
        let params: TypedParams<'_, 7> = [
            (&self.flow, Type::TEXT),
            (&self.sink, Type::TEXT),
            (&was, Type::INT8),
            (&is, Type::INT8),
            (&sent_by, Type::INT8),
            (&made_by, Type::INT8),
            (&tick, Type::INT8),
        ];
        match bounded(session.limit, session.client().execute_typed(&update, &params)).await? {
            1 => Ok(()),
            _ => Err(Trouble::Final(Error::bug("a mark changed under its lock"))),
        }
    }
}

fn mark(row: &Row) -> Result<Mark, tokio_postgres::Error> {
    let number = |index| row.try_get::<_, Option<i64>>(index).map(|n| n.map(i64::cast_unsigned));
    let incarnation = number(0)?.unwrap_or(0);
    let sent = match (number(1)?, number(2)?, number(3)?) {
        (Some(sent_by), Some(made_by), Some(tick)) => {
            Some(Stamp { sent_by, made_by, tick: Tick(tick) })
        }
        _ => None,
    };
    Ok(Mark { incarnation, sent })
}

/// Makes a table of ours if it is missing. A role that may not is told what to ask for.
pub(super) async fn ensure(session: &Session, table: &str, statement: &str) -> Result<(), Trouble> {
    let exists = || async {
        let params: Params<'_, 1> = [&table];
        let found = session.client().query_one("select to_regclass($1) is not null", &params);
        bounded(session.limit, found).await?.try_get::<_, bool>(0).map_err(Trouble::of)
    };
    if exists().await? {
        return Ok(());
    }
    match session.run(statement).await {
        // Another sink may have made it meanwhile.
        Err(_) if exists().await.unwrap_or(false) => Ok(()),
        Err(Trouble::Stuck(cause)) => {
            let message = format!(
                "the table {table} is missing, and this role cannot make it: have it made by \
                 `{statement}`, and grant select, insert and update on it"
            );
            Err(Trouble::Final(Error::new(ErrorKind::Io, message).because(cause)))
        }
        other => other,
    }
}
