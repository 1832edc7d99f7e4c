// A user's own aggregate with a mistake, and how `check_law` finds it: the last reading of each
// machine and window, "as it comes". The plan says class Input, as it does of every window; but
// which reading comes last depends on which partition happens to be read first.

use highwater::prelude::*;
use highwater::testing::generate::{Sample, Streams};
use highwater::testing::{LawInput, Pushed, Violation, check_law};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

/// The mistake: adding rows in another order gives another state, and merging is not commutative.
fn flow() -> Flow {
    let flow = Flow::new("last reading");
    let last = Fold::new(
        None,
        |last: &mut Option<u32>, reading: &Sample| *last = Some(reading.number),
        |into: &mut Option<u32>, from| *into = from.or(*into),
    );
    flow.source("readings", Pushed::<Sample>::partitions(3))
        .event_time(|r| r.time, Disorder::at_most(micros(15)))
        .key_by(|r| &r.key)
        .window("last", Tumbling::of(micros(20)))
        .aggregate(last)
        .drop_late("not under test")
        .sink("out", Stdout::json());
    flow
}

/// The same with `Last`, which goes by event time, partition and position.
fn mended() -> Flow {
    let flow = Flow::new("last reading");
    flow.source("readings", Pushed::<Sample>::partitions(3))
        .event_time(|r| r.time, Disorder::at_most(micros(15)))
        .key_by(|r| &r.key)
        .window("last", Tumbling::of(micros(20)))
        .aggregate(Last)
        .drop_late("not under test")
        .sink("out", Stdout::json());
    flow
}

fn readings() -> Vec<Vec<Sample>> {
    let streams = Streams::new().partitions(3..=3).events(15..=15).batch();
    let mut runner = TestRunner::deterministic();
    streams.new_tree(&mut runner).map(|tree| tree.current()).unwrap_or_default()
}

fn main() -> Result<(), Violation> {
    type Wrong = WindowResult<u32, Option<u32>>;
    let input = LawInput::new().partitions("readings", readings()).compare::<Wrong>("out");
    match check_law(flow, input) {
        Ok(report) => println!("nothing found in {report}"),
        Err(violation) => println!("found: {violation}"),
    }
    type Right = WindowResult<u32, Option<Sample>>;
    let input = LawInput::new().partitions("readings", readings()).compare::<Right>("out");
    let report = check_law(mended, input)?;
    println!("\nmended: {report}");
    Ok(())
}
