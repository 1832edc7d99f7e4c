//! Records: as the client lends them, and as rows.

use std::sync::Arc;

use rdkafka::message::{BorrowedMessage, Headers, Message, Timestamp};

use crate::time::EventTime;

/// A record of a topic, lent to a function that decodes it.
pub struct Record<'a> {
    message: &'a BorrowedMessage<'a>,
}

impl<'a> Record<'a> {
    pub(super) fn new(message: &'a BorrowedMessage<'a>) -> Self {
        Record { message }
    }

    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        self.message.topic()
    }

    /// The number of the partition in the topic.
    #[must_use]
    pub fn partition(&self) -> i32 {
        self.message.partition()
    }

    /// The offset in the partition.
    #[must_use]
    pub fn offset(&self) -> u64 {
        u64::try_from(self.message.offset()).unwrap_or_default()
    }

    /// The key, if there is one.
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        self.message.key()
    }

    /// The value; `None` for a tombstone, which says that the key is gone.
    #[must_use]
    pub fn value(&self) -> Option<&[u8]> {
        self.message.payload()
    }

    /// The time that the producer or the broker gave the record, to the millisecond. `None` for
    /// records from before Kafka had timestamps.
    #[must_use]
    pub fn timestamp(&self) -> Option<EventTime> {
        match self.message.timestamp() {
            Timestamp::CreateTime(millis) | Timestamp::LogAppendTime(millis) if millis >= 0 => {
                Some(EventTime::from_micros(millis.saturating_mul(1_000)))
            }
            _ => None,
        }
    }

    /// The headers, in order: a name may stand in several.
    pub fn headers(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        let headers = self.message.headers();
        headers.into_iter().flat_map(|headers| headers.iter()).map(|h| (h.key, h.value))
    }

    /// The first header of a name that has a value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers().find(|(key, value)| *key == name && value.is_some()).and_then(|(_, v)| v)
    }
}

/// A decoded value, with all that its record says beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded<T> {
    /// What was decoded.
    pub value: T,
    /// The key, if there is one.
    pub key: Option<Vec<u8>>,
    /// The time that the producer or the broker gave the record, to the millisecond; the Unix
    /// epoch for records from before Kafka had timestamps.
    pub timestamp: EventTime,
    /// The headers, in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// The topic.
    pub topic: Arc<str>,
    /// The number of the partition in the topic.
    pub partition: i32,
    /// The offset in the partition.
    pub offset: u64,
}

impl<T> Recorded<T> {
    pub(super) fn new(value: T, record: &Record<'_>, topic: &Arc<str>) -> Self {
        let owned =
            |(name, value): (&str, Option<&[u8]>)| (name.to_owned(), value.map(<[u8]>::to_vec));
        Recorded {
            value,
            key: record.key().map(<[u8]>::to_vec),
            timestamp: record.timestamp().unwrap_or(EventTime::from_micros(0)),
            headers: record.headers().map(owned).collect(),
            topic: topic.clone(),
            partition: record.partition(),
            offset: record.offset(),
        }
    }
}
