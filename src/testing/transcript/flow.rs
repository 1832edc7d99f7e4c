//! From a header to a flow.

use super::format::{Header, Side, SourceText, Strategy};
use super::ops::pane_row;
use super::stamp::stamped;
use super::value::{Input, Row, TimeText, Unit, Value};
use crate::event::Late;
use crate::flow::{Flow, Stream, Timed, Untimed, Updates};
use crate::operator::Class;
use crate::sink::Stdout;
use crate::testing::Pushed;
use crate::time::{Disorder, EventTime, Skew};
use crate::window::Pane;

/// A left and a right stream.
type Both = (Stream<Row, Timed>, Stream<Row, Timed>);

/// A flow under construction.
pub(super) struct Building {
    pub(super) unit: Unit,
    timed: Option<Stream<Row, Timed>>,
    untimed: Option<Stream<Row, Untimed>>,
    panes: Option<Panes>,
    /// The timed rows of the sources.
    sources: Vec<Stream<Row, Timed>>,
    /// Operators with a late port, in order.
    late: Vec<String>,
}

type Panes = Stream<Pane<String, Value>, Updates>;

/// A flow and what a player needs to know of it.
pub(super) struct Built {
    pub(super) flow: Flow,
    /// The ids of operators with a late port.
    pub(super) late: Vec<String>,
    /// The class of the results, and the operator that it comes from.
    pub(super) weakest: (Class, String),
    /// All ids, and whether each keeps state.
    pub(super) ids: Vec<(String, bool)>,
}

/// The sink of results.
pub(super) const OUT: &str = "out";

/// The sink of the late events of an operator.
pub(super) fn late_sink(operator: &str) -> String {
    format!("{operator}.late-out")
}

/// The id of a source.
pub(super) fn source_id(side: Side) -> &'static str {
    match side {
        Side::Left => "events",
        Side::Right => "others",
    }
}

impl Building {
    /// The rows so far.
    pub(super) fn timed(&mut self) -> Result<Stream<Row, Timed>, String> {
        if self.panes.is_some() {
            return Err("only `latest` can follow windows that `emit`".to_owned());
        }
        let nothing = "nothing can follow an operator whose results have no event time";
        self.timed.take().ok_or_else(|| nothing.to_owned())
    }

    pub(super) fn panes(&mut self) -> Result<Panes, String> {
        let none = "`latest` follows windows that `emit`";
        self.panes.take().ok_or_else(|| none.to_owned())
    }

    pub(super) fn go_on_with_panes(&mut self, panes: Panes) {
        self.panes = Some(panes);
    }

    /// The rows of the one source.
    pub(super) fn source(&self) -> Result<Stream<Row, Timed>, String> {
        match self.sources.as_slice() {
            [one] => Ok(one.clone()),
            _ => Err("a flow with two inputs has no one source".to_owned()),
        }
    }

    /// The rows of both sources, where nothing stands behind them yet.
    pub(super) fn both(&mut self) -> Result<Both, String> {
        match self.sources.as_slice() {
            [left, right] => {
                let both = (left.clone(), right.clone());
                // What was behind the left source alone would be lost.
                match self.timed()?.port == both.0.port {
                    true => Ok(both),
                    false => Err("a join must be the first operator of the flow".to_owned()),
                }
            }
            _ => Err("a join needs a `left` and a `right` source in the header, and must be the \
                      first operator of the flow"
                .to_owned()),
        }
    }

    pub(super) fn go_on(&mut self, rows: Stream<Row, Timed>) {
        self.timed = Some(rows);
    }

    pub(super) fn end(&mut self, rows: Stream<Row, Untimed>) {
        self.untimed = Some(rows);
    }

    pub(super) fn hear_late(&mut self, id: &str, late: Stream<Late<Row>, Untimed>) {
        late.sink(&late_sink(id), Stdout::json());
        self.late.push(id.to_owned());
    }
}

