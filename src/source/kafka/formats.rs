//! How the value of a record becomes a row.

use std::io::{self, Read};
use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::record::{Record, Recorded};
use crate::error::BoxError;
use crate::event::Data;
use crate::source::policy::without_line_end;

/// Decodes the records of one partition; what it keeps is its own.
pub(super) type Decode<T> = Box<dyn FnMut(&Record<'_>) -> Result<T, BoxError> + Send>;

/// Makes a decoder for each partition that is opened.
pub(super) type Format<T> = Arc<dyn Fn() -> Decode<T> + Send + Sync>;

/// Whether a record can be decoded is not known: it is not undecodable.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub(super) struct CannotTell {
    pub(super) what: String,
    #[source]
    pub(super) cause: BoxError,
}

/// A format without anything to keep.
pub(super) fn stateless<T: Data>(
    decode: impl Fn(&Record<'_>) -> Result<T, BoxError> + Send + Sync + 'static,
) -> Format<T> {
    let decode = Arc::new(decode);
    Arc::new(move || {
        let decode = decode.clone();
        Box::new(move |record| decode(record))
    })
}

/// The value, which these formats need.
pub(super) fn value<'r>(record: &'r Record<'_>) -> Result<&'r [u8], BoxError> {
    record.value().ok_or_else(|| {
        "the record has no value, it is a tombstone: `tombstones()` makes it `None`".into()
    })
}

pub(super) fn json<T: DeserializeOwned + Data>() -> Format<T> {
    stateless(|record| {
        serde_json::from_slice(value(record)?).map_err(|error| {
            // Most values are one line, and then the line says nothing.
            let message = error.to_string();
            let cause = message.split(" at line ").next().unwrap_or_default();
            let (line, column) = (error.line(), error.column());
            match line {
                0 | 1 => format!("column {column}: {cause}").into(),
                _ => format!("line {line}, column {column}: {cause}").into(),
            }
        })
    })
}

pub(super) fn text() -> Format<String> {
    stateless(|record| Ok(std::str::from_utf8(value(record)?)?.to_owned()))
}

pub(super) fn bytes() -> Format<Vec<u8>> {
    stateless(|record| Ok(value(record)?.to_vec()))
}

/// One row without a header in each value.
pub(super) fn csv<T: DeserializeOwned + Data>() -> Format<T> {
    Arc::new(|| {
        let mut row = CsvRow::new();
        Box::new(move |record| row.decode(value(record)?))
    })
}

pub(super) fn with_record<T: Data>(format: Format<T>) -> Format<Recorded<T>> {
    Arc::new(move || {
        let mut decode = format();
        let mut topic: Arc<str> = Arc::from("");
        Box::new(move |record| {
            let value = decode(record)?;
            if *topic != *record.topic() {
                topic = Arc::from(record.topic());
            }
            Ok(Recorded::new(value, record, &topic))
        })
    })
}

pub(super) fn tombstones<T: Data>(format: Format<T>) -> Format<Option<T>> {
    Arc::new(move || {
        let mut decode = format();
        Box::new(move |record| record.value().map(|_| decode(record)).transpose())
    })
}

/// A reader of rows that is kept, because its buffers cost more than a row.
struct CsvRow {
    reader: csv::Reader<Line>,
    row: csv::StringRecord,
}

/// One row, and a line end behind it.
#[derive(Default)]
struct Line {
    bytes: Vec<u8>,
    read: usize,
}

impl Read for Line {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut rest = self.bytes.get(self.read..).unwrap_or_default();
        let count = rest.read(buffer)?;
        self.read += count;
        Ok(count)
    }
}

impl CsvRow {
    fn new() -> Self {
        let mut options = csv::ReaderBuilder::new();
        let reader = options.has_headers(false).flexible(true).from_reader(Line::default());
        CsvRow { reader, row: csv::StringRecord::new() }
    }

    fn decode<T: DeserializeOwned>(&mut self, value: &[u8]) -> Result<T, BoxError> {
        let value = without_line_end(value);
        let line = self.reader.get_mut();
        line.bytes.clear();
        line.bytes.extend_from_slice(value);
        line.bytes.push(b'\n');
        line.read = 0;
        let decoded = self.only_row();
        if decoded.is_err() {
            // Nothing of this value may be left for the next one.
            *self = CsvRow::new();
        }
        decoded
    }

    fn only_row<T: DeserializeOwned>(&mut self) -> Result<T, BoxError> {
        let before = self.reader.position().byte();
        if !self.reader.read_record(&mut self.row)? {
            return Err("the value has no row".into());
        }
        let read = self.reader.position().byte() - before;
        let line = self.reader.get_ref();
        if line.read < line.bytes.len() || read != line.bytes.len() as u64 {
            return Err("the value is not one row".into());
        }
        let row = self.row.deserialize(None).map_err(|error| match error.kind() {
            csv::ErrorKind::Deserialize { err, .. } => match err.field() {
                Some(field) => format!("field {}: {}", field + 1, err.kind()),
                None => err.kind().to_string(),
            },
            _ => error.to_string(),
        })?;
        Ok(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_csv_value_is_one_row_and_a_bad_one_leaves_nothing() {
        type Row = (String, i64);
        let mut csv = CsvRow::new();
        let row = |csv: &mut CsvRow, text: &str| {
            csv.decode::<Row>(text.as_bytes()).map_err(|error| error.to_string())
        };
        assert_eq!(row(&mut csv, "a,1").unwrap(), ("a".to_owned(), 1));
        assert_eq!(row(&mut csv, "\"x,\"\"y\",2\n").unwrap(), ("x,\"y".to_owned(), 2));
        assert_eq!(row(&mut csv, "\"x\ny\",2\r\n").unwrap(), ("x\ny".to_owned(), 2));
        assert!(row(&mut csv, "a,b").unwrap_err().contains("field 2"));
        assert!(row(&mut csv, "a").is_err());
        assert!(row(&mut csv, "").is_err());
        assert!(row(&mut csv, "a,1\nb,2").unwrap_err().contains("not one row"));
        assert!(row(&mut csv, "\"open,1").is_err());
        assert_eq!(row(&mut csv, "c,3").unwrap(), ("c".to_owned(), 3));
        for number in 0..100_000 {
            assert_eq!(row(&mut csv, &format!("k,{number}")).unwrap().1, number);
        }
    }
}
