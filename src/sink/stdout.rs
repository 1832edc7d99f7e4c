//! Rows on standard output.

use std::fmt;
use std::io::{self, Write};

use serde::Serialize;

use super::files::Encoded;
use super::json_lines::{Format, Lines, json};
use super::{Chunk, Encoder, Guarantee, Opening, Sink, SinkWriter};
use crate::error::{BoxError, Error};
use crate::event::Data;
use crate::time::Tick;

/// Writes each row as one line to standard output, as soon as its tick is sealed: at least once,
/// since ticks after the last commit run again after a crash.
///
/// ```
/// use highwater::sink::{Guarantee, Sink, Stdout};
///
/// let sink: Stdout<(u32, &str)> = Stdout::json();
/// assert_eq!(sink.describe(), "standard output");
/// assert_eq!(sink.guarantee(), Guarantee::AtLeastOnce);
/// ```
pub struct Stdout<T> {
    format: Format<T>,
}

impl<T: Data + Serialize> Stdout<T> {
    /// Each row as JSON.
    ///
    /// ```
    /// use highwater::Tick;
    /// use highwater::sink::{Opening, Sink, Stdout};
    ///
    /// let sink = Stdout::json();
    /// let mut encoder = sink.encoder();
    /// encoder.encode(vec![("EWR", 12)], &[]).unwrap();
    /// // Prints ["EWR",12]
    /// sink.open(&Opening::default())?.write(Tick(0), encoder.take().unwrap())?;
    /// # Ok::<(), highwater::Error>(())
    /// ```
    #[must_use]
    pub fn json() -> Self {
        Stdout { format: json }
    }
}

impl<T: Data + fmt::Display> Stdout<T> {
    /// Each row as it displays itself.
    ///
    /// ```
    /// use highwater::Tick;
    /// use highwater::sink::{Opening, Sink, Stdout};
    ///
    /// let sink = Stdout::display();
    /// let mut encoder = sink.encoder();
    /// encoder.encode(vec!["EWR is late"], &[]).unwrap();
    /// // Prints EWR is late
    /// sink.open(&Opening::default())?.write(Tick(0), encoder.take().unwrap())?;
    /// # Ok::<(), highwater::Error>(())
    /// ```
    #[must_use]
    pub fn display() -> Self {
        Stdout { format: display }
    }
}

fn display<T: fmt::Display>(row: &T, line: &mut Vec<u8>) -> Result<(), BoxError> {
    Ok(write!(line, "{row}")?)
}

// Derived, both would ask the same of `T`.
impl<T> Clone for Stdout<T> {
    fn clone(&self) -> Self {
        Stdout { format: self.format }
    }
}

impl<T> fmt::Debug for Stdout<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stdout")
    }
}

impl<T: Data> Sink<T> for Stdout<T> {
    fn describe(&self) -> String {
        "standard output".to_owned()
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    fn encoder(&self) -> Box<dyn Encoder<T>> {
        Box::new(Lines::new(self.format))
    }

    fn open(&self, _: &Opening<'_>) -> Result<Box<dyn SinkWriter>, Error> {
        Ok(Box::new(LineWriter { target: io::stdout() }))
    }
}

struct LineWriter<W> {
    target: W,
}

impl<W: Write + Send> SinkWriter for LineWriter<W> {
    fn write(&mut self, _tick: Tick, chunk: Chunk) -> Result<(), Error> {
        let Ok(encoded) = chunk.downcast::<Encoded>() else {
            return Err(Error::bug("standard output was given a chunk of another sink"));
        };
        self.target
            .write_all(&encoded.rows)
            .and_then(|()| self.target.flush())
            .map_err(|e| Error::io("cannot write to standard output", e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_row_is_one_line() {
        let mut writer = LineWriter { target: Vec::new() };
        let mut encoder = Stdout::display().encoder();
        encoder.encode(vec![1.5, 2.0], &[]).unwrap();
        writer.write(Tick(0), encoder.take().unwrap()).unwrap();
        let mut encoder = Stdout::json().encoder();
        encoder.encode(vec![Some("a"), None], &[]).unwrap();
        writer.write(Tick(1), encoder.take().unwrap()).unwrap();
        assert_eq!(writer.target, b"1.5\n2\n\"a\"\nnull\n");
        assert!(encoder.take().is_none());
    }
}
