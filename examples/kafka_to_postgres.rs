//! Orders from a topic of Kafka, the revenue of each shop and minute into a table of PostgreSQL,
//! exactly once: kill it anywhere, start it again, and the table is that of a run that was never
//! killed. Without `until_end` it goes on with what is written to the topic, until Ctrl-C.
//!
//! ```sh
//! make servers
//! export HIGHWATER_KAFKA="$(scripts/servers.sh env | sed -n 's/^HIGHWATER_KAFKA=//p')"
//! export HIGHWATER_POSTGRES="$(scripts/servers.sh env | sed -n 's/^HIGHWATER_POSTGRES=//p')"
//! cargo run --release -p highwater --features kafka,postgres --example kafka_to_postgres
//! psql "$HIGHWATER_POSTGRES" -c 'select * from shop_revenue order by minute desc, shop limit 5'
//! ```
//!
//! `rm -r out/kafka-to-postgres` where the servers have been stopped since.

use highwater::postgres::Postgres;
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
    cents: i64,
}

/// A row of the table: each field goes into the column of its name.
#[derive(Clone, Serialize, Deserialize)]
struct Revenue {
    shop: String,
    minute: EventTime,
    cents: i64,
}

const TOPIC: &str = "shop-orders";

const TABLE: &str = "create table if not exists shop_revenue \
    (shop text, minute timestamptz, cents bigint, primary key (shop, minute))";

fn main() -> Result<(), BoxError> {
    let server = |name| std::env::var(name).map_err(|_| format!("{name} says where it is"));
    let (kafka, postgres) = (server("HIGHWATER_KAFKA")?, server("HIGHWATER_POSTGRES")?);
    prepare(&kafka, &postgres)?;
    write_orders(&kafka)?;
    let flow = Flow::new("shop-revenue");
    flow.source("orders", source::Kafka::topic(TOPIC).at(&kafka).until_end().json::<Order>())
        .event_time(|order| order.at, Disorder::at_most(seconds(10)))
        .key_by(|order| &order.shop)
        .window("by-minute", Tumbling::of(minutes(1)))
        .aggregate(Sum::of(|order: &Order| order.cents))
        .drop_late("later than ten seconds")
        .map(|r| Revenue { shop: r.key, minute: r.window.start, cents: r.value })
        .sink("revenue", Postgres::at(postgres).upsert("shop_revenue", ["shop", "minute"]));
    flow.run(Settings::at("out/kafka-to-postgres/revenue"))?;
    println!("The table `shop_revenue` holds what each shop took in each minute.");
    Ok(())
}

/// A flow too: a day of orders, one every three seconds.
fn write_orders(kafka: &str) -> Result<(), Error> {
    let now = std::time::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_secs() as i64);
    let orders = (0..28_800).map(|n| Order {
        shop: format!("shop {}", n * 5 % 7),
        at: EventTime::from_millis((now - 86_400) * 1_000 + n * 3_000),
        cents: (n * 37) % 5_000,
    });
    let topic = sink::Kafka::to(TOPIC).at(kafka).key(|order: &Order| order.shop.clone());
    let flow = Flow::new("shop-orders");
    flow.source("generated", Memory::of(orders)).sink("orders", topic);
    flow.run(Settings::at("out/kafka-to-postgres/orders"))
}

#[tokio::main(flavor = "current_thread")]
async fn prepare(kafka: &str, postgres: &str) -> Result<(), BoxError> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", kafka).create()?;
    let topic = NewTopic::new(TOPIC, 4, TopicReplication::Fixed(-1));
    // What is there already is left as it is.
    admin.create_topics([&topic], &AdminOptions::new()).await?;
    let (client, connection) = tokio_postgres::connect(postgres, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    Ok(client.batch_execute(TABLE).await?)
}
