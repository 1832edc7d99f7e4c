//! Small flows that keep every kind of state.

use std::collections::BTreeMap;
use std::time::Duration;

use highwater::prelude::*;
use highwater::testing::{Pushed, SimDisk};
use highwater::{Process, ProcessCx, Timer, Ttl};
use serde::{Deserialize, Serialize};

/// What a flow stands on: where its events come from, and where its lines go.
pub struct Ground {
    pub source: Pushed<Event>,
    pub lines: Box<dyn Fn(&str) -> JsonLines>,
    /// Where a target with transactions is, in tests that have one.
    #[allow(dead_code, reason = "not every test has one")]
    pub target: Option<SimDisk>,
}

pub struct Pipeline {
    pub name: &'static str,
    pub flow: fn(&Ground) -> Flow,
    /// The input ends.
    pub finish: bool,
    /// Operators with state, and how to compare it.
    pub operators: &'static [(&'static str, Kind)],
}

/// How stored state is compared: as it is, or freed of what depends on where ticks were cut.
#[derive(Clone, Copy)]
#[allow(dead_code, reason = "not every test compares state")]
pub enum Kind {
    Plain,
    /// Fragments of counts are added up.
    Counts,
    /// Waiting events have a sequence number that tells equals apart.
    Process,
    /// As they have, so has every row of a join.
    Rows,
}

#[allow(dead_code, reason = "not every test compares state")]
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
            Kind::Process | Kind::Rows if key[0] > 0 || matches!(self, Kind::Rows) => {
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
    pub key: u8,
    at: EventTime,
}

fn t(second: i64) -> EventTime {
    EventTime::from_seconds(second)
}

/// Some events in two partitions; every seventh is far behind.
pub fn events(range: std::ops::Range<i64>, source: &Pushed<Event>) {
    for n in range {
        let behind = if n % 7 == 6 { 30 } else { n % 3 };
        let event = Event { key: (n * 5 % 4) as u8, at: t(n * 2 - behind) };
        source.push((n % 2) as usize, event);
    }
}

impl Ground {
    pub fn events(&self, flow: &Flow) -> Stream<Event, Timed> {
        flow.source("events", self.source.clone())
            .map(|event| {
                if event.key == POISON {
                    // A panic that prints nothing: it is wanted, hundreds of times.
                    std::panic::resume_unwind(Box::new("a poisoned event"));
                }
                event
            })
            .event_time(|e| e.at, Disorder::at_most(seconds(6)))
            .stream()
    }

    pub fn lines(&self, name: &str) -> JsonLines {
        (self.lines)(name).visible_every(Duration::ZERO)
    }
}

/// An event with this key stops the flow as a crash would.
pub const POISON: u8 = 255;

#[allow(dead_code, reason = "crashes are made otherwise elsewhere")]
pub fn poison() -> Event {
    Event { key: POISON, at: t(0) }
}

fn tumbling(ground: &Ground) -> Flow {
    let flow = Flow::new("tumbling");
    let counts = ground
        .events(&flow)
        .key_by(|e| &e.key)
        .window("counts", Tumbling::of(seconds(10)))
        .aggregate(Count);
    counts.late().sink("late", ground.lines("late"));
    counts.sink("out", ground.lines("counts"));
    flow
}

