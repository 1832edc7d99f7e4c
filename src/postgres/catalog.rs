//! What the database says of a table.

use tokio_postgres::Client;

use super::{Postgres, Trouble, bounded};
use crate::error::{Error, ErrorKind};

/// A name in quotes, as it stands.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The name of a table, with or without its schema.
pub(crate) fn quoted_name(name: &str) -> String {
    name.split('.').map(quoted).collect::<Vec<_>>().join(".")
}

/// What kind of values a column takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Bool,
    Integer,
    /// Floats, and numbers of any precision.
    Number,
    /// Points in time, with or without a zone.
    Timestamp,
    Bytes,
    Json,
    Array,
    /// Everything that is written as text: text itself, dates, uuids, enums.
    Text,
}

#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// As people write it, such as `character varying(10)`.
    pub(crate) type_name: String,
    /// Without a length or precision, so that a cast changes nothing.
    pub(crate) plain_type: String,
    pub(crate) class: Class,
    /// It must be given: it cannot be null, and has no default.
    pub(crate) required: bool,
    pub(crate) nullable: bool,
    /// It cannot be given: the database works it out.
    pub(crate) generated: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) columns: Vec<Column>,
    pub(crate) unique: Vec<Unique>,
    /// What the role may not do with it.
    pub(crate) denied: Vec<String>,
}

/// A unique index.
#[derive(Clone, Debug)]
pub(crate) struct Unique {
    pub(crate) columns: Vec<String>,
    /// Two nulls are the same to it, which is not so by default.
    pub(crate) nulls_equal: bool,
}

const COLUMNS: &str = "\
    select a.attname::text, format_type(a.atttypid, a.atttypmod), \
        coalesce(b.typname, t.typname)::text, coalesce(b.typcategory, t.typcategory)::text, \
        a.attnotnull and not a.atthasdef and a.attidentity = '', \
        a.attgenerated <> '' or a.attidentity = 'a', \
        format_type(a.atttypid, -1), \
        not (a.attnotnull or t.typnotnull) \
    from pg_attribute a join pg_type t on t.oid = a.atttypid \
        left join pg_type b on b.oid = t.typbasetype and t.typtype = 'd' \
    where a.attrelid = to_regclass($1) and a.attnum > 0 and not a.attisdropped \
    order by a.attnum";

// Servers before 15 do not know of nulls that are equal: through JSON it can be asked of all.
const UNIQUE: &str = "\
    select array(select a.attname::text from unnest(i.indkey[0:i.indnkeyatts-1]) k \
        join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k), \
        coalesce((to_jsonb(i)->>'indnullsnotdistinct')::boolean, false) \
    from pg_index i \
    where i.indrelid = to_regclass($1) and i.indisunique and i.indimmediate and i.indisvalid \
        and i.indpred is null and i.indexprs is null";

const DENIED: &str = "\
    select p from unnest($2::text[]) p \
    where not has_table_privilege(to_regclass($1), p)";

impl Table {
    /// Looks a table up, with what the role needs to do with it.
    pub(crate) async fn read(
        database: &Postgres,
        client: &Client,
        name: &str,
        needed: &[&str],
    ) -> Result<Self, Trouble> {
        let (limit, quoted) = (database.limit(), quoted_name(name));
        let rows = bounded(limit, client.query(COLUMNS, &[&quoted])).await?;
        if rows.is_empty() {
            let message = format!(
                "there is no table {quoted} in {} that this role can see: create it, or mend its \
                 name (capital letters count)",
                database.place()
            );
            return Err(Error::new(ErrorKind::Io, message).into());
        }
        let columns = rows.iter().map(column).collect::<Result<_, _>>().map_err(Trouble::of)?;
        let rows = bounded(limit, client.query(UNIQUE, &[&quoted])).await?;
        let unique = rows.iter().map(unique).collect::<Result<_, _>>();
        let needed: Vec<&str> = needed.to_vec();
        let rows = bounded(limit, client.query(DENIED, &[&quoted, &needed])).await?;
        let denied = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>();
        Ok(Table {
            name: name.to_owned(),
            columns,
            unique: unique.map_err(Trouble::of)?,
            denied: denied.map_err(Trouble::of)?,
        })
    }

    pub(crate) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// An error unless the role may do what it needs to.
    pub(crate) fn check_granted(&self) -> Result<(), Error> {
        if self.denied.is_empty() {
            return Ok(());
        }
        let (what, table) = (self.denied.join(", "), quoted_name(&self.name));
        let message = format!("the role may not use the table: grant {what} on {table}");
        Err(Error::new(ErrorKind::Io, message))
    }
}

fn unique(row: &tokio_postgres::Row) -> Result<Unique, tokio_postgres::Error> {
    Ok(Unique { columns: row.try_get(0)?, nulls_equal: row.try_get(1)? })
}

fn column(row: &tokio_postgres::Row) -> Result<Column, tokio_postgres::Error> {
    let (base, category): (String, String) = (row.try_get(2)?, row.try_get(3)?);
    let class = match (base.as_str(), category.as_str()) {
        ("bool", _) => Class::Bool,
        ("int2" | "int4" | "int8" | "oid", _) => Class::Integer,
        ("float4" | "float8" | "numeric", _) => Class::Number,
        ("timestamp" | "timestamptz", _) => Class::Timestamp,
        ("bytea", _) => Class::Bytes,
        ("json" | "jsonb", _) => Class::Json,
        (_, "A") => Class::Array,
        _ => Class::Text,
    };
    Ok(Column {
        name: row.try_get(0)?,
        type_name: row.try_get(1)?,
        class,
        required: row.try_get(4)?,
        generated: row.try_get(5)?,
        // Without a length that is said to be none, `character` would be a single one.
        plain_type: row.try_get(6)?,
        nullable: row.try_get(7)?,
    })
}
