//! JSON lines in files, exactly once.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::files::{Encoded, Files};
use super::{Chunk, Encoder, Guarantee, Opening, Sink, SinkWriter};
use crate::error::{BoxError, Error};
use crate::event::Data;
use crate::time::EventTime;

/// Writes each row as one line of JSON, exactly once, to `part-{number}.jsonl` in a directory.
///
/// A file appears when it is complete and the commit that holds it is durable, and is never
/// touched again. Names rise in the order of output; names with a leading dot are unfinished.
/// The directory belongs to this sink of this flow: one that holds another run's output is
/// refused. Two sinks are not visible in the same instant.
///
/// ```
/// use highwater::sink::{Guarantee, JsonLines, Sink};
/// use std::time::Duration;
///
/// let sink = JsonLines::to("out/hourly").visible_every(Duration::from_secs(60));
/// assert_eq!(Sink::<u64>::describe(&sink), "json lines in out/hourly");
/// assert_eq!(Sink::<u64>::guarantee(&sink), Guarantee::ExactlyOnce);
/// ```
#[derive(Clone, Debug)]
pub struct JsonLines {
    files: Files,
}

impl JsonLines {
    /// Files in `dir`, which is made when the flow starts.
    ///
    /// ```
    /// use highwater::sink::{JsonLines, Sink};
    ///
    /// let sink = JsonLines::to("out/late");
    /// assert_eq!(Sink::<String>::describe(&sink), "json lines in out/late");
    /// ```
    #[must_use]
    pub fn to(dir: impl Into<PathBuf>) -> Self {
        JsonLines { files: Files::new(dir.into(), ".jsonl") }
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
    /// use highwater::sink::JsonLines;
    /// use std::time::Duration;
    ///
    /// let sink = JsonLines::to("out/late").visible_every(Duration::ZERO);
    /// # let _ = sink;
    /// ```
    #[must_use]
    pub fn visible_every(mut self, interval: Duration) -> Self {
        self.files.visible_every = interval;
        self
    }
}

impl<T: Data + Serialize> Sink<T> for JsonLines {
    fn describe(&self) -> String {
        format!("json lines in {}", self.files.dir.display())
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn encoder(&self) -> Box<dyn Encoder<T>> {
        Box::new(Lines::new(json))
    }

    fn open(&self, opening: &Opening<'_>) -> Result<Box<dyn SinkWriter>, Error> {
        self.files.open(opening.token)
    }
}

/// Writes one row, without the end of its line.
pub(super) type Format<T> = fn(&T, &mut Vec<u8>) -> Result<(), BoxError>;

pub(super) fn json<T: Serialize>(row: &T, line: &mut Vec<u8>) -> Result<(), BoxError> {
    Ok(serde_json::to_writer(line, row)?)
}

/// One line per row.
pub(super) struct Lines<T> {
    format: Format<T>,
    bytes: Vec<u8>,
}

impl<T> Lines<T> {
    pub(super) fn new(format: Format<T>) -> Self {
        Lines { format, bytes: Vec::new() }
    }
}

impl<T> Encoder<T> for Lines<T> {
    fn encode(&mut self, rows: Vec<T>, _times: &[EventTime]) -> Result<(), BoxError> {
        for row in &rows {
            (self.format)(row, &mut self.bytes)?;
            self.bytes.push(b'\n');
        }
        Ok(())
    }

    fn take(&mut self) -> Option<Chunk> {
        if self.bytes.is_empty() {
            return None;
        }
        let rows = std::mem::take(&mut self.bytes);
        Some(Box::new(Encoded { header: Vec::new(), rows }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::CommitInfo;
    use crate::time::Tick;

    #[test]
    fn rows_become_lines_of_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let sink = JsonLines::to(dir.path().join("a/b"));
        let mut encoder = Sink::<(u32, &str)>::encoder(&sink);
        let mut writer = Sink::<(u32, &str)>::open(&sink, &Opening::with(None)).unwrap();
        assert!(encoder.take().is_none());
        encoder.encode(vec![(1, "one"), (2, "two\nlines")], &[]).unwrap();
        writer.write(Tick(0), encoder.take().unwrap()).unwrap();
        writer.stage(&CommitInfo { tick: Tick(0), clock_micros: 5, last: true }).unwrap();
        writer.publish().unwrap();
        let text = std::fs::read_to_string(dir.path().join("a/b/part-00000000.jsonl")).unwrap();
        assert_eq!(text, "[1,\"one\"]\n[2,\"two\\nlines\"]\n");
    }
}
