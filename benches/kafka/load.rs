//! Fills a topic before it is read.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::broker::{self, Sender};
use crate::data::{BOUND_MS, Event, Expected, Format, Job, PARTITIONS};

/// How often something comes behind the tail.
const TAIL_EVERY: Duration = Duration::from_millis(100);

/// An event in each partition that adds nothing to a window that closes.
fn send_round(sender: &mut Sender, time: i64) {
    for partition in 0..PARTITIONS {
        let key = (0..).find(|&key| Event { key, ..Event::default() }.partition() == partition);
        let event = Event { key: key.unwrap_or_default(), value: 0, time };
        sender.send(&event, partition);
    }
}

/// When the last of the events come that close every window, the last of which ends at `end`.
fn tail_ends(end: i64) -> i64 {
    end + BOUND_MS + 50
}

/// Events that close every window: each partition goes on for a while in one that nothing closes.
fn send_tail(sender: &mut Sender, end: i64) {
    (end..=tail_ends(end)).for_each(|time| send_round(sender, time));
}

/// Goes on with the tail of a topic that is full, until it is dropped: an engine may look for
/// windows that are over now and then only, and when a record comes.
pub(crate) struct Tail {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Tail {
    pub(crate) fn start(brokers: &str, topic: &str, format: Format, end: i64) -> Self {
        let mut sender = Sender::new(brokers, topic, format, Duration::ZERO);
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            while stopped.recv_timeout(TAIL_EVERY) == Err(RecvTimeoutError::Timeout) {
                send_round(&mut sender, tail_ends(end));
                sender.poll();
            }
        });
        Tail { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

pub(crate) fn run(brokers: &str, topic: &str, events: u64, job: &Job, format: Format) {
    broker::create(brokers, topic, PARTITIONS);
    let mut sender = Sender::new(brokers, topic, format, Duration::from_millis(20));
    let mut expected = Expected::default();
    for index in 0..events {
        let event = job.event(index);
        expected.event(job, &event);
        sender.send(&event, event.partition());
        if index % 1_000 == 0 {
            sender.poll();
        }
    }
    let end = job.end(events);
    send_tail(&mut sender, end);
    sender.flush();
    let check = expected.check(job, end);
    println!("results={} sum={}", check.results, check.sum);
}
