//! The mark: an offset that a group of the sink's own has for the topic, and text beside it.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerGroupMetadata};
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::failure::Failure;
use super::target::{Target, Waiting};
use crate::error::Error;
use crate::kafka::Context;
use crate::sink::{Mark, Stamp};
use crate::time::Tick;

/// How long one question for the mark may take before the client is asked what is wrong.
const ASK: Duration = Duration::from_secs(2);

/// Reads what the group remembers.
pub(super) struct Marks {
    topic: String,
    group: String,
    reader: BaseConsumer<Context>,
}

/// The partition whose offset, in the group of the sink, is the mark.
const MARKED_PARTITION: i32 = 0;

impl Marks {
    /// To read the last mark, once no transaction can change it any more.
    pub(super) fn connect(target: &Target, group: &str) -> Result<Self, Failure> {
        Self::with(target, group, "read_committed")
    }

    /// To look at the mark before that: one that is being written now is not waited for.
    pub(super) fn look(target: &Target, group: &str) -> Result<Self, Failure> {
        Self::with(target, group, "read_uncommitted")
    }

    fn with(target: &Target, group: &str, isolation: &str) -> Result<Self, Failure> {
        let context = target.connection.context();
        let reader = target.reader(group, isolation)?.create_with_context(context);
        let reader = reader.map_err(|e| Failure::of("the client cannot be made", e))?;
        Ok(Marks { topic: target.topic.clone(), group: group.to_owned(), reader })
    }

    /// The mark that is committed. One of a transaction that is still open is waited for.
    pub(super) fn read(&self, waiting: &mut Waiting) -> Result<Option<Mark>, Failure> {
        loop {
            let failure = match self.ask(waiting.left().min(ASK)) {
                Ok(found) => return Ok(found),
                Err(failure) => self.because(failure),
            };
            match failure {
                Failure::Passing(_) if !waiting.is_over() => {
                    self.reader.context().reach_again(self.reader.client());
                    waiting.pause();
                }
                failure => return Err(failure),
            }
        }
    }

    fn ask(&self, within: Duration) -> Result<Option<Mark>, Failure> {
        let what = || format!("the offset of the group `{}` cannot be read", self.group);
        let mut asked = TopicPartitionList::new();
        asked.add_partition(&self.topic, MARKED_PARTITION);
        let answer = self.reader.committed_offsets(asked, within);
        let answer = answer.map_err(|error| Failure::of(what(), error))?;
        let elements = answer.elements();
        let Some(found) = elements.first() else { return Ok(None) };
        found.error().map_err(|error| Failure::of(what(), error))?;
        match found.offset() {
            Offset::Offset(_) => Ok(Some(self.decode(found.metadata())?)),
            _ => Ok(None),
        }
    }

    /// What a transaction is told of the group.
    pub(super) fn group(&self) -> Result<ConsumerGroupMetadata, Error> {
        let group = self.reader.group_metadata();
        group.ok_or_else(|| Error::bug("a reader of a group has no group"))
    }

    /// The client goes on asking for a coordinator that it may not have, and says so elsewhere.
    fn because(&self, failure: Failure) -> Failure {
        let Failure::Passing(_) = failure else { return failure };
        while let Some(said) = self.reader.poll(Duration::ZERO) {
            let Err(error) = said else { continue };
            let what = format!("the group `{}` cannot be used", self.group);
            if let refused @ Failure::Final(_) = Failure::of(what, error) {
                return refused;
            }
        }
        failure
    }

    fn decode(&self, text: &str) -> Result<Mark, Error> {
        decode(text).ok_or_else(|| {
            Error::state(format!(
                "the group `{}` has an offset that is not of a sink (`{text}`): give the sink a \
                 transactional id of its own",
                self.group
            ))
        })
    }
}

const MARK_VERSION: &str = "highwater-1";

/// The mark as the metadata of an offset.
fn encode(mark: &Mark) -> String {
    let mut text = format!("{MARK_VERSION} incarnation={}", mark.incarnation);
    if let Some(Stamp { sent_by, made_by, tick }) = mark.sent {
        text += &format!(" sent_by={sent_by} made_by={made_by} tick={}", tick.0);
    }
    text
}

/// What a transaction commits for the group.
pub(super) fn offsets(topic: &str, mark: &Mark) -> KafkaResult<TopicPartitionList> {
    let tick = mark.sent.map_or(0, |sent| sent.tick.0);
    let offset = Offset::Offset(i64::try_from(tick).unwrap_or(i64::MAX));
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(topic, MARKED_PARTITION, offset)?;
    if let Some(mut element) = offsets.find_partition(topic, MARKED_PARTITION) {
        element.set_metadata(encode(mark));
    }
    Ok(offsets)
}

fn decode(text: &str) -> Option<Mark> {
    let mut words = text.split(' ');
    if words.next() != Some(MARK_VERSION) {
        return None;
    }
    let numbers = words.map(|word| {
        word.split_once('=').and_then(|(name, value)| Some((name, value.parse().ok()?)))
    });
    match numbers.collect::<Option<Vec<(&str, u64)>>>()?[..] {
        [("incarnation", incarnation)] => Some(Mark { incarnation, sent: None }),
        [
            ("incarnation", incarnation),
            ("sent_by", sent_by),
            ("made_by", made_by),
            ("tick", tick),
        ] => {
            let sent = Some(Stamp { sent_by, made_by, tick: Tick(tick) });
            Some(Mark { incarnation, sent })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let stamp = Stamp { sent_by: 7, made_by: 5, tick: Tick(1_234) };
        for mark in
            [Mark { incarnation: 3, sent: None }, Mark { incarnation: u64::MAX, sent: Some(stamp) }]
        {
            assert_eq!(decode(&encode(&mark)), Some(mark), "{}", encode(&mark));
        }
        for text in ["", "highwater-1", "highwater-2 incarnation=1", "highwater-1 incarnation=x"] {
            assert_eq!(decode(text), None, "{text}");
        }
        assert_eq!(decode("highwater-1 incarnation=1 sent_by=1 made_by=2"), None);
    }
}
