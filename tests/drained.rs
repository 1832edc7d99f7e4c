//! When the watermark has passed everything, nothing is left: no entry, no timer, and after a
//! compaction the disk holds as much as one on which no event was ever seen.

use std::path::Path;
use std::time::Duration;

use highwater::prelude::*;
use highwater::source::Generator;
use highwater::state::{StateDir, compact};
use highwater::{Process, ProcessCx, Timer, Ttl};

const EVENTS: u64 = 150_000;
const KEYS: u64 = 20_000;

type Event = (u64, EventTime);

/// Keeps a counter and a timer per key; the timer takes the counter with it.
struct Silence;

impl Process<u64, Event> for Silence {
    type State = (u64, EventTime);
    type Output = u64;

    fn event(&self, cx: &mut ProcessCx<'_, Self::State, u64>, _: &u64, event: Event) {
        let (count, armed) = cx.state().take().unwrap_or((0, EventTime::MIN));
        cx.delete_timer("silent", armed);
        let at = event.1 + seconds(40);
        cx.set_timer("silent", at);
        *cx.state() = Some((count + 1, at));
    }

    fn timer(&self, cx: &mut ProcessCx<'_, Self::State, u64>, _: &u64, _: &Timer) {
        if let Some((count, _)) = cx.state().take() {
            cx.emit(count);
        }
    }
}

/// Counts for ever, as far as its time to live lets it.
struct Counter;

impl Process<u64, Event> for Counter {
    type State = u64;
    type Output = u64;

    fn event(&self, cx: &mut ProcessCx<'_, u64, u64>, _: &u64, _: Event) {
        *cx.state().get_or_insert(0) += 1;
    }
}

/// Every kind of state there is, on `events` events, run to its end; returns the metrics and the
/// most entries that a commit was seen to hold.
fn run(dir: &Path, events: u64) -> (Metrics, u64) {
    let flow = Flow::new("drained");
    let row = |_, index: u64| {
        let key = index.wrapping_mul(0x9e37_79b9_7f4a_7c15) % KEYS;
        (key, EventTime::from_micros(index as i64 * 1_000))
    };
    let keyed = flow
        .source("events", Generator::new(2, Some(events / 2), row))
        .event_time(|e| e.1, Disorder::at_most(seconds(5)))
        .key_by(|e| &e.0);
    let sink = |name: &str| JsonLines::to(dir.join("out").join(name));
    let why = "none is late";
    let tumbling = keyed.window("tumbling", Tumbling::of(seconds(30))).aggregate(Count);
    tumbling.drop_late(why).sink("out-tumbling", sink("tumbling"));
    let hopping = Hopping::of(seconds(30), seconds(10));
    let hopping = keyed.window("hopping", hopping).aggregate(Count);
    hopping.drop_late(why).sink("out-hopping", sink("hopping"));
    let sessions = keyed.window("sessions", Session::with_gap(seconds(20))).aggregate(Count);
    sessions.drop_late(why).sink("out-sessions", sink("sessions"));
    let silence = keyed.process("silence", Silence).unbounded();
    silence.drop_late(why).sink("out-silence", sink("silence"));
    let counter = keyed.process("counter", Counter).ttl(Ttl::from_write(seconds(20)));
    counter.drop_late(why).sink("out-counter", sink("counter"));
    let settings = Settings::at(dir.join("state")).workers(2).tick_max_events(5_000);
    let handle = flow.spawn(settings.commit_interval(Duration::ZERO)).unwrap();
    let mut most = 0;
    while !handle.metrics().finished && !handle.is_finished() {
        let entries = handle.metrics().operators.iter().map(|o| o.entries).sum();
        most = most.max(entries);
        std::thread::sleep(Duration::from_millis(5));
    }
    (handle.wait().unwrap(), most)
}

/// Bytes of the files below a directory, without RocksDB's diary.
fn bytes(dir: &Path) -> u64 {
    let mut total = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            total += bytes(&entry.path());
        } else if !entry.file_name().to_str().unwrap().starts_with("LOG") {
            total += entry.metadata().unwrap().len();
        }
    }
    total
}

#[test]
fn nothing_is_left_when_the_watermark_has_passed_everything() {
    let (empty, full) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (nothing, most) = run(full.path(), EVENTS);
    run(empty.path(), 0);
    let state = full.path().join("state");
    let before = bytes(&state);
    let counts = StateDir::open(&state).unwrap().verify().unwrap();
    let entries: u64 =
        counts.iter().filter(|(id, _)| !id.contains("event_time")).map(|c| c.1).sum();
    compact(&state).unwrap();
    compact(&empty.path().join("state")).unwrap();
    let (left, of_empty) = (bytes(&state), bytes(&empty.path().join("state")));
    let ratio = left as f64 / of_empty as f64;
    println!(
        "drained: {EVENTS} events, at most {most} entries seen; at the end {entries} entries, \
         timers among them; {before} bytes on disk, {left} after compaction, {of_empty} where \
         nothing ever was: {ratio:.2}x"
    );
    assert!(nothing.finished && most > KEYS, "{most} entries at most: nothing was there to go");
    assert_eq!(entries, 0, "{counts:?}");
    assert!(ratio <= 1.2, "{left} bytes are left, {of_empty} where nothing ever was");
}
