//! CSV rows.

use std::io::{self, Read};
use std::marker::PhantomData;

use csv::{ErrorKind as CsvError, StringRecord};
use serde::de::DeserializeOwned;

use super::input::{Bytes, CHUNK_BYTES, Head, InputFile, LineNumbers, RECORD_LIMIT_BYTES};
use crate::error::Error;
use crate::event::Data;
use crate::source::policy::{Bad, without_line_end};
use crate::source::{Fetched, ReadState, Reader, Resume, Undecodable};

pub(super) struct CsvReader<T> {
    file: InputFile,
    head: Head,
    policy: Undecodable,
    headers: StringRecord,
    /// The parser, whose own positions count from `began_at`.
    rows: csv::Reader<Recent>,
    began_at: u64,
    line_numbers: LineNumbers,
    /// The row being decoded; kept for its memory.
    record: StringRecord,
    makes: PhantomData<fn() -> T>,
}

/// Where the parser stood before it read a row.
struct Place {
    /// The row itself begins here, or behind the line ends that follow.
    from: u64,
    /// The line at `from`, since reading began.
    line: u64,
}

impl<T: DeserializeOwned + Data> CsvReader<T> {
    pub(super) fn open(path: &str, resume: &Resume, policy: Undecodable) -> Result<Self, Error> {
        let file = InputFile::new(path);
        let head = file.head(resume)?;
        let mut rows = parser(&file, 0)?;
        let headers = read_headers(&file, &mut rows)?;
        let began_at = if resume.position > rows.position().byte() { resume.position } else { 0 };
        if began_at > 0 {
            rows = parser(&file, began_at)?;
        }
        Ok(CsvReader {
            file,
            head,
            policy,
            headers,
            rows,
            began_at,
            line_numbers: LineNumbers::from(began_at),
            record: StringRecord::new(),
            makes: PhantomData,
        })
    }

    fn read_failed(&self, error: csv::Error) -> Error {
        if self.rows.get_ref().too_long {
            let error =
                format!("a row is longer than {RECORD_LIMIT_BYTES} bytes: is a quote not closed?");
            return Error::input(error);
        }
        match error.into_kind() {
            CsvError::Io(error) => self.file.read_error(error),
            other => Error::bug(format!("the CSV parser cannot fail like this: {other:?}")),
        }
    }

    /// Decodes the row that was read, or says what is wrong with it.
    fn decode(&self) -> Result<T, Wrong> {
        let (found, expected) = (self.record.len(), self.headers.len());
        if found != expected {
            let error = format!("{found} fields, where the header has {expected}");
            return Err(Wrong::Row(error));
        }
        let recent = self.rows.get_ref();
        if recent.ended && ends_in_quotes(recent.slice(recent.keep_from, recent.end())) {
            return Err(Wrong::Row("the file ends within quotes".to_owned()));
        }
        self.record.deserialize(Some(&self.headers)).map_err(|e| self.wrong(&e))
    }

    #[cold]
    fn wrong(&self, error: &csv::Error) -> Wrong {
        let CsvError::Deserialize { err, .. } = error.kind() else {
            return Wrong::Row(error.to_string());
        };
        let message = err.kind().to_string();
        if message.starts_with("missing field") {
            // All rows share the header: leaving them out one by one would empty the file.
            let headers: Vec<_> = self.headers.iter().collect();
            let headers = headers.join(",");
            return Wrong::Header(format!("the header row `{headers}` lacks a column: {message}"));
        }
        let column = err.field().and_then(|field| usize::try_from(field).ok());
        match column.and_then(|column| self.headers.get(column)) {
            Some(name) => Wrong::Row(format!("column `{name}`: {message}")),
            None => Wrong::Row(message),
        }
    }

    #[cold]
    fn settle(
        &mut self,
        place: &Place,
        wrong: Wrong,
        fetched: &mut Fetched<T>,
    ) -> Result<(), Error> {
        let recent = self.rows.get_ref();
        let start = recent.after_line_ends(place.from);
        let between = recent.slice(place.from, start);
        let passed = between.iter().filter(|&&byte| byte == b'\n').count() as u64;
        let line = self.line_numbers.in_file(&self.file, place.line + passed)?;
        let raw = without_line_end(recent.slice(start, self.position()));
        match wrong {
            Wrong::Header(error) => Err(Error::input(error).at_position(start)),
            Wrong::Row(error) => {
                let error = format!("line {line}: {error}");
                Bad { raw, error, partition: self.file.path(), position: start }
                    .settle(self.policy, fetched)
            }
        }
    }
}

/// What is wrong with a row.
enum Wrong {
    /// This row is.
    Row(String),
    /// All rows are.
    Header(String),
}

