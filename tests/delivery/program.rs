//! The program that is killed: a process of its own, on the campaign's broker and database.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use highwater::ErrorKind;
use highwater::postgres::Postgres;
use highwater::prelude::*;
use highwater::{sink, source};
use serde::{Deserialize, Serialize};

use super::events::{BOUND, Event, WINDOW};

/// What a life is given, and told by its environment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Life {
    pub broker: String,
    pub database: String,
    pub input: String,
    pub output: String,
    pub state: PathBuf,
    /// Events per second; nothing: as many as it can.
    pub pace: Option<u64>,
    pub workers: usize,
    pub commit_ms: u64,
    /// A file that is made once a commit of this life is durable.
    pub sign: PathBuf,
}

/// A result as both targets take it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    pub key: u32,
    pub start: EventTime,
    pub value: i64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct LateEvent {
    number: u64,
}

/// Without any constraint: what is repeated is there twice.
pub const TABLES: &str = "create table sums (key bigint, start timestamptz, value bigint); \
                          create table late (number bigint)";

/// How the program ends, by what a supervisor would do.
pub const ENDED_BY_IO: i32 = 10;
pub const ENDED_BY_STATE: i32 = 11;
const ENDED_BADLY: i32 = 12;

const LIFE: &str = "DELIVERY_LIFE";

impl Life {
    /// Starts the process: its words go to a file.
    pub fn start(&self, words: &Path) -> Child {
        let words = std::fs::File::create(words).unwrap();
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "run_program", "--ignored", "--nocapture"])
            .env(LIFE, serde_json::to_string(self).unwrap())
            .stdin(Stdio::null())
            .stdout(words.try_clone().unwrap())
            .stderr(words)
            .spawn()
            .unwrap()
    }

    fn flow(&self) -> Flow {
        let flow = Flow::new("delivery");
        let (pace, workers, count) = (self.pace, self.workers as u64, AtomicU64::new(0));
        let input = source::Kafka::topic(&self.input).at(&self.broker).until_end();
        let sums = flow
            .source("events", input.json::<Event>())
            .inspect(move |_| {
                let often = 32;
                if let Some(pace) = pace
                    && count.fetch_add(1, Ordering::Relaxed).is_multiple_of(often)
                {
                    std::thread::sleep(Duration::from_micros(1_000_000 * often * workers / pace));
                }
            })
            .event_time(|e| e.at, Disorder::at_most(millis(BOUND)))
            .key_by(|e| &e.key)
            .window("sums", Tumbling::of(millis(WINDOW)))
            .aggregate(Sum::of(|e: &Event| e.value));
        let database = Postgres::at(&self.database);
        let rows = sums.map(|r| Row { key: r.key, start: r.window.start, value: r.value });
        let topic = sink::Kafka::to(&self.output).at(&self.broker);
        rows.sink("topic", topic.key(|row: &Row| row.key.to_string()));
        rows.sink("table", database.append("sums"));
        let late = sums.late().map(|late| LateEvent { number: late.row.number });
        late.sink("late", database.append("late"));
        flow
    }

    /// Runs the flow to its end, or to an error.
    fn live(&self) -> Result<(), Error> {
        let mut settings = Settings::at(&self.state)
            .workers(self.workers)
            .commit_interval(Duration::from_millis(self.commit_ms))
            // Little, so that commits move into RocksDB all the time, letters among them.
            .log_tail_limit(200 << 10)
            .memory_budget(1 << 20);
        if self.pace.is_some() {
            settings = settings.tick_max_events(100);
        }
        let handle = self.flow().spawn(settings)?;
        while !handle.is_finished() {
            if handle.metrics().commits > 0 && !self.sign.exists() {
                std::fs::write(&self.sign, "").unwrap();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        handle.wait().map(|_| ())
    }
}

/// The other half of [`Life::start`], in the process.
pub fn run() {
    let Ok(life) = std::env::var(LIFE) else { return };
    let life: Life = serde_json::from_str(&life).unwrap();
    let _ = tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).try_init();
    let Err(error) = life.live() else { return };
    println!("{error}");
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        println!("because: {error}");
        cause = error.source();
    }
    std::process::exit(match error.kind() {
        ErrorKind::Io => ENDED_BY_IO,
        ErrorKind::State => ENDED_BY_STATE,
        _ => ENDED_BADLY,
    })
}
