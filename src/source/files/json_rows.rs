//! JSON lines.

use std::io::{BufRead, BufReader, Read};
use std::marker::PhantomData;

use serde::de::DeserializeOwned;

use super::input::{Bytes, CHUNK_BYTES, Head, InputFile, LineNumbers, RECORD_LIMIT_BYTES};
use crate::error::Error;
use crate::event::Data;
use crate::source::policy::{Bad, without_line_end};
use crate::source::{Fetched, ReadState, Reader, Resume, Undecodable};

/// A mark that some editors put at the start of a file.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

pub(super) struct JsonReader<T> {
    file: InputFile,
    head: Head,
    policy: Undecodable,
    input: BufReader<Bytes>,
    /// Where the next line begins.
    position: u64,
    /// How many lines were read since `line_numbers` begins.
    lines: u64,
    line_numbers: LineNumbers,
    /// The line being decoded; kept for its memory.
    line: Vec<u8>,
    makes: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned + Data> JsonReader<T> {
    pub(super) fn open(path: &str, resume: &Resume, policy: Undecodable) -> Result<Self, Error> {
        let file = InputFile::new(path);
        let head = file.head(resume)?;
        let input = BufReader::with_capacity(CHUNK_BYTES, file.bytes_from(resume.position)?);
        Ok(JsonReader {
            file,
            head,
            policy,
            input,
            position: resume.position,
            lines: 0,
            line_numbers: LineNumbers::from(resume.position),
            line: Vec::new(),
            makes: PhantomData,
        })
    }

    /// Reads a line, and says where it begins.
    fn next_line(&mut self) -> Result<Option<u64>, Error> {
        self.line.clear();
        let limit = RECORD_LIMIT_BYTES as u64 + 1;
        let read = self.input.by_ref().take(limit).read_until(b'\n', &mut self.line);
        let read = read.map_err(|e| self.file.read_error(e).at_position(self.position))? as u64;
        if read == 0 {
            return Ok(None);
        }
        let start = self.position;
        self.position += read;
        self.lines += 1;
        if read == limit && !self.line.ends_with(b"\n") {
            let line = self.line_numbers.in_file(&self.file, self.lines)?;
            let error = format!("line {line}: longer than {RECORD_LIMIT_BYTES} bytes");
            return Err(Error::input(error).at_position(start));
        }
        Ok(Some(start))
    }
}

impl<T: DeserializeOwned + Data> Reader<T> for JsonReader<T> {
    fn read(&mut self, limit: usize, fetched: &mut Fetched<T>) -> Result<ReadState, Error> {
        let mut count = 0;
        while count < limit {
            let Some(start) = self.next_line()? else {
                return Ok(ReadState::End);
            };
            let raw = without_line_end(&self.line);
            let json = if start == 0 { raw.strip_prefix(BYTE_ORDER_MARK) } else { None };
            let json = json.unwrap_or(raw);
            if json.trim_ascii().is_empty() {
                continue;
            }
            count += 1;
            match decode(json) {
                Ok(row) => fetched.push(start, row),
                Err(why) => {
                    let line = self.line_numbers.in_file(&self.file, self.lines)?;
                    let error = format!("line {line}: {why}");
                    Bad { raw, error, partition: self.file.path(), position: start }
                        .settle(self.policy, fetched)?;
                }
            }
        }
        Ok(ReadState::More)
    }

    fn position(&self) -> u64 {
        self.position
    }

    fn check(&self) -> String {
        self.head.check(self.position())
    }
}

fn decode<T: DeserializeOwned>(json: &[u8]) -> Result<T, String> {
    let text = std::str::from_utf8(json).map_err(|e| format!("invalid UTF-8: {e}"))?;
    serde_json::from_str(text).map_err(|e| {
        // serde_json counts lines within the text, which is always line 1 and would mislead.
        let message = e.to_string();
        let cause = message.split(" at line ").next().unwrap_or_default();
        format!("column {}: {cause}", e.column())
    })
}
