//! Small flows that keep every kind of state.

use std::collections::BTreeMap;
use std::time::Duration;

use highwater::prelude::*;
use highwater::testing::{Pushed, SimDisk};
use highwater::{Process, ProcessCx, Timer, Ttl};
use serde::{Deserialize, Serialize};

pub struct Pipeline {
    pub name: &'static str,
    pub flow: fn(&SimDisk) -> Flow,
    /// Operators with state, and how to compare it.
    pub operators: &'static [(&'static str, Kind)],
}

/// How stored state is compared: as it is, or freed of what depends on where ticks were cut.
#[derive(Clone, Copy)]
pub enum Kind {
    Plain,
    /// Fragments of counts are added up.
    Counts,
    /// Waiting events have a sequence number that tells equals apart.
    Process,
}

impl Kind {
    pub fn add(
        self,
        group: u16,
        key: &[u8],
        value: &[u8],
        entries: &mut BTreeMap<Vec<u8>, Vec<u8>>,
    ) {
        let mut name = group.to_be_bytes().to_vec();
        name.extend_from_slice(key);
        match self {
            Kind::Counts if group < highwater_state::KEY_GROUPS => {
                name.truncate(name.len() - 4);
                let count = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
                let before = entries.get(&name).map_or(0, |bytes| count(bytes));
                entries.insert(name, (before + count(value)).to_le_bytes().to_vec());
            }
            Kind::Process if key[0] == 1 => {
                let end = name.len() - 8;
                name.drain(end - 8..end);
                entries.insert(name, value.to_vec());
            }
            _ => {
                entries.insert(name, value.to_vec());
            }
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event {
    key: u8,
    at: EventTime,
}

fn t(second: i64) -> EventTime {
    EventTime::from_seconds(second)
}

/// 60 events in two partitions; every seventh is far behind.
fn events(flow: &Flow, finish: bool) -> Stream<Event, Timed> {
    let source = Pushed::partitions(2);
    for n in 0..60i64 {
        let behind = if n % 7 == 6 { 30 } else { n % 3 };
        let event = Event { key: (n * 5 % 4) as u8, at: t(n * 2 - behind) };
        source.push((n % 2) as usize, event);
    }
    if finish {
        source.finish();
    }
    flow.source("events", source).event_time(|e| e.at, Disorder::at_most(seconds(6)))
}

fn lines(disk: &SimDisk, name: &str) -> JsonLines {
    JsonLines::to(format!("out/{name}")).on(disk).visible_every(Duration::ZERO)
}

fn tumbling(disk: &SimDisk, finish: bool) -> Flow {
    let flow = Flow::new("tumbling");
    let counts = events(&flow, finish)
        .key_by(|e| &e.key)
        .window("counts", Tumbling::of(seconds(10)))
        .aggregate(Count);
    counts.late().sink("late", lines(disk, "late"));
    counts.sink("out", lines(disk, "counts"));
    flow
}

fn sessions(disk: &SimDisk) -> Flow {
    let flow = Flow::new("sessions");
    let sessions = events(&flow, false)
        .key_by(|e| &e.key)
        .window("sessions", Session::with_gap(seconds(9)))
        .aggregate(Count);
    sessions.late().sink("late", lines(disk, "late"));
    sessions.sink("out", lines(disk, "sessions"));
    flow
}

/// Counts events of a key and says so three seconds later; forgets after a while.
struct Delayed;

impl Process<u8, Event> for Delayed {
    type State = u64;
    type Output = (u8, u64, EventTime);

    fn event(&self, cx: &mut ProcessCx<'_, u64, Self::Output>, _: &u8, event: Event) {
        *cx.state() = Some(cx.get().copied().unwrap_or(0) + 1);
        cx.set_timer("say", event.at + seconds(3));
        if cx.get() == Some(&4) {
            cx.delete_timer("say", event.at + seconds(1));
        }
    }

    fn timer(&self, cx: &mut ProcessCx<'_, u64, Self::Output>, key: &u8, timer: &Timer) {
        let count = cx.get().copied().unwrap_or(0);
        cx.emit((*key, count, timer.time));
    }
}

fn process(disk: &SimDisk, ttl: Option<Ttl>) -> Flow {
    let flow = Flow::new("process");
    let undeclared = events(&flow, false).key_by(|e| &e.key).process("delayed", Delayed);
    let said = match ttl {
        Some(ttl) => undeclared.ttl(ttl),
        None => undeclared.unbounded(),
    };
    said.late().sink("late", lines(disk, "late"));
    said.sink("out", lines(disk, "said"));
    flow
}

fn chained(disk: &SimDisk) -> Flow {
    let flow = Flow::new("chained");
    let small = events(&flow, false)
        .key_by(|e| &e.key)
        .window("small", Tumbling::of(seconds(5)))
        .aggregate(Count)
        .drop_late("looked at elsewhere");
    let large = small
        .key_with(|r| r.key % 2)
        .window("large", Hopping::of(seconds(20), seconds(10)))
        .aggregate(Count)
        .drop_late("results are never late");
    large.sink("out", lines(disk, "large"));
    flow
}

pub const PIPELINES: &[Pipeline] = &[
    Pipeline {
        name: "tumbling with late events",
        flow: |disk| tumbling(disk, false),
        operators: &[("counts", Kind::Counts)],
    },
    Pipeline {
        name: "tumbling to the end",
        flow: |disk| tumbling(disk, true),
        operators: &[("counts", Kind::Counts)],
    },
    Pipeline {
        name: "sessions",
        flow: sessions,
        operators: &[("sessions", Kind::Plain)],
    },
    Pipeline {
        name: "process with timers and ttl",
        flow: |disk| process(disk, Some(Ttl::from_write(seconds(5)))),
        operators: &[("delayed", Kind::Process)],
    },
    Pipeline {
        name: "process with timers",
        flow: |disk| process(disk, None),
        operators: &[("delayed", Kind::Process)],
    },
    Pipeline {
        name: "chained windows",
        flow: chained,
        operators: &[("small", Kind::Counts), ("large", Kind::Counts)],
    },
];
