//! The operators that a transcript's header may name, and how each is added to the flow.

use serde::Deserialize;

use super::aggregate::{Chosen, Kind};
use super::flow::Building;
use super::logic::{Absence, Alarm, Heartbeat, Sequence};
use super::value::{Row, SpanText, TimeText};
use crate::keyed::Process;
use crate::window::{Hopping, Session, Tumbling, WindowResult};

/// An operator with its parameters.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Op {
    Tumbling(TumblingText),
    Hopping(HoppingText),
    Session(SessionText),
    Running(RunningText),
    Absence(AbsenceText),
    Heartbeat(HeartbeatText),
    Sequence(SequenceText),
    Alarm(AlarmText),
    Rekey(RekeyText),
    Filter(FilterText),
    Union(UnionText),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TumblingText {
    id: Option<String>,
    size: SpanText,
    offset: Option<SpanText>,
    #[serde(default)]
    aggregate: Kind,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HoppingText {
    id: Option<String>,
    size: SpanText,
    slide: SpanText,
    offset: Option<SpanText>,
    #[serde(default)]
    aggregate: Kind,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SessionText {
    id: Option<String>,
    gap: SpanText,
    #[serde(default)]
    aggregate: Kind,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RunningText {
    id: Option<String>,
    #[serde(default)]
    aggregate: Kind,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AbsenceText {
    id: Option<String>,
    after: SpanText,
    /// Acts at once, in order of arrival.
    #[serde(default)]
    on_arrival: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HeartbeatText {
    id: Option<String>,
    every: SpanText,
    #[serde(default)]
    on_arrival: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SequenceText {
    id: Option<String>,
    #[serde(default)]
    on_arrival: bool,
    ttl: Option<SpanText>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AlarmText {
    id: Option<String>,
    at: TimeText,
    again: Option<SpanText>,
    #[serde(default)]
    on_arrival: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RekeyText {
    to: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FilterText {
    min: i64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UnionText {}

/// A window's result as a row, which may go into a further window.
fn as_row(result: WindowResult<String, super::value::Value>) -> Row {
    Row {
        key: result.key,
        time: result.window.last_time(),
        value: result.value,
        window: Some(result.window),
        pane: None,
    }
}

impl Op {
    /// Adds the operator behind what there is so far.
    pub(super) fn add(&self, place: usize, building: &mut Building) -> Result<(), String> {
        let unit = building.unit;
        match self {
            Op::Tumbling(text) => {
                let mut windows = Tumbling::of(unit.span(text.size));
                if let Some(offset) = text.offset {
                    windows = windows.offset(unit.span(offset));
                }
                window(building, id(&text.id, "tumbling", place), windows, text.aggregate)
            }
            Op::Hopping(text) => {
                let mut windows = Hopping::of(unit.span(text.size), unit.span(text.slide));
                if let Some(offset) = text.offset {
                    windows = windows.offset(unit.span(offset));
                }
                window(building, id(&text.id, "hopping", place), windows, text.aggregate)
            }
            Op::Session(text) => {
                let windows = Session::with_gap(unit.span(text.gap));
                window(building, id(&text.id, "session", place), windows, text.aggregate)
            }
            Op::Running(text) => running(building, id(&text.id, "running", place), text.aggregate),
            Op::Absence(text) => {
                let logic = Absence { after: unit.span(text.after) };
                let id = id(&text.id, "absence", place);
                process(building, &id, logic, text.on_arrival, None)
            }
            Op::Heartbeat(text) => {
                let logic = Heartbeat { every: unit.span(text.every) };
                let id = id(&text.id, "heartbeat", place);
                process(building, &id, logic, text.on_arrival, None)
            }
            Op::Sequence(text) => {
                let id = id(&text.id, "sequence", place);
                process(building, &id, Sequence, text.on_arrival, text.ttl)
            }
            Op::Alarm(text) => {
                let again = text.again.map(|span| unit.span(span));
                let logic = Alarm { at: unit.time(text.at), again };
                process(building, &id(&text.id, "alarm", place), logic, text.on_arrival, None)
            }
            Op::Rekey(RekeyText { to }) => {
                let to = to.clone();
                let rows = building.timed()?;
                building.go_on(rows.map(move |row| Row { key: to.clone(), ..row }));
                Ok(())
            }
            Op::Filter(FilterText { min }) => {
                let min = *min;
                let rows = building.timed()?;
                building.go_on(rows.filter(move |row| row.value.number() >= min));
                Ok(())
            }
            Op::Union(UnionText {}) => {
                let rows = building.timed()?;
                let source = building.source()?;
                building.go_on(rows.union(&[&source]));
                Ok(())
            }
        }
    }
}

fn id(given: &Option<String>, kind: &str, place: usize) -> String {
    match given {
        Some(id) => id.clone(),
        None => format!("{kind}-{place}"),
    }
}

fn window<W: crate::flow::WindowKind>(
    building: &mut Building,
    id: String,
    windows: W,
    aggregate: Kind,
) -> Result<(), String> {
    let keyed = building.timed()?.key_by(|row| &row.key);
    let results = keyed.window(&id, windows).aggregate(Chosen(aggregate));
    building.hear_late(&id, results.late());
    building.go_on(results.map(as_row));
    Ok(())
}

fn running(building: &mut Building, id: String, aggregate: Kind) -> Result<(), String> {
    let keyed = building.timed()?.key_by(|row| &row.key);
    let results = keyed.running(&id, Chosen(aggregate)).unbounded();
    let time = crate::time::EventTime::default();
    building.end(results.map(move |(key, value)| Row {
        key,
        time,
        value,
        window: None,
        pane: None,
    }));
    Ok(())
}

fn process<P: Process<String, Row, Output = Row>>(
    building: &mut Building,
    id: &str,
    process: P,
    on_arrival: bool,
    ttl: Option<SpanText>,
) -> Result<(), String> {
    let keyed = building.timed()?.key_by(|row| &row.key);
    let undeclared =
        if on_arrival { keyed.process_on_arrival(id, process) } else { keyed.process(id, process) };
    let results = match ttl {
        Some(span) => undeclared.ttl(crate::keyed::Ttl::from_write(building.unit.span(span))),
        None => undeclared.unbounded(),
    };
    building.hear_late(id, results.late());
    building.go_on((*results).clone());
    Ok(())
}
