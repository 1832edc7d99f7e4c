//! Plays a transcript as it is written.

use serde_json::json;

use super::compare::{self, LateRow};
use super::flow::{OUT, build, late_sink, source_id};
use super::format::{InText, PlaceText, Side, StateText, Step, Text};
use super::value::{Input, Row, Unit};
use crate::error::{Error, ErrorKind};
use crate::event::Late;
use crate::testing::TestDriver;
use crate::time::Watermark;

/// All that came out, when the input had ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Results {
    pub(super) rows: Vec<Row>,
    pub(super) late: Vec<(String, Row)>,
}

/// A driver with a transcript's flow.
pub(super) struct Player {
    pub(super) driver: TestDriver,
    /// Operators with a late port.
    late: Vec<String>,
    sides: Vec<Side>,
    unit: Unit,
    /// How much an `expect` has seen already.
    seen_rows: usize,
    seen_late: usize,
}

pub(super) fn event(event: &InText, unit: Unit) -> Input {
    let (key, value) = (event.key.clone(), event.value.0.clone());
    Input::Event(Row { key, time: unit.time(event.time), value, window: None, pane: None })
}

impl Player {
    pub(super) fn start(text: &Text, workers: usize, seed: u64) -> Result<Self, String> {
        let built = build(&text.header)?;
        let driver = TestDriver::builder(built.flow).workers(workers).seed(seed).start();
        Ok(Player {
            driver: driver.map_err(|e| e.to_string())?,
            late: built.late,
            sides: text.header.sides(),
            unit: text.header.unit,
            seen_rows: 0,
            seen_late: 0,
        })
    }

    pub(super) fn push(&mut self, side: Side, partition: usize, input: Input) -> Result<(), Error> {
        self.driver.push(source_id(side), partition, input)
    }

    pub(super) fn rows(&self) -> Result<Vec<Row>, Error> {
        self.driver.outputs::<Row>(OUT)
    }

    pub(super) fn late_rows(&self) -> Result<Vec<LateRow>, Error> {
        let mut all = Vec::new();
        for operator in &self.late {
            let late = self.driver.outputs::<Late<Row>>(&late_sink(operator))?;
            all.extend(late.into_iter().map(|late| (operator.clone(), late)));
        }
        Ok(all)
    }

    /// Ends all input, runs the ticks that are left, and says what came out in all.
    pub(super) fn finish(&mut self) -> Result<Results, Error> {
        self.end_all()?;
        self.driver.tick()?;
        let mut rows = self.rows()?;
        rows.sort();
        let late = self.late_rows()?;
        let mut late: Vec<_> = late.into_iter().map(|(op, late)| (op, late.row)).collect();
        late.sort();
        Ok(Results { rows, late })
    }

    fn end_all(&mut self) -> Result<(), Error> {
        for side in self.sides.clone() {
            self.driver.pushed::<Input>(source_id(side))?.finish();
        }
        Ok(())
    }

    /// Does a step that is not an expectation.
    fn act(&mut self, step: &Step, text: &Text) -> Result<(), String> {
        if self.driver.engine.is_none() && step.runs_ticks() {
            return Err("the flow is down; `restart` first".to_owned());
        }
        self.drive(step, text).map_err(|error| {
            // No step builds a flow.
            let text = error.to_string();
            let plan = format!("{}: ", ErrorKind::Plan);
            text.strip_prefix(&plan).map(str::to_owned).unwrap_or(text)
        })
    }

    fn drive(&mut self, step: &Step, text: &Text) -> Result<(), Error> {
        let place = |place: &PlaceText| {
            let side = source_id(place.side.unwrap_or_default());
            (side, place.partition.unwrap_or_default().to_string())
        };
        match step {
            Step::In(events) => {
                for e in events {
                    let input = event(e, self.unit);
                    self.push(e.side, e.partition, input)?;
                }
                Ok(())
            }
            Step::Watermark(mark) => {
                let promise = self.unit.time(mark.time);
                self.push(mark.side, mark.partition, Input::Mark(promise))
            }
            Step::Idle(at) => {
                let (source, partition) = place(at);
                let header = text.header.source(at.side.unwrap_or_default());
                let timeout = header.and_then(|source| source.idle_after);
                let silence = timeout.map(|span| self.unit.span(span)).unwrap_or_default();
                self.driver.go_idle(source, &partition, silence)
            }
            Step::Pause(at) => {
                let (source, partition) = place(at);
                self.driver.pause(source, &partition);
                Ok(())
            }
            Step::Resume(at) => {
                let (source, partition) = place(at);
                self.driver.resume(source, &partition);
                Ok(())
            }
            Step::Finish(PlaceText { side: None, partition: None }) => {
                self.end_all()?;
                self.driver.tick()
            }
            Step::Finish(PlaceText { side, partition: Some(partition) }) => {
                let source = source_id(side.unwrap_or_default());
                self.driver.finish_partition::<Input>(source, *partition)
            }
            Step::Finish(PlaceText { side, .. }) => {
                self.driver.pushed::<Input>(source_id(side.unwrap_or_default()))?.finish();
                self.driver.tick()
            }
            Step::Clock(span) => {
                self.driver.advance_clock(self.unit.span(*span));
                Ok(())
            }
            Step::Tick(times) => (0..*times).try_for_each(|_| self.driver.tick()),
            Step::Commit => self.driver.commit(),
            Step::Snapshot => self.driver.snapshot(),
            Step::Crash => {
                self.driver.crash();
                Ok(())
            }
            Step::Restart { from_snapshot: false } => self.driver.restart(),
            Step::Restart { from_snapshot: true } => self.driver.restore_snapshot(),
            Step::Rescale(workers) => self.driver.rescale(*workers),
            Step::Expect(_) | Step::ExpectLate(_) | Step::ExpectState(_) | Step::ExpectError(_) => {
                Ok(())
            }
        }
    }

