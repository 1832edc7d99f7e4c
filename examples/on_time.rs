//! The README's program: departures by hour and carrier, and the flights that came too late.

use highwater::prelude::*;

#[derive(Clone, serde::Deserialize, serde::Serialize)]
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
    hourly.sink("out", JsonLines::to("out/mean"));
    hourly.late().sink("late", JsonLines::to("out/too-late"));
    flow.run(Settings::at("out/state"))
}
