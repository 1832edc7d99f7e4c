//! What the windows over `examples/data/flights` must give, counted with plain loops: nothing of
//! highwater is used here, so that an error there cannot hide behind the same error here.
#![allow(dead_code)] // each test uses its part

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde::Deserialize;

pub const MINUTE: i64 = 60_000_000;

/// One row of the data as it stands in the file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Row {
    pub departed: String,
    pub scheduled: String,
    pub carrier: String,
    pub flight: u32,
    pub tailnum: String,
    pub origin: String,
    pub dest: String,
    pub dep_delay_min: i64,
    pub distance_mi: u32,
}

/// One row with its event time in microseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flight {
    pub scheduled: i64,
    pub row: Row,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Carrier,
    Origin,
    Dest,
}

/// A row that came after the promise of its file had closed its window.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Late {
    pub origin: String,
    pub scheduled: i64,
    pub carrier: String,
    pub flight: u32,
    /// How far the promise was ahead of `scheduled`, in microseconds.
    pub late_by: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// (key, start of the window in microseconds) -> (flights, sum of their delays in minutes).
    pub results: BTreeMap<(String, i64), (u64, i64)>,
    /// Sorted: a bag, in which equal rows stand as often as they came.
    pub late: Vec<Late>,
}

impl Expected {
    /// How many rows are counted in a window.
    pub fn used(&self) -> u64 {
        self.results.values().map(|(flights, _)| flights).sum()
    }
}

/// Where the data is.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/flights")
}

/// The flights of each file in the file's order: EWR, JFK, LGA.
pub fn read() -> Vec<Vec<Flight>> {
    ["EWR", "JFK", "LGA"]
        .map(|airport| {
            let path = directory().join(format!("{airport}.csv.gz"));
            let file = std::fs::File::open(&path).unwrap();
            let mut rows = csv::Reader::from_reader(MultiGzDecoder::new(file));
            rows.deserialize().map(|row| flight(row.unwrap())).collect()
        })
        .into()
}

fn flight(row: Row) -> Flight {
    let scheduled: jiff::Timestamp = row.scheduled.parse().unwrap();
    Flight { scheduled: scheduled.as_microsecond(), row }
}

/// Count and sum of delays per key and window, and what is late, where each file promises that
/// no row is more than `bound_minutes` behind the latest `scheduled` before it.
pub fn expect(
    files: &[Vec<Flight>],
    bound_minutes: i64,
    window_minutes: i64,
    key: Key,
) -> Expected {
    let window = window_minutes * MINUTE;
    let mut expected = Expected::default();
    for file in files {
        let mut latest: Option<i64> = None;
        for Flight { scheduled, row } in file {
            let start = scheduled.div_euclid(window) * window;
            match latest.map(|latest| latest - bound_minutes * MINUTE) {
                Some(promise) if start + window <= promise => expected.late.push(Late {
                    origin: row.origin.clone(),
                    scheduled: *scheduled,
                    carrier: row.carrier.clone(),
                    flight: row.flight,
                    late_by: promise - scheduled,
                }),
                _ => {
                    let key = match key {
                        Key::Carrier => &row.carrier,
                        Key::Origin => &row.origin,
                        Key::Dest => &row.dest,
                    };
                    let result = expected.results.entry((key.clone(), start)).or_default();
                    result.0 += 1;
                    result.1 += row.dep_delay_min;
                }
            }
            latest = latest.max(Some(*scheduled));
        }
    }
    expected.late.sort();
    expected
}
