//! Highwater is an embeddable, event-time, stateful stream processor.
//!
//! A [`Flow`] reads partitioned [sources](source), assigns event time, closes windows by a
//! watermark per partition, keeps keyed state, and writes to [sinks](sink) exactly once. All of
//! it happens in discrete ticks, so that a killed flow goes on where it was, without a trace.
//!
//! The README has a first program; [`Flow`] has the smallest one; `testing` (a feature that is on
//! by default) has the same engine for tests.

mod aggregate;
mod buffers;
pub mod doc;
mod engine;
mod error;
mod event;
mod flow;
mod handle;
#[cfg(feature = "kafka")]
mod kafka;
mod keyed;
pub mod latency;
mod metrics;
mod operator;
#[cfg(feature = "postgres")]
pub mod postgres;
mod settings;
pub mod sink;
pub mod source;
#[cfg(feature = "testing")]
pub mod testing;
mod tick;
mod time;
mod window;

pub use aggregate::*;
pub use engine::lookup::Lookup;
pub use error::{BoxError, Error, ErrorKind};
pub use event::{Data, EventOrder, Late, LateReason, Partition, Skewed, Stored};
pub use flow::{
    AsOf, AsOfJoin, BroadcastResults, CountResults, CountWindowed, Facts, Flow, GlobalWindowed,
    IntervalJoin, Join, Joined, Keyed, LookupJoin, Overed, Raw, RunningStream, SourceStream,
    StateCheck, StateStream, Stream, Timed, TimedStream, Undeclared, Untimed, Updates, Verdict,
    WindowJoin, WindowKind, Windowed, WindowedPanes, WithBroadcast, WithLate,
};
pub use handle::Handle;
pub use keyed::{
    BroadcastProcess, ClockTimer, Computed, CountResult, Either, EitherKey, GlobalTrigger, Key,
    KeyOf, Lent, OldState, Process, Process2, ProcessCx, Timer, Ttl,
};
pub use metrics::{Metrics, OperatorMetrics, PartitionMetrics, PartitionState, Percentiles};
pub use operator::{Class, Counters};
pub use settings::Settings;
pub use tick::{CommittedOperator, CommittedPartition, LastCommit};
pub use time::{
    ClockTime, Disorder, EventTime, ParseTimeError, Skew, Span, Tick, Watermark, days, hours,
    micros, millis, minutes, seconds,
};
pub use window::*;

/// State directories from outside: read them, compare them, take and restore snapshots.
pub mod state {
    pub use crate::tick::dir::{
        Difference, StateDir, StoredEntry, compact, list_snapshots, remove_operator,
        restore_snapshot, take_snapshot,
    };
}

/// What most programs need, in one `use`.
pub mod prelude {
    pub use crate::sink::{Csv, JsonLines, Stdout};
    pub use crate::source::{CsvFiles, JsonLinesFiles, Memory, Undecodable};
    pub use crate::*;
}

/// The programs in the README, compiled as doc tests.
#[cfg(all(doctest, feature = "kafka"))]
#[doc = include_str!("../README.md")]
pub struct ReadmeDoctests;
