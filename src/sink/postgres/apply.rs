//! Lines into the table, in the transaction of their letter.

use std::io::Cursor;
use std::pin::pin;

use futures_util::SinkExt;
use tokio_postgres::{CopyInSink, Statement};

use super::letter::{Opened, Refused};
use super::marks;
use super::writer::Session;
use crate::postgres::{Params, Trouble, bounded, line_as_json, quoted, quoted_name, with_message};
use crate::time::Tick;

/// How much goes to the server at once, in bytes.
const PIECE: usize = 256 * 1024;

/// Where lines go before they are put in place of others.
const ROWS: &str = "pg_temp.highwater_rows";

/// The order in which lines came.
const ORDER: &str = "\"highwater row\"";

/// How lines with these columns get into the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Way {
    columns: Vec<String>,
    /// Makes a temporary table where there is one.
    prepare: Option<String>,
    copy: String,
    /// From the temporary table to where they belong.
    merge: Option<String>,
}

impl Way {
    pub(super) fn new(table: &str, columns: &[String], key: &[String]) -> Self {
        let table = quoted_name(table);
        let list =
            |names: &[String]| names.iter().map(|n| quoted(n)).collect::<Vec<_>>().join(", ");
        let all = list(columns);
        let copy = |into: &str| format!("copy {into} ({all}) from stdin");
        if key.is_empty() {
            let columns = columns.to_vec();
            return Way { columns, prepare: None, copy: copy(&table), merge: None };
        }
        let set: Vec<String> = columns
            .iter()
            .filter(|name| !key.contains(name))
            .map(|name| format!("{0} = excluded.{0}", quoted(name)))
            .collect();
        let action = if set.is_empty() {
            "nothing".to_owned()
        } else {
            format!("update set {}", set.join(", "))
        };
        let key = list(key);
        Way {
            columns: columns.to_vec(),
            prepare: Some(format!(
                "drop table if exists {ROWS}; \
                 create temp table highwater_rows on commit delete rows \
                 as select {all} from {table} with no data; \
                 alter table {ROWS} add column {ORDER} bigint generated always as identity"
            )),
            copy: copy(ROWS),
            // The last row of a key counts, and locks are taken in one order by everybody.
            merge: Some(format!(
                "insert into {table} ({all}) select {all} from \
                 (select distinct on ({key}) * from {ROWS} order by {key}, {ORDER} desc) r \
                 on conflict ({key}) do {action}"
            )),
        }
    }

    /// Whether it is the way for lines with these columns.
    pub(super) fn suits(&self, columns: &[String]) -> bool {
        self.columns == columns
    }

    /// Once per connection, outside of transactions: what the server is to know of COPY.
    pub(super) async fn prepare(&self, session: &Session) -> Result<Statement, Trouble> {
        if let Some(statements) = &self.prepare {
            session.run(statements).await?;
        }
        bounded(session.limit, session.client().prepare(&self.copy)).await
    }

    async fn apply(&self, session: &Session, lines: &[u8]) -> Result<(), Trouble> {
        let Some(copy) = session.copy.as_ref().filter(|_| !lines.is_empty()) else {
            return Ok(());
        };
        let limit = session.limit;
        let sink: CopyInSink<Cursor<Vec<u8>>> =
            bounded(limit, session.client().copy_in(copy)).await?;
        let mut sink = pin!(sink);
        session.faults.at("copy begun")?;
        for piece in lines.chunks(PIECE) {
            let sent = bounded(limit, sink.send(Cursor::new(piece.to_vec()))).await;
            // A server that has refused the lines closes the way: it says why at the end.
            if sent.is_err() {
                break;
            }
        }
        session.faults.at("lines sent")?;
        bounded(limit, sink.as_mut().finish()).await?;
        session.faults.at("copied")?;
        if let Some(merge) = &self.merge {
            session.run(merge).await?;
            session.faults.at("merged")?;
        }
        Ok(())
    }
}

