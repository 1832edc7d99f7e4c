//! Events on their way: rows in batches, with what travels beside them.

use std::any::Any;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::buffers::{buffer, recycle};
use crate::time::{EventTime, Span, Watermark};
use crate::window::Window;

/// What can flow: rows are cloned only where a stream fans out.
pub trait Data: Clone + Send + 'static {}
impl<T: Clone + Send + 'static> Data for T {}

/// Rows that are kept from one tick to the next, and so must survive a crash.
pub trait Stored: Data + Serialize + DeserializeOwned {}
impl<T: Data + Serialize + DeserializeOwned> Stored for T {}

/// Which partition of which source. Ordered by the source's place in the flow, then by the
/// order in which partitions were discovered (committed, so the same after a restart).
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Partition {
    pub(crate) source_rank: u32,
    pub(crate) index: u32,
    /// It was found after the start of the flow.
    pub(crate) discovered: bool,
    source: String,
    name: String,
}

impl Partition {
    pub(crate) fn new(source_rank: u32, index: u32, source: &str, name: &str) -> Self {
        let (source, name) = (source.to_owned(), name.to_owned());
        Partition { source_rank, index, discovered: false, source, name }
    }

    /// The id of the source operator.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The partition's identity within its source, a file's path for example.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Rows per batch: enough to pay for a batch, few enough to stay in the cache.
pub(crate) const BATCH_ROWS: usize = 4096;

/// The positions of a batch's rows in their partition.
#[derive(Clone, Debug)]
pub(crate) enum Positions {
    /// Row `i` stands at `first + i`.
    From(u64),
    /// Row `i` stands at `first + offsets[i]`.
    Picked {
        first: u64,
        offsets: Vec<u32>,
    },
    Listed(Vec<u64>),
}

impl Positions {
    pub(crate) fn at(&self, index: usize) -> u64 {
        match self {
            Positions::From(first) => first + index as u64,
            Positions::Picked { first, offsets } => {
                first + offsets.get(index).copied().map_or(0, u64::from)
            }
            Positions::Listed(list) => list.get(index).copied().unwrap_or_default(),
        }
    }

    /// Those of the rows at `kept`, in that order.
    fn select(&self, kept: Vec<u32>) -> Self {
        match self {
            Positions::From(first) => Positions::Picked { first: *first, offsets: kept },
            _ => Positions::Listed(kept.iter().map(|&i| self.at(i as usize)).collect()),
        }
    }
}

/// Where a batch's rows come from: what orders events of equal time.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    Partition {
        partition: Arc<Partition>,
        positions: Positions,
    },
    /// Results of an operator, ordered by (operator rank, key bytes, window start).
    Results {
        operator_rank: u32,
        orders: Vec<ResultOrder>,
    },
    /// Rows on one side of connected streams: what of both sides would stand at one place,
    /// because it was the same event, is told apart by the side.
    Side {
        side: u32,
        of: Box<Origin>,
    },
    /// The order was given up on purpose: nothing downstream asks for it.
    Unordered,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, serde::Deserialize)]
pub(crate) struct ResultOrder {
    pub(crate) key: Vec<u8>,
    pub(crate) start: EventTime,
    pub(crate) sequence: u32,
}

/// The order of one event among events of equal time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, serde::Deserialize)]
pub enum EventOrder {
    /// An event of a source: (source, partition, position, side).
    Event {
        /// The source's place in the flow.
        source: u32,
        /// The partition's place in the order of discovery.
        partition: u32,
        /// The event's position in the partition.
        position: u64,
        /// The side, where streams are connected: an event that came on both stands on the left
        /// first.
        side: u32,
    },
    /// A result of an upstream operator: (operator, key bytes, window start, sequence, side).
    #[doc(hidden)]
    // In a box, or every event that waits would have room for it.
    Result { operator: u32, order: Box<ResultOrderKey>, side: u32 },
}

impl EventOrder {
    /// Appends bytes whose order is that of events of one operator or source, so that results
    /// that are made of events can be ordered by them.
    pub(crate) fn sort_bytes(&self, bytes: &mut Vec<u8>) {
        match self {
            EventOrder::Event { source, partition, position, side } => {
                bytes.push(0);
                bytes.extend_from_slice(&source.to_be_bytes());
                bytes.extend_from_slice(&partition.to_be_bytes());
                bytes.extend_from_slice(&position.to_be_bytes());
                bytes.extend_from_slice(&side.to_be_bytes());
            }
            EventOrder::Result { operator, order, side } => {
                let ResultOrderKey(order) = &**order;
                bytes.push(1);
                bytes.extend_from_slice(&operator.to_be_bytes());
                bytes.extend_from_slice(&(order.key.len() as u64).to_be_bytes());
                bytes.extend_from_slice(&order.key);
                order.start.sort_bytes(bytes);
                bytes.extend_from_slice(&order.sequence.to_be_bytes());
                bytes.extend_from_slice(&side.to_be_bytes());
            }
        }
    }
}

