//! The rows of a query, in partitions of a key's range.

mod pages;

use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use serde::de::DeserializeOwned;
use tokio::runtime::Runtime;

use super::signal::lock;
use super::{Reader, Replay, Resume, Source, Undecodable, Waker};
use crate::error::Error;
use crate::event::Data;
use crate::postgres::Postgres;
use pages::{PageReader, Pages};

/// A query that needs a key to be read by: see [`by_key`](PostgresQuery::by_key).
pub struct PostgresQuery<T> {
    database: Postgres,
    query: String,
    rows: PhantomData<fn() -> T>,
}

/// The rows of a query, once: made by [`Postgres::query`] and [`PostgresQuery::by_key`].
///
/// A row becomes a `T` by the names of its columns, through JSON, as in
/// [`lookup`](Postgres::lookup). Its position is its key, counted from the beginning of the
/// partition's range. Rows are read in pages of 2,000 in the order of the key, a few pages ahead,
/// by up to four connections; an index on the key makes that cheap.
///
/// # Reading again
/// After a crash reading goes on at the key behind the last commit. What was committed is not read
/// again, whatever became of those rows. The others are read as they are then: the results are
/// those of a run without a crash only if the rows of the range do not change while the flow has
/// not finished. Pages are separate statements, so that a long backfill holds no transaction open;
/// a row that is inserted behind the place that has been reached is never seen.
///
/// ```no_run
/// use highwater::postgres::Postgres;
/// use highwater::prelude::*;
///
/// #[derive(Clone, serde::Serialize, serde::Deserialize)]
/// struct Order { id: i64, customer: String, at: EventTime }
///
/// let orders = Postgres::at("host=localhost user=app dbname=shop")
///     .query::<Order>("select id, customer, at from orders where id >= $1 and id < $2")
///     .by_key("id", 0..10_000_000)
///     .partitions(8);
/// let flow = Flow::new("orders");
/// flow.source("orders", orders)
///     .event_time(|o| o.at, Disorder::at_most(hours(1)))
///     .key_by(|o| &o.customer)
///     .window("per-day", Tumbling::of(days(1)))
///     .aggregate(Count)
///     .drop_late("an example")
///     .sink("out", JsonLines::to("out"));
/// flow.run(Settings::at("state"))?;
/// # Ok::<(), Error>(())
/// ```
pub struct PostgresSource<T> {
    pages: Arc<Pages>,
    range: Range<i64>,
    partitions: u32,
    undecodable: Undecodable,
    running: Mutex<Option<Running>>,
    rows: PhantomData<fn() -> T>,
}

/// The thread of one run on which pages are waited for.
struct Running {
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
    waker: Waker,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // The plain drop waits for its thread.
            runtime.shutdown_background();
        }
    }
}

impl Postgres {
    /// A query as a bounded source. It selects the rows whose key is at least `$1` and below
    /// `$2`, both of type `bigint`; their order does not matter.
    #[must_use]
    pub fn query<T>(&self, query: impl Into<String>) -> PostgresQuery<T> {
        PostgresQuery { database: self.clone(), query: query.into(), rows: PhantomData }
    }
}

impl<T> PostgresQuery<T> {
    /// Names the column of the result that is the key, and the range that is read. The column is a
    /// `smallint`, `integer` or `bigint`, and no two rows share a key; one of another type stops
    /// the flow. The range is part of the partitions' identity: it must not change from
    /// run to run.
    ///
    /// ```
    /// use highwater::postgres::Postgres;
    /// use highwater::source::Source;
    /// let source = Postgres::at("host=localhost user=app")
    ///     .query::<(i64, String)>("select id, name from users where id >= $1 and id < $2")
    ///     .by_key("id", 0..1_000)
    ///     .partitions(3);
    /// assert_eq!(Source::partitions(&source)?, ["0..334", "334..667", "667..1000"]);
    /// # Ok::<(), highwater::Error>(())
    /// ```
    #[must_use]
    pub fn by_key(self, key: impl Into<String>, range: Range<i64>) -> PostgresSource<T> {
        PostgresSource {
            pages: Arc::new(Pages::new(self.database, &self.query, key.into())),
            range,
            partitions: 1,
            undecodable: Undecodable::Fail,
            running: Mutex::default(),
            rows: PhantomData,
        }
    }
}

impl<T> PostgresSource<T> {
    /// Divides the range into as many partitions, of equal width; 1 by default.
    #[must_use]
    pub fn partitions(mut self, count: u32) -> Self {
        self.partitions = count.max(1);
        self
    }

    /// What to do with rows that are no `T`; by default the flow stops.
    #[must_use]
    pub fn undecodable(mut self, policy: Undecodable) -> Self {
        self.undecodable = policy;
        self
    }

    fn ranges(&self) -> Vec<Range<i64>> {
        let (start, end) = (i128::from(self.range.start), i128::from(self.range.end));
        let (width, count) = ((end - start).max(0), i128::from(self.partitions));
        // Rounded up, so that the first ones are the larger ones.
        let cut = |n: i128| start + (width * n + count - 1) / count;
        let bound = |n: i128| i64::try_from(cut(n)).unwrap_or(self.range.end);
        (0..count).map(|n| bound(n)..bound(n + 1)).filter(|range| !range.is_empty()).collect()
    }
}

fn name(range: &Range<i64>) -> String {
    format!("{}..{}", range.start, range.end)
}

impl<T> fmt::Debug for PostgresQuery<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresQuery({})", self.query)
    }
}

impl<T> fmt::Debug for PostgresSource<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresSource({}, {:?})", self.pages.describe(), self.range)
    }
}

impl<T: Data + DeserializeOwned> Source for PostgresSource<T> {
    type Item = T;

    fn describe(&self) -> String {
        format!("Postgres({}, {})", self.pages.describe(), name(&self.range))
    }

    fn replay(&self) -> Replay {
        Replay::Exact
    }

    fn partitions(&self) -> Result<Vec<String>, Error> {
        Ok(self.ranges().iter().map(name).collect())
    }

    fn is_complete(&self) -> bool {
        true
    }

    fn open(&self, partition: &str, resume: &Resume) -> Result<Box<dyn Reader<T>>, Error> {
        let Some(range) = self.ranges().into_iter().find(|range| name(range) == partition) else {
            return Err(Error::input(format!("there is no range {partition} of keys any more")));
        };
        let running = lock(&self.running);
        let Some(Running { runtime: Some(runtime), waker }) = &*running else {
            return Err(Error::bug("a source was opened before it was attached"));
        };
        let from = range.start.saturating_add_unsigned(resume.position);
        let waker = waker.for_partition(partition);
        let inbox = self.pages.clone().start(runtime, from..range.end, waker);
        let reader = PageReader::<T>::new(inbox, partition, range.start, from, self.undecodable);
        Ok(Box::new(reader))
    }

    fn attach(&self, waker: Waker) -> Result<(), Error> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("highwater-postgres")
            .enable_all()
            .build()
            .map_err(|e| Error::io("cannot start the thread of a PostgreSQL source", e))?;
        *lock(&self.running) = Some(Running { runtime: Some(runtime), waker });
        Ok(())
    }

    fn detach(&self) {
        lock(&self.running).take();
    }

    fn undecodable(&self) -> Undecodable {
        self.undecodable
    }
}
