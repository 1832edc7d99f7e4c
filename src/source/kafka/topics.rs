//! Which topics are read, and which partitions they have now.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use rdkafka::consumer::BaseConsumer;
use rdkafka::error::{IsError, KafkaError};
use rdkafka::metadata::MetadataTopic;

use super::reader::TopicPartition;
use crate::error::Error;
use crate::kafka::{Context, failed, metadata};

#[derive(Clone, Debug)]
pub(super) enum Topics {
    Named(Vec<String>),
    Matching(String),
}

impl fmt::Display for Topics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Topics::Named(names) => f.write_str(&names.join(", ")),
            Topics::Matching(pattern) => f.write_str(pattern),
        }
    }
}

impl Topics {
    /// Says whether names and patterns make sense.
    pub(super) fn check(&self) -> Result<(), Error> {
        match self {
            Topics::Named(names) if names.is_empty() => Err(Error::plan("no topic is named")),
            Topics::Named(names) => match names.iter().find(|name| !is_topic_name(name)) {
                Some(name) => Err(Error::plan(format!("`{name}` cannot be the name of a topic"))),
                None => Ok(()),
            },
            Topics::Matching(pattern) => self.pattern(pattern).map(|_| ()),
        }
    }

    fn pattern(&self, pattern: &str) -> Result<glob::Pattern, Error> {
        glob::Pattern::new(pattern)
            .map_err(|e| Error::plan(format!("`{pattern}` is no pattern of names")).because(e))
    }

    /// The partitions that there are now.
    pub(super) fn list(
        &self,
        client: &BaseConsumer<Context>,
        within: Duration,
    ) -> Result<BTreeSet<TopicPartition>, Error> {
        let mut found = BTreeSet::new();
        match self {
            Topics::Named(names) => {
                for name in names {
                    let answer = metadata(client, Some(name), within)?;
                    let mut topics = answer.topics().iter();
                    let Some(topic) = topics.find(|topic| topic.name() == name) else {
                        return Err(Error::input(format!("there is no topic `{name}`")));
                    };
                    add(topic, &mut found)?;
                }
            }
            Topics::Matching(pattern) => {
                let matching = self.pattern(pattern)?;
                let answer = metadata(client, None, within)?;
                for topic in answer.topics() {
                    // Names that begin so are the cluster's own.
                    if matching.matches(topic.name()) && !topic.name().starts_with("__") {
                        add(topic, &mut found)?;
                    }
                }
            }
        }
        Ok(found)
    }
}

/// What a topic may be called: anything else would be cut short or refused by the client.
fn is_topic_name(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && name.len() <= 249 && name.chars().all(legal)
}

fn add(topic: &MetadataTopic, found: &mut BTreeSet<TopicPartition>) -> Result<(), Error> {
    let name = topic.name();
    if let Some(error) = topic.error().filter(IsError::is_error) {
        let error = KafkaError::MetadataFetch(error.into());
        return Err(failed(format!("the topic `{name}` cannot be read"), error));
    }
    if topic.partitions().is_empty() {
        return Err(Error::input(format!("the topic `{name}` has no partitions")));
    }
    for partition in topic.partitions() {
        found.insert(TopicPartition { topic: name.to_owned(), number: partition.id() });
    }
    Ok(())
}
