//! The rows that flow in a transcript, and how times, spans and values are written.

use serde::de::{Deserializer, Error as _, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use crate::time::{EventTime, Span};
use crate::window::{Timing, Window};

/// A row in a transcript's flow: an event, or what an operator made of events.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) key: String,
    pub(super) time: EventTime,
    pub(super) value: Value,
    pub(super) window: Option<Window>,
    pub(super) pane: Option<PaneInfo>,
}

/// What tells a pane from others of its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct PaneInfo {
    pub(super) index: u32,
    pub(super) timing: Timing,
    pub(super) is_final: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Value {
    Null,
    Int(i64),
    Text(String),
    List(Vec<i64>),
    /// What a join makes: the values of its sides.
    Pair(Option<i64>, Option<i64>),
    /// What a cogroup makes.
    Groups(Vec<i64>, Vec<i64>),
}

impl Value {
    /// What an aggregate of numbers sees: of a list, how many it has; of a pair, its sum.
    pub(super) fn number(&self) -> i64 {
        match self {
            Value::Null | Value::Text(_) => 0,
            Value::Int(n) => *n,
            Value::List(list) => list.len() as i64,
            Value::Pair(left, right) => {
                left.unwrap_or_default().saturating_add(right.unwrap_or_default())
            }
            Value::Groups(left, right) => (left.len() + right.len()) as i64,
        }
    }

    pub(super) fn json(&self) -> Json {
        match self {
            Value::Null => Json::Null,
            Value::Int(n) => json!(n),
            Value::Text(text) => json!(text),
            Value::List(list) => json!(list),
            Value::Pair(left, right) => json!([left, right]),
            Value::Groups(left, right) => json!([left, right]),
        }
    }
}

/// A row of a source: an event, or a promise that a manual watermark makes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Input {
    Event(Row),
    Mark(EventTime),
}

/// A time as written: a number of the transcript's units, or RFC 3339 text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum TimeText {
    Units(i64),
    At(EventTime),
}

/// A span as written: a number of the transcript's units, or text such as `90s` or `2h`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum SpanText {
    Units(i64),
    Exactly(Span),
}

/// How many microseconds a transcript's unit has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
pub(super) enum Unit {
    #[default]
    #[serde(rename = "us")]
    Micros,
    #[serde(rename = "ms")]
    Millis,
    #[serde(rename = "s")]
    Seconds,
    #[serde(rename = "min")]
    Minutes,
    #[serde(rename = "h")]
    Hours,
}

impl Unit {
    fn micros(self) -> i64 {
        match self {
            Unit::Micros => 1,
            Unit::Millis => 1_000,
            Unit::Seconds => 1_000_000,
            Unit::Minutes => 60_000_000,
            Unit::Hours => 3_600_000_000,
        }
    }

    pub(super) fn time(self, text: TimeText) -> EventTime {
        match text {
            TimeText::Units(n) => EventTime::from_micros(n.saturating_mul(self.micros())),
            TimeText::At(time) => time,
        }
    }

    pub(super) fn span(self, text: SpanText) -> Span {
        match text {
            SpanText::Units(n) => Span::from_micros(n.saturating_mul(self.micros())),
            SpanText::Exactly(span) => span,
        }
    }

    /// A time as it would be written: in units near the epoch, as text elsewhere.
    pub(super) fn show(self, time: EventTime) -> Json {
        const FAR: u64 = 300 * 86_400_000_000;
        let micros = time.as_micros();
        if micros.unsigned_abs() < FAR && micros % self.micros() == 0 {
            json!(micros / self.micros())
        } else if micros == i64::MAX || micros == i64::MIN {
            json!(if micros > 0 { "max" } else { "min" })
        } else {
            json!(time.to_string())
        }
    }