/// The order of results of one operator.
#[doc(hidden)]
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, serde::Deserialize)]
pub struct ResultOrderKey(pub(crate) ResultOrder);

impl Origin {
    /// Where a row stands.
    // Made where it is kept, in one go: a copy on its way would wait for earlier writes (ADR 43).
    #[inline]
    pub(crate) fn order(&self, index: usize) -> EventOrder {
        let side = if let Origin::Side { side, .. } = self { *side } else { 0 };
        let mut origin = self;
        while let Origin::Side { of, .. } = origin {
            origin = of;
        }
        match origin {
            Origin::Partition { partition, positions } => EventOrder::Event {
                source: partition.source_rank,
                partition: partition.index,
                position: positions.at(index),
                side,
            },
            Origin::Results { operator_rank, orders } => EventOrder::Result {
                operator: *operator_rank,
                order: Box::new(ResultOrderKey(orders[index].clone())),
                side,
            },
            Origin::Side { .. } | Origin::Unordered => {
                EventOrder::Event { source: 0, partition: 0, position: 0, side }
            }
        }
    }

    /// The same rows as the side of connected streams that has so many sides before it.
    pub(crate) fn behind_sides(self, before: u32) -> Origin {
        match self {
            origin if before == 0 => origin,
            Origin::Side { side, of } => Origin::Side { side: side + before, of },
            origin => Origin::Side { side: before, of: Box::new(origin) },
        }
    }

    /// The origin of the rows at `kept`, in that order.
    pub(crate) fn select(&self, kept: Vec<u32>) -> Origin {
        match self {
            Origin::Partition { partition, positions } => Origin::Partition {
                partition: partition.clone(),
                positions: positions.select(kept),
            },
            Origin::Results { operator_rank, orders } => {
                Origin::Results { operator_rank: *operator_rank, orders: pick(orders, &kept) }
            }
            Origin::Side { side, of } => {
                Origin::Side { side: *side, of: Box::new(of.select(kept)) }
            }
            Origin::Unordered => Origin::Unordered,
        }
    }

    pub(crate) fn partition(&self) -> Option<&Arc<Partition>> {
        match self {
            Origin::Partition { partition, .. } => Some(partition),
            Origin::Side { of, .. } => of.partition(),
            Origin::Results { .. } | Origin::Unordered => None,
        }
    }

    pub(crate) fn position(&self, index: usize) -> Option<u64> {
        match self {
            Origin::Partition { positions, .. } => Some(positions.at(index)),
            Origin::Side { of, .. } => of.position(index),
            Origin::Results { .. } | Origin::Unordered => None,
        }
    }
}

/// A row that broke the promise of its partition: the promise was in force before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Straggler {
    pub(crate) index: u32,
    pub(crate) promise: EventTime,
}

/// Rows of one partition (or of one operator's results), in order, column by column.
#[derive(Debug)]
pub(crate) struct Batch<T> {
    pub(crate) rows: Vec<T>,
    /// As long as `rows`, or empty where event time has not been assigned.
    pub(crate) times: Vec<EventTime>,
    /// As long as `rows` behind `key_by`, empty elsewhere: computed once and carried.
    pub(crate) hashes: Vec<u64>,
    pub(crate) origin: Origin,
    /// Rows below their partition's promise, by rising index: the on-time path skips them all
    /// at once.
    pub(crate) stragglers: Vec<Straggler>,
    /// Every row that is no straggler has a time at or above this.
    pub(crate) floor: Watermark,
    /// Why rows below the receiver's watermark would be so, if any are.
    pub(crate) behind: LateReason,
}

impl<T> Batch<T> {
    /// A batch without event times.
    pub(crate) fn untimed(rows: Vec<T>, origin: Origin) -> Self {
        Batch {
            rows,
            times: Vec::new(),
            hashes: Vec::new(),
            origin,
            stragglers: Vec::new(),
            floor: Watermark::Unknown,
            behind: LateReason::Returned,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Keeps the memory of the columns for others.
    pub(crate) fn recycle(self)
    where
        T: 'static,
    {
        recycle(self.rows);
        recycle(self.times);
        recycle(self.hashes);
        if let Origin::Partition { positions: Positions::Picked { offsets, .. }, .. } = self.origin
        {
            recycle(offsets);
        }
    }

    /// The rows from this one on, and the hashes of their keys.
    pub(crate) fn hashed(&self, from: usize) -> impl Iterator<Item = (&T, u64)> + Clone {
        self.rows[from..].iter().zip(self.hashes[from..].iter().copied())
    }

    /// The same columns around other rows, one for one.
    pub(crate) fn with_rows<U>(self, rows: Vec<U>) -> Batch<U> {
        Batch {
            rows,
            times: self.times,
            hashes: self.hashes,
            origin: self.origin,
            stragglers: self.stragglers,
            floor: self.floor,
            behind: self.behind,
        }
    }

    /// Other rows, of which row `i` comes from row `kept[i]` of this batch. All outputs of one
    /// input event share its time, promise and position.
    pub(crate) fn select<U>(&self, rows: Vec<U>, kept: Vec<u32>) -> Batch<U> {
        let column = |is_there| if is_there { &*kept } else { &[] };
        Batch {
            rows,
            times: pick(&self.times, column(!self.times.is_empty())),
            hashes: pick(&self.hashes, column(!self.hashes.is_empty())),
            stragglers: select_stragglers(&self.stragglers, &kept),
            origin: self.origin.select(kept),
            floor: self.floor,
            behind: self.behind,
        }
    }
}

fn copied<T: Clone + 'static>(column: &[T]) -> Vec<T> {
    let mut copy = buffer(column.len());
    copy.extend_from_slice(column);
    copy
}

/// The values at `kept`.
pub(crate) fn pick<T: Clone + 'static>(column: &[T], kept: &[u32]) -> Vec<T> {
    let mut picked = buffer(kept.len());
    picked.extend(kept.iter().map(|&index| column[index as usize].clone()));
    picked
}

