//! The operators that a transcript's header may name, and how each is added to the flow.

mod counted;
mod functions;
mod joins;
mod windows;

use serde::Deserialize;

use super::flow::Building;
use super::value::Row;
pub(super) use windows::pane_row;

/// The name in the file, and the parameters.
macro_rules! operators {
    ($($variant:ident($text:ty)),* $(,)?) => {
        /// An operator with its parameters.
        #[derive(Clone, Debug, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub(super) enum Op {
            $($variant($text),)*
        }

        impl Op {
            /// Adds the operator behind what there is so far. `place` counts from 1.
            pub(super) fn add(&self, place: usize, building: &mut Building) -> Result<(), String> {
                match self {
                    $(Op::$variant(text) => text.add(place, building),)*
                }
            }
        }
    };
}

operators! {
    Tumbling(windows::TumblingText),
    Hopping(windows::HoppingText),
    Cumulate(windows::CumulateText),
    Calendar(windows::CalendarText),
    Global(windows::GlobalText),
    Session(windows::SessionText),
    Latest(windows::LatestText),
    Running(functions::RunningText),
    Absence(functions::AbsenceText),
    Heartbeat(functions::HeartbeatText),
    Sequence(functions::SequenceText),
    Alarm(functions::AlarmText),
    Dedup(counted::DedupText),
    CountWindow(counted::CountWindowText),
    Over(counted::OverText),
    Triggered(counted::TriggeredText),
    IntervalJoin(joins::IntervalJoinText),
    WindowJoin(joins::WindowJoinText),
    Cogroup(joins::CogroupText),
    AsOf(joins::AsOfText),
    Rekey(RekeyText),
    Filter(FilterText),
    Union(UnionText),
}

/// The id that was given, or one that follows from the place.
fn name(given: &Option<String>, kind: &str, place: usize) -> String {
    match given {
        Some(id) => id.clone(),
        None => format!("{kind}-{place}"),
    }
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

impl RekeyText {
    fn add(&self, _: usize, building: &mut Building) -> Result<(), String> {
        let to = self.to.clone();
        let rows = building.timed()?;
        building.go_on(rows.map(move |row| Row { key: to.clone(), ..row }));
        Ok(())
    }
}

impl FilterText {
    fn add(&self, _: usize, building: &mut Building) -> Result<(), String> {
        let min = self.min;
        let rows = building.timed()?;
        building.go_on(rows.filter(move |row| row.value.number() >= min));
        Ok(())
    }
}

impl UnionText {
    fn add(&self, _: usize, building: &mut Building) -> Result<(), String> {
        let rows = building.timed()?;
        let source = building.source()?;
        building.go_on(rows.union(&[&source]));
        Ok(())
    }
}