    /// A row as it would be expected. The time of a window's result is left out if nobody asks.
    pub(super) fn show_row(self, row: &Row, with_time: bool) -> Json {
        let mut shown = serde_json::Map::new();
        shown.insert("key".to_owned(), json!(row.key));
        if with_time || row.window.is_none() {
            shown.insert("time".to_owned(), self.show(row.time));
        }
        if let Some(window) = row.window {
            shown.insert("start".to_owned(), self.show(window.start));
            shown.insert("end".to_owned(), self.show(window.end));
        }
        shown.insert("value".to_owned(), row.value.json());
        if let Some(pane) = row.pane {
            shown.insert("pane".to_owned(), json!(pane.index));
            shown.insert("timing".to_owned(), json!(pane.timing));
            shown.insert("final".to_owned(), json!(pane.is_final));
        }
        Json::Object(shown)
    }
}

impl<'de> Deserialize<'de> for TimeText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TimeVisitor)
    }
}

struct TimeVisitor;

impl Visitor<'_> for TimeVisitor {
    type Value = TimeText;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a time: a whole number of units, RFC 3339 text, \"min\" or \"max\"")
    }

    fn visit_i64<E>(self, n: i64) -> Result<TimeText, E> {
        Ok(TimeText::Units(n))
    }

    fn visit_u64<E: serde::de::Error>(self, n: u64) -> Result<TimeText, E> {
        i64::try_from(n).map(TimeText::Units).map_err(E::custom)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<TimeText, E> {
        match text {
            "max" => Ok(TimeText::At(EventTime::MAX)),
            "min" => Ok(TimeText::At(EventTime::MIN)),
            _ => text.parse().map(TimeText::At).map_err(E::custom),
        }
    }
}

impl<'de> Deserialize<'de> for SpanText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Json::deserialize(deserializer)? {
            Json::Number(n) => match n.as_i64() {
                Some(n) => Ok(SpanText::Units(n)),
                None => Err(D::Error::custom(format!("{n} is no whole number of units"))),
            },
            Json::String(text) => parse_span(&text).map(SpanText::Exactly).ok_or_else(|| {
                let what = "a number with us, ms, s, min, h or d behind it";
                D::Error::custom(format!("`{text}` is no span: it is {what}"))
            }),
            other => Err(D::Error::custom(format!("{other} is no span"))),
        }
    }
}

fn parse_span(text: &str) -> Option<Span> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '-')?;
    let n: i64 = text[..digits].parse().ok()?;
    let micros = match &text[digits..] {
        "us" => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        "min" => 60_000_000,
        "h" => 3_600_000_000,
        "d" => 86_400_000_000,
        _ => return None,
    };
    Some(Span::from_micros(n.saturating_mul(micros)))
}

/// A value as a row of a source may have it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ValueText(pub(super) Value);

impl<'de> Deserialize<'de> for ValueText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = match Json::deserialize(deserializer)? {
            Json::Null => Value::Null,
            Json::String(text) => Value::Text(text),
            Json::Number(n) => match n.as_i64() {
                Some(n) => Value::Int(n),
                None => return Err(D::Error::custom(format!("{n} is no whole number"))),
            },
            other => {
                let what = "a whole number, text or null";
                return Err(D::Error::custom(format!("{other} is no value: it is {what}")));
            }
        };
        Ok(ValueText(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_with_their_units() {
        for (text, micros) in [("5us", 5), ("-2ms", -2_000), ("1d", 86_400_000_000)] {
            assert_eq!(parse_span(text), Some(Span::from_micros(micros)), "{text}");
        }
        for text in ["", "5", "s", "5 s", "1.5s", "5weeks"] {
            assert_eq!(parse_span(text), None, "{text}");
        }
    }

    #[test]
    fn times_are_shown_as_they_are_read() {
        let unit = Unit::Seconds;
        for text in ["-7", "0", "86400", "\"2024-03-10T07:00:00Z\"", "\"max\""] {
            let time = unit.time(serde_json::from_str(text).unwrap());
            assert_eq!(unit.show(time).to_string(), text);
        }
    }
}
