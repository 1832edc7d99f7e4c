//! Waits for the results of an engine, and adds them up.

use std::time::{Duration, Instant};

use rdkafka::Message;

use crate::data::{Check, Format, Job};
use crate::load::Tail;
use crate::{broker, exit, unix_nanos};

/// How long nothing more may come.
const QUIET: Duration = Duration::from_millis(500);

/// Prints when the last of so many results could be read, in ns since the Unix epoch, and what
/// they are. Results that come after it are counted, too: there must be none. Meanwhile the tail of
/// the topic that the engine reads goes on.
pub(crate) fn run(
    brokers: &str,
    (from, events): (&str, u64),
    topic: &str,
    format: Format,
    job: &Job,
    results: u64,
    within: Duration,
) {
    let tail = Tail::start(brokers, from, format, job.end(events));
    let reader = broker::reader(brokers, topic);
    let started = Instant::now();
    let (mut check, mut ended, mut last) = (Check::default(), 0, Instant::now());
    while check.results < results || last.elapsed() < QUIET {
        if check.results < results && started.elapsed() > within {
            exit(format!("{} of {results} results came within {within:?}", check.results));
        }
        let Some(message) = broker::next(&reader) else { continue };
        let row = message.payload().and_then(|bytes| format.row(bytes));
        let row = row.unwrap_or_else(|| exit("a record of the output is no result"));
        check.add(&row, job.base_ms);
        last = Instant::now();
        if check.results == results {
            ended = unix_nanos();
        }
    }
    drop(tail);
    println!("ended={ended} results={} sum={}", check.results, check.sum);
}
