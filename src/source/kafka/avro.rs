//! Avro: by a schema that the program has, or by one that each record names.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::{Schema, from_value};
use serde::de::DeserializeOwned;

use super::formats::{CannotTell, Format, stateless, value};
use crate::error::{BoxError, Error};
use crate::event::Data;
use crate::source::signal::lock;

/// Knows the schemas that records name by a number, as those do that were written with a schema
/// registry: a zero byte, the number in four bytes, and the value.
///
/// ```
/// use highwater::BoxError;
/// use highwater::source::Schemas;
///
/// struct OneSchema;
///
/// impl Schemas for OneSchema {
///     fn schema(&self, id: u32) -> Result<Option<String>, BoxError> {
///         let order = r#"{"type": "record", "name": "Order", "fields": []}"#;
///         Ok((id == 1).then(|| order.to_owned()))
///     }
/// }
/// ```
pub trait Schemas: Send + Sync + 'static {
    /// The schema with this number, in Avro's JSON; `None` where there is none, so that records
    /// with this number are undecodable. Asked once for each number that there is, on the thread
    /// of a worker, which waits for the answer.
    ///
    /// # Errors
    /// Where it cannot be told, as when a registry is away. Whether the record can be decoded is
    /// not known then, so no policy applies: the flow stops, and reads the record again when it is
    /// started. A client of a registry should try for a while before.
    fn schema(&self, id: u32) -> Result<Option<String>, BoxError>;
}

pub(super) fn by_schema<T: DeserializeOwned + Data>(schema: &str) -> Result<Format<T>, Error> {
    let parsed = Schema::parse_str(schema);
    let schema = parsed.map_err(|e| Error::plan("the text is no Avro schema").because(e))?;
    Ok(stateless(move |record| decode(&schema, value(record)?)))
}

pub(super) fn by_number<T: DeserializeOwned + Data>(schemas: impl Schemas) -> Format<T> {
    let known = Mutex::new(BTreeMap::<u32, Arc<Schema>>::new());
    stateless(move |record| {
        let Some(([0, a, b, c, d], datum)) = value(record)?.split_first_chunk::<5>() else {
            return Err("the value does not begin with a zero byte and a schema's number".into());
        };
        let id = u32::from_be_bytes([*a, *b, *c, *d]);
        let found = lock(&known).get(&id).cloned();
        let schema = match found {
            Some(schema) => schema,
            None => {
                let asked = schemas.schema(id).map_err(|cause| CannotTell {
                    what: format!("the schema {id} cannot be had now"),
                    cause,
                })?;
                let text = asked.ok_or_else(|| format!("there is no schema {id}"))?;
                let schema = Arc::new(Schema::parse_str(&text)?);
                lock(&known).insert(id, schema.clone());
                schema
            }
        };
        decode(&schema, datum).map_err(|error| format!("schema {id}: {error}").into())
    })
}

fn decode<T: DeserializeOwned>(schema: &Schema, mut datum: &[u8]) -> Result<T, BoxError> {
    let decoded = GenericDatumReader::builder(schema).build()?.read_value(&mut datum)?;
    if !datum.is_empty() {
        return Err(format!("{} bytes are left behind the value", datum.len()).into());
    }
    Ok(from_value(&decoded)?)
}