/// `kept` rises, but may name an index more than once or not at all.
fn select_stragglers(stragglers: &[Straggler], kept: &[u32]) -> Vec<Straggler> {
    let mut selected = Vec::new();
    if stragglers.is_empty() {
        return selected;
    }
    let mut rest = stragglers.iter().peekable();
    for (new_index, &old_index) in kept.iter().enumerate() {
        while rest.next_if(|s| s.index < old_index).is_some() {}
        if let Some(s) = rest.peek()
            && s.index == old_index
        {
            selected.push(Straggler { index: new_index as u32, promise: s.promise });
        }
    }
    selected
}

/// A batch whose row type is forgotten: one container flows through the whole dataflow.
pub(crate) trait Rows: Any + Send {
    fn row_count(&self) -> usize;
    fn clone_rows(&self) -> Box<dyn Rows>;
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

/// A fan-out copies the rows.
impl<T: Data> Clone for Batch<T> {
    fn clone(&self) -> Self {
        Batch {
            rows: copied(&self.rows),
            times: copied(&self.times),
            hashes: copied(&self.hashes),
            origin: self.origin.clone(),
            stragglers: self.stragglers.clone(),
            floor: self.floor,
            behind: self.behind,
        }
    }
}

impl<T: Data> Rows for Batch<T> {
    fn row_count(&self) -> usize {
        self.rows.len()
    }

    fn clone_rows(&self) -> Box<dyn Rows> {
        Box::new(self.clone())
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// Why an event is late.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum LateReason {
    /// It came after its own partition had promised that it would not.
    BrokePromise,
    /// Its partition returned from idleness with an event for what was already closed.
    Returned,
    /// Its partition was discovered after the start, with an event for what was already closed.
    Discovered,
    /// It is not late: it said that its session ends before it begins.
    BadGap,
}

/// An event that came too late for an operator: a row of the operator's late port.
#[derive(Clone, Debug, Serialize)]
pub struct Late<T> {
    /// The row, untouched.
    pub row: T,
    /// Its event time.
    pub time: EventTime,
    /// The last window it would have belonged to, where windows are fixed.
    pub window: Option<Window>,
    /// How far the promise or watermark that judged it was ahead of the event's time.
    pub late_by: Span,
    /// What made it late.
    pub reason: LateReason,
    /// The partition it came from, where it came from one.
    #[serde(skip)]
    pub partition: Option<Arc<Partition>>,
    /// Its position in the partition.
    pub position: Option<u64>,
}

/// An event whose time was too far ahead to be believed: a row of the skewed port of
/// [`Stream::event_time`](crate::Stream::event_time).
#[derive(Clone, Debug, Serialize)]
pub struct Skewed<T> {
    /// The row, untouched.
    pub row: T,
    /// The event time that was refused.
    pub time: EventTime,
    /// How far it was ahead of the tick's clock, or of the event's own intake.
    pub ahead_by: Span,
    /// The partition it came from.
    #[serde(skip)]
    pub partition: Option<Arc<Partition>>,
    /// Its position in the partition.
    pub position: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_stands_on_the_outermost_side() {
        let result = ResultOrder { key: vec![7], start: EventTime::MIN, sequence: 3 };
        let results = Origin::Results { operator_rank: 5, orders: vec![result.clone()] };
        let of_result = |side| EventOrder::Result {
            operator: 5,
            order: Box::new(ResultOrderKey(result.clone())),
            side,
        };
        let of_event = |side| EventOrder::Event { source: 0, partition: 0, position: 0, side };
        let on = |side, of| Origin::Side { side, of: Box::new(of) };
        assert_eq!(results.order(0), of_result(0));
        assert_eq!(on(2, results.clone()).order(0), of_result(2));
        assert_eq!(on(1, on(2, results)).order(0), of_result(1));
        assert_eq!(Origin::Unordered.order(0), of_event(0));
        assert_eq!(on(1, on(2, Origin::Unordered)).order(0), of_event(1));
    }
}