impl<T: DeserializeOwned + Data> Reader<T> for CsvReader<T> {
    fn read(&mut self, limit: usize, fetched: &mut Fetched<T>) -> Result<ReadState, Error> {
        for _ in 0..limit {
            let place = Place { from: self.position(), line: self.rows.position().line() };
            self.rows.get_mut().keep_from = place.from;
            let decoded = match self.rows.read_record(&mut self.record) {
                Ok(true) => self.decode(),
                Ok(false) => return Ok(ReadState::End),
                Err(error) => match error.kind() {
                    CsvError::Utf8 { err, .. } => Err(Wrong::Row(format!(
                        "invalid UTF-8 in column `{}`",
                        self.headers.get(err.field()).unwrap_or_default()
                    ))),
                    _ => return Err(self.read_failed(error).at_position(place.from)),
                },
            };
            match decoded {
                Ok(row) => fetched.push(self.rows.get_ref().after_line_ends(place.from), row),
                Err(wrong) => self.settle(&place, wrong, fetched)?,
            }
        }
        Ok(ReadState::More)
    }

    fn position(&self) -> u64 {
        self.began_at + self.rows.position().byte()
    }

    fn check(&self) -> String {
        self.head.check(self.position())
    }
}

/// The parser takes any number of fields, so that a wrong number is ours to report, and takes the
/// header for a row.
fn parser(file: &InputFile, position: u64) -> Result<csv::Reader<Recent>, Error> {
    let recent = Recent::new(file.bytes_from(position)?, position);
    let mut builder = csv::ReaderBuilder::new();
    builder.flexible(true).has_headers(false).buffer_capacity(CHUNK_BYTES);
    Ok(builder.from_reader(recent))
}

fn read_headers(file: &InputFile, rows: &mut csv::Reader<Recent>) -> Result<StringRecord, Error> {
    let path = file.path();
    let mut headers = StringRecord::new();
    match rows.read_record(&mut headers) {
        Ok(true) => Ok(headers),
        Ok(false) => Err(Error::input(format!("`{path}` is empty: it lacks the header row"))),
        Err(error) => Err(match error.into_kind() {
            CsvError::Io(error) if rows.get_ref().too_long => {
                Error::input(format!("the header row of `{path}` is too long")).because(error)
            }
            CsvError::Io(error) => file.read_error(error),
            _ => Error::input(format!("the header row of `{path}` is not valid UTF-8")),
        }),
    }
}

/// Keeps the bytes of the current record, as they stand in the file, behind the parser's back.
struct Recent {
    input: Bytes,
    bytes: Vec<u8>,
    /// The position of the first of `bytes`.
    start: u64,
    /// Bytes before this position are dropped at the next chance: set before each record.
    keep_from: u64,
    ended: bool,
    too_long: bool,
}

impl Recent {
    fn new(input: Bytes, position: u64) -> Self {
        let (start, keep_from) = (position, position);
        Recent { input, bytes: Vec::new(), start, keep_from, ended: false, too_long: false }
    }

    fn index(&self, position: u64) -> usize {
        let index = usize::try_from(position.saturating_sub(self.start)).unwrap_or(usize::MAX);
        index.min(self.bytes.len())
    }

    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    fn slice(&self, from: u64, end: u64) -> &[u8] {
        self.bytes.get(self.index(from)..self.index(end)).unwrap_or_default()
    }

    /// Where a record begins: the parser takes the `\n` of the `\r\n` before it, and empty lines,
    /// for a part of it.
    fn after_line_ends(&self, mut position: u64) -> u64 {
        let rest = self.bytes.get(self.index(position)..).unwrap_or_default().iter();
        position += rest.take_while(|&&byte| byte == b'\r' || byte == b'\n').count() as u64;
        position
    }
}

impl Read for Recent {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let dropped = self.index(self.keep_from);
        self.bytes.drain(..dropped);
        self.start += dropped as u64;
        if self.bytes.len() > RECORD_LIMIT_BYTES {
            self.too_long = true;
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a record is too long"));
        }
        loop {
            match self.input.read(buffer) {
                Ok(count) => {
                    self.ended = count == 0;
                    self.bytes.extend_from_slice(&buffer[..count]);
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Whether a record stops with a quote still open. Asked only for a last one without a line end:
/// any other has been ended by one outside of quotes.
fn ends_in_quotes(record: &[u8]) -> bool {
    let (mut quoted, mut may_open) = (false, true);
    for &byte in record {
        if quoted {
            quoted = byte != b'"';
            // A quote right behind a closing one stands for a quote character.
            may_open = !quoted;
        } else {
            quoted = byte == b'"' && may_open;
            may_open = matches!(byte, b',' | b'\r' | b'\n');
        }
    }
    quoted
}
