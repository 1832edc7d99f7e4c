//! A sink that measures when its rows become visible.

use std::fmt;
use std::sync::Arc;

use super::paced::Pace;
use crate::error::{BoxError, Error};
use crate::event::Data;
use crate::sink::{Chunk, Encoder, Guarantee, Opening, Sink, SinkWriter};
use crate::time::{EventTime, Tick};

type Due<T> = dyn Fn(&T) -> EventTime + Send + Sync;

/// A sink that keeps no row, and notes how long after its due time each one became visible: see
/// [`Setup::answers`](super::Setup::answers).
pub struct Answers<T> {
    pace: Arc<Pace>,
    due: Arc<Due<T>>,
    durable: bool,
}

impl<T: Data> Answers<T> {
    pub(super) fn new(
        pace: Arc<Pace>,
        durable: bool,
        due: impl Fn(&T) -> EventTime + Send + Sync + 'static,
    ) -> Self {
        Answers { pace, due: Arc::new(due), durable }
    }
}

impl<T> fmt::Debug for Answers<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answers").field("durable", &self.durable).finish_non_exhaustive()
    }
}

impl<T: Data> Sink<T> for Answers<T> {
    fn describe(&self) -> String {
        "Answers".to_owned()
    }

    fn guarantee(&self) -> Guarantee {
        if self.durable { Guarantee::ExactlyOnce } else { Guarantee::AtLeastOnce }
    }

    fn encoder(&self) -> Box<dyn Encoder<T>> {
        let (pace, due) = (self.pace.clone(), self.due.clone());
        Box::new(DueEncoder { pace, due, dues: Vec::new() })
    }

    fn open(&self, _: &Opening<'_>) -> Result<Box<dyn SinkWriter>, Error> {
        let (pace, durable) = (self.pace.clone(), self.durable);
        Ok(Box::new(AnswerWriter { pace, durable, written: Vec::new(), staged: Vec::new() }))
    }
}

struct DueEncoder<T> {
    pace: Arc<Pace>,
    due: Arc<Due<T>>,
    /// µs since the load began.
    dues: Vec<i64>,
}

impl<T> Encoder<T> for DueEncoder<T> {
    fn encode(&mut self, rows: Vec<T>, _times: &[EventTime]) -> Result<(), BoxError> {
        self.dues.extend(rows.iter().map(|row| self.pace.clock.micros_of((self.due)(row))));
        Ok(())
    }

    fn take(&mut self) -> Option<Chunk> {
        if self.dues.is_empty() {
            return None;
        }
        Some(Box::new(std::mem::take(&mut self.dues)))
    }
}

struct AnswerWriter {
    pace: Arc<Pace>,
    durable: bool,
    written: Vec<i64>,
    /// What the commit under way makes visible.
    staged: Vec<i64>,
}

impl AnswerWriter {
    fn visible(&self, dues: &[i64]) {
        if dues.is_empty() {
            return;
        }
        let now = self.pace.clock.now_micros();
        let mut record = self.pace.record();
        dues.iter().for_each(|due| record.answer(*due, now));
    }
}

impl SinkWriter for AnswerWriter {
    fn write(&mut self, _tick: Tick, chunk: Chunk) -> Result<(), Error> {
        let Ok(mut dues) = chunk.downcast::<Vec<i64>>() else {
            return Err(Error::bug("answers were given a chunk of another sink"));
        };
        if self.durable {
            self.written.append(&mut dues);
        } else {
            self.visible(&dues);
        }
        Ok(())
    }

    fn stage(&mut self, _commit: &crate::sink::CommitInfo) -> Result<Vec<u8>, Error> {
        self.staged.append(&mut self.written);
        Ok(Vec::new())
    }

    /// A commit is due as soon as there is something to show.
    fn publish(&mut self) -> Result<(), Error> {
        let staged = std::mem::take(&mut self.staged);
        self.visible(&staged);
        Ok(())
    }
}
