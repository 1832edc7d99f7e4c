//! Input and output of a flow whose rows may be of any type.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::marker::PhantomData;

use crate::error::Error;
use crate::event::Data;
use crate::testing::TestDriver;

/// What one source is fed.
pub(super) trait AnyFeed {
    fn source(&self) -> &str;
    /// How many events each partition has.
    fn lengths(&self) -> Vec<usize>;
    fn push(&self, driver: &mut TestDriver, partition: usize, index: usize) -> Result<(), Error>;
    fn finish(&self, driver: &TestDriver) -> Result<(), Error>;
    fn show(&self, partition: usize, index: usize) -> String;
}

pub(super) struct TypedFeed<T> {
    pub(super) source: String,
    pub(super) partitions: Vec<Vec<T>>,
}

impl<T: Data + Debug> AnyFeed for TypedFeed<T> {
    fn source(&self) -> &str {
        &self.source
    }

    fn lengths(&self) -> Vec<usize> {
        self.partitions.iter().map(Vec::len).collect()
    }

    fn push(&self, driver: &mut TestDriver, partition: usize, index: usize) -> Result<(), Error> {
        driver.push(&self.source, partition, self.partitions[partition][index].clone())
    }

    fn finish(&self, driver: &TestDriver) -> Result<(), Error> {
        driver.pushed::<T>(&self.source)?.finish();
        Ok(())
    }

    fn show(&self, partition: usize, index: usize) -> String {
        format!("{:?}", self.partitions[partition][index])
    }
}

/// What is looked at in one sink.
pub(super) trait AnyView {
    fn sink(&self) -> &str;
    /// What must be the same in every run.
    fn compared(&self, driver: &TestDriver) -> Result<Vec<String>, Error>;
    /// The rows in the order in which they came.
    fn rows(&self, driver: &TestDriver) -> Result<Vec<String>, Error>;
}

/// The rows of a sink, in no order.
pub(super) struct Bag<T> {
    sink: String,
    rows: PhantomData<fn() -> T>,
}

impl<T> Bag<T> {
    pub(super) fn of(sink: &str) -> Self {
        Bag { sink: sink.to_owned(), rows: PhantomData }
    }
}

fn shown<T: Data + Debug>(sink: &str, driver: &TestDriver) -> Result<Vec<String>, Error> {
    Ok(driver.outputs::<T>(sink)?.iter().map(|row| format!("{row:?}")).collect())
}

impl<T: Data + Debug> AnyView for Bag<T> {
    fn sink(&self) -> &str {
        &self.sink
    }

    fn compared(&self, driver: &TestDriver) -> Result<Vec<String>, Error> {
        let mut rows = self.rows(driver)?;
        rows.sort();
        Ok(rows)
    }

    fn rows(&self, driver: &TestDriver) -> Result<Vec<String>, Error> {
        shown::<T>(&self.sink, driver)
    }
}

/// The last row of each key.
pub(super) struct Last<T, K> {
    pub(super) sink: String,
    pub(super) key: Box<dyn Fn(&T) -> K>,
}

impl<T: Data + Debug, K: Ord> AnyView for Last<T, K> {
    fn sink(&self) -> &str {
        &self.sink
    }

    fn compared(&self, driver: &TestDriver) -> Result<Vec<String>, Error> {
        let mut last = BTreeMap::new();
        for row in driver.outputs::<T>(&self.sink)? {
            last.insert((self.key)(&row), format!("{row:?}"));
        }
        Ok(last.into_values().collect())
    }

    fn rows(&self, driver: &TestDriver) -> Result<Vec<String>, Error> {
        shown::<T>(&self.sink, driver)
    }
}

/// Something that must hold of all rows.
pub(super) struct Invariant<T> {
    pub(super) sink: String,
    pub(super) check: Box<Check<T>>,
}

type Check<T> = dyn Fn(&[T]) -> Result<(), String>;

impl<T: Data + Debug> AnyView for Invariant<T> {
    fn sink(&self) -> &str {
        &self.sink
    }

    fn compared(&self, driver: &TestDriver) -> Result<Vec<String>, Error> {
        let broken = (self.check)(&driver.outputs::<T>(&self.sink)?).err();
        Ok(broken.map(|why| format!("broken invariant: {why}")).into_iter().collect())
    }

    fn rows(&self, driver: &TestDriver) -> Result<Vec<String>, Error> {
        shown::<T>(&self.sink, driver)
    }
}
