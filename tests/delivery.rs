//! A flow from Kafka to Kafka and PostgreSQL at once, as a real process on real servers, while
//! all three are killed at random moments, and copies of it are started by mistake: both targets
//! hold what a recomputation says, each result once.
//!
//! `DELIVERY=full` takes a million events and 90 faults; without it, it is a short form.
#![cfg(all(feature = "kafka", feature = "postgres"))]

#[path = "delivery/campaign.rs"]
mod campaign;
#[path = "delivery/events.rs"]
mod events;
mod postgres_common;
#[path = "delivery/program.rs"]
mod program;
mod servers;
#[path = "delivery/targets.rs"]
mod targets;
#[path = "kafka/topics.rs"]
mod topics;

use std::time::Instant;

use campaign::{Campaign, Faults};
use postgres_common::Db;

/// The process that is killed: see [`program::Life::start`].
#[test]
#[ignore = "it is the program, not a test"]
fn run_program() {
    program::run();
}

#[test]
fn whatever_is_killed_nothing_is_lost_or_repeated() {
    let Some(broker) = servers::private_kafka() else { return };
    let Some(db) = Db::private() else { return };
    let full = std::env::var("DELIVERY").is_ok_and(|value| value == "full");
    let started = Instant::now();
    let (events, faults) = match full {
        true => (1_000_000, Faults { flow: 64, broker: 11, database: 11, copies: 6 }),
        false => (40_000, Faults { flow: 4, broker: 1, database: 1, copies: 1 }),
    };
    let seed = std::env::var("DELIVERY_SEED").map_or(1, |seed| seed.parse().unwrap());
    db.run(program::TABLES);
    topics::create_one(broker.address(), "in", events::PARTITIONS as i32);
    topics::create_one(broker.address(), "out", 4);
    events::produce(broker.address(), "in", events);
    let expected = events::expected(events);
    println!(
        "{} results and {} late events to come, {:?} after the start",
        expected.sums.len(),
        expected.late.len(),
        started.elapsed()
    );

    let tally = Campaign::new(&broker, &db, events, faults, seed).run();
    let mismatch = targets::compare(broker.address(), "out", &db, &expected);
    println!("{tally}");
    println!(
        "delivery: {events} events, {} kills of the flow, {} of the broker, {} of the database, \
         {} copies, {} lost, {} repeated, {} s",
        tally.kills,
        tally.of_broker,
        tally.of_database,
        tally.copies,
        mismatch.lost,
        mismatch.repeated,
        started.elapsed().as_secs()
    );
    assert_eq!(mismatch, targets::Mismatch::default());
    assert!(!full || tally.taken_over > 0, "no copy took over");
}
