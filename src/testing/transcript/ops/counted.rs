//! Functions of each event and those before it: duplicates, windows of so many events, the time
//! before each event, one window for all time with a trigger.

use serde::Deserialize;

use super::super::aggregate::{Chosen, Kind};
use super::super::flow::Building;
use super::super::value::{Row, SpanText, Value};
use super::name;
use crate::keyed::{CountResult, GlobalTrigger};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::testing::transcript) struct DedupText {
    id: Option<String>,
    within: SpanText,
    #[serde(default)]
    on_arrival: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::testing::transcript) struct CountWindowText {
    id: Option<String>,
    size: u64,
    every: Option<u64>,
    #[serde(default)]
    incomplete: bool,
    #[serde(default)]
    aggregate: Kind,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::testing::transcript) struct OverText {
    id: Option<String>,
    span: SpanText,
    #[serde(default)]
    aggregate: Kind,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::testing::transcript) struct TriggeredText {
    id: Option<String>,
    every: Option<SpanText>,
    every_events: Option<u64>,
    #[serde(default)]
    accumulating: bool,
    #[serde(default)]
    at_end: bool,
    #[serde(default)]
    aggregate: Kind,
}

fn counted(result: CountResult<String, Value>) -> Row {
    let CountResult { key, last, value, .. } = result;
    Row { key, time: last, value, window: None, pane: None }
}

impl DedupText {
    pub(super) fn add(&self, place: usize, building: &mut Building) -> Result<(), String> {
        let keyed = building.timed()?.key_by(|row| &row.key);
        let (id, within) = (name(&self.id, "dedup", place), building.unit.span(self.within));
        let results = match self.on_arrival {
            true => keyed.dedup_on_arrival(&id, within),
            false => keyed.dedup(&id, within),
        };
        building.hear_late(&id, results.late());
        building.go_on((*results).clone());
        Ok(())
    }
}

impl CountWindowText {
    pub(super) fn add(&self, place: usize, building: &mut Building) -> Result<(), String> {
        let keyed = building.timed()?.key_by(|row| &row.key);
        let id = name(&self.id, "count_window", place);
        let mut windows = keyed.count_window(&id, self.size);
        if let Some(every) = self.every {
            windows = windows.every(every);
        }
        if self.incomplete {
            windows = windows.with_incomplete();
        }
        let results = windows.aggregate(Chosen(self.aggregate)).unbounded();
        building.hear_late(&id, results.late());
        building.go_on(results.map(counted));
        Ok(())
    }
}

impl OverText {
    pub(super) fn add(&self, place: usize, building: &mut Building) -> Result<(), String> {
        let keyed = building.timed()?.key_by(|row| &row.key);
        let (id, span) = (name(&self.id, "over", place), building.unit.span(self.span));
        let results = keyed.over(&id, span).aggregate(Chosen(self.aggregate));
        building.hear_late(&id, results.late());
        building.go_on(results.map(|(row, value)| Row { value, ..row }));
        Ok(())
    }
}

impl TriggeredText {
    pub(super) fn add(&self, place: usize, building: &mut Building) -> Result<(), String> {
        let mut trigger = match (self.every, self.every_events) {
            (Some(span), None) => GlobalTrigger::every(building.unit.span(span)),
            (None, Some(n)) => GlobalTrigger::every_events(n),
            _ => return Err("either `every` or `every_events` says when".to_owned()),
        };
        if self.accumulating {
            trigger = trigger.accumulating();
        }
        if self.at_end {
            trigger = trigger.and_at_the_end();
        }
        let keyed = building.timed()?.key_by(|row| &row.key);
        let id = name(&self.id, "triggered", place);
        let results = keyed.global(&id, trigger).aggregate(Chosen(self.aggregate)).unbounded();
        building.hear_late(&id, results.late());
        building.go_on(results.map(counted));
        Ok(())
    }
}
