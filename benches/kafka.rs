//! From Kafka to windows to Kafka, exactly once: Highwater's part of `make peers`, and what the
//! other engines are measured by. `scripts/peers_kafka.sh` runs it.
//!
//! `load` fills a topic and says what must come out of it, `read` waits for the results of an
//! engine and adds them up, `pace` sends events when they are due and measures how late their
//! results are, `engine` is Highwater.
//!
//! `cargo bench --features kafka --bench kafka -- COMMAND ..`

#[path = "kafka/broker.rs"]
mod broker;
#[path = "kafka/data.rs"]
mod data;
#[path = "kafka/engine.rs"]
mod engine;
#[path = "kafka/load.rs"]
mod load;
#[path = "kafka/pace.rs"]
mod pace;
#[path = "kafka/read.rs"]
mod read;

use std::time::{Duration, SystemTime};

const USAGE: &str = "load BROKERS TOPIC EVENTS KEYS FORMAT BASE_MS
read BROKERS FROM EVENTS KEYS TO FORMAT BASE_MS RESULTS SECONDS
pace BROKERS FROM TO KEYS FORMAT RATE WARM_UP_SECONDS SECONDS WINDOW_MS
engine BROKERS FORMAT DIRECTORY COMMIT_MS WINDOW_MS (FROM TO)..
topic BROKERS TOPIC PARTITIONS
hiccups SECONDS";

fn exit(error: impl std::fmt::Display) -> ! {
    eprintln!("{error}");
    std::process::exit(1)
}

fn or_exit<T>(result: Result<T, impl std::fmt::Display>) -> T {
    result.unwrap_or_else(|error| exit(error))
}

fn number<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| exit(format!("`{text}` is not a number")))
}

/// Nanoseconds since the Unix epoch, for several processes to compare.
fn unix_nanos() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["topic", brokers, topic, partitions] => broker::create(brokers, topic, number(partitions)),
        ["hiccups", seconds] => {
            let late = highwater::latency::hiccups(Duration::from_secs(number(seconds)));
            let late = or_exit(late);
            let ms = |quantile| late.value_at_quantile(quantile) as f64 / 1e3;
            println!("p99={:.2} p99.9={:.2} max={:.2}", ms(0.99), ms(0.999), ms(1.0));
        }
        ["load", brokers, topic, events, keys, format, base] => {
            let job = data::Job::throughput(number(keys), number(base));
            load::run(brokers, topic, number(events), &job, data::Format::named(format));
        }
        ["read", brokers, from, events, keys, to, format, base, results, within] => {
            let within = Duration::from_secs(number(within));
            let (from, format) = ((from, number(events)), data::Format::named(format));
            let job = data::Job::throughput(number(keys), number(base));
            read::run(brokers, from, to, format, &job, number(results), within);
        }
        ["pace", brokers, from, to, keys, format, rate, warm_up, lasting, window] => {
            let plan = pace::Plan {
                keys: number(keys),
                rate: number(rate),
                warm_up: number(warm_up),
                lasting: number(lasting),
                window_ms: number(window),
            };
            pace::run(brokers, from, to, data::Format::named(format), &plan);
        }
        ["engine", brokers, format, directory, commit, window, ref topics @ ..] => {
            let setup = engine::Setup {
                brokers,
                format: data::Format::named(format),
                directory: directory.as_ref(),
                commit: Duration::from_millis(number(commit)),
                window_ms: number(window),
            };
            engine::run(&setup, topics);
        }
        // `cargo test --benches` and `cargo bench` without a broker: there is nothing to do.
        [] => println!("commands:\n{USAGE}"),
        _ => exit(USAGE),
    }
}
