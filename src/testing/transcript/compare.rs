//! Compares what came with what is expected.

use std::fmt::Write as _;

use serde_json::{Value as Json, json};

use super::format::{LateText, RowText};
use super::value::{Row, Unit};
use crate::event::Late;

/// A late event, and the operator it was late for.
pub(super) type LateRow = (String, Late<Row>);

fn agrees<T: PartialEq>(wanted: Option<T>, found: Option<T>) -> bool {
    wanted.is_none() || wanted == found
}

/// The fields that have a value.
fn named<const N: usize>(fields: [(&str, Option<Json>); N]) -> Json {
    let given = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Json::Object(given.collect())
}

impl RowText {
    fn matches(&self, row: &Row, unit: Unit) -> bool {
        let time = |text: Option<super::value::TimeText>| text.map(|t| unit.time(t));
        agrees(self.key.as_ref(), Some(&row.key))
            && agrees(time(self.time), Some(row.time))
            && agrees(time(self.start), row.window.map(|w| w.start))
            && agrees(time(self.end), row.window.map(|w| w.end))
            && agrees(self.value.clone(), Some(row.value.json()))
            && agrees(self.pane, row.pane.map(|p| p.index))
            && agrees(self.timing, row.pane.map(|p| p.timing))
            && agrees(self.last, row.pane.map(|p| p.is_final))
    }

    fn show(&self, unit: Unit) -> Json {
        named([
            ("key", self.key.as_ref().map(|key| json!(key))),
            ("time", self.time.map(|t| unit.show(unit.time(t)))),
            ("start", self.start.map(|t| unit.show(unit.time(t)))),
            ("end", self.end.map(|t| unit.show(unit.time(t)))),
            ("value", self.value.clone()),
            ("pane", self.pane.map(|pane| json!(pane))),
            ("timing", self.timing.map(|timing| json!(timing))),
            ("final", self.last.map(|last| json!(last))),
        ])
    }
}

impl LateText {
    fn matches(&self, (op, late): &LateRow, unit: Unit) -> bool {
        let row = &late.row;
        agrees(self.op.as_ref(), Some(op))
            && agrees(self.key.as_ref(), Some(&row.key))
            && agrees(self.time.map(|t| unit.time(t)), Some(row.time))
            && agrees(self.value.clone(), Some(row.value.json()))
            && agrees(self.reason, Some(late.reason))
    }

    fn show(&self, unit: Unit) -> Json {
        named([
            ("op", self.op.as_ref().map(|op| json!(op))),
            ("key", self.key.as_ref().map(|key| json!(key))),
            ("time", self.time.map(|t| unit.show(unit.time(t)))),
            ("value", self.value.clone()),
            ("reason", self.reason.map(|reason| json!(reason))),
        ])
    }
}

pub(super) fn show_late((op, late): &LateRow, unit: Unit) -> Json {
    let time = unit.show(late.row.time);
    let (key, value) = (&late.row.key, late.row.value.json());
    json!({"op": op, "key": key, "time": time, "value": value, "reason": late.reason})
}

/// Finds for each expected row one that came and that it matches: the largest such pairing, by
/// augmenting paths, since a row may match several.
fn pair_up(
    wanted: usize,
    found: usize,
    matches: impl Fn(usize, usize) -> bool,
) -> Vec<Option<usize>> {
    let mut taken_by: Vec<Option<usize>> = vec![None; found];
    for want in 0..wanted {
        let mut seen = vec![false; found];
        augment(want, &matches, &mut taken_by, &mut seen);
    }
    taken_by
}

fn augment(
    want: usize,
    matches: &impl Fn(usize, usize) -> bool,
    taken_by: &mut Vec<Option<usize>>,
    seen: &mut Vec<bool>,
) -> bool {
    for found in 0..taken_by.len() {
        if seen[found] || !matches(want, found) {
            continue;
        }
        seen[found] = true;
        let free = match taken_by[found] {
            None => true,
            Some(other) => augment(other, matches, taken_by, seen),
        };
        if free {
            taken_by[found] = Some(want);
            return true;
        }
    }
    false
}

/// Compares two bags; the error lists what is missing and what is unexpected.
fn bags(
    what: &str,
    wanted: &[Json],
    found: &[Json],
    matches: impl Fn(usize, usize) -> bool,
) -> Result<(), String> {
    let taken_by = pair_up(wanted.len(), found.len(), matches);
    let missing = (0..wanted.len()).filter(|w| !taken_by.contains(&Some(*w)));
    let missing: Vec<&Json> = missing.map(|w| &wanted[w]).collect();
    let added = found.iter().zip(&taken_by).filter(|(_, taken)| taken.is_none());
    let added: Vec<&Json> = added.map(|(row, _)| row).collect();
    if missing.is_empty() && added.is_empty() {
        return Ok(());
    }
    let mut text = String::new();
    for row in missing {
        let _ = write!(text, "\n  expected {what}, did not come: {row}");
    }
    for row in added {
        let _ = write!(text, "\n  unexpected {what}: {row}");
    }
    Err(format!("{what}s differ{text}"))
}

pub(super) fn rows(wanted: &[RowText], found: &[Row], unit: Unit) -> Result<(), String> {
    let shown_wanted: Vec<Json> = wanted.iter().map(|w| w.show(unit)).collect();
    let with_time = wanted.iter().any(|w| w.time.is_some());
    let shown_found: Vec<Json> = found.iter().map(|row| unit.show_row(row, with_time)).collect();
    bags("row", &shown_wanted, &shown_found, |w, f| wanted[w].matches(&found[f], unit))
}

/// As [`rows`], where the order counts too.
pub(super) fn ordered(wanted: &[RowText], found: &[Row], unit: Unit) -> Result<(), String> {
    rows(wanted, found, unit)?;
    match wanted.iter().zip(found).position(|(w, f)| !w.matches(f, unit)) {
        None => Ok(()),
        Some(at) => {
            let with_time = wanted[at].time.is_some();
            let (wanted, found) = (wanted[at].show(unit), unit.show_row(&found[at], with_time));
            Err(format!("row {} in order: expected {wanted}, came {found}", at + 1))
        }
    }
}

pub(super) fn late(wanted: &[LateText], found: &[LateRow], unit: Unit) -> Result<(), String> {
    let shown_wanted: Vec<Json> = wanted.iter().map(|w| w.show(unit)).collect();
    let shown_found: Vec<Json> = found.iter().map(|row| show_late(row, unit)).collect();
    bags("late event", &shown_wanted, &shown_found, |w, f| wanted[w].matches(&found[f], unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pairing_is_found_even_if_the_first_choice_is_wrong() {
        // The first expected row matches both, the second only the first.
        let matches = |w: usize, f: usize| w == 0 || f == 0;
        assert_eq!(pair_up(2, 2, matches), [Some(1), Some(0)]);
        assert_eq!(pair_up(2, 1, matches), [Some(0)]);
    }
}