    /// What came since the last `expect`, less what a crash has taken back.
    fn new_rows(&mut self) -> Result<Vec<Row>, Error> {
        let rows = self.rows()?;
        let from = self.seen_rows.min(rows.len());
        self.seen_rows = rows.len();
        Ok(rows[from..].to_vec())
    }

    fn new_late(&mut self) -> Result<Vec<LateRow>, Error> {
        let late = self.late_rows()?;
        let from = self.seen_late.min(late.len());
        self.seen_late = late.len();
        Ok(late[from..].to_vec())
    }

    /// A crash takes back what an `expect` may have seen: it will come again.
    fn taken_back(&mut self) -> Result<(), Error> {
        self.seen_rows = self.seen_rows.min(self.rows()?.len());
        self.seen_late = self.seen_late.min(self.late_rows()?.len());
        Ok(())
    }

    fn meet(&mut self, step: &Step) -> Result<(), String> {
        let told = |e: Error| e.to_string();
        match step {
            Step::Expect(expect) => {
                let rows = self.new_rows().map_err(told)?;
                let compare = if expect.ordered { compare::ordered } else { compare::rows };
                compare(&expect.rows, &rows, self.unit)
            }
            Step::ExpectLate(wanted) => {
                let late = self.new_late().map_err(told)?;
                compare::late(wanted, &late, self.unit)
            }
            Step::ExpectState(state) => self.expect_state(state),
            _ => Ok(()),
        }
    }

    fn expect_state(&self, state: &StateText) -> Result<(), String> {
        let op = &state.op;
        let counters = self.driver.counters(op);
        let numbers = [
            ("entries", state.entries, self.driver.entries(op)),
            ("late", state.late, counters.late),
            ("used", state.used, counters.used),
            ("filtered", state.filtered, counters.filtered),
            ("dead", state.dead, counters.dead),
            ("held", state.held, counters.held),
        ];
        for (name, wanted, found) in numbers {
            if wanted.is_some_and(|wanted| wanted != found) {
                let wanted = wanted.unwrap_or_default();
                return Err(format!("`{op}` has {found} {name}, expected {wanted}"));
            }
        }
        if let Some(wanted) = &state.watermark {
            let found = match self.driver.watermark(op) {
                Watermark::Unknown => json!("none"),
                Watermark::At(time) => self.unit.show(time),
                Watermark::End => json!("end"),
            };
            if *wanted != found {
                return Err(format!("`{op}` has the watermark {found}, expected {wanted}"));
            }
        }
        self.expect_timers(state)
    }

    fn expect_timers(&self, state: &StateText) -> Result<(), String> {
        let Some(wanted) = &state.timers else { return Ok(()) };
        let key = state.key.clone().unwrap_or_else(|| "k".to_owned());
        let found = self.driver.timers(&state.op, &key).map_err(|e| e.to_string())?;
        let show = |name: &str, time| json!({"name": name, "time": self.unit.show(time)});
        let found: Vec<_> = found.iter().map(|t| show(&t.name, t.time)).collect();
        let wanted: Vec<_> = wanted.iter().map(|t| show(&t.name, self.unit.time(t.time))).collect();
        if found == wanted {
            return Ok(());
        }
        let (op, found, wanted) = (&state.op, json!(found), json!(wanted));
        Err(format!("`{op}` has the timers {found} for `{key}`, expected {wanted}"))
    }
}

/// Plays every step, and demands that nothing is left that was not expected. If the transcript
/// varies, the results are those at the end of input, whether it says `finish` or not.
pub(super) fn play(text: &Text) -> Result<Option<Results>, (usize, String)> {
    let header = &text.header;
    let mut steps = text.steps.iter().peekable();
    let mut player = match Player::start(text, header.workers, header.seed) {
        Ok(player) => player,
        Err(error) => match steps.peek() {
            Some((line, Step::ExpectError(wanted))) => {
                return contains(&error, wanted).map(|()| None).map_err(|m| (*line, m));
            }
            _ => return Err((text.header_line, error)),
        },
    };
    let mut last_line = text.header_line;
    // A step that failed, which the next one must expect.
    let mut failed: Option<(usize, &str, String)> = None;
    let unexpected =
        |(line, step, error): (usize, &str, String)| (line, format!("`{step}`: {error}"));
    for (line, step) in steps {
        last_line = *line;
        let here = |message: String| (*line, message);
        if let Step::ExpectError(wanted) = step {
            let nothing = || "an error was expected, and nothing failed".to_owned();
            let (_, _, error) = failed.take().ok_or_else(nothing).map_err(here)?;
            contains(&error, wanted).map_err(here)?;
            continue;
        }
        if let Some(failure) = failed.take() {
            return Err(unexpected(failure));
        }
        player.meet(step).map_err(here)?;
        failed = player.act(step, text).err().map(|error| (*line, step.name(), error));
        player.taken_back().map_err(|e| here(e.to_string()))?;
    }
    if let Some(failure) = failed {
        return Err(unexpected(failure));
    }
    let at_end = |message: String| (last_line, message);
    let told = |e: Error| at_end(e.to_string());
    let (rows, late) = (player.new_rows().map_err(told)?, player.new_late().map_err(told)?);
    compare::rows(&[], &rows, header.unit).map_err(at_end)?;
    compare::late(&[], &late, header.unit).map_err(at_end)?;
    match header.vary {
        true => player.finish().map(Some).map_err(told),
        false => Ok(None),
    }
}

fn contains(error: &str, wanted: &str) -> Result<(), String> {
    if error.contains(wanted) {
        return Ok(());
    }
    Err(format!("the error is \"{error}\", expected it to contain \"{wanted}\""))
}
