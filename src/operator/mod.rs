//! Operators: pure of timely, tokio, clocks and I/O. One operator, one file.
//!
//! An operator's [`Logic`] is handed whole batches of the lowest open tick, then the end of the
//! tick. What it decides stands in its [`Cx`]; the engine acts on it.

pub(crate) mod as_of;
pub(crate) mod broadcast;
pub(crate) mod due;
pub(crate) mod element;
pub(crate) mod event_time;
pub(crate) mod interval;
pub(crate) mod interval_join;
mod join_results;
mod join_rows;
pub(crate) mod key_by;
pub(crate) mod lift;
pub(crate) mod lookup;
pub(crate) mod partition_map;
pub(crate) mod per_tick;
pub(crate) mod process;
pub(crate) mod repartition;
pub(crate) mod running;
mod runs;
pub(crate) mod session;
pub(crate) mod sink;
pub(crate) mod union;
mod waiting;
pub(crate) mod window;
mod window_firing;
pub(crate) mod window_latest;
pub(crate) mod window_panes;
mod window_results;
mod window_rows;
mod window_sliding;
mod window_tables;

use std::cell::RefCell;
use std::sync::Arc;

use highwater_state::Changes;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};
use crate::event::{Batch, Data, Late, LateReason, Origin, Partition, Rows};
use crate::sink::Chunk;
use crate::time::{EventTime, Outcome, Span, Summary, Tick, Watermark};
use crate::window::Window;

/// What a function of the input an operator's output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Class {
    /// Of what the partitions contain.
    Input,
    /// Also of the order and the ticks in which events arrived.
    Arrival,
    /// Also of the clock, or of the outside world.
    Clock,
}

impl std::fmt::Display for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Class::Input => "Input",
            Class::Arrival => "Arrival",
            Class::Clock => "Clock",
        })
    }
}

/// Input events by what became of them: `in = used + late + dead + filtered + held`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Input events taken in.
    pub events_in: u64,
    /// Output events sent on, late ones and dead letters included.
    pub events_out: u64,
    /// Input events that took effect.
    pub used: u64,
    /// Input events that came too late.
    pub late: u64,
    /// Input that could not be decoded.
    pub dead: u64,
    /// Input events that were left out on purpose.
    pub filtered: u64,
    /// Input events that wait for the watermark.
    pub held: u64,
}

impl Counters {
    /// Adds what another worker or an earlier run counted.
    pub(crate) fn add(&mut self, other: &Counters) {
        self.events_in += other.events_in;
        self.events_out += other.events_out;
        self.used += other.used;
        self.late += other.late;
        self.dead += other.dead;
        self.filtered += other.filtered;
        self.held += other.held;
    }

    /// Whether every input event is accounted for.
    #[must_use]
    pub fn balanced(&self) -> bool {
        self.events_in == self.used + self.late + self.dead + self.filtered + self.held
    }
}

/// What a source said about one partition in a tick, on its way to the `event_time` operator.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pub(crate) partition: Arc<Partition>,
    pub(crate) outcome: Outcome,
}

/// What an `event_time` operator says of a partition whose time moved in a tick.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PartitionNews {
    /// The source's place in the flow, and the partition's in the source.
    pub(crate) source: u32,
    pub(crate) index: u32,
    pub(crate) summary: Summary,
}

/// What an operator sees of a tick, and what it wants done.
pub(crate) struct Cx {
    pub(crate) tick: Tick,
    /// The tick's recorded clock reading, in µs. Before the end of the tick it is only set on the
    /// worker that read the rows.
    pub(crate) clock_micros: i64,
    /// The watermark at the end of the tick before: what arrives is judged against it.
    pub(crate) before: Watermark,
    /// The watermark at the end of this tick; as `before` until all input is in.
    pub(crate) now: Watermark,
    /// The upstream source's partitions with news in this tick; only set at the end of a tick,
    /// and only before `event_time`.
    pub(crate) readings: Option<Arc<[Reading]>>,
    /// What the operator says downstream instead of its watermark.
    pub(crate) summary: Option<Summary>,
    /// How far what the operator says downstream stays behind its watermark: its results may be
    /// that late.
    pub(crate) behind: Span,
    /// The largest event time assigned upstream so far; only set at the end of a tick.
    pub(crate) largest: Option<EventTime>,
    /// When the operator wants a tick even without data, on the tick clock.
    pub(crate) wake_at_micros: Option<i64>,
    pub(crate) counters: Counters,
    pub(crate) outbox: Vec<Parcel>,
    /// The operator has not ended the tick: see [`Logic::tick_end`].
    pub(crate) again: bool,
    pub(crate) chunks: Vec<Chunk>,
    /// Which output ports anybody listens to.
    pub(crate) listened: Vec<bool>,
}

