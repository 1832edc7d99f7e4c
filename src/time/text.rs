//! Event time as people write it.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::EventTime;

/// RFC 3339 in UTC where the calendar reaches, `<micros>µs` beyond.
impl fmt::Display for EventTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.as_micros()) {
            Ok(time) if self.as_micros().rem_euclid(1_000_000) == 0 => write!(f, "{time:.0}"),
            Ok(time) => write!(f, "{time:.6}"),
            Err(_) => write!(f, "{}µs", self.as_micros()),
        }
    }
}

/// Text that is neither an RFC 3339 timestamp nor a number of microseconds with the suffix `µs`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a time: expected RFC 3339, as in 2013-01-01T05:15:00Z")]
pub struct ParseTimeError(String);

impl FromStr for EventTime {
    type Err = ParseTimeError;
    fn from_str(text: &str) -> Result<Self, ParseTimeError> {
        let error = || ParseTimeError(text.to_owned());
        if let Some(micros) = text.strip_suffix("µs") {
            return micros.parse().map(EventTime::from_micros).map_err(|_| error());
        }
        let time: jiff::Timestamp = text.parse().map_err(|_| error())?;
        Ok(EventTime::from_micros(time.as_microsecond()))
    }
}

impl Serialize for EventTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_i64(self.as_micros())
        }
    }
}

impl<'de> Deserialize<'de> for EventTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_any(TimeVisitor)
        } else {
            i64::deserialize(deserializer).map(EventTime::from_micros)
        }
    }
}

struct TimeVisitor;

impl Visitor<'_> for TimeVisitor {
    type Value = EventTime;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an RFC 3339 time or microseconds since the Unix epoch")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<EventTime, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, micros: i64) -> Result<EventTime, E> {
        Ok(EventTime::from_micros(micros))
    }

    fn visit_u64<E: de::Error>(self, micros: u64) -> Result<EventTime, E> {
        i64::try_from(micros).map(EventTime::from_micros).map_err(E::custom)
    }
}
