//! Windows of every kind, with what may come before and after their results.

use serde::Deserialize;

use super::super::aggregate::{Chosen, Kind};
use super::super::flow::Building;
use super::super::value::{PaneInfo, Row, SpanText, Value};
use super::name;
use crate::aggregate::{Aggregate, LastN, LastSpan};
use crate::flow::WindowKind;
use crate::window::{
    Calendar, Cumulate, Emit, FixedWindows, Global, Hopping, Pane, Session, Tumbling, WindowResult,
};

/// What a window tells before its final result.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::testing::transcript) enum EmitText {
    OnClose,
    OnChange,
    Every(SpanText),
    EveryClock(SpanText),
    EveryCount(u64),
}

/// The parameters of one kind of window, and those that all fixed windows have.
macro_rules! fixed_windows {
    ($($(#[$doc:meta])* $text:ident { $($field:ident: $type:ty),* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(in crate::testing::transcript) struct $text {
            id: Option<String>,
            $($field: $type,)*
            #[serde(default)]
            aggregate: Kind,
            lateness: Option<SpanText>,
            emit: Option<EmitText>,
            #[serde(default)]
            purging: bool,
            keep_last: Option<usize>,
            keep_last_span: Option<SpanText>,
        }

        impl $text {
            fn common(&self, kind: &str, place: usize) -> Common {
                Common {
                    id: name(&self.id, kind, place),
                    aggregate: self.aggregate,
                    lateness: self.lateness,
                    emit: self.emit,
                    purging: self.purging,
                    keep_last: self.keep_last,
                    keep_last_span: self.keep_last_span,
                }
            }
        }
    )*};
}

fixed_windows! {
    TumblingText { size: SpanText, offset: Option<SpanText> }
    HoppingText { size: SpanText, slide: SpanText, offset: Option<SpanText> }
    CumulateText { step: SpanText, size: SpanText, offset: Option<SpanText> }
    CalendarText { every: CalendarUnit, zone: String }
    GlobalText { }
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::testing::transcript) enum CalendarUnit {
    Day,
    Week,
    Month,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::testing::transcript) struct SessionText {
    id: Option<String>,
    /// Without it, the value of an event is its gap, in units.
    gap: Option<SpanText>,
    #[serde(default)]
    aggregate: Kind,
    lateness: Option<SpanText>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::testing::transcript) struct LatestText {
    id: Option<String>,
}

/// What all fixed windows have.
struct Common {
    id: String,
    aggregate: Kind,
    lateness: Option<SpanText>,
    emit: Option<EmitText>,
    purging: bool,
    keep_last: Option<usize>,
    keep_last_span: Option<SpanText>,
}

impl TumblingText {
    pub(super) fn add(&self, place: usize, building: &mut Building) -> Result<(), String> {
        let mut windows = Tumbling::of(building.unit.span(self.size));
        if let Some(offset) = self.offset {
            windows = windows.offset(building.unit.span(offset));
        }
        let common = self.common("tumbling", place);
        let chosen = Chosen(common.aggregate);
        match (common.keep_last, common.keep_last_span) {
            (Some(n), None) => fixed(building, common, windows, LastN::of(n, chosen)),
            (None, Some(span)) => {
                let kept = LastSpan::of(building.unit.span(span), chosen);
                fixed(building, common, windows, kept)
            }
            (None, None) => fixed(building, common, windows, chosen),
            (Some(_), Some(_)) => {
                Err("`keep_last` and `keep_last_span` do not go together".to_owned())
            }
        }
    }
}

impl HoppingText {
    pub(super) fn add(&self, place: usize, building: &mut Building) -> Result<(), String> {
        let unit = building.unit;
        let mut windows = Hopping::of(unit.span(self.size), unit.span(self.slide));
        if let Some(offset) = self.offset {
            windows = windows.offset(unit.span(offset));
        }
        all_rows(building, self.common("hopping", place), windows)
    }
}

impl CumulateText {
    pub(super) fn add(&self, place: usize, building: &mut Building) -> Result<(), String> {
        let unit = building.unit;
        let mut windows = Cumulate::of(unit.span(self.step), unit.span(self.size));
        if let Some(offset) = self.offset {
            windows = windows.offset(unit.span(offset));
        }
        all_rows(building, self.common("cumulate", place), windows)
    }
}

