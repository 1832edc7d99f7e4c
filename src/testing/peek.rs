//! What a test may look at inside of a driven flow.

use std::sync::PoisonError;

use highwater_state::{group_of, hash_key};
use serde::de::DeserializeOwned;

use super::TestDriver;
use crate::error::Error;
use crate::event::Data;
use crate::keyed::{Key, Timer};
use crate::metrics::Metrics;
use crate::operator::Counters;
use crate::time::{EventTime, Watermark};

impl TestDriver {
    /// What the sink was sent, in order: since the beginning, less what crashes took back.
    ///
    /// # Errors
    /// Where the sink's rows are not of type `T`.
    pub fn outputs<T: Data>(&self, sink: &str) -> Result<Vec<T>, Error> {
        let Some(collected) = &self.collected else { return Ok(Vec::new()) };
        let collected = collected.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rows = Vec::new();
        for (_, chunk) in collected.get(sink).into_iter().flatten() {
            let chunk = chunk.downcast_ref::<Vec<T>>().ok_or_else(|| {
                let row = std::any::type_name::<T>();
                Error::plan(format!("the rows of `{sink}` are not of type {row}"))
            })?;
            rows.extend(chunk.iter().cloned());
        }
        Ok(rows)
    }

    /// The stored state of a key in a process operator: version, timers, and the user's part.
    fn stored<K: Key>(&self, operator: &str, key: &K) -> Result<Option<Vec<u8>>, Error> {
        let group = group_of(hash_key(key));
        let mut wanted = vec![crate::operator::process::STATE];
        highwater_state::encode_into(key, &mut wanted)?;
        let mut found = None;
        self.store.scan(operator, group..group + 1, &[], &mut |_, key, value| {
            if key == wanted {
                found = Some(value.to_vec());
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// The state of a key in a process operator, as of the last commit.
    ///
    /// # Errors
    /// Where the state is not of type `S`.
    pub fn state<K: Key, S: DeserializeOwned>(
        &self,
        operator: &str,
        key: &K,
    ) -> Result<Option<S>, Error> {
        let Some(bytes) = self.stored(operator, key)? else { return Ok(None) };
        let (_, _, state) = crate::keyed::split(&bytes)?;
        Ok(state.map(highwater_state::decode).transpose()?)
    }

    /// The timers of a key in a process operator, by time, then by name, as of the last commit.
    ///
    /// # Errors
    /// Where the stored state cannot be read.
    pub fn timers<K: Key>(&self, operator: &str, key: &K) -> Result<Vec<Timer>, Error> {
        let Some(bytes) = self.stored(operator, key)? else { return Ok(Vec::new()) };
        let (_, head, _) = crate::keyed::split(&bytes)?;
        Ok(head.timers.iter().cloned().collect())
    }

    /// How many entries of state an operator has: keys, windows, waiting events. 0 where there
    /// is no such operator.
    #[must_use]
    pub fn entries(&self, operator: &str) -> u64 {
        self.progress().operator(operator).map_or(0, |o| o.entries)
    }

    /// The watermark of an operator.
    #[must_use]
    pub fn watermark(&self, operator: &str) -> Watermark {
        self.progress().operator(operator).map(|o| o.watermark).unwrap_or_default()
    }

    /// What became of an operator's input events.
    #[must_use]
    pub fn counters(&self, operator: &str) -> Counters {
        self.progress().operator(operator).map(|o| o.counters).unwrap_or_default()
    }

    /// How many events were late for an operator.
    #[must_use]
    pub fn late(&self, operator: &str) -> u64 {
        self.counters(operator).late
    }

    /// Whether all input has ended and is committed.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.engine.as_ref().is_some_and(|engine| engine.is_done())
    }

    /// The metrics as of the last tick; while the flow is down, as of its crash.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        match &self.engine {
            Some(engine) => engine.metrics(),
            None => self.last_metrics.clone(),
        }
    }

    /// The metrics without those of partitions: of very many, they cost more than a tick.
    fn progress(&self) -> Metrics {
        match &self.engine {
            Some(engine) => engine.progress(),
            None => self.last_metrics.clone(),
        }
    }

    /// The clock that ticks read.
    #[must_use]
    pub fn clock(&self) -> EventTime {
        self.clock.now()
    }

    /// What happened so far, line by line: starts, ticks with the watermarks that moved and what
    /// became of events, crashes. The same for every number of workers and every seed, as long
    /// as the flow's results are.
    ///
    /// ```
    /// use highwater::prelude::*;
    /// use highwater::testing::{Pushed, TestDriver};
    ///
    /// let flow = Flow::new("count");
    /// flow.source("events", Pushed::<(u32, EventTime)>::partitions(1))
    ///     .event_time(|e| e.1, Disorder::ascending())
    ///     .key_by(|e| &e.0)
    ///     .window("counts", Tumbling::of(seconds(10)))
    ///     .aggregate(Count)
    ///     .drop_late("not under test")
    ///     .sink("out", Stdout::json());
    /// let mut driver = TestDriver::new(flow)?;
    /// driver.push("events", 0, (7u32, EventTime::from_seconds(11)))?;
    /// driver.tick()?;
    /// let log = driver.log();
    /// assert_eq!(log[0], "start");
    /// assert!(log.contains(&"  counts: in 1 used 1 watermark none yet -> \
    ///                         1970-01-01T00:00:11Z".to_owned()));
    /// # Ok::<(), highwater::Error>(())
    /// ```
    #[must_use]
    pub fn log(&self) -> &[String] {
        self.log.lines()
    }

    /// The next number of the sequence that the seed began, and that the choice of workers draws
    /// from. Two drivers of the same seed that were treated the same way give the same one.
    pub fn random(&mut self) -> u64 {
        self.dice.roll()
    }
}
