//! Reads one partition, on a worker's thread, from the queue that the client fills.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::formats::{CannotTell, Decode};
use super::record::Record;
use super::running::Shared;
use super::start::Mark;
use crate::error::{BoxError, Error};
use crate::kafka::{Context, failed, is_permanent, take_end};
use crate::source::policy::Bad;
use crate::source::{Fetched, ReadState, Reader, Undecodable};

/// A topic, and the number of a partition in it. As a name it is `topic/number`: no topic has a
/// slash in its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TopicPartition {
    pub(super) topic: String,
    pub(super) number: i32,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.number)
    }
}

impl TopicPartition {
    pub(super) fn parse(name: &str) -> Result<Self, Error> {
        let parsed = name.rsplit_once('/').and_then(|(topic, number)| {
            Some(TopicPartition { topic: topic.to_owned(), number: number.parse().ok()? })
        });
        parsed.ok_or_else(|| Error::input(format!("`{name}` is no partition of a Kafka topic")))
    }

    /// The list that the client wants, of this one.
    pub(super) fn at(&self, offset: Offset) -> Result<TopicPartitionList, Error> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, self.number, offset)
            .map_err(|e| failed(format!("`{self}` cannot be read at {offset:?}"), e))?;
        Ok(list)
    }
}

pub(super) struct PartitionReader<T> {
    // IMPORTANT: dropped before `assigned`, so that nobody is woken for a partition that is let go.
    queue: PartitionQueue<Context>,
    assigned: Assigned,
    decode: Decode<T>,
    policy: Undecodable,
    name: String,
    /// What the partition is known by, before and after something was read.
    mark: Mark,
    position: u64,
    /// Where a bounded source stops.
    end: Option<u64>,
    ended: bool,
    /// The partition was at its end, and has brought nothing since.
    at_end: bool,
    /// Its broker does not answer.
    away: Arc<AtomicBool>,
}

/// The client fetches a partition as long as this is there.
struct Assigned {
    shared: Arc<Shared>,
    partition: TopicPartition,
}

impl Drop for Assigned {
    fn drop(&mut self) {
        // A run that is over lets the client go, and all with it.
        if self.shared.is_stopping() {
            return;
        }
        self.shared.health.forget(&self.partition);
        let list = self.partition.at(Offset::Invalid);
        if let Ok(list) = list
            && let Err(error) = self.shared.consumer.incremental_unassign(&list)
        {
            tracing::warn!(%error, partition = %self.partition, "a partition is still fetched");
        }
    }
}

/// Where a reader begins.
pub(super) struct Begin {
    pub(super) partition: TopicPartition,
    pub(super) offset: Offset,
    pub(super) position: u64,
    pub(super) mark: Mark,
}

impl<T> PartitionReader<T> {
    pub(super) fn open(
        shared: &Arc<Shared>,
        begin: Begin,
        decode: Decode<T>,
        policy: Undecodable,
    ) -> Result<Self, Error> {
        let Begin { partition, offset, position, mark } = begin;
        let name = partition.to_string();
        // IMPORTANT: the queue is taken off the client's common one before the partition is
        // fetched. The client does not put back one that was taken off, so that no record of the
        // partition can go anywhere else, whenever the first one comes.
        let queue = BaseConsumer::split_partition_queue(
            &shared.consumer,
            &partition.topic,
            partition.number,
        );
        let Some(mut queue) = queue else {
            return Err(Error::input(format!("`{name}` cannot be a partition of a topic")));
        };
        let (waker, wake) = (shared.waker.clone(), name.clone());
        queue.set_nonempty_callback(move || waker.wake_partition(&wake));
        let end = shared.end_of(&partition);
        let ended = end.is_some_and(|end| position >= end);
        if !ended {
            shared
                .consumer
                .incremental_assign(&partition.at(offset)?)
                .map_err(|e| failed("the partition cannot be fetched", e))?;
        }
        let away = shared.health.watch(&partition);
        let assigned = Assigned { shared: shared.clone(), partition };
        let at_end = false;
        Ok(PartitionReader {
            queue,
            assigned,
            decode,
            policy,
            name,
            mark,
            position,
            end,
            ended,
            at_end,
            away,
        })
    }

