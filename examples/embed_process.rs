// A process function of your own: it keeps state and timers per key, and says when a machine
// has been silent for too long. Silence is measured in event time, so the alerts are the same
// however fast the readings arrive and wherever the program was killed.
// Run it: cargo run --release -p highwater --example embed_process
use highwater::prelude::*;
use highwater::sink::channel;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Reading {
    machine: String,
    at: EventTime,
    celsius: f64,
}

#[derive(Clone, Debug, PartialEq)]
struct Alert {
    machine: String,
    silent_since: EventTime,
    last_celsius: f64,
}

/// Alerts when a machine has sent nothing for `after`.
struct Absence {
    after: Span,
}

/// The last reading of a machine: when it was, and what it said.
#[derive(Serialize, Deserialize)]
struct Last {
    at: EventTime,
    celsius: f64,
}

impl Process<String, Reading> for Absence {
    type State = Last;
    type Output = Alert;

    fn event(&self, cx: &mut ProcessCx<'_, Last, Alert>, _machine: &String, reading: Reading) {
        let now = cx.time();
        // The machine is alive: the timer of its last reading is void.
        if let Some(last) = cx.state().take() {
            cx.delete_timer("absent", last.at + self.after);
        }
        cx.set_timer("absent", now + self.after);
        *cx.state() = Some(Last { at: now, celsius: reading.celsius });
    }

    fn timer(&self, cx: &mut ProcessCx<'_, Last, Alert>, machine: &String, _timer: &Timer) {
        // Taking the state forgets the machine until it speaks again.
        if let Some(last) = cx.state().take() {
            cx.emit(Alert {
                machine: machine.clone(),
                silent_since: last.at,
                last_celsius: last.celsius,
            });
        }
    }
}

fn readings() -> Vec<Reading> {
    let reading = |machine: &str, second: i64, celsius: f64| Reading {
        machine: machine.to_owned(),
        at: EventTime::from_seconds(second),
        celsius,
    };
    vec![
        reading("press", 0, 20.5),
        reading("lathe", 10, 31.0),
        reading("press", 40, 21.0),
        reading("lathe", 30, 30.5), // out of order, within the bound of 20 s
        reading("press", 90, 21.5),
        reading("press", 140, 99.0), // by now the lathe has been silent for over a minute
        reading("lathe", 150, 29.0),
    ]
}

fn main() -> Result<(), Error> {
    let flow = Flow::new("absence");
    let (sink, alerts) = channel();
    flow.source("readings", Memory::of(readings()))
        .event_time(|r| r.at, Disorder::at_most(seconds(20)))
        .key_by(|r| &r.machine)
        .process("absence", Absence { after: seconds(60) })
        .unbounded()
        .drop_late("a late reading cannot undo an alert")
        .sink("alerts", sink);
    flow.run(Settings::in_memory())?;
    for alert in alerts {
        println!(
            "{} is silent since {}, last at {} °C",
            alert.machine, alert.silent_since, alert.last_celsius
        );
    }
    Ok(())
}