/// What a source says of times that are far ahead.
fn with_limits(mut disorder: Disorder<Input>, text: &SourceText, unit: Unit) -> Disorder<Input> {
    if let Some(span) = text.lead_limit {
        disorder = disorder.lead_limit(unit.span(span));
    }
    if let Some(span) = text.at_most_ahead {
        disorder = disorder.at_most_ahead(unit.span(span)).on_skew(Skew::Skip);
    }
    if let Some(span) = text.at_most_ahead_of_value {
        let taken_in = move |input: &Input| match input {
            Input::Event(row) => unit.time(TimeText::Units(row.value.number())),
            Input::Mark(_) => EventTime::MAX,
        };
        disorder = disorder.at_most_ahead_of(unit.span(span), taken_in).on_skew(Skew::Skip);
    }
    disorder
}

fn add_source(flow: &Flow, side: Side, text: &SourceText, unit: Unit) -> Stream<Row, Timed> {
    let pushed = Pushed::<Input>::partitions(text.partitions);
    let disorder = match text.watermark {
        Strategy::Manual => Disorder::punctuated(|input: &Input, _| match input {
            Input::Mark(promise) => Some(*promise),
            Input::Event(_) => None,
        }),
        Strategy::Ascending => Disorder::ascending(),
        Strategy::AtMost(bound) => Disorder::at_most(unit.span(bound)),
    };
    let disorder = match text.idle_after {
        Some(timeout) => disorder.idle_after(unit.span(timeout)),
        None => disorder,
    };
    let disorder = with_limits(disorder, text, unit);
    let rows = flow.source(source_id(side), pushed);
    let kept = match text.drop_below {
        Some(least) => rows.filter(move |input| match input {
            Input::Event(row) => row.value.number() >= least,
            Input::Mark(_) => true,
        }),
        None => (*rows).clone(),
    };
    // A mark is no event: it must not count as the largest time so far.
    let time = |input: &Input| match input {
        Input::Event(row) => row.time,
        Input::Mark(_) => EventTime::MIN,
    };
    kept.event_time(time, disorder).filter_map(|input| match input {
        Input::Event(row) => Some(row),
        Input::Mark(_) => None,
    })
}

/// Builds the flow of a header.
pub(super) fn build(header: &Header) -> Result<Built, String> {
    let unit = header.unit;
    let flow = Flow::new("transcript");
    let sources = match (&header.source, &header.left, &header.right) {
        (Some(one), None, None) => vec![add_source(&flow, Side::Left, one, unit)],
        (None, Some(left), Some(right)) => vec![
            add_source(&flow, Side::Left, left, unit),
            add_source(&flow, Side::Right, right, unit),
        ],
        (None, None, None) => {
            vec![add_source(&flow, Side::Left, &SourceText::standard(), unit)]
        }
        _ => return Err("a flow has a `source`, or a `left` and a `right` one".to_owned()),
    };
    let timed = Some(sources[0].clone());
    let late = Vec::new();
    let mut building = Building { unit, timed, untimed: None, panes: None, sources, late };
    for (index, op) in header.flow.iter().enumerate() {
        let place = index + 1;
        op.add(place, &mut building).map_err(|error| format!("operator {place}: {error}"))?;
    }
    match (building.timed, building.untimed, building.panes) {
        (Some(rows), _, _) => stamped(&rows).sink(OUT, Stdout::json()),
        (_, Some(rows), _) => rows.sink(OUT, Stdout::json()),
        (_, _, Some(panes)) => panes.map(pane_row).sink(OUT, Stdout::json()),
        (None, None, None) => return Err("the flow has no end".to_owned()),
    }
    if let Some(fault) = flow.fault() {
        return Err(fault);
    }
    let weakest = flow.weakest_of(OUT).ok_or("the flow has no end")?;
    let ids = flow.ids();
    Ok(Built { flow, late: building.late, weakest, ids })
}
