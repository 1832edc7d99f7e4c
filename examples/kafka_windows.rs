//! Orders from one topic of Kafka, the revenue of each shop and minute into another one, exactly
//! once: kill it anywhere, start it again, and whoever reads with `read_committed` sees what a run
//! shows that was never killed.
//!
//! ```sh
//! make servers
//! export $(scripts/servers.sh env | grep HIGHWATER_KAFKA)
//! cargo run --release -p highwater --features kafka --example kafka_windows
//! ```
//!
//! `rm -r out/kafka-windows` where the servers have been stopped since.

use highwater::prelude::*;
use highwater::{sink, source};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
struct Order {
    shop: String,
    at: EventTime,
    cents: u64,
}

fn main() -> Result<(), BoxError> {
    let at = std::env::var("HIGHWATER_KAFKA").unwrap_or_else(|_| "127.0.0.1:9092".to_owned());
    make_topics(&at)?;
    write_orders(&at)?;
    let orders = source::Kafka::topic("orders").at(&at).until_end().json::<Order>();
    let revenue = sink::Kafka::to("revenue").at(&at);
    let flow = Flow::new("revenue");
    flow.source("orders", orders)
        .event_time(|order| order.at, Disorder::at_most(seconds(10)))
        .key_by(|order| &order.shop)
        .window("by-minute", Tumbling::of(minutes(1)))
        .aggregate(Sum::of(|order: &Order| order.cents))
        .drop_late("later than ten seconds")
        .sink("revenue", revenue.key(|row: &WindowResult<String, i64>| row.key.clone()));
    flow.run(Settings::at("out/kafka-windows/revenue"))?;
    println!("The topic `revenue` holds what each shop took in each minute.");
    Ok(())
}

/// A flow too: an hour of orders, ten a second.
fn write_orders(at: &str) -> Result<(), Error> {
    let now = std::time::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_secs() as i64);
    let orders = (0..36_000).map(|n| Order {
        shop: format!("shop {}", n * 7 % 5),
        at: EventTime::from_millis((now - 3_600) * 1_000 + n * 100),
        cents: (n as u64 * 37) % 5_000,
    });
    let topic = sink::Kafka::to("orders").at(at).key(|order: &Order| order.shop.clone());
    let flow = Flow::new("orders");
    flow.source("generated", Memory::of(orders)).sink("orders", topic);
    flow.run(Settings::at("out/kafka-windows/orders"))
}

#[tokio::main(flavor = "current_thread")]
async fn make_topics(at: &str) -> Result<(), BoxError> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", at).create()?;
    let topics =
        ["orders", "revenue"].map(|name| NewTopic::new(name, 4, TopicReplication::Fixed(-1)));
    // Those that are there already are left as they are.
    admin.create_topics(&topics, &AdminOptions::new()).await?;
    Ok(())
}
