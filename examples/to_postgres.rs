//! Hourly mean delays of real flights into a table of PostgreSQL, exactly once: stop it anywhere,
//! start it again, and the table is that of a run that was never stopped.
//!
//! ```sh
//! make servers
//! export HIGHWATER_POSTGRES="$(scripts/servers.sh env | sed -n 's/^HIGHWATER_POSTGRES=//p')"
//! cargo run --release -p highwater --features postgres --example to_postgres
//! psql "$HIGHWATER_POSTGRES" -c 'select * from delays order by mean_min desc limit 5'
//! ```

use highwater::postgres::{Postgres, Violations};
use highwater::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
struct Departure {
    scheduled: EventTime,
    carrier: String,
    dep_delay_min: i64,
}

/// A row of the table: each field goes into the column of its name.
#[derive(Clone, Serialize, Deserialize)]
struct Delay {
    carrier: String,
    hour: EventTime,
    mean_min: f64,
}

const TABLE: &str = "create table if not exists delays \
    (carrier text, hour timestamptz, mean_min float8 check (mean_min < 1000), \
    primary key (carrier, hour))";

fn main() -> Result<(), BoxError> {
    let at = std::env::var("HIGHWATER_POSTGRES")
        .map_err(|_| "HIGHWATER_POSTGRES says where the database is: host=.. user=..")?;
    make_table(&at)?;
    let flow = Flow::new("delays");
    let hourly = flow
        .source("departures", CsvFiles::<Departure>::glob("examples/data/flights/*.csv.gz"))
        .event_time(|d| d.scheduled, Disorder::at_most(hours(3)))
        .key_by(|d| &d.carrier)
        .window("hourly", Tumbling::of(hours(1)))
        .aggregate(Mean::of(|d: &Departure| d.dep_delay_min))
        .drop_late("later than three hours");
    let delays = hourly.map(|r| Delay { carrier: r.key, hour: r.window.start, mean_min: r.value });
    let table = Postgres::at(at)
        .upsert("delays", ["carrier", "hour"])
        .violations(Violations::dead_letters("delays_refused"));
    delays.sink("delays", table);
    flow.run(Settings::at("out/to-postgres/state"))?;
    println!("The table `delays` holds the mean delay of each carrier and hour.");
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn make_table(at: &str) -> Result<(), tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(at, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    client.batch_execute(TABLE).await
}
