//! Fills a topic before it is read.

use std::time::Duration;

use crate::broker::{self, Sender};
use crate::data::{BOUND_MS, Event, Expected, Format, Job, PARTITIONS};

/// Events that close every window, and bring nothing to it: each partition goes on for a while in
/// a window that nothing closes.
fn send_tail(sender: &mut Sender, end: i64) {
    for behind in 0..=BOUND_MS + 50 {
        for partition in 0..PARTITIONS {
            let key = (0..).find(|&key| Event { key, ..Event::default() }.partition() == partition);
            let event = Event { key: key.unwrap_or_default(), value: 0, time: end + behind };
            sender.send(&event, partition);
        }
    }
}

pub(crate) fn run(brokers: &str, topic: &str, events: u64, job: &Job, format: Format) {
    broker::create(brokers, topic, PARTITIONS);
    let mut sender = Sender::new(brokers, topic, format, Duration::from_millis(20));
    let mut expected = Expected::default();
    let mut last = job.base_ms;
    for index in 0..events {
        let event = job.event(index);
        last = last.max(event.time);
        expected.event(job, &event);
        sender.send(&event, event.partition());
        if index % 1_000 == 0 {
            sender.poll();
        }
    }
    let end = job.window(last) + job.window_ms;
    send_tail(&mut sender, end);
    sender.flush();
    let check = expected.check(job, end);
    println!("results={} sum={}", check.results, check.sum);
}
