//! Sources and sinks whose row type is forgotten.

#[cfg(feature = "testing")]
use std::any::Any;
use std::sync::Arc;

use crate::error::Error;
use crate::event::{Batch, Data, Origin, Partition, Rows};
use crate::operator::Logic;
use crate::operator::sink::Encode;
use crate::sink::{Chunk, Encoder, Guarantee, Opening, Sink, SinkWriter};
use crate::source::{DeadLetter, Fetched, ReadState, Reader, Replay, Resume, Source, Waker};
use crate::time::EventTime;

/// What a reader brought in one call.
pub(crate) struct Fetch {
    pub(crate) rows: Option<Box<dyn Rows>>,
    pub(crate) dead: Vec<DeadLetter>,
    /// Events read, dead ones included.
    pub(crate) total: u64,
    pub(crate) dead_total: u64,
    pub(crate) state: ReadState,
}

pub(crate) trait AnyReader {
    fn read(&mut self, limit: usize, partition: &Arc<Partition>) -> Result<Fetch, Error>;
    fn resume(&self) -> Resume;
}

struct TypedReader<T> {
    reader: Box<dyn Reader<T>>,
    /// Room that is made for rows: as much as the last reading took. A partition that is mostly
    /// silent costs no memory then.
    room: usize,
}

impl<T: Data> AnyReader for TypedReader<T> {
    fn read(&mut self, limit: usize, partition: &Arc<Partition>) -> Result<Fetch, Error> {
        let mut fetched = Fetched::with_capacity(limit.min(self.room));
        let state = self.reader.read(limit, &mut fetched)?;
        self.room = fetched.rows.len().next_power_of_two();
        let total = fetched.len() as u64;
        let dead_total = total - fetched.rows.len() as u64;
        let (rows, positions, dead) = fetched.into_parts();
        let rows: Option<Box<dyn Rows>> = if rows.is_empty() {
            None
        } else {
            let origin = Origin::Partition { partition: partition.clone(), positions };
            Some(Box::new(Batch::untimed(rows, origin)))
        };
        Ok(Fetch { rows, dead, total, dead_total, state })
    }

    fn resume(&self) -> Resume {
        Resume { position: self.reader.position(), check: self.reader.check() }
    }
}

pub(crate) trait AnySource: Send + Sync {
    fn replay(&self) -> Replay;
    fn partitions(&self) -> Result<Vec<String>, Error>;
    fn is_complete(&self) -> bool;
    fn resume(&self, known: &[(&str, bool)]);
    fn attach(&self, waker: Waker) -> Result<(), Error>;
    fn start(&self, partition: &str, first: bool) -> Result<Resume, Error>;
    fn open(&self, partition: &str, resume: &Resume) -> Result<Box<dyn AnyReader>, Error>;
    fn committed(&self, partition: &str, position: u64);
    fn detach(&self);
    /// The size of a row, without what it points to.
    fn row_bytes(&self) -> usize;
    /// The source itself, for test drivers.
    #[cfg(feature = "testing")]
    fn as_any(&self) -> &dyn Any;
}

impl<S: Source> AnySource for S {
    fn replay(&self) -> Replay {
        Source::replay(self)
    }

    fn partitions(&self) -> Result<Vec<String>, Error> {
        Source::partitions(self)
    }

    fn is_complete(&self) -> bool {
        Source::is_complete(self)
    }

    fn resume(&self, known: &[(&str, bool)]) {
        Source::resume(self, known);
    }

    fn attach(&self, waker: Waker) -> Result<(), Error> {
        Source::attach(self, waker)
    }

    fn start(&self, partition: &str, first: bool) -> Result<Resume, Error> {
        Source::start(self, partition, first)
    }

    fn open(&self, partition: &str, resume: &Resume) -> Result<Box<dyn AnyReader>, Error> {
        Ok(Box::new(TypedReader { reader: Source::open(self, partition, resume)?, room: 0 }))
    }

    fn committed(&self, partition: &str, position: u64) {
        Source::committed(self, partition, position);
    }

    fn detach(&self) {
        Source::detach(self);
    }

    fn row_bytes(&self) -> usize {
        size_of::<S::Item>()
    }

    #[cfg(feature = "testing")]
    fn as_any(&self) -> &dyn Any {
        self
    }
}

pub(crate) trait AnySink: Send + Sync {
    fn guarantee(&self) -> Guarantee;
    /// The worker's half. With `collect`, rows are handed over as they are, for a test driver.
    fn logic(&self, collect: bool) -> Box<dyn Logic>;
    fn open(&self, opening: &Opening<'_>) -> Result<Box<dyn SinkWriter>, Error>;
}

pub(crate) struct TypedSink<T> {
    pub(crate) sink: Box<dyn Sink<T>>,
}

impl<T: Data> AnySink for TypedSink<T> {
    fn guarantee(&self) -> Guarantee {
        self.sink.guarantee()
    }

    fn logic(&self, collect: bool) -> Box<dyn Logic> {
        let encoder = if collect { Box::new(Collected(Vec::new())) } else { self.sink.encoder() };
        Box::new(Encode { encoder })
    }

    fn open(&self, opening: &Opening<'_>) -> Result<Box<dyn SinkWriter>, Error> {
        self.sink.open(opening)
    }
}

/// Keeps rows as they are.
struct Collected<T>(Vec<T>);

impl<T: Data> Encoder<T> for Collected<T> {
    fn encode(&mut self, mut rows: Vec<T>, _: &[EventTime]) -> Result<(), crate::error::BoxError> {
        self.0.append(&mut rows);
        Ok(())
    }

    fn take(&mut self) -> Option<Chunk> {
        if self.0.is_empty() { None } else { Some(Box::new(std::mem::take(&mut self.0))) }
    }
}