fn sessions(ground: &Ground) -> Flow {
    let flow = Flow::new("sessions");
    let sessions = ground
        .events(&flow)
        .key_by(|e| &e.key)
        .window("sessions", Session::with_gap(seconds(9)))
        .aggregate(Count);
    sessions.late().sink("late", ground.lines("late"));
    sessions.sink("out", ground.lines("sessions"));
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

fn process(ground: &Ground, ttl: Option<Ttl>) -> Flow {
    let flow = Flow::new("process");
    let undeclared = ground.events(&flow).key_by(|e| &e.key).process("delayed", Delayed);
    let said = match ttl {
        Some(ttl) => undeclared.ttl(ttl),
        None => undeclared.unbounded(),
    };
    said.late().sink("late", ground.lines("late"));
    said.sink("out", ground.lines("said"));
    flow
}

fn chained(ground: &Ground) -> Flow {
    let flow = Flow::new("chained");
    let small = ground
        .events(&flow)
        .key_by(|e| &e.key)
        .window("small", Tumbling::of(seconds(5)))
        .aggregate(Count)
        .drop_late("looked at elsewhere");
    let large = small
        .key_with(|r| r.key % 2)
        .window("large", Hopping::of(seconds(20), seconds(10)))
        .aggregate(Count)
        .drop_late("results are never late");
    large.sink("out", ground.lines("large"));
    flow
}

fn hopping(ground: &Ground) -> Flow {
    let flow = Flow::new("hopping");
    let counts = ground
        .events(&flow)
        .key_by(|e| &e.key)
        .window("hops", Hopping::of(seconds(30), seconds(4)))
        .aggregate(Count);
    counts.late().sink("late", ground.lines("late"));
    counts.sink("out", ground.lines("hops"));
    flow
}

/// Events of even seconds on the left, the others on the right.
fn sides(ground: &Ground, flow: &Flow) -> [Stream<Event, Timed>; 2] {
    let (left, right) = ground.events(flow).split(|e| e.at.as_micros() / 1_000_000 % 2 == 0);
    [left, right]
}

type Times = (u8, Option<EventTime>, Option<EventTime>);

fn interval_join(ground: &Ground) -> Flow {
    let flow = Flow::new("interval join");
    let [left, right] = sides(ground, &flow);
    let joined = left
        .key_by(|e| &e.key)
        .join(&right.key_by(|e| &e.key))
        .interval("joined", seconds(-4), seconds(9))
        .full(|key, l, r| -> Times { (*key, l.map(|l| l.at), r.map(|r| r.at)) });
    joined.late().sink("late", ground.lines("late"));
    joined.sink("out", ground.lines("joined"));
    flow
}

fn as_of_join(ground: &Ground) -> Flow {
    let flow = Flow::new("as-of join");
    let [left, right] = sides(ground, &flow);
    let joined = left
        .key_by(|e| &e.key)
        .join(&right.key_by(|e| &e.key))
        .as_of("joined")
        .within(seconds(12))
        .left(|key, l, r| -> Times { (*key, Some(l.at), r.map(|r| r.at)) });
    joined.late().sink("late", ground.lines("late"));
    joined.sink("out", ground.lines("joined"));
    flow
}

#[allow(dead_code, reason = "not every test has time for it")]
pub const HOPPING: Pipeline = Pipeline {
    name: "hopping",
    flow: hopping,
    finish: false,
    operators: &[("hops", Kind::Counts)],
};

pub const PIPELINES: &[Pipeline] = &[
    Pipeline {
        name: "tumbling with late events",
        flow: tumbling,
        finish: false,
        operators: &[("counts", Kind::Counts)],
    },
    Pipeline {
        name: "tumbling to the end",
        flow: tumbling,
        finish: true,
        operators: &[("counts", Kind::Counts)],
    },
    Pipeline {
        name: "sessions",
        flow: sessions,
        finish: false,
        operators: &[("sessions", Kind::Plain)],
    },
    Pipeline {
        name: "process with timers and ttl",
        flow: |ground| process(ground, Some(Ttl::from_write(seconds(5)))),
        finish: false,
        operators: &[("delayed", Kind::Process)],
    },
    Pipeline {
        name: "process with timers",
        flow: |ground| process(ground, None),
        finish: false,
        operators: &[("delayed", Kind::Process)],
    },
    Pipeline {
        name: "chained windows",
        flow: chained,
        finish: false,
        operators: &[("small", Kind::Counts), ("large", Kind::Counts)],
    },
    Pipeline {
        name: "interval join",
        flow: interval_join,
        finish: false,
        operators: &[("joined", Kind::Rows)],
    },
    Pipeline {
        name: "as-of join",
        flow: as_of_join,
        finish: false,
        operators: &[("joined", Kind::Process)],
    },
];
