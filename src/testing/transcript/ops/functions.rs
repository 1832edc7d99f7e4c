//! Functions with state and timers, and running aggregates.

use serde::Deserialize;

use super::super::aggregate::{Chosen, Kind};
use super::super::flow::Building;
use super::super::logic::{Absence, Alarm, Heartbeat, Sequence};
use super::super::value::{Row, SpanText, TimeText};
use super::name;
use crate::keyed::{Process, Ttl};
use crate::time::EventTime;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::testing::transcript) struct RunningText {
    id: Option<String>,
    #[serde(default)]
    aggregate: Kind,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::testing::transcript) struct AbsenceText {
    id: Option<String>,
    after: SpanText,
    #[serde(default)]
    on_arrival: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::testing::transcript) struct HeartbeatText {
    id: Option<String>,
    every: SpanText,
    #[serde(default)]
    on_arrival: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::testing::transcript) struct SequenceText {
    id: Option<String>,
    #[serde(default)]
    on_arrival: bool,
    ttl: Option<SpanText>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::testing::transcript) struct AlarmText {
    id: Option<String>,
    at: TimeText,
    again: Option<SpanText>,
    #[serde(default)]
    on_arrival: bool,
}

impl RunningText {
    pub(super) fn add(&self, place: usize, building: &mut Building) -> Result<(), String> {
        let keyed = building.timed()?.key_by(|row| &row.key);
        let id = name(&self.id, "running", place);
        let results = keyed.running(&id, Chosen(self.aggregate)).unbounded();
        let time = EventTime::default();
        building.end(results.map(move |(key, value)| Row {
            key,
            time,
            value,
            window: None,
            pane: None,
        }));
        Ok(())
    }
}

impl AbsenceText {
    pub(super) fn add(&self, place: usize, building: &mut Building) -> Result<(), String> {
        let logic = Absence { after: building.unit.span(self.after) };
        let id = name(&self.id, "absence", place);
        process(building, &id, logic, self.on_arrival, None)
    }
}

impl HeartbeatText {
    pub(super) fn add(&self, place: usize, building: &mut Building) -> Result<(), String> {
        let logic = Heartbeat { every: building.unit.span(self.every) };
        let id = name(&self.id, "heartbeat", place);
        process(building, &id, logic, self.on_arrival, None)
    }
}

impl SequenceText {
    pub(super) fn add(&self, place: usize, building: &mut Building) -> Result<(), String> {
        let id = name(&self.id, "sequence", place);
        process(building, &id, Sequence, self.on_arrival, self.ttl)
    }
}

impl AlarmText {
    pub(super) fn add(&self, place: usize, building: &mut Building) -> Result<(), String> {
        let unit = building.unit;
        let again = self.again.map(|span| unit.span(span));
        let logic = Alarm { at: unit.time(self.at), again };
        process(building, &name(&self.id, "alarm", place), logic, self.on_arrival, None)
    }
}

fn process<P: Process<String, Row, Output = Row>>(
    building: &mut Building,
    id: &str,
    process: P,
    on_arrival: bool,
    ttl: Option<SpanText>,
) -> Result<(), String> {
    let keyed = building.timed()?.key_by(|row| &row.key);
    let undeclared = match on_arrival {
        true => keyed.process_on_arrival(id, process),
        false => keyed.process(id, process),
    };
    let results = match ttl {
        Some(span) => undeclared.ttl(Ttl::from_write(building.unit.span(span))),
        None => undeclared.unbounded(),
    };
    building.hear_late(id, results.late());
    building.go_on((*results).clone());
    Ok(())
}
