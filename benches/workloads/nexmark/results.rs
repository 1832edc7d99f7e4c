//! Results of queries as rows of numbers, whatever their length.

use highwater::{Facts, Stream};

use super::model::Emit;
use crate::check::{self, Check};

/// What will be known when the flow has ended.
pub(crate) type Later<T> = Box<dyn FnOnce() -> T>;

/// The results of a query, to be added up or collected.
pub(crate) trait Results {
    /// Sends them to a sink that adds them up.
    fn sum(self: Box<Self>) -> Later<Check>;
    /// Sends them to a sink that keeps them.
    fn rows(self: Box<Self>) -> Later<Vec<Vec<u64>>>;
}

/// A row in one number.
#[inline]
pub(crate) fn mix(row: &[u64]) -> u64 {
    let fold =
        |mixed: u64, n: &u64| (mixed ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    row.iter().fold(row.len() as u64, fold)
}

impl<const N: usize, M: Facts> Results for Stream<[u64; N], M> {
    fn sum(self: Box<Self>) -> Later<Check> {
        let (sink, total) = check::sink(|check: &mut Check, row: &[u64; N]| check.add(mix(row)));
        self.sink("out", sink);
        Box::new(move || total.get())
    }

    fn rows(self: Box<Self>) -> Later<Vec<Vec<u64>>> {
        let (sink, rows) = highwater::sink::channel();
        self.sink("out", sink);
        Box::new(move || rows.map(|row: [u64; N]| row.to_vec()).collect())
    }
}

/// Results that replace each other: of those that begin with the same number the last one counts,
/// and is told as one row or as several.
pub(crate) struct Upserts<S, F> {
    pub(crate) stream: S,
    pub(crate) rows: F,
}

impl<const N: usize, M: Facts, F: Fn(&[u64; N], Emit<'_>)> Upserts<Stream<[u64; N], M>, F> {
    fn last(self) -> impl FnOnce(Emit<'_>) {
        let (sink, rows) = highwater::sink::channel();
        self.stream.sink("out", sink);
        move |emit| {
            let last: hashbrown::HashMap<u64, [u64; N]> =
                rows.map(|row: [u64; N]| (row[0], row)).collect();
            last.values().for_each(|row| (self.rows)(row, emit));
        }
    }
}

impl<const N: usize, M: Facts, F> Results for Upserts<Stream<[u64; N], M>, F>
where
    F: Fn(&[u64; N], Emit<'_>) + 'static,
{
    fn sum(self: Box<Self>) -> Later<Check> {
        let last = self.last();
        Box::new(move || {
            let mut check = Check::default();
            last(&mut |row| check.add(mix(row)));
            check
        })
    }

    fn rows(self: Box<Self>) -> Later<Vec<Vec<u64>>> {
        let last = self.last();
        Box::new(move || {
            let mut rows = Vec::new();
            last(&mut |row| rows.push(row.to_vec()));
            rows
        })
    }
}
