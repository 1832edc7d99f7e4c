//! From rows to records, on the worker's thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Serialize;

use super::letter::{self, Record};
use crate::error::BoxError;
use crate::sink::{Chunk, Encoder};
use crate::time::EventTime;

/// How a row becomes the value of a record: [`Json`], or a closure that appends the bytes.
pub trait KafkaValue<T>: Send + Sync + 'static {
    /// Appends the value.
    ///
    /// # Errors
    /// A row that has none stops the flow.
    fn append(&self, row: &T, bytes: &mut Vec<u8>) -> Result<(), BoxError>;
}

/// JSON, by serde.
#[derive(Clone, Copy, Debug, Default)]
pub struct Json;

impl<T: Serialize> KafkaValue<T> for Json {
    fn append(&self, row: &T, bytes: &mut Vec<u8>) -> Result<(), BoxError> {
        Ok(serde_json::to_writer(bytes, row)?)
    }
}

impl<T, F> KafkaValue<T> for F
where
    F: Fn(&T, &mut Vec<u8>) -> Result<(), BoxError> + Send + Sync + 'static,
{
    fn append(&self, row: &T, bytes: &mut Vec<u8>) -> Result<(), BoxError> {
        self(row, bytes)
    }
}

type Key<T> = Arc<dyn Fn(&T) -> Vec<u8> + Send + Sync>;
type Headers<T> = Arc<dyn Fn(&T) -> Vec<(String, Vec<u8>)> + Send + Sync>;

/// What a record takes from its row.
pub(super) struct Rows<T, V> {
    key: Option<Key<T>>,
    headers: Option<Headers<T>>,
    value: Arc<V>,
    /// Bytes; known when the sink has been opened.
    limit: Arc<AtomicUsize>,
}

impl<T, V> Rows<T, V> {
    pub(super) fn new(value: V, limit: Arc<AtomicUsize>) -> Self {
        Rows { key: None, headers: None, value: Arc::new(value), limit }
    }

    pub(super) fn set_key(&mut self, key: impl Fn(&T) -> Vec<u8> + Send + Sync + 'static) {
        self.key = Some(Arc::new(key));
    }

    pub(super) fn set_headers(
        &mut self,
        headers: impl Fn(&T) -> Vec<(String, Vec<u8>)> + Send + Sync + 'static,
    ) {
        self.headers = Some(Arc::new(headers));
    }

    pub(super) fn with_value<W>(self, value: W) -> Rows<T, W> {
        let Rows { key, headers, limit, .. } = self;
        Rows { key, headers, value: Arc::new(value), limit }
    }

    pub(super) fn encoder(&self) -> RecordEncoder<T, V> {
        let Rows { key, headers, value, limit } = self;
        let rows = Rows {
            key: key.clone(),
            headers: headers.clone(),
            value: value.clone(),
            limit: limit.clone(),
        };
        RecordEncoder { rows, value: Vec::new(), letter: Vec::new() }
    }
}

pub(super) struct RecordEncoder<T, V> {
    rows: Rows<T, V>,
    /// Of the row at hand.
    value: Vec<u8>,
    letter: Vec<u8>,
}

impl<T, V: KafkaValue<T>> RecordEncoder<T, V> {
    fn encode_row(&mut self, row: &T, time: Option<EventTime>) -> Result<(), BoxError> {
        self.value.clear();
        self.rows.value.append(row, &mut self.value)?;
        let key = self.rows.key.as_ref().map(|key| key(row));
        let headers = self.rows.headers.as_ref().map(|headers| headers(row)).unwrap_or_default();
        let record = Record {
            time: time.map(millis),
            key: key.as_deref(),
            value: Some(&self.value),
            headers: headers.iter().map(|(name, value)| (name.as_str(), &value[..])).collect(),
        };
        let (size, limit) = (record.size(), self.rows.limit.load(Ordering::Relaxed));
        if size > limit {
            return Err(format!(
                "a row takes {size} bytes as a record of Kafka, and the topic takes {limit}: \
                 raise `max.message.bytes` of the topic, or write less"
            )
            .into());
        }
        Ok(letter::append(&mut self.letter, &record)?)
    }
}

/// Kafka has no times before 1970, and 0 means now to its client.
fn millis(time: EventTime) -> i64 {
    time.as_micros().div_euclid(1_000).max(1)
}

impl<T, V: KafkaValue<T>> Encoder<T> for RecordEncoder<T, V> {
    fn encode(&mut self, rows: Vec<T>, times: &[EventTime]) -> Result<(), BoxError> {
        for (index, row) in rows.iter().enumerate() {
            self.encode_row(row, times.get(index).copied())?;
        }
        Ok(())
    }

    fn take(&mut self) -> Option<Chunk> {
        let letter = std::mem::take(&mut self.letter);
        if letter.is_empty() { None } else { Some(Box::new(letter)) }
    }
}
