//! Refuses what can be seen to make no sense without playing it.

use super::flow::{self, Built};
use super::format::{PlaceText, Side, Step, Text};
use super::{Malformed, Transcript};
use crate::operator::Class;

impl Transcript {
    pub(super) fn check(&self) -> Result<(), Malformed> {
        let Text { header, header_line, steps } = &self.text;
        let in_header = |message: String| self.malformed(*header_line, message);
        let expects_error = matches!(steps.first(), Some((_, Step::ExpectError(_))));
        let built = match flow::build(header) {
            Err(error) if !expects_error => return Err(in_header(error)),
            built => built.ok(),
        };
        if let Some(why) = built.as_ref().filter(|_| header.vary).and_then(may_not_vary) {
            return Err(in_header(why));
        }
        if header.workers == 0 || header.workers > 16 {
            return Err(in_header("between 1 and 16 workers are possible".to_owned()));
        }
        let mut brought = Brought::default();
        for (line, step) in steps {
            let checked = self
                .check_vary(step)
                .and_then(|()| self.check_places(step))
                .and_then(|()| built.as_ref().map_or(Ok(()), |built| check_names(step, built)))
                .and_then(|()| brought.step(*line, step));
            checked.map_err(|message| self.malformed(*line, message))?;
        }
        match brought.unread.first() {
            // Variations play the end of the input too.
            Some(&(_, line)) if !header.vary => {
                Err(self.malformed(line, "nothing reads this: no tick follows it"))
            }
            _ => Ok(()),
        }
    }

    fn check_vary(&self, step: &Step) -> Result<(), String> {
        if self.text.header.vary && !step.may_vary() {
            let name = step.name();
            return Err(format!(
                "a transcript that varies has no `{name}` step: what it does depends on the ticks"
            ));
        }
        Ok(())
    }

    /// Steps name only partitions and sides that there are.
    fn check_places(&self, step: &Step) -> Result<(), String> {
        let places: Vec<Place> = match step {
            Step::In(events) => events.iter().map(|e| (e.side, e.partition)).collect(),
            Step::Watermark(mark) => vec![(mark.side, mark.partition)],
            Step::Idle(place) | Step::Pause(place) | Step::Resume(place) => {
                let Some(partition) = place.partition else {
                    return Err("say which partition".to_owned());
                };
                vec![(place.side.unwrap_or_default(), partition)]
            }
            Step::Finish(place) => {
                vec![(place.side.unwrap_or_default(), place.partition.unwrap_or_default())]
            }
            _ => Vec::new(),
        };
        for (side, partition) in places {
            let source = self.text.header.source(side).ok_or("the flow has no right side")?;
            let partitions = source.partitions + source.later;
            if partition >= partitions {
                return Err(format!(
                    "there is no partition {partition}: there are {partitions}, from 0 on"
                ));
            }
            if self.text.header.vary && source.later > 0 {
                return Err("partitions that are found later cannot vary".to_owned());
            }
            if matches!(step, Step::Watermark(_)) && !source.watermark.is_manual() {
                return Err(
                    "a `watermark` step needs the source's watermark to be \"manual\"".to_owned()
                );
            }
            if matches!(step, Step::Idle(_)) && source.idle_after.is_none() {
                return Err("an `idle` step needs the source's `idle_after`".to_owned());
            }
        }
        Ok(())
    }
}

/// Why the results are no function of the input alone.
fn may_not_vary(built: &Built) -> Option<String> {
    let (class, operator) = &built.weakest;
    let what = match class {
        Class::Input => return None,
        Class::Arrival => "ticks and the order of arrival",
        Class::Clock => "the clock",
    };
    Some(format!("a flow of class {class} cannot vary: what `{operator}` does depends on {what}"))
}

/// Expectations name only operators that there are.
fn check_names(step: &Step, built: &Built) -> Result<(), String> {
    match step {
        Step::ExpectLate(wanted) => {
            let mut named = wanted.iter().filter_map(|late| late.op.as_ref());
            match named.find(|op| !built.late.contains(op)) {
                None => Ok(()),
                Some(op) => Err(no_operator(op, "late events", &built.late)),
            }
        }
        Step::ExpectState(state) => match built.ids.iter().any(|(id, _)| *id == state.op) {
            true => Ok(()),
            false => {
                let known = built.ids.iter().filter(|(_, stateful)| *stateful);
                let known: Vec<String> = known.map(|(id, _)| id.clone()).collect();
                Err(no_operator(&state.op, "state", &known))
            }
        },
        _ => Ok(()),
    }
}

fn no_operator(op: &str, what: &str, known: &[String]) -> String {
    match known {
        [] => format!("there is no operator `{op}`, and none with {what}"),
        known => format!("there is no operator `{op}`: with {what} there is {}", known.join(", ")),
    }
}

type Place = (Side, usize);

/// What came of partitions so far, by the lines of a transcript.
#[derive(Default)]
struct Brought {
    /// What no tick has read yet.
    unread: Vec<(Place, usize)>,
    ended: Vec<Place>,
    ended_sides: Vec<Side>,
}

impl Brought {
    fn step(&mut self, line: usize, step: &Step) -> Result<(), String> {
        match step {
            Step::In(events) => {
                events.iter().try_for_each(|e| self.bring((e.side, e.partition), line))
            }
            Step::Watermark(mark) => self.bring((mark.side, mark.partition), line),
            Step::Finish(PlaceText { side, partition: Some(partition) }) => {
                let place = (side.unwrap_or_default(), *partition);
                self.ended.push(place);
                self.unread.push((place, line));
                Ok(())
            }
            Step::Finish(PlaceText { side, partition: None }) => {
                let sides = [Side::Left, Side::Right].into_iter();
                self.ended_sides.extend(sides.filter(|s| side.is_none_or(|side| side == *s)));
                self.unread.clear();
                Ok(())
            }
            Step::Tick(1..) | Step::Commit | Step::Snapshot => {
                self.unread.clear();
                Ok(())
            }
            // No other partition is read.
            Step::Idle(PlaceText { side, partition }) => {
                let read = (side.unwrap_or_default(), partition.unwrap_or_default());
                self.unread.retain(|(place, _)| *place != read);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn bring(&mut self, place: Place, line: usize) -> Result<(), String> {
        if self.ended_sides.contains(&place.0) {
            return Err("the input has ended: nothing comes behind `finish`".to_owned());
        }
        if self.ended.contains(&place) {
            let partition = place.1;
            return Err(format!("partition {partition} has ended: nothing comes behind `finish`"));
        }
        self.unread.push((place, line));
        Ok(())
    }
}
