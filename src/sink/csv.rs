//! CSV files, exactly once.

use std::path::PathBuf;
use std::time::Duration;

use ::csv::{Writer, WriterBuilder};
use serde::Serialize;

use super::files::{Encoded, Files};
use super::{Chunk, Encoder, Guarantee, Opening, Sink, SinkWriter};
use crate::error::{BoxError, Error};
use crate::event::Data;
use crate::time::EventTime;

/// Writes each row as a line of CSV, exactly once, to `part-{number}.csv` in a directory.
///
/// Each file starts with a line of column names: those of a struct's fields; rows without field
/// names have no such line. All rows of one sink must have the same columns. Otherwise files
/// behave like those of [`JsonLines`](super::JsonLines).
///
/// ```
/// use highwater::sink::{Csv, Guarantee, Sink};
/// use std::time::Duration;
///
/// let sink = Csv::to("out/hourly").visible_every(Duration::from_secs(60));
/// assert_eq!(Sink::<(u64, String)>::describe(&sink), "csv in out/hourly");
/// assert_eq!(Sink::<(u64, String)>::guarantee(&sink), Guarantee::ExactlyOnce);
/// ```
#[derive(Clone, Debug)]
pub struct Csv {
    files: Files,
}

impl Csv {
    /// Files in `dir`, which is made when the flow starts.
    ///
    /// ```
    /// use highwater::sink::{Csv, Sink};
    ///
    /// let sink = Csv::to("out/late");
    /// assert_eq!(Sink::<(u64, String)>::describe(&sink), "csv in out/late");
    /// ```
    #[must_use]
    pub fn to(dir: impl Into<PathBuf>) -> Self {
        Csv { files: Files::new(dir.into(), ".csv") }
    }

    /// Writes to this disk instead of the real one: for tests that crash it.
    #[must_use]
    pub fn on(mut self, disk: &highwater_state::fault::SimDisk) -> Self {
        self.files.disk = std::sync::Arc::new(disk.clone());
        self
    }

    /// How long a file takes in output before it appears: longer makes fewer files. One second
    /// by default; zero makes a file of each commit with output.
    ///
    /// ```
    /// use highwater::sink::Csv;
    /// use std::time::Duration;
    ///
    /// let sink = Csv::to("out/late").visible_every(Duration::ZERO);
    /// # let _ = sink;
    /// ```
    #[must_use]
    pub fn visible_every(mut self, interval: Duration) -> Self {
        self.files.visible_every = interval;
        self
    }
}

impl<T: Data + Serialize> Sink<T> for Csv {
    fn describe(&self) -> String {
        format!("csv in {}", self.files.dir.display())
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn encoder(&self) -> Box<dyn Encoder<T>> {
        Box::new(CsvEncoder { header: None, rows: plain() })
    }

    fn open(&self, opening: &Opening<'_>) -> Result<Box<dyn SinkWriter>, Error> {
        self.files.open(opening.token)
    }
}

fn plain() -> Writer<Vec<u8>> {
    WriterBuilder::new().has_headers(false).from_writer(Vec::new())
}

struct CsvEncoder {
    /// Known from the first row on.
    header: Option<Vec<u8>>,
    rows: Writer<Vec<u8>>,
}

impl<T: Serialize> Encoder<T> for CsvEncoder {
    fn encode(&mut self, rows: Vec<T>, _times: &[EventTime]) -> Result<(), BoxError> {
        if let (None, Some(first)) = (&self.header, rows.first()) {
            self.header = Some(header_of(first)?);
        }
        for row in &rows {
            self.rows.serialize(row)?;
        }
        Ok(())
    }

    fn take(&mut self) -> Option<Chunk> {
        // A new writer for each chunk: `csv` has no other way to get at what it has written,
        // and this is once per tick. Writing to memory does not fail.
        let rows = std::mem::replace(&mut self.rows, plain()).into_inner().unwrap_or_default();
        if rows.is_empty() {
            return None;
        }
        let header = self.header.clone().unwrap_or_default();
        Some(Box::new(Encoded { header, rows }))
    }
}

/// The line of column names: what `csv` writes before the first row, if it is asked to.
fn header_of<T: Serialize>(row: &T) -> Result<Vec<u8>, BoxError> {
    let bytes = |has_headers| -> Result<Vec<u8>, BoxError> {
        let mut writer = WriterBuilder::new().has_headers(has_headers).from_writer(Vec::new());
        writer.serialize(row)?;
        Ok(writer.into_inner().map_err(::csv::IntoInnerError::into_error)?)
    };
    let (mut header, alone) = (bytes(true)?, bytes(false)?);
    header.truncate(header.len().saturating_sub(alone.len()));
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::sink::CommitInfo;
    use crate::time::Tick;

    #[derive(Clone, Serialize)]
    struct Row {
        key: &'static str,
        count: u32,
    }

    fn chunk<T: Data + Serialize>(sink: &Csv, rows: Vec<T>) -> Chunk {
        let mut encoder = Sink::<T>::encoder(sink);
        encoder.encode(rows, &[]).unwrap();
        encoder.take().unwrap()
    }

    #[test]
    fn each_file_has_one_header() {
        let dir = tempfile::tempdir().unwrap();
        let sink = Csv::to(dir.path()).visible_every(Duration::from_millis(2));
        let mut token = None;
        for clock in 0..5 {
            // A new writer each time: the header must not depend on where a run started.
            let mut writer = Sink::<Row>::open(&sink, &Opening::with(token.as_deref())).unwrap();
            for count in [clock, clock + 10] {
                let row = Row { key: "a,b", count: count as u32 };
                writer.write(Tick(clock), chunk(&sink, vec![row])).unwrap();
            }
            let clock_micros = clock as i64 * 1_000;
            let commit = CommitInfo { tick: Tick(clock), clock_micros, last: clock == 4 };
            token = Some(writer.stage(&commit).unwrap());
            writer.publish().unwrap();
        }
        let read = |name| std::fs::read_to_string(dir.path().join(name)).unwrap();
        let (first, second) = (read("part-00000000.csv"), read("part-00000001.csv"));
        let lines = |list: &[u32]| -> String {
            list.iter().map(|count| format!("\"a,b\",{count}\n")).collect()
        };
        assert_eq!(first, "key,count\n".to_owned() + &lines(&[0, 10, 1, 11, 2, 12]));
        assert_eq!(second, "key,count\n".to_owned() + &lines(&[3, 13, 4, 14]));
    }

    #[test]
    fn rows_without_names_have_no_header() {
        assert_eq!(header_of(&(1, "a")).unwrap(), b"");
        assert_eq!(header_of(&Row { key: "k", count: 0 }).unwrap(), b"key,count\n");
    }

    #[test]
    fn other_columns_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let sink = Csv::to(dir.path());
        let mut writer = Sink::<Row>::open(&sink, &Opening::with(None)).unwrap();
        writer.write(Tick(0), chunk(&sink, vec![Row { key: "k", count: 1 }])).unwrap();
        let error = writer.write(Tick(0), chunk(&sink, vec![(1, 2, 3)])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Plan, "{error}");
    }
}
