// On-time performance: the mean delay of each airline in each hour of scheduled departure.
// Run it from the root of the repository: cargo run --release -p highwater --example on_time
use highwater::prelude::*;

#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Departure {
    scheduled: EventTime,
    carrier: String,
    dep_delay_min: i64,
}

fn main() -> Result<(), Error> {
    let flow = Flow::new("on-time");
    let hourly = flow
        .source("departures", CsvFiles::<Departure>::glob("examples/data/flights/*.csv.gz"))
        .event_time(|d| d.scheduled, Disorder::at_most(hours(3)))
        .key_by(|d| &d.carrier)
        .window("hourly", Tumbling::of(hours(1)))
        .aggregate(Mean::of(|d: &Departure| d.dep_delay_min));
    hourly.sink("mean", JsonLines::to("out/on-time/mean"));
    hourly.late().sink("late", JsonLines::to("out/on-time/late"));
    flow.run(Settings::at("out/on-time/state"))
}
