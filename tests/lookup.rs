//! The lookup join: what comes out belongs to the tick that asked, and answers are committed
//! with it.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use highwater::prelude::*;
use highwater::sink::channel;
use highwater::testing::{Pushed, TestDriver};

/// A row: key and time.
type Row = (u32, i64);
/// A row's key, and what the store said.
type Told = (u32, Option<String>);

/// A store that has names for even numbers, and writes down what it is asked.
#[derive(Clone, Default)]
struct Names {
    asked: Arc<Mutex<Vec<Vec<u32>>>>,
    at_once: Arc<AtomicUsize>,
    most_at_once: Arc<AtomicUsize>,
}

impl Names {
    fn asked(&self) -> Vec<Vec<u32>> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

impl Lookup<u32> for Names {
    type Value = String;

    fn get(
        &self,
        keys: Vec<u32>,
    ) -> impl Future<Output = Result<Vec<Option<String>>, BoxError>> + Send + 'static {
        let names = self.clone();
        async move {
            let now = names.at_once.fetch_add(1, Ordering::SeqCst) + 1;
            names.most_at_once.fetch_max(now, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(2)).await;
            names.at_once.fetch_sub(1, Ordering::SeqCst);
            let name = |key: &u32| key.is_multiple_of(2).then(|| format!("name {key}"));
            let found = keys.iter().map(name).collect();
            names.asked.lock().unwrap().push(keys);
            Ok(found)
        }
    }
}

fn rows(flow: &Flow) -> Keyed<Row, impl KeyOf<Row, Key = u32>, Timed> {
    let source = flow.source("rows", Pushed::<Row>::partitions(1));
    source.event_time(|row| EventTime::from_micros(row.1), Disorder::ascending()).key_by(|r| &r.0)
}

fn told(key: u32) -> Told {
    (key, key.is_multiple_of(2).then(|| format!("name {key}")))
}

fn left<K, Q>(lookup: LookupJoin<Row, K, Q>) -> Stream<Told, Timed>
where
    K: KeyOf<Row, Key = u32>,
    Q: Lookup<u32, Value = String>,
{
    lookup.left(|key, _, name| (*key, name.cloned()))
}

fn driver(names: &Names, ttl: Span) -> TestDriver {
    let flow = Flow::new("lookup");
    let lookup = rows(&flow).lookup("names", names.clone()).cached(ttl);
    left(lookup).sink("out", Stdout::json());
    TestDriver::new(flow).unwrap()
}

fn push(driver: &mut TestDriver, keys: &[u32]) {
    keys.iter().for_each(|key| driver.push::<Row>("rows", 0, (*key, 0)).unwrap());
}

#[test]
fn what_comes_out_belongs_to_the_tick_that_asked() {
    let names = Names::default();
    let mut driver = driver(&names, Span::ZERO);
    push(&mut driver, &[2, 3, 2]);
    driver.tick().unwrap();
    assert_eq!(driver.outputs::<Told>("out").unwrap(), [told(2), told(3), told(2)]);
    assert_eq!(names.asked().concat().len(), 2, "each key once");
    push(&mut driver, &[2]);
    driver.tick().unwrap();
    assert_eq!(names.asked(), [[2]], "each tick asks anew");
    let metrics = driver.metrics();
    assert_eq!(metrics.operator("names").unwrap().entries, 0);
    assert!(metrics.operators.iter().all(|o| o.counters.balanced()));
}

#[test]
fn answers_are_good_for_a_while_and_survive_with_the_commit() {
    let names = Names::default();
    let mut driver = driver(&names, seconds(10));
    push(&mut driver, &[2, 3]);
    driver.commit().unwrap();
    assert_eq!(names.asked().concat().len(), 2);
    push(&mut driver, &[2, 3, 4]);
    driver.tick().unwrap();
    assert_eq!(names.asked(), [[4]], "that there is no name for 3 is known too");
    driver.crash_and_restart().unwrap();
    driver.tick().unwrap();
    assert_eq!(names.asked(), [[4]], "what was not committed is asked again");
    driver.advance_clock(seconds(9));
    push(&mut driver, &[2]);
    driver.tick().unwrap();
    assert_eq!(names.asked(), Vec::<Vec<u32>>::new());
    driver.advance_clock(seconds(1));
    push(&mut driver, &[2]);
    driver.tick().unwrap();
    assert_eq!(names.asked(), [[2]]);
    assert_eq!(driver.metrics().operator("names").unwrap().entries, 1);
    let out: Vec<Told> = driver.outputs("out").unwrap();
    assert_eq!(out, [2, 3, 2, 3, 4, 2, 2].map(told));
}

