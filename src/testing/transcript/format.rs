//! The text of a transcript: one JSON value a line, the first one a header.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};

use super::Malformed;
use super::ops::Op;
use super::value::{SpanText, TimeText, Unit, ValueText};
use crate::event::LateReason;
use crate::window::Timing;

/// The first line: what the flow is.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    pub(super) about: String,
    #[serde(default)]
    pub(super) unit: Unit,
    /// Run in every variation as well.
    #[serde(default)]
    pub(super) vary: bool,
    #[serde(default = "one")]
    pub(super) workers: usize,
    #[serde(default)]
    pub(super) seed: u64,
    pub(super) source: Option<SourceText>,
    /// In place of `source`, where the flow begins with two inputs.
    pub(super) left: Option<SourceText>,
    pub(super) right: Option<SourceText>,
    pub(super) flow: Vec<Op>,
}

fn one() -> usize {
    1
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SourceText {
    #[serde(default = "one")]
    pub(super) partitions: usize,
    #[serde(default)]
    pub(super) watermark: Strategy,
    pub(super) idle_after: Option<SpanText>,
    /// Rows below this value are dropped before event time is assigned.
    pub(super) drop_below: Option<i64>,
    /// Rows whose time is further ahead of the clock are left out.
    pub(super) at_most_ahead: Option<SpanText>,
    /// Rows whose time is further ahead of their value, taken as a time, are left out.
    pub(super) at_most_ahead_of_value: Option<SpanText>,
    /// How far a partition may be read ahead of the slowest one.
    pub(super) lead_limit: Option<SpanText>,
    /// So many more partitions may be found while the flow runs.
    #[serde(default)]
    pub(super) later: usize,
}

impl SourceText {
    /// One partition, whose watermark is moved by hand.
    pub(super) fn standard() -> Self {
        let watermark = Strategy::Manual;
        SourceText {
            partitions: 1,
            watermark,
            idle_after: None,
            drop_below: None,
            at_most_ahead: None,
            at_most_ahead_of_value: None,
            lead_limit: None,
            later: 0,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Strategy {
    /// Only `watermark` steps move it.
    #[default]
    Manual,
    Ascending,
    AtMost(SpanText),
}

impl Strategy {
    pub(super) fn is_manual(self) -> bool {
        matches!(self, Strategy::Manual)
    }
}

impl Header {
    /// The source of a side, if the flow has it.
    pub(super) fn source(&self, side: Side) -> Option<SourceText> {
        match (side, &self.left, &self.right) {
            (Side::Right, _, right) => right.clone(),
            (Side::Left, Some(left), _) => Some(left.clone()),
            (Side::Left, None, _) => Some(self.source.clone().unwrap_or_else(SourceText::standard)),
        }
    }

    /// The sides that the flow has.
    pub(super) fn sides(&self) -> Vec<Side> {
        if self.right.is_some() { vec![Side::Left, Side::Right] } else { vec![Side::Left] }
    }
}

/// Which input of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Side {
    #[default]
    Left,
    Right,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InText {
    #[serde(default)]
    pub(super) side: Side,
    #[serde(default)]
    pub(super) partition: usize,
    pub(super) time: TimeText,
    #[serde(default = "any_key")]
    pub(super) key: String,
    #[serde(default = "any_value")]
    pub(super) value: ValueText,
}

fn any_key() -> String {
    "k".to_owned()
}

fn any_value() -> ValueText {
    ValueText(super::value::Value::Int(1))
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MarkText {
    #[serde(default)]
    pub(super) side: Side,
    #[serde(default)]
    pub(super) partition: usize,
    pub(super) time: TimeText,
}

/// A partition, or all of them.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PlaceText {
    pub(super) side: Option<Side>,
    pub(super) partition: Option<usize>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExpectText {
    pub(super) rows: Vec<RowText>,
    #[serde(default)]
    pub(super) ordered: bool,
}

/// What an expected row must have; what is not named may be anything.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RowText {
    pub(super) key: Option<String>,
    pub(super) time: Option<TimeText>,
    pub(super) start: Option<TimeText>,
    pub(super) end: Option<TimeText>,
    #[serde(default, deserialize_with = "present")]
    pub(super) value: Option<Json>,
    pub(super) pane: Option<u32>,
    pub(super) timing: Option<Timing>,
    #[serde(rename = "final")]
    pub(super) last: Option<bool>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LateText {
    /// The id of the operator.
    pub(super) op: Option<String>,
    pub(super) key: Option<String>,
    pub(super) time: Option<TimeText>,
    #[serde(default, deserialize_with = "present")]
    pub(super) value: Option<Json>,
    pub(super) reason: Option<LateReason>,
}

/// `null` is a value too.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(deserializer).map(Some)
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StateText {
    pub(super) op: String,
    pub(super) entries: Option<u64>,
    pub(super) late: Option<u64>,
    pub(super) used: Option<u64>,
    pub(super) filtered: Option<u64>,
    pub(super) dead: Option<u64>,
    pub(super) held: Option<u64>,
    /// A time, `"none"` or `"end"`.
    pub(super) watermark: Option<Json>,
    /// With `timers`: of which key.
    pub(super) key: Option<String>,
    pub(super) timers: Option<Vec<TimerText>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TimerText {
    pub(super) name: String,
    pub(super) time: TimeText,
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    In(Vec<InText>),
    Watermark(MarkText),
    Idle(PlaceText),
    Pause(PlaceText),
    Resume(PlaceText),
    Finish(PlaceText),
    Clock(SpanText),
    Tick(usize),
    Commit,
    Snapshot,
    Crash,
    Restart { from_snapshot: bool },
    Rescale(usize),
    Expect(ExpectText),
    ExpectLate(Vec<LateText>),
    ExpectState(StateText),
    ExpectError(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Times {
    #[serde(default = "one")]
    times: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RestartText {
    #[serde(default)]
    snapshot: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Workers {
    workers: usize,
}

const STEPS: &str = "in, watermark, idle, pause, resume, finish, clock, tick, commit, snapshot, \
                     crash, restart, rescale, expect, expect_late, expect_state, expect_error";

fn read<T: DeserializeOwned>(value: Json) -> Result<T, String> {
    serde_json::from_value(value).map_err(|e| e.to_string())
}

/// One thing or a list of them.
fn many<T: DeserializeOwned>(value: Json) -> Result<Vec<T>, String> {
    match value {
        Json::Array(_) => read(value),
        other => Ok(vec![read(other)?]),
    }
}

impl Step {
    /// As it is written.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Step::In(_) => "in",
            Step::Watermark(_) => "watermark",
            Step::Idle(_) => "idle",
            Step::Pause(_) => "pause",
            Step::Resume(_) => "resume",
            Step::Finish(_) => "finish",
            Step::Clock(_) => "clock",
            Step::Tick(_) => "tick",
            Step::Commit => "commit",
            Step::Snapshot => "snapshot",
            Step::Crash => "crash",
            Step::Restart { .. } => "restart",
            Step::Rescale(_) => "rescale",
            Step::Expect(_) => "expect",
            Step::ExpectLate(_) => "expect_late",
            Step::ExpectState(_) => "expect_state",
            Step::ExpectError(_) => "expect_error",
        }
    }

    /// Whether the flow must be up for it.
    pub(super) fn runs_ticks(&self) -> bool {
        match self {
            Step::Finish(place) => place.partition.is_none(),
            Step::Idle(_) | Step::Tick(_) | Step::Commit | Step::Snapshot => true,
            _ => false,
        }
    }

    /// Whether its effect is the same however ticks are cut.
    pub(super) fn may_vary(&self) -> bool {
        !matches!(
            self,
            Step::Idle(_)
                | Step::Pause(_)
                | Step::Resume(_)
                | Step::Clock(_)
                | Step::ExpectError(_)
        )
    }

    /// `"tick"` is short for `{"tick": {}}`.
    fn parse(line: Json) -> Result<Step, String> {
        let (name, value) = match line {
            Json::String(name) => (name, json!({})),
            Json::Object(map) if map.len() == 1 => match map.into_iter().next() {
                Some(one) => one,
                None => return Err("an empty object is no step".to_owned()),
            },
            Json::Object(map) => {
                let names: Vec<String> = map.keys().cloned().collect();
                return Err(format!(
                    "a step has one name, not {}: {}",
                    map.len(),
                    names.join(", ")
                ));
            }
            other => return Err(format!("{other} is no step")),
        };
        let nothing = |value: Json, step: Step| read::<Nothing>(value).map(|Nothing {}| step);
        let step = match name.as_str() {
            "in" => Step::In(many(value)?),
            "watermark" if !value.is_object() => {
                let (side, partition) = (Side::Left, 0);
                Step::Watermark(MarkText { side, partition, time: read(value)? })
            }
            "watermark" => Step::Watermark(read(value)?),
            "idle" => Step::Idle(read(value)?),
            "pause" => Step::Pause(read(value)?),
            "resume" => Step::Resume(read(value)?),
            "finish" => Step::Finish(read(value)?),
            "clock" => Step::Clock(read(value)?),
            "tick" => Step::Tick(read::<Times>(value)?.times),
            "commit" => nothing(value, Step::Commit)?,
            "snapshot" => nothing(value, Step::Snapshot)?,
            "crash" => nothing(value, Step::Crash)?,
            "restart" => Step::Restart { from_snapshot: read::<RestartText>(value)?.snapshot },
            "rescale" => Step::Rescale(read::<Workers>(value)?.workers),
            "expect" if value.is_object() => Step::Expect(read(value)?),
            "expect" => Step::Expect(ExpectText { rows: read(value)?, ordered: false }),
            "expect_late" => Step::ExpectLate(many(value)?),
            "expect_state" => Step::ExpectState(read(value)?),
            "expect_error" => Step::ExpectError(read(value)?),
            _ => return Err(format!("unknown step `{name}`, expected one of {STEPS}")),
        };
        Ok(step)
    }
}

/// A transcript's lines, with their numbers.
pub(super) struct Text {
    pub(super) header: Header,
    pub(super) header_line: usize,
    pub(super) steps: Vec<(usize, Step)>,
}

pub(super) fn parse(name: &str, text: &str) -> Result<Text, Malformed> {
    let at = |line: usize, message: String| Malformed { name: name.to_owned(), line, message };
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    let mut lines = lines.filter(|(_, line)| !line.is_empty());
    let Some((header_line, first)) = lines.next() else {
        return Err(at(1, "there is no header".to_owned()));
    };
    let header: Header =
        serde_json::from_str(first).map_err(|e| at(header_line, describe(&e, first)))?;
    let mut steps = Vec::new();
    for (number, line) in lines {
        let json: Json = serde_json::from_str(line).map_err(|e| at(number, describe(&e, line)))?;
        steps.push((number, Step::parse(json).map_err(|message| at(number, message))?));
    }
    Ok(Text { header, header_line, steps })
}

/// The line is that of the file, not of the one line that serde was given.
fn describe(error: &serde_json::Error, line: &str) -> String {
    let text = error.to_string();
    let hint = match line.starts_with(['/', '#']) {
        true => " (there are no comments: say it in `about`)",
        false => "",
    };
    match text.rfind(" at line ") {
        Some(end) => format!("{}, at column {}{hint}", &text[..end], error.column()),
        None => text,
    }
}