impl CalendarText {
    pub(super) fn add(&self, place: usize, building: &mut Building) -> Result<(), String> {
        let windows = match self.every {
            CalendarUnit::Day => Calendar::days(&self.zone),
            CalendarUnit::Week => Calendar::weeks(&self.zone),
            CalendarUnit::Month => Calendar::months(&self.zone),
        };
        all_rows(building, self.common("calendar", place), windows)
    }
}

impl GlobalText {
    pub(super) fn add(&self, place: usize, building: &mut Building) -> Result<(), String> {
        all_rows(building, self.common("global", place), Global)
    }
}

impl SessionText {
    pub(super) fn add(&self, place: usize, building: &mut Building) -> Result<(), String> {
        let unit = building.unit;
        let id = name(&self.id, "session", place);
        let lateness = self.lateness;
        match self.gap {
            Some(gap) => {
                let windows = Session::with_gap(unit.span(gap));
                window(building, &id, windows, lateness, Chosen(self.aggregate))
            }
            None => {
                let gap = move |row: &Row| unit.span(SpanText::Units(row.value.number()));
                let windows = Session::with_gap_of("value", gap);
                window(building, &id, windows, lateness, Chosen(self.aggregate))
            }
        }
    }
}

impl LatestText {
    pub(super) fn add(&self, place: usize, building: &mut Building) -> Result<(), String> {
        let panes = building.panes()?;
        let latest = panes.key_by(|pane| &pane.key).latest(&name(&self.id, "latest", place));
        building.go_on_with_panes(latest);
        Ok(())
    }
}

/// A window's result as a row, which may go into a further window.
pub(super) fn as_row(result: WindowResult<String, Value>) -> Row {
    Row {
        key: result.key,
        time: result.window.last_time(),
        value: result.value,
        window: Some(result.window),
        pane: None,
    }
}

/// A pane as a row, which goes to the end.
pub(in super::super) fn pane_row(pane: Pane<String, Value>) -> Row {
    let Pane { key, window, value, index, timing, is_final, .. } = pane;
    let pane = Some(PaneInfo { index, timing, is_final });
    Row { key, time: window.last_time(), value, window: Some(window), pane }
}

fn all_rows<W: FixedWindows>(
    building: &mut Building,
    common: Common,
    windows: W,
) -> Result<(), String> {
    if common.keep_last.is_some() || common.keep_last_span.is_some() {
        return Err("`keep_last` and `keep_last_span` are for `tumbling`".to_owned());
    }
    let chosen = Chosen(common.aggregate);
    fixed(building, common, windows, chosen)
}

fn fixed<W: FixedWindows, A: Aggregate<Row, Output = Value>>(
    building: &mut Building,
    common: Common,
    windows: W,
    aggregate: A,
) -> Result<(), String> {
    let unit = building.unit;
    let Some(emit) = common.emit else {
        if common.purging {
            return Err("`purging` is for windows that `emit`".to_owned());
        }
        return window(building, &common.id, windows, common.lateness, aggregate);
    };
    let emit = match emit {
        EmitText::OnClose => Emit::OnClose,
        EmitText::OnChange => Emit::OnChange,
        EmitText::Every(span) => Emit::Every(unit.span(span)),
        EmitText::EveryClock(span) => Emit::EveryClock(unit.span(span)),
        EmitText::EveryCount(count) => Emit::EveryCount(count),
    };
    let keyed = building.timed()?.key_by(|row| &row.key);
    let lateness = common.lateness.map(|span| unit.span(span)).unwrap_or_default();
    let mut panes = keyed.window(&common.id, windows).lateness(lateness).emit(emit);
    if common.purging {
        panes = panes.purging();
    }
    let panes = panes.aggregate(aggregate);
    building.hear_late(&common.id, panes.late());
    building.go_on_with_panes((*panes).clone());
    Ok(())
}

fn window<W: WindowKind<Row>, A: Aggregate<Row, Output = Value>>(
    building: &mut Building,
    id: &str,
    windows: W,
    lateness: Option<SpanText>,
    aggregate: A,
) -> Result<(), String> {
    let keyed = building.timed()?.key_by(|row| &row.key);
    let lateness = lateness.map(|span| building.unit.span(span)).unwrap_or_default();
    let results = keyed.window(id, windows).lateness(lateness).aggregate(aggregate);
    building.hear_late(id, results.late());
    building.go_on(results.map(as_row));
    Ok(())
}