/// Rows to be sent: from which port, to which worker.
pub(crate) struct Parcel {
    pub(crate) port: usize,
    pub(crate) target: usize,
    pub(crate) rows: Box<dyn Rows>,
}

impl Cx {
    pub(crate) fn new(listened: Vec<bool>) -> Self {
        Cx {
            tick: Tick(0),
            clock_micros: 0,
            before: Watermark::Unknown,
            now: Watermark::Unknown,
            readings: None,
            summary: None,
            behind: Span::ZERO,
            largest: None,
            wake_at_micros: None,
            counters: Counters::default(),
            outbox: Vec::new(),
            again: false,
            chunks: Vec::new(),
            listened,
        }
    }

    /// Sends a batch to the same worker.
    pub(crate) fn send<T: Data>(&mut self, port: usize, batch: Batch<T>) {
        self.send_to(port, 0, batch);
    }

    /// Sends a batch through an exchanging port. Empty batches go nowhere.
    pub(crate) fn send_to<T: Data>(&mut self, port: usize, target: usize, batch: Batch<T>) {
        if batch.len() == 0 {
            return;
        }
        self.counters.events_out += batch.len() as u64;
        if self.listened[port] {
            self.outbox.push(Parcel { port, target, rows: Box::new(batch) });
        }
    }
}

/// Has an operator looked at again, from any thread.
pub(crate) type Wake = Arc<dyn Fn() + Send + Sync>;

/// The work of one operator on one worker.
pub(crate) trait Logic {
    /// How the operator can have itself looked at again.
    fn attach(&mut self, wake: Wake) {
        let _ = wake;
    }

    /// Takes a batch of the lowest open tick in.
    fn batch(&mut self, input: usize, rows: Box<dyn Rows>, cx: &mut Cx) -> Result<(), Error>;

    /// All input of the tick is in: whether the tick can end. If not, it is asked again when
    /// the operator has woken itself. Of `cx`, tick and clock are set.
    fn is_ready(&mut self, cx: &Cx) -> Result<bool, Error> {
        let _ = cx;
        Ok(true)
    }

    /// All input of the tick is in, and `cx.now` is set. An operator with much to send sets
    /// `cx.again`: it is called again once those behind it have had a turn.
    fn tick_end(&mut self, cx: &mut Cx) -> Result<(), Error> {
        let _ = cx;
        Ok(())
    }

    /// The tick that just ended is committed: what changed since the last call is to be
    /// written out by [`capture`](Self::capture), as it is now.
    fn begin_capture(&mut self) {}

    /// Writes about `budget` more entries out, counting it down, and says whether that was all.
    /// Later ticks go on between two calls.
    fn capture(
        &mut self,
        id: &Arc<str>,
        budget: &mut usize,
        into: &mut Vec<Changes>,
    ) -> Result<bool, Error> {
        let _ = (id, budget, into);
        Ok(true)
    }

    /// What was captured is durable.
    fn committed(&mut self) {}

    /// Bytes of state in memory.
    fn memory(&self) -> usize {
        0
    }

    /// Forgets about `bytes` of state that the store holds. Between two ticks only.
    fn evict(&mut self, bytes: usize) {
        let _ = bytes;
    }

    /// The times of partitions, where the operator keeps them: those that changed since the last
    /// call. Asked for once per commit, after the first call of [`capture`](Self::capture).
    fn promises(&mut self) -> Vec<(Arc<Partition>, crate::time::TimeState)> {
        Vec::new()
    }

    /// The partitions whose promise or standing changed in the tick that just ended.
    fn news(&mut self) -> Vec<PartitionNews> {
        Vec::new()
    }

    /// State entries made less those removed since the start: keys, windows, waiting events.
    fn entries(&self) -> i64 {
        0
    }

    /// Input events that wait for the watermark.
    fn held(&self) -> u64 {
        0
    }
}

/// Remembers the type that a batch had when it was sent. The plan's types make a mismatch
/// impossible, so it is an error of the engine.
pub(crate) fn typed<T: Data>(rows: Box<dyn Rows>) -> Result<Batch<T>, Error> {
    match rows.into_any().downcast::<Batch<T>>() {
        Ok(batch) => Ok(*batch),
        Err(_) => Err(Error::bug(format!("a batch is not of {}", std::any::type_name::<T>()))),
    }
}

thread_local! {
    static FAILED_ROW: RefCell<Option<(Arc<Partition>, u64)>> = const { RefCell::new(None) };
}