#[test]
fn times_stay_and_windows_follow() {
    let names = Names::default();
    let flow = Flow::new("lookup");
    let named = rows(&flow).lookup("names", names).inner(|_, row, name| (row, name.clone()));
    let counts = named.key_by(|(row, _)| &row.0).window("count", Tumbling::of(micros(10)));
    let counts = counts.aggregate(Count);
    counts.late().map(|late| late.row.0).sink("late", Stdout::json());
    counts.map(|r| (r.key, r.window.start.as_micros(), r.value)).sink("out", Stdout::json());
    let mut driver = TestDriver::new(flow).unwrap();
    for row in [(2u32, 1i64), (3, 2), (2, 15), (2, 4), (4, 5), (2, 25)] {
        driver.push::<Row>("rows", 0, row).unwrap();
        driver.tick().unwrap();
    }
    driver.finish::<Row>("rows").unwrap();
    assert_eq!(driver.outputs::<Row>("late").unwrap(), [(2, 4), (4, 5)], "their promise was 15");
    let out: Vec<(u32, i64, u64)> = driver.outputs("out").unwrap();
    assert_eq!(out, [(2, 0, 1), (2, 10, 1), (2, 20, 1)]);
    assert_eq!(driver.metrics().operator("names").unwrap().counters.filtered, 1);
}

#[test]
fn many_are_asked_at_once_but_not_too_many() {
    let names = Names::default();
    let flow = Flow::new("lookup");
    let keys: Vec<Row> = (0..400).map(|n| (n % 100, i64::from(n))).collect();
    let source = flow.source("rows", Memory::partitions(vec![keys.clone(), keys.clone()]));
    let timed = source.event_time(|r| EventTime::from_micros(r.1), Disorder::ascending());
    let lookup = timed.key_by(|r| &r.0).lookup("names", names.clone());
    let (sink, out) = channel();
    left(lookup.batches_of(3).in_flight(4)).sink("out", sink);
    let settings = Settings::in_memory().workers(3).tick_max_events(60);
    let metrics = flow.spawn(settings).unwrap().wait().unwrap();
    assert!(metrics.operators.iter().all(|o| o.counters.balanced()));
    let mut out: Vec<Told> = out.into_iter().collect();
    out.sort();
    let mut expected: Vec<Told> = keys.iter().chain(&keys).map(|r| told(r.0)).collect();
    expected.sort();
    assert_eq!(out, expected);
    assert!(names.asked().iter().all(|keys| keys.len() <= 3));
    let most = names.most_at_once.load(Ordering::SeqCst);
    assert!((2..=4).contains(&most), "{most}");
}

/// How a flow ends whose store answers so.
fn failed<Fut>(get: fn(Vec<u32>) -> Fut) -> highwater::Error
where
    Fut: Future<Output = Result<Vec<Option<String>>, BoxError>> + Send + 'static,
{
    let flow = Flow::new("lookup");
    left(rows(&flow).lookup("names", get).timeout(millis(20))).sink("out", Stdout::json());
    let mut driver = TestDriver::new(flow).unwrap();
    push(&mut driver, &[1, 2]);
    driver.tick().unwrap_err()
}

#[test]
fn a_store_that_fails_stops_the_flow() {
    let error = failed(|_| async { Err("no route to the store".into()) });
    assert!(error.to_string().contains("names"), "{error}");
    assert!(error.to_string().contains("the lookup failed"), "{error}");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("no route"), "{cause}");
    let error = failed(|_| async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        Ok(Vec::new())
    });
    assert!(error.to_string().contains("`names`: the lookup took longer than 20ms"), "{error}");
    let error = failed(|_| async { Ok(vec![None]) });
    assert!(error.to_string().contains("asked for 2 keys and gave 1 values"), "{error}");
    let error = failed(|_| async { panic!("a bug in the store") });
    assert!(error.to_string().contains("a bug in the store"), "{error}");
    let error = failed(|keys| {
        assert!(keys.is_empty(), "before it waits");
        async { Ok(Vec::new()) }
    });
    assert!(error.to_string().contains("before it waits"), "{error}");
}

#[test]
fn lookups_that_make_no_sense_are_refused() {
    type Build = fn(LookupJoin<Row, Computed<fn(&Row) -> u32>, Names>) -> Stream<Told, Timed>;
    let refused = |build: Build| {
        let flow = Flow::new("lookup");
        let source = flow.source("rows", Pushed::<Row>::partitions(1));
        let timed = source.event_time(|r| EventTime::from_micros(r.1), Disorder::ascending());
        let key: fn(&Row) -> u32 = |row| row.0;
        build(timed.key_with(key).lookup("names", Names::default()));
        flow.plan().unwrap_err().to_string()
    };
    let message = refused(|lookup| left(lookup.cached(seconds(-1))));
    assert!(message.contains("answers cannot be good for -1s"), "{message}");
    let message = refused(|lookup| left(lookup.timeout(Span::ZERO)));
    assert!(message.contains("leaves no time"), "{message}");
    let message = refused(|lookup| left(lookup.in_flight(0)));
    assert!(message.contains("requests in flight"), "{message}");
}
