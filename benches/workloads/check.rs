//! What tells that two programs did the same job: an order-independent checksum of results.

use std::sync::{Arc, Mutex, PoisonError};

use highwater::sink::{Chunk, CommitInfo, Encoder, Guarantee, Opening, Sink, SinkWriter};
use highwater::{BoxError, Data, Error, EventTime, Tick};

use crate::events::splitmix64;

/// How many results there were, and the sum of a mix of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Check {
    pub(crate) results: u64,
    pub(crate) sum: u64,
}

impl Check {
    /// Adds a result, by a number in which everything that matters of it has been mixed.
    #[inline]
    pub(crate) fn add(&mut self, mixed: u64) {
        self.results += 1;
        self.sum = self.sum.wrapping_add(mixed);
    }

    /// Adds what a window said of a key.
    #[inline]
    pub(crate) fn window(&mut self, key: u64, start: i64, count: u64, sum: u64) {
        let mixed = splitmix64(key ^ (start as u64).rotate_left(32)).wrapping_mul(count);
        self.add(mixed ^ sum.rotate_left(17));
    }

    #[must_use]
    pub(crate) fn and(self, other: Check) -> Check {
        let sum = self.sum.wrapping_add(other.sum);
        Check { results: self.results + other.results, sum }
    }
}

/// What a [`CheckSink`] has made visible.
#[derive(Clone, Default)]
pub(crate) struct Total(Arc<Mutex<Check>>);

impl Total {
    pub(crate) fn get(&self) -> Check {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, check: Check) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = check;
    }
}

/// A sink that only adds its rows up, on the thread of their worker. The sum so far is the token
/// of the commit, so it is exactly once.
pub(crate) struct CheckSink<F> {
    add: F,
    total: Total,
}

/// A sink, and what will have come out of it.
pub(crate) fn sink<T: Data, F>(add: F) -> (CheckSink<F>, Total)
where
    F: Fn(&mut Check, &T) + Clone + Send + Sync + 'static,
{
    let total = Total::default();
    (CheckSink { add, total: total.clone() }, total)
}

impl<T: Data, F: Fn(&mut Check, &T) + Clone + Send + Sync + 'static> Sink<T> for CheckSink<F> {
    fn describe(&self) -> String {
        "checksum".to_owned()
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn encoder(&self) -> Box<dyn Encoder<T>> {
        Box::new(CheckEncoder { add: self.add.clone(), check: Check::default() })
    }

    fn open(&self, opening: &Opening<'_>) -> Result<Box<dyn SinkWriter>, Error> {
        let number = |at| {
            let bytes = opening.token.and_then(|token| token.get(at..)?.first_chunk());
            bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
        };
        let check = Check { results: number(0), sum: number(8) };
        Ok(Box::new(CheckWriter { check, staged: check, total: self.total.clone() }))
    }
}

struct CheckEncoder<F> {
    add: F,
    check: Check,
}

impl<T, F: Fn(&mut Check, &T)> Encoder<T> for CheckEncoder<F> {
    fn encode(&mut self, rows: Vec<T>, _times: &[EventTime]) -> Result<(), BoxError> {
        rows.iter().for_each(|row| (self.add)(&mut self.check, row));
        Ok(())
    }

    fn take(&mut self) -> Option<Chunk> {
        let check = std::mem::take(&mut self.check);
        (check.results > 0).then(|| Box::new(check) as Chunk)
    }
}

struct CheckWriter {
    check: Check,
    staged: Check,
    total: Total,
}

impl SinkWriter for CheckWriter {
    fn write(&mut self, _tick: Tick, chunk: Chunk) -> Result<(), Error> {
        if let Some(check) = chunk.downcast_ref::<Check>() {
            self.check = self.check.and(*check);
        }
        Ok(())
    }

    fn stage(&mut self, _commit: &CommitInfo) -> Result<Vec<u8>, Error> {
        self.staged = self.check;
        let numbers = [self.check.results, self.check.sum];
        Ok(numbers.into_iter().flat_map(u64::to_le_bytes).collect())
    }

    fn publish(&mut self) -> Result<(), Error> {
        self.total.set(self.staged);
        Ok(())
    }
}
