//! Rows that stand in the program.

use std::sync::Arc;

use super::{Fetched, ReadState, Reader, Replay, Resume, Source};
use crate::error::Error;
use crate::event::Data;

/// A bounded source of rows that the program holds in memory.
///
/// Partitions are named `0`, `1`, and so on; the position of a row is its index in its partition.
/// The rows can be read again after a crash if the program makes the same ones again.
///
/// ```
/// use highwater::source::{Fetched, Memory, ReadState, Resume, Source};
/// let source = Memory::partitions(vec![vec!["a", "b"], vec!["c"]]);
/// assert_eq!(source.partitions()?, ["0", "1"]);
/// let mut fetched = Fetched::default();
/// let state = source.open("0", &Resume::default())?.read(10, &mut fetched)?;
/// assert_eq!((fetched.len(), state), (2, ReadState::End));
/// # Ok::<(), highwater::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Memory<T> {
    partitions: Arc<Vec<Vec<T>>>,
}

impl<T: Data + Sync> Memory<T> {
    /// A source with these partitions.
    #[must_use]
    pub fn partitions(partitions: Vec<Vec<T>>) -> Self {
        Memory { partitions: Arc::new(partitions) }
    }

    /// A source with one partition of these rows.
    #[must_use]
    pub fn of(rows: impl IntoIterator<Item = T>) -> Self {
        Self::partitions(vec![rows.into_iter().collect()])
    }
}

impl<T: Data + Sync> Source for Memory<T> {
    type Item = T;

    fn describe(&self) -> String {
        format!("Memory({} partitions)", self.partitions.len())
    }

    fn replay(&self) -> Replay {
        Replay::Exact
    }

    fn partitions(&self) -> Result<Vec<String>, Error> {
        Ok((0..self.partitions.len()).map(|index| index.to_string()).collect())
    }

    fn is_complete(&self) -> bool {
        true
    }

    fn open(&self, partition: &str, resume: &Resume) -> Result<Box<dyn Reader<T>>, Error> {
        let index = partition.parse().unwrap_or(usize::MAX);
        let Some(rows) = self.partitions.get(index) else {
            return Err(Error::input(format!("there is no partition `{partition}` in memory")));
        };
        match usize::try_from(resume.position) {
            Ok(next) if next <= rows.len() => {
                Ok(Box::new(MemoryReader { partitions: self.partitions.clone(), index, next }))
            }
            _ => Err(Error::input(format!(
                "partition `{partition}` holds {} rows, fewer than the {} that were read before",
                rows.len(),
                resume.position
            ))),
        }
    }
}

struct MemoryReader<T> {
    partitions: Arc<Vec<Vec<T>>>,
    index: usize,
    next: usize,
}

impl<T: Data + Sync> Reader<T> for MemoryReader<T> {
    fn read(&mut self, limit: usize, fetched: &mut Fetched<T>) -> Result<ReadState, Error> {
        let rest = self.partitions.get(self.index).and_then(|rows| rows.get(self.next..));
        let rest = rest.unwrap_or_default();
        let count = rest.len().min(limit);
        fetched.rows.reserve(count);
        for (row, position) in rest[..count].iter().zip(self.next as u64..) {
            fetched.push(position, row.clone());
        }
        self.next += count;
        Ok(if count == rest.len() { ReadState::End } else { ReadState::More })
    }

    fn position(&self) -> u64 {
        self.next as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(source: &Memory<u32>, partition: &str, from: u64, limit: usize) -> Vec<(u64, u32)> {
        let resume = Resume { position: from, check: String::new() };
        let mut reader = source.open(partition, &resume).unwrap();
        let mut all = Vec::new();
        loop {
            let mut fetched = Fetched::default();
            let state = reader.read(limit, &mut fetched).unwrap();
            assert!(fetched.len() <= limit);
            let (rows, positions, _) = fetched.into_parts();
            all.extend(rows.into_iter().enumerate().map(|(i, row)| (positions.at(i), row)));
            if state == ReadState::End {
                return all;
            }
        }
    }

    #[test]
    fn every_position_and_limit_gives_the_rest() {
        let source = Memory::partitions(vec![vec![10, 11, 12], vec![], vec![20]]);
        assert_eq!(source.partitions().unwrap(), ["0", "1", "2"]);
        let all = [(0, 10), (1, 11), (2, 12)];
        for from in 0..=3 {
            for limit in 1..=4 {
                assert_eq!(drain(&source, "0", from, limit), all[from as usize..]);
            }
        }
        assert_eq!(drain(&source, "1", 0, 5), []);
        assert_eq!(drain(&Memory::of([7, 8]), "0", 1, 5), [(1, 8)]);
    }

    #[test]
    fn a_partition_that_is_gone_or_shorter_is_refused() {
        let source = Memory::of([1, 2]);
        let error = |partition, position| {
            let resume = Resume { position, check: String::new() };
            source.open(partition, &resume).err().unwrap().to_string()
        };
        assert!(error("1", 0).contains("no partition `1`"));
        assert!(error("0", 3).contains("holds 2 rows, fewer than the 3"));
    }
}
