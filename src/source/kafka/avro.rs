//! Avro: by a schema that the program has, or by one that each record names.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::{Schema, from_value};
use serde::de::DeserializeOwned;

use super::formats::{Format, stateless, value};
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
///     fn schema(&self, id: u32) -> Result<String, BoxError> {
///         match id {
///             1 => Ok(r#"{"type": "record", "name": "Order", "fields": []}"#.to_owned()),
///             _ => Err(format!("there is no schema {id}").into()),
///         }
///     }
/// }
/// ```
pub trait Schemas: Send + Sync + 'static {
    /// The schema with this number, in Avro's JSON. Asked once for each number, on the thread of a
    /// worker, which waits for the answer.
    ///
    /// # Errors
    /// Where there is none: the record is undecodable then, and the next one asks again.
    fn schema(&self, id: u32) -> Result<String, BoxError>;
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
                let schema = Arc::new(Schema::parse_str(&schemas.schema(id)?)?);
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
