//! State with a time to live: gone for whoever comes too late, and gone from the store when the
//! watermark has passed.

use highwater::prelude::*;
use highwater::testing::{Pushed, TestDriver};
use highwater::{Process, ProcessCx, Ttl};

type Event = (u8, EventTime);

fn t(second: i64) -> EventTime {
    EventTime::from_seconds(second)
}

/// Counts the events of a key; a key of 100 or more only looks.
struct Counter;

impl Process<u8, Event> for Counter {
    type State = u64;
    type Output = (u8, Option<u64>);

    fn event(&self, cx: &mut ProcessCx<'_, u64, Self::Output>, key: &u8, (_, at): Event) {
        let seen = cx.get().copied();
        cx.emit((*key, seen));
        let only_looks = at.as_micros() % 1_000_000 != 0;
        if !only_looks {
            *cx.state() = Some(seen.unwrap_or(0) + 1);
        }
    }
}

fn driver(ttl: Ttl) -> TestDriver {
    let flow = Flow::new("ttl");
    flow.source("events", Pushed::<Event>::partitions(1))
        .event_time(|e| e.1, Disorder::ascending())
        .key_by(|e| &e.0)
        .process("counter", Counter)
        .ttl(ttl)
        .drop_late("none is")
        .sink("out", Stdout::json());
    TestDriver::new(flow).unwrap()
}

/// What each event sees of its key, with a tick, or a crash, between any two.
fn seen(ttl: Ttl, events: &[Event], crashes: bool) -> Vec<Option<u64>> {
    let mut driver = driver(ttl);
    for event in events {
        driver.push("events", 0, *event).unwrap();
        driver.commit().unwrap();
        if crashes {
            driver.crash_and_restart().unwrap();
        }
    }
    driver.finish::<Event>("events").unwrap();
    assert_eq!(driver.metrics().operator("counter").unwrap().entries, 0);
    driver.outputs::<(u8, Option<u64>)>("out").unwrap().into_iter().map(|(_, n)| n).collect()
}

#[test]
fn state_is_there_until_its_time_and_not_at_it() {
    let at = |seconds: &[i64]| seconds.iter().map(|s| (1u8, t(*s))).collect::<Vec<_>>();
    for crashes in [false, true] {
        let ttl = Ttl::from_write(seconds(10));
        assert_eq!(seen(ttl, &at(&[0, 9, 18, 28]), crashes), [None, Some(1), Some(2), None]);
        assert_eq!(seen(ttl, &at(&[0, 10, 19]), crashes), [None, None, Some(1)]);
    }
}

#[test]
fn a_read_keeps_it_alive_only_if_reads_count() {
    let look = |second: i64| (1u8, t(second) + micros(1));
    let events = [(1, t(0)), look(6), look(12), look(18)];
    for crashes in [false, true] {
        let from_write = seen(Ttl::from_write(seconds(10)), &events, crashes);
        assert_eq!(from_write, [None, Some(1), None, None]);
        // A write makes what was read durable; what a read alone moved is moved as well.
        let from_read = seen(Ttl::from_read(seconds(10)), &events, crashes);
        assert_eq!(from_read, [None, Some(1), Some(1), Some(1)]);
    }
}

#[test]
fn the_clock_of_the_machine_has_no_say_and_the_watermark_cleans_up() {
    let mut driver = driver(Ttl::from_write(seconds(10)));
    for key in 0..5u8 {
        driver.push("events", 0, (key, t(i64::from(key)))).unwrap();
    }
    driver.commit().unwrap();
    driver.advance_clock(days(10_000));
    driver.commit().unwrap();
    let entries = |driver: &TestDriver| driver.metrics().operator("counter").unwrap().entries;
    assert_eq!(entries(&driver), 5, "four keys and a waiting event");
    assert_eq!(driver.state::<u8, u64>("counter", &0).unwrap(), Some(1));
    driver.push("events", 0, (9u8, t(12))).unwrap();
    driver.commit().unwrap();
    // Those of 0, 1 and 2 seconds are over; 3 is not, 4 has acted by now, 9 waits.
    assert_eq!(entries(&driver), 3);
    assert_eq!(driver.state::<u8, u64>("counter", &2).unwrap(), None);
    assert_eq!(driver.state::<u8, u64>("counter", &3).unwrap(), Some(1));
    driver.crash_and_restart().unwrap();
    driver.push("events", 0, (9u8, t(40))).unwrap();
    driver.commit().unwrap();
    assert_eq!(driver.state::<u8, u64>("counter", &3).unwrap(), None);
}

#[test]
fn a_ttl_that_makes_no_sense_does_not_build() {
    let flow = Flow::new("none");
    let events = flow.source("events", Pushed::<Event>::partitions(1));
    events.key_by(|e| &e.0).running("running", Count).ttl(Ttl::from_write(seconds(1)));
    assert!(flow.plan().unwrap_err().to_string().contains("needs event time"));
    let flow = Flow::new("zero");
    flow.source("events", Pushed::<Event>::partitions(1))
        .event_time(|e| e.1, Disorder::ascending())
        .key_by(|e| &e.0)
        .running("running", Count)
        .ttl(Ttl::from_write(seconds(0)));
    assert!(flow.plan().unwrap_err().to_string().contains("longer than nothing"));
}

/// Sets a timer far beyond the life of its state.
struct Later;

impl Process<u8, Event> for Later {
    type State = u64;
    type Output = u64;

    fn event(&self, cx: &mut ProcessCx<'_, u64, u64>, _: &u8, (_, at): Event) {
        *cx.state() = Some(1);
        cx.set_timer("later", at + hours(1));
    }

    fn timer(&self, cx: &mut ProcessCx<'_, u64, u64>, _: &u8, _: &highwater::Timer) {
        let state = cx.get().copied();
        cx.emit(state.unwrap_or(0));
    }
}

#[test]
fn a_timer_beyond_the_life_of_its_state_costs_nothing_until_it_fires() {
    let flow = Flow::new("ttl");
    flow.source("events", Pushed::<Event>::partitions(1))
        .event_time(|e| e.1, Disorder::ascending())
        .key_by(|e| &e.0)
        .process("later", Later)
        .ttl(Ttl::from_write(seconds(10)))
        .drop_late("none is")
        .sink("out", Stdout::json());
    let disk = highwater::testing::SimDisk::new();
    let mut driver = TestDriver::on_disk(flow, &disk, usize::MAX).unwrap();
    driver.push("events", 0, (0u8, t(0))).unwrap();
    driver.commit().unwrap();
    driver.push("events", 0, (1u8, t(60))).unwrap();
    driver.commit().unwrap();
    driver.commit().unwrap();
    // The state of key 0 is gone, and its timer is there: later commits have nothing to say of it.
    let told = || {
        let mut times = 0;
        for (path, bytes) in disk.contents() {
            if path.starts_with("state/log") {
                times += bytes.windows(5).filter(|window| window == b"later").count();
            }
        }
        times
    };
    let before = told();
    assert!(before > 0, "the timer is in no commit");
    driver.commit().unwrap();
    driver.commit().unwrap();
    assert!(told() <= before, "the timer is written in every commit");
}