/// Puts a letter's lines into the table; what is refused goes to the dead letters, if there are
/// any.
pub(super) async fn apply(
    session: &Session,
    way: &Way,
    letter: &Opened<'_>,
    dead: Option<&DeadLetters>,
    tick: Tick,
) -> Result<(), Trouble> {
    let Some(dead) = dead else { return way.apply(session, letter.lines).await };
    for refused in &letter.footer.refused {
        dead.put(session, refused, tick).await?;
    }
    // Halves of halves, the first one first, so that rows are applied in their order.
    let mut pieces = vec![letter.lines];
    while let Some(piece) = pieces.pop() {
        session.run("savepoint piece").await?;
        match way.apply(session, piece).await {
            Ok(()) if way.merge.is_some() && !pieces.is_empty() => {
                session.run(&format!("delete from {ROWS}; release piece")).await?;
            }
            Ok(()) => session.run("release piece").await?,
            Err(Trouble::Refused(error)) => {
                session.run("rollback to piece; release piece").await?;
                match halves(piece) {
                    Some((first, second)) => pieces.extend([second, first]),
                    None => {
                        let row = line_as_json(&way.columns, piece);
                        let refused = Refused { row, error: with_message(&error) };
                        dead.put(session, &refused, tick).await?;
                    }
                }
            }
            Err(other) => return Err(other),
        }
    }
    Ok(())
}

/// Two parts of some lines; `None` where there is only one.
fn halves(lines: &[u8]) -> Option<(&[u8], &[u8])> {
    let ends = |part: &[u8]| part.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
    let middle = lines.len() / 2;
    let cut = ends(&lines[middle..]).map(|at| middle + at).filter(|cut| *cut < lines.len());
    // The last line may be longer than all others.
    let cut = cut.or_else(|| ends(lines)).filter(|cut| *cut < lines.len())?;
    Some(lines.split_at(cut))
}

/// The table of refused rows.
pub(super) struct DeadLetters {
    table: String,
    flow: String,
    sink: String,
}

impl DeadLetters {
    pub(super) fn new(table: &str, flow: &str, sink: &str) -> Self {
        DeadLetters { table: quoted_name(table), flow: flow.to_owned(), sink: sink.to_owned() }
    }

    pub(super) async fn ensure(&self, session: &Session) -> Result<(), Trouble> {
        let statement = format!(
            "create table {} (flow text not null, sink text not null, tick bigint not null, \
             \"row\" json not null, error text not null, at timestamptz not null default now())",
            self.table
        );
        marks::ensure(session, &self.table, &statement).await
    }

    async fn put(&self, session: &Session, row: &Refused, tick: Tick) -> Result<(), Trouble> {
        let insert = format!(
            "insert into {} (flow, sink, tick, \"row\", error) \
             values ($1, $2, $3, $4::text::json, $5)",
            self.table
        );
        let tick = tick.0.cast_signed();
        let error = row.error.replace('\0', "\u{fffd}");
        let params: Params<'_, 5> = [&self.flow, &self.sink, &tick, &row.row, &error];
        match bounded(session.limit, session.client().execute(&insert, &params)).await {
            // Not one of the rows it is for: halving would go on for ever.
            Err(Trouble::Refused(error)) => return Err(Trouble::Stuck(error)),
            put => put.map(drop)?,
        }
        session.faults.at("refused put")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_halved_down_to_one() {
        for lines in ["a\n", "a\nb\n", "a\nb\nc\nd\ne\n", "a\nlonglonglong\n", "longlonglong\na\n"]
        {
            let (mut pieces, mut found) = (vec![lines.as_bytes()], Vec::new());
            while let Some(piece) = pieces.pop() {
                match halves(piece) {
                    Some((first, second)) => pieces.extend([second, first]),
                    None => found.push(std::str::from_utf8(piece).unwrap()),
                }
            }
            assert_eq!(found.concat(), lines);
            assert!(found.iter().all(|line| line.matches('\n').count() == 1), "{found:?}");
        }
    }
}
