//! Where partitions are read from.

use std::fmt;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::reader::{Begin, TopicPartition};
use super::running::Shared;
use crate::error::Error;
use crate::kafka::{Context, failed, patiently};
use crate::source::Resume;
use crate::time::EventTime;

/// Where a flow begins to read partitions at its very first start. Afterwards its own committed
/// positions count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// The first record that is still there.
    #[default]
    Earliest,
    /// What is written from now on.
    Latest,
    /// The first record whose timestamp is not before this one; what is written from now on if
    /// there is none.
    Timestamp(EventTime),
    /// What the [`group`](super::Kafka::group) has committed; the first record that is still there
    /// in partitions of which it has committed nothing.
    Committed,
}

/// What to do where the position to go on from is not in the topic: because records are kept for
/// a time only, or because the topic was made anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutOfRange {
    /// Stop the flow with an error.
    #[default]
    Fail,
    /// Go on with the first record that is still there.
    Earliest,
    /// Go on with what is written from now on.
    Latest,
}

/// By what a partition is known again: its cluster. And whether it still stands at its beginning,
/// wherever that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    cluster: String,
    earliest: bool,
}

const EARLIEST: &str = " from the beginning";

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.cluster, if self.earliest { EARLIEST } else { "" })
    }
}

impl Mark {
    pub(super) fn set_read(&mut self) {
        self.earliest = false;
    }

    /// The mark of a position of this cluster; one of another is refused.
    fn of(resume: &Resume, cluster: &str) -> Result<Self, Error> {
        let (known, earliest) = match resume.check.strip_suffix(EARLIEST) {
            Some(known) => (known, true),
            None => (&*resume.check, resume.check.is_empty()),
        };
        if !known.is_empty() && known != cluster {
            return Err(Error::input(format!(
                "the position is of the cluster `{known}`, and this is `{cluster}`: its offsets \
                 have nothing to do with those"
            )));
        }
        Ok(Mark { cluster: cluster.to_owned(), earliest })
    }
}

/// Where a partition begins that has no committed position.
pub(super) fn first_position(
    shared: &Shared,
    partition: &TopicPartition,
    start: Start,
) -> Result<Resume, Error> {
    let (consumer, within) = (&*shared.consumer, shared.connect_within);
    let position = match start {
        Start::Earliest => None,
        Start::Latest => Some(watermarks(consumer, partition, within)?.1),
        Start::Timestamp(time) => Some(from_time(consumer, partition, time, within)?),
        Start::Committed => committed(consumer, partition, within)?,
    };
    let mark = Mark { cluster: shared.cluster.clone(), earliest: position.is_none() };
    Ok(Resume { position: position.unwrap_or(0), check: mark.to_string() })
}

/// Where a reader begins that goes on from a position.
pub(super) fn begin(
    shared: &Shared,
    partition: TopicPartition,
    resume: &Resume,
    out_of_range: OutOfRange,
) -> Result<Begin, Error> {
    let mark = Mark::of(resume, &shared.cluster)?;
    if mark.earliest {
        return Ok(Begin { partition, offset: Offset::Beginning, position: 0, mark });
    }
    let mut position = resume.position;
    if out_of_range != OutOfRange::Fail {
        // The client would move by itself, and not say where to before the next record comes.
        let (first, end) = watermarks(&shared.consumer, &partition, shared.connect_within)?;
        if position < first || position > end {
            let moved = if out_of_range == OutOfRange::Earliest { first } else { end };
            tracing::warn!(%partition, position, moved, "the position is not in the topic");
            position = moved;
        }
    }
    let offset = Offset::Offset(i64::try_from(position).unwrap_or(i64::MAX));
    Ok(Begin { partition, offset, position, mark })
}

/// The first offset, and the one behind the last: of what is committed, unless the program reads
/// everything.
pub(super) fn watermarks(
    consumer: &BaseConsumer<Context>,
    partition: &TopicPartition,
    within: Duration,
) -> Result<(u64, u64), Error> {
    let TopicPartition { topic, number } = partition;
    let (first, end) =
        patiently(within, |within| consumer.fetch_watermarks(topic, *number, within))
            .map_err(|e| failed(format!("the offsets of `{partition}` cannot be listed"), e))?;
    Ok((u64::try_from(first).unwrap_or(0), u64::try_from(end).unwrap_or(0)))
}

fn from_time(
    consumer: &BaseConsumer<Context>,
    partition: &TopicPartition,
    time: EventTime,
    within: Duration,
) -> Result<u64, Error> {
    // Timestamps are whole milliseconds: the first that is not before.
    let micros = time.as_micros();
    let millis = micros.div_euclid(1_000) + i64::from(micros.rem_euclid(1_000) > 0);
    let list = partition.at(Offset::Offset(millis.max(0)))?;
    let found = patiently(within, |within| consumer.offsets_for_times(list.clone(), within))
        .map_err(|e| failed(format!("`{partition}` cannot be searched by time"), e))?;
    match offset_in(&found, partition)? {
        Some(position) => Ok(position),
        None => Ok(watermarks(consumer, partition, within)?.1),
    }
}

fn committed(
    consumer: &BaseConsumer<Context>,
    partition: &TopicPartition,
    within: Duration,
) -> Result<Option<u64>, Error> {
    let list = partition.at(Offset::Invalid)?;
    let found = patiently(within, |within| consumer.committed_offsets(list.clone(), within))
        .map_err(|e| failed(format!("the group's offset of `{partition}` cannot be read"), e))?;
    offset_in(&found, partition)
}

fn offset_in(list: &TopicPartitionList, partition: &TopicPartition) -> Result<Option<u64>, Error> {
    for element in list.elements() {
        element.error().map_err(|e| failed(format!("`{partition}` has no offset"), e))?;
        if let Offset::Offset(offset) = element.offset() {
            return Ok(u64::try_from(offset).ok());
        }
    }
    Ok(None)
}