/// Knows which row user code is looking at, and says so if that code panics.
pub(crate) struct RowGuard<'a> {
    origin: &'a Origin,
    pub(crate) index: usize,
}

impl<'a> RowGuard<'a> {
    pub(crate) fn new(origin: &'a Origin) -> Self {
        RowGuard { origin, index: 0 }
    }
}

impl Drop for RowGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(partition) = self.origin.partition()
            && let Some(position) = self.origin.position(self.index)
        {
            FAILED_ROW.set(Some((partition.clone(), position)));
        }
    }
}

/// The error of a panic in user code, with the row it was looking at.
pub(crate) fn user_panic(payload: &(dyn std::any::Any + Send), operator: &str) -> Error {
    let message = format!("it panicked: {}", crate::error::panic_message(payload));
    let error = Error::new(ErrorKind::UserCode, message).in_operator(operator);
    match FAILED_ROW.take() {
        Some((partition, position)) => error.in_partition(&partition).at_position(position),
        None => error,
    }
}

/// The error of user code that returned one, with the row it was looking at.
pub(crate) fn user_error(cause: crate::error::BoxError, origin: &Origin, index: usize) -> Error {
    let mut error = Error::new(ErrorKind::UserCode, cause.to_string()).because(cause);
    if let Some(partition) = origin.partition() {
        error = error.in_partition(partition);
    }
    match origin.position(index) {
        Some(position) => error.at_position(position),
        None => error,
    }
}

/// Judges the rows of one batch: which watermark, if any, decides whether a row is late.
///
/// On the way of on-time events this is one comparison per batch: the batch has no stragglers
/// and its floor is not below the operator's watermark.
pub(crate) struct Judge<'a> {
    stragglers: std::slice::Iter<'a, crate::event::Straggler>,
    next_straggler: u32,
    /// Set only if rows of the batch may lie below the operator's watermark.
    operator: Watermark,
    behind: LateReason,
}

/// A bound that a row's window (or time) must not lie behind.
#[derive(Clone, Copy)]
pub(crate) struct Bound {
    pub(crate) watermark: Watermark,
    pub(crate) reason: LateReason,
}

impl<'a> Judge<'a> {
    pub(crate) fn new<T>(batch: &'a Batch<T>, operator_before: Watermark) -> Self {
        let mut stragglers = batch.stragglers.iter();
        let next_straggler = stragglers.as_slice().first().map_or(u32::MAX, |s| s.index);
        if next_straggler == u32::MAX {
            stragglers = [].iter();
        }
        let operator =
            if batch.floor < operator_before { operator_before } else { Watermark::Unknown };
        Judge { stragglers, next_straggler, operator, behind: batch.behind }
    }

    /// No row of the batch can be late.
    pub(crate) fn all_on_time(&self) -> bool {
        self.next_straggler == u32::MAX && self.operator == Watermark::Unknown
    }

    /// The bounds for row `index`: its own promise first, then the operator's watermark. Must be
    /// called with rising indexes.
    pub(crate) fn bounds(&mut self, index: usize) -> [Bound; 2] {
        let mut promise = Watermark::Unknown;
        if self.next_straggler as usize == index
            && let Some(straggler) = self.stragglers.next()
        {
            promise = Watermark::At(straggler.promise);
            self.next_straggler = self.stragglers.as_slice().first().map_or(u32::MAX, |s| s.index);
        }
        [
            Bound { watermark: promise, reason: LateReason::BrokePromise },
            Bound { watermark: self.operator, reason: self.behind },
        ]
    }
}

/// The late rows of one batch, on their way to the late port.
pub(crate) struct LateRows<T> {
    rows: Vec<Late<T>>,
}

impl<T: Data> LateRows<T> {
    pub(crate) fn new() -> Self {
        LateRows { rows: Vec::new() }
    }

    pub(crate) fn push(
        &mut self,
        row: T,
        time: EventTime,
        window: Option<Window>,
        bound: Bound,
        origin: &Origin,
        index: usize,
    ) {
        let late_by = match bound.watermark {
            Watermark::At(watermark) => watermark - time,
            Watermark::Unknown => Span::ZERO,
            Watermark::End => EventTime::MAX - time,
        };
        self.rows.push(Late {
            row,
            time,
            window,
            late_by,
            reason: bound.reason,
            partition: origin.partition().cloned(),
            position: origin.position(index),
        });
    }

    pub(crate) fn send(self, port: usize, cx: &mut Cx) {
        cx.counters.late += self.rows.len() as u64;
        if !self.rows.is_empty() {
            cx.send(port, Batch::untimed(self.rows, Origin::Unordered));
        }
    }
}
