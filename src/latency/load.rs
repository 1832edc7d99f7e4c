//! A load: so many events a second, for so long.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::answers::Answers;
use super::clock::LoadClock;
use super::outcome::Outcome;
use super::paced::{Pace, Paced};
use super::record::Record;
use crate::error::Error;
use crate::event::Data;
use crate::flow::Flow;
use crate::settings::Settings;
use crate::time::EventTime;

/// A steady load: see the [module](self).
#[derive(Clone, Copy, Debug)]
pub struct Load {
    rate: f64,
    warm_up: Duration,
    pub(super) lasting: Duration,
    patience: Duration,
}

impl Load {
    /// So many events per second, for 2 s of warming up and then 10 s.
    #[must_use]
    pub fn of(events_per_second: f64) -> Self {
        Load {
            rate: events_per_second,
            warm_up: Duration::from_secs(2),
            lasting: Duration::from_secs(10),
            patience: Duration::from_secs(10),
        }
    }

    /// How long the load lasts before it is measured. Answers that were due then do not count.
    #[must_use]
    pub fn warm_up(self, warm_up: Duration) -> Self {
        Load { warm_up, ..self }
    }

    /// How long the load is measured.
    #[must_use]
    pub fn lasting(self, lasting: Duration) -> Self {
        Load { lasting, ..self }
    }

    /// How long the flow may take, when the load is over, for the events that it has not read by
    /// then; by default 10 s. What it does not read is told as
    /// [`unread`](Outcome::unread).
    #[must_use]
    pub fn patience(self, patience: Duration) -> Self {
        Load { patience, ..self }
    }

    /// Events per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.rate
    }

    pub(super) fn at(self, rate: f64) -> Self {
        Load { rate, ..self }
    }

    /// Runs a flow under the load. Where the settings name a state directory, an answer counts as
    /// visible when its commit is durable; otherwise when its tick is sealed. The directory must
    /// be new.
    ///
    /// # Errors
    /// A rate that is not above zero, and whatever stops the flow.
    pub fn run(
        &self,
        settings: Settings,
        flow: impl FnOnce(&Setup) -> Flow,
    ) -> Result<Outcome, Error> {
        if !(self.rate > 0.0 && self.rate.is_finite()) {
            return Err(Error::plan(format!("a load of {} events per second", self.rate)));
        }
        let micros = |d: Duration| i64::try_from(d.as_micros()).unwrap_or(i64::MAX / 4);
        let (from, lasting) = (micros(self.warm_up), micros(self.lasting));
        let to = from.saturating_add(lasting);
        let events = (to as f64 / 1e6 * self.rate) as u64;
        let setup = Setup {
            durable: settings.state.is_some(),
            pace: Arc::new(Pace {
                clock: LoadClock::default(),
                rate: self.rate,
                events,
                give_up_micros: to.saturating_add(micros(self.patience)),
                read: AtomicU64::new(0),
                opened: AtomicBool::new(false),
                record: Mutex::new(Record::new(from, to)?),
            }),
        };
        let durability = match &settings.state {
            None => "volatile: visible when its tick is sealed".to_owned(),
            Some(_) => format!(
                "durable: visible when synced to disk, a commit every {:?} at most",
                settings.commit_interval
            ),
        };
        let workers = settings.workers;
        flow(&setup).run(settings)?;
        let record = setup.pace.record();
        Ok(Outcome {
            rate: self.rate,
            workers,
            durability,
            measured: self.lasting,
            latency: record.latency.clone(),
            early: record.early,
            unread: events - setup.pace.read.load(Ordering::Relaxed),
            cpu: record.cpu(),
            timeline: record.timeline(),
        })
    }
}

/// What a flow under load is made of: its source and its sink.
pub struct Setup {
    pace: Arc<Pace>,
    durable: bool,
}

impl std::fmt::Debug for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Setup").field("rate", &self.pace.rate).finish_non_exhaustive()
    }
}

impl Setup {
    /// The load as a source. `row` makes an event of its number, from 0 on, and of the moment at
    /// which it is due: that is its event time, if it has one. A flow has one such source.
    pub fn events<T: Data>(
        &self,
        row: impl Fn(u64, EventTime) -> T + Send + Sync + 'static,
    ) -> Paced<T> {
        Paced::new(self.pace.clone(), row)
    }

    /// A sink for the answers. `due` says of each when it could have come at the earliest: of
    /// the answer to one event, when the event was due; of a window's result, its end plus the
    /// bound by which events may be out of order.
    pub fn answers<T: Data>(
        &self,
        due: impl Fn(&T) -> EventTime + Send + Sync + 'static,
    ) -> Answers<T> {
        Answers::new(self.pace.clone(), self.durable, due)
    }

    /// Events per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.pace.rate
    }
}