    /// Everything before the end of a bounded source has been read.
    fn end(&mut self) -> ReadState {
        self.ended = true;
        if let Some(end) = self.end {
            // What is left before it are marks of transactions, and records that were taken back.
            self.position = self.position.max(end);
            self.mark.set_read();
        }
        ReadState::End
    }

    /// Nothing comes because there is nothing.
    fn is_silent(&self) -> bool {
        self.at_end && !self.away.load(Ordering::Acquire)
    }

    fn cannot_go_on(&self, error: KafkaError) -> Error {
        let position = self.position;
        let what = match error.rdkafka_error_code() {
            Some(rdkafka::error::RDKafkaErrorCode::AutoOffsetReset) => {
                "the record is no longer in the topic, or the topic was made anew; \
                 `out_of_range` says where to go on"
            }
            _ => "the partition cannot be read",
        };
        failed(what, error).at_position(position)
    }
}

/// What becomes of one record.
fn settle<T>(
    decoded: Result<T, BoxError>,
    message: &BorrowedMessage<'_>,
    place: (&str, u64),
    policy: Undecodable,
    fetched: &mut Fetched<T>,
) -> Result<(), Error> {
    let (partition, position) = place;
    match decoded {
        Ok(row) => {
            fetched.push(position, row);
            Ok(())
        }
        Err(error) => {
            let error = match error.downcast::<CannotTell>() {
                Ok(cannot) => {
                    let CannotTell { what, cause } = *cannot;
                    return Err(Error::io(what, cause).at_position(position));
                }
                Err(error) => error,
            };
            let raw = message.payload().unwrap_or_default();
            Bad { raw, error: error.to_string(), partition, position }.settle(policy, fetched)
        }
    }
}

impl<T: Send> Reader<T> for PartitionReader<T> {
    fn read(&mut self, limit: usize, fetched: &mut Fetched<T>) -> Result<ReadState, Error> {
        if self.ended {
            return Ok(ReadState::End);
        }
        self.assigned.shared.check()?;
        for _ in 0..limit {
            match self.queue.poll(Duration::ZERO) {
                None if self.is_silent() => return Ok(ReadState::Pending),
                None => return Ok(ReadState::Unknown),
                Some(Ok(message)) => {
                    let offset = u64::try_from(message.offset()).unwrap_or_default();
                    if self.end.is_some_and(|end| offset >= end) {
                        drop(message);
                        return Ok(self.end());
                    }
                    let decoded = (self.decode)(&Record::new(&message));
                    settle(decoded, &message, (&self.name, offset), self.policy, fetched)?;
                    self.position = offset + 1;
                    self.at_end = false;
                    self.mark.set_read();
                    if self.end.is_some_and(|end| offset + 1 >= end) {
                        drop(message);
                        return Ok(self.end());
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    if self.end.is_some() {
                        return Ok(self.end());
                    }
                    self.at_end = true;
                    // IMPORTANT: a restart must not look for what is not a record, and may be
                    // gone by then.
                    if let Some(end) = take_end().filter(|end| *end > self.position) {
                        self.position = end;
                        self.mark.set_read();
                    }
                }
                Some(Err(error)) if is_permanent(&error) => return Err(self.cannot_go_on(error)),
                // The client goes on by itself: nothing is lost but time.
                Some(Err(error)) => {
                    tracing::warn!(%error, partition = self.name, "fetching is tried again");
                }
            }
        }
        Ok(ReadState::More)
    }

    fn position(&self) -> u64 {
        self.position
    }

    fn check(&self) -> String {
        self.mark.to_string()
    }
}
