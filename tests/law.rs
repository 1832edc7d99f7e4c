//! The law of the house on generated input: for every tick size, number of workers, interleaving
//! of partitions and moment of a crash, final results and late events are the same bags, and they
//! are what plain loops over all events make of them.

use std::collections::{BTreeMap, VecDeque};

use highwater::prelude::*;
use highwater::sink::channel;
use highwater::testing::{Pushed, TestDriver};
use proptest::prelude::*;

/// An event: key, time in µs, and a number by which it is told from its like.
type Event = (u8, i64, u32);
/// Events by partition.
type Input = Vec<Vec<Event>>;
/// A result: key, window, and what was aggregated.
type Out = (u8, i64, i64, Vec<u32>);

fn input() -> impl Strategy<Value = Input> {
    let event = (0u8..3, -60i64..60);
    let partition = prop::collection::vec(event, 0..25);
    prop::collection::vec(partition, 1..4).prop_map(|partitions| {
        let mut number = 0;
        let mut tell_apart = |(key, time)| {
            number += 1;
            (key, time, number)
        };
        partitions
            .into_iter()
            .map(|events| {
                // Mostly rising, as real partitions are: sorted in parts.
                let mut events: Vec<_> = events;
                events.chunks_mut(9).for_each(|part| part.sort_by_key(|e| e.1));
                events.into_iter().map(&mut tell_apart).collect()
            })
            .collect()
    })
}

#[derive(Clone, Copy, Debug)]
enum Pipeline {
    Tumbling,
    Hopping,
    HoppingWithGaps,
    Session,
    /// Hopping windows over the results of tumbling ones.
    ChainOfTwo,
    ChainOfThree,
    /// Fired results and the raw stream together in one window.
    Union,
    /// Each event re-arms a timer; when it fires, the numbers since then come out, in order.
    Timers,
}

const ALL: [Pipeline; 8] = [
    Pipeline::Tumbling,
    Pipeline::Hopping,
    Pipeline::HoppingWithGaps,
    Pipeline::Session,
    Pipeline::ChainOfTwo,
    Pipeline::ChainOfThree,
    Pipeline::Union,
    Pipeline::Timers,
];

/// Collects event numbers, and lets a silence of 7 µs end the collection.
struct Silence;

impl Process<u8, Event> for Silence {
    type State = (i64, Vec<u32>);
    type Output = Out;

    fn event(&self, cx: &mut ProcessCx<'_, (i64, Vec<u32>), Out>, _: &u8, event: Event) {
        let (armed, mut numbers) = cx.state().take().unwrap_or_default();
        if !numbers.is_empty() {
            cx.delete_timer("silence", EventTime::from_micros(armed));
        }
        numbers.push(event.2);
        let at = event.1 + 7;
        cx.set_timer("silence", EventTime::from_micros(at));
        *cx.state() = Some((at, numbers));
    }

    fn timer(&self, cx: &mut ProcessCx<'_, (i64, Vec<u32>), Out>, key: &u8, timer: &Timer) {
        let (_, numbers) = cx.state().take().unwrap_or_default();
        let time = timer.time.as_micros();
        cx.emit((*key, time, time, numbers));
    }
}

fn out(r: WindowResult<u8, Vec<Event>>) -> Out {
    let numbers = r.value.into_iter().map(|e| e.2).collect();
    (r.key, r.window.start.as_micros(), r.window.end.as_micros(), numbers)
}

/// A result as an event of a further window: its first number stands for it.
fn again(result: WindowResult<u8, Vec<Event>>) -> Event {
    let sum = result.value.iter().fold(result.value.len() as u32 * 1000, |sum, e| sum + e.2);
    (result.key / 2, result.window.last_time().as_micros(), sum)
}

fn last(e: &Event) -> EventTime {
    EventTime::from_micros(e.1)
}

/// Adds the pipeline behind a source, with the sinks `out` and `late`.
fn build(
    pipeline: Pipeline,
    source: &Stream<Event, Raw>,
    bound: i64,
    out_sink: impl highwater::sink::Sink<Out>,
    late_sink: impl highwater::sink::Sink<u32>,
) {
    let timed = source.event_time(last, Disorder::at_most(micros(bound)));
    let keyed = timed.key_by(|e| &e.0);
    let never = "results of windows are never late";
    let ten = || Tumbling::of(micros(10));
    let windowed = match pipeline {
        Pipeline::Tumbling => keyed.window("w", ten()).aggregate(Collect),
        Pipeline::Hopping => {
            keyed.window("w", Hopping::of(micros(12), micros(5))).aggregate(Collect)
        }
        Pipeline::HoppingWithGaps => {
            keyed.window("w", Hopping::of(micros(5), micros(8))).aggregate(Collect)
        }
        Pipeline::Session => keyed.window("w", Session::with_gap(micros(6))).aggregate(Collect),
        _ if matches!(pipeline, Pipeline::Timers) => {
            let alerts = keyed.process("w", Silence).unbounded();
            alerts.late().map(|l| l.row.2).sink("late", late_sink);
            alerts.sink("out", out_sink);
            return;
        }
        _ => keyed.window("first", ten()).aggregate(Collect),
    };
    windowed.late().map(|l| l.row.2).sink("late", late_sink);
    let results = match pipeline {
        Pipeline::ChainOfTwo | Pipeline::ChainOfThree => {
            let second = windowed
                .map(again)
                .key_by(|e| &e.0)
                .window("second", Hopping::of(micros(30), micros(10)))
                .aggregate(Collect)
                .drop_late(never);
            if let Pipeline::ChainOfTwo = pipeline {
                second
            } else {
                let third =
                    second.map(again).key_by(|e| &e.0).window("third", Tumbling::of(micros(60)));
                third.aggregate(Collect).drop_late(never)
            }
        }
        Pipeline::Union => {
            let raw = timed.map(|e| (e.0 / 2, e.1, e.2));
            let both = windowed.map(again).union(&[&raw]);
            // Raw events may be late here once more: the first window has reported them.
            let second = both.key_by(|e| &e.0).window("second", Tumbling::of(micros(20)));
            second.aggregate(Collect).drop_late("reported by the first window, or by the oracle")
        }
        _ => windowed.clone(),
    };
    results.map(out).sink("out", out_sink);
}

/// What plain loops make of the input.
mod oracle {
    use super::*;

    /// Each event with the promise in force before it.
    fn promises(input: &Input, bound: i64) -> Vec<(Event, Option<i64>)> {
        let mut all = Vec::new();
        for partition in input {
            let mut largest: Option<i64> = None;
            for &event in partition {
                all.push((event, largest.map(|t| t - bound)));
                largest = largest.max(Some(event.1));
            }
        }
        all
    }

    type Windows = BTreeMap<(u8, i64, i64), Vec<(i64, u32)>>;

    /// `windows(t)` are all windows that hold `t`.
    fn fixed(
        events: &[(Event, Option<i64>)],
        windows: impl Fn(i64) -> Vec<(i64, i64)>,
    ) -> (Windows, Vec<u32>) {
        let (mut open, mut late) = (Windows::new(), Vec::new());
        for ((key, time, number), promise) in events {
            let all = windows(*time);
            let on_time = all.iter().filter(|(_, end)| promise.is_none_or(|p| *end > p));
            let mut used = false;
            for (start, end) in on_time {
                used = true;
                open.entry((*key, *start, *end)).or_default().push((*time, *number));
            }
            if !used && !all.is_empty() {
                late.push(*number);
            }
        }
        (open, late)
    }

    fn hopping(size: i64, slide: i64) -> impl Fn(i64) -> Vec<(i64, i64)> {
        move |t| {
            let starts = (-40..40).map(|k| k * slide).filter(|s| *s <= t && t < s + size);
            starts.map(|s| (s, s + size)).collect()
        }
    }

    fn results(windows: Windows) -> Vec<Out> {
        let one = |((key, start, end), mut members): (_, Vec<(i64, u32)>)| {
            members.sort_unstable();
            (key, start, end, members.into_iter().map(|m| m.1).collect())
        };
        windows.into_iter().map(one).collect()
    }

    /// Results of windows as events of further ones; nothing is late any more.
    fn as_events(results: &[Out]) -> Vec<(Event, Option<i64>)> {
        let one = |(key, _, end, numbers): &Out| {
            let sum = numbers.iter().fold(numbers.len() as u32 * 1000, |sum, n| sum + n);
            ((key / 2, end - 1, sum), None)
        };
        results.iter().map(one).collect()
    }

    /// Events that are not late by themselves, per key and in order.
    fn on_time(events: &[(Event, Option<i64>)]) -> (BTreeMap<u8, Vec<Event>>, Vec<u32>) {
        let (mut keys, mut late) = (BTreeMap::<u8, Vec<Event>>::new(), Vec::new());
        for (event, promise) in events {
            if promise.is_some_and(|p| event.1 < p) {
                late.push(event.2);
            } else {
                keys.entry(event.0).or_default().push(*event);
            }
        }
        // Numbers rise by partition and position, as the order of equal times does.
        keys.values_mut().for_each(|events| events.sort_by_key(|e| (e.1, e.2)));
        (keys, late)
    }

    /// Cuts each key's events where the next one is `gap` or more away.
    fn sessions(
        keys: BTreeMap<u8, Vec<Event>>,
        cut: impl Fn(i64, i64) -> bool,
    ) -> Vec<(u8, Vec<Event>)> {
        let mut all: Vec<(u8, Vec<Event>)> = Vec::new();
        for (key, events) in keys {
            let mut current: Vec<Event> = Vec::new();
            for event in events {
                if current.last().is_some_and(|before| cut(before.1, event.1)) {
                    all.push((key, std::mem::take(&mut current)));
                }
                current.push(event);
            }
            all.push((key, current));
        }
        all
    }

    fn numbers(events: &[Event]) -> Vec<u32> {
        events.iter().map(|e| e.2).collect()
    }

    pub fn expect(pipeline: Pipeline, input: &Input, bound: i64) -> (Vec<Out>, Vec<u32>) {
        let events = promises(input, bound);
        let (first, mut late) = match pipeline {
            Pipeline::Hopping => fixed(&events, hopping(12, 5)),
            Pipeline::HoppingWithGaps => fixed(&events, hopping(5, 8)),
            Pipeline::Session | Pipeline::Timers => (Windows::new(), on_time(&events).1),
            _ => fixed(&events, hopping(10, 10)),
        };
        let mut out = match pipeline {
            Pipeline::Tumbling | Pipeline::Hopping | Pipeline::HoppingWithGaps => results(first),
            Pipeline::Session => sessions(on_time(&events).0, |a, b| b >= a + 6)
                .iter()
                .map(|(key, e)| (*key, e[0].1, e[e.len() - 1].1 + 6, numbers(e)))
                .collect(),
            // A timer at the time of an event fires before it.
            Pipeline::Timers => sessions(on_time(&events).0, |a, b| b >= a + 7)
                .iter()
                .map(|(key, e)| (*key, e[e.len() - 1].1 + 7, e[e.len() - 1].1 + 7, numbers(e)))
                .collect(),
            Pipeline::ChainOfTwo | Pipeline::ChainOfThree => {
                let second = results(fixed(&as_events(&results(first)), hopping(30, 10)).0);
                match pipeline {
                    Pipeline::ChainOfTwo => second,
                    _ => results(fixed(&as_events(&second), hopping(60, 60)).0),
                }
            }
            Pipeline::Union => {
                let mut both = as_events(&results(first));
                both.extend(events.iter().map(|((k, t, n), p)| ((k / 2, *t, *n), *p)));
                results(fixed(&both, hopping(20, 20)).0)
            }
        };
        out.sort();
        late.sort_unstable();
        (out, late)
    }
}

fn sorted<T: Ord>(rows: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut rows: Vec<T> = rows.into_iter().collect();
    rows.sort();
    rows
}

/// Members of chained windows come as results of results, whose order among equal times is by
/// key and not by number: there only the bag is compared.
fn comparable(pipeline: Pipeline, rows: Vec<Out>) -> Vec<Out> {
    let chained =
        matches!(pipeline, Pipeline::ChainOfTwo | Pipeline::ChainOfThree | Pipeline::Union);
    sorted(rows.into_iter().map(|(key, start, end, numbers)| {
        (key, start, end, if chained { sorted(numbers) } else { numbers })
    }))
}

fn check_balance(metrics: &Metrics) {
    for operator in &metrics.operators {
        assert!(operator.counters.balanced(), "{}: {:?}", operator.id, operator.counters);
    }
}

/// The live engine.
fn live(
    pipeline: Pipeline,
    input: &Input,
    bound: i64,
    ticks: usize,
    workers: usize,
) -> (Vec<Out>, Vec<u32>) {
    let flow = Flow::new("law");
    let (out_sink, out) = channel();
    let (late_sink, late) = channel();
    let source = flow.source("events", Memory::partitions(input.clone()));
    build(pipeline, &source, bound, out_sink, late_sink);
    let settings = Settings::in_memory().workers(workers).tick_max_events(ticks);
    check_balance(&flow.spawn(settings).unwrap().wait().unwrap());
    (sorted(out), sorted(late))
}

/// The test driver: partitions interleaved at random, ticks, commits and crashes in between.
fn driven(pipeline: Pipeline, input: &Input, bound: i64, dice: &[u8]) -> (Vec<Out>, Vec<u32>) {
    let flow = Flow::new("law");
    let source = flow.source("events", Pushed::<Event>::partitions(input.len()));
    build(pipeline, &source, bound, Stdout::json(), Stdout::json());
    let mut driver = TestDriver::new(flow).unwrap();
    let mut left: Vec<VecDeque<Event>> =
        input.iter().map(|p| p.iter().copied().collect()).collect();
    for die in dice.iter().cycle() {
        let waiting: Vec<usize> = (0..left.len()).filter(|p| !left[*p].is_empty()).collect();
        if waiting.is_empty() {
            break;
        }
        let partition = waiting[usize::from(*die) % waiting.len()];
        let event = left[partition].pop_front().unwrap();
        driver.push("events", partition, event).unwrap();
        match die % 11 {
            0..=2 => driver.tick().unwrap(),
            3 => driver.commit().unwrap(),
            4 => driver.crash_and_restart().unwrap(),
            _ => {}
        }
        check_balance(&driver.metrics());
    }
    driver.finish::<Event>("events").unwrap();
    check_balance(&driver.metrics());
    assert!(driver.metrics().finished);
    let out = driver.outputs("out").unwrap();
    (comparable(pipeline, out), sorted(driver.outputs("late").unwrap()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn law_live(input in input(), bound in 0i64..15) {
        for pipeline in ALL {
            let expected = oracle::expect(pipeline, &input, bound);
            let expected = (comparable(pipeline, expected.0), expected.1);
            let mut first = None;
            for (ticks, workers) in [(1, 1), (7, 2), (1_000, 3), (3, 3), (usize::MAX, 1)] {
                let found = live(pipeline, &input, bound, ticks, workers);
                let how = format!("{pipeline:?}, {ticks} a tick, {workers} workers");
                // The order inside of results is the same in every run, chained or not.
                let first = first.get_or_insert_with(|| found.clone());
                prop_assert_eq!(&*first, &found, "order: {}", &how);
                let found = (comparable(pipeline, found.0), found.1);
                prop_assert_eq!(&found, &expected, "{}", how);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn law_driven(
        input in input(),
        bound in 0i64..15,
        dice in prop::collection::vec(any::<u8>(), 1..60),
    ) {
        for pipeline in ALL {
            let expected = oracle::expect(pipeline, &input, bound);
            let expected = (comparable(pipeline, expected.0), expected.1);
            let found = driven(pipeline, &input, bound, &dice);
            prop_assert_eq!(&found, &expected, "{:?}", pipeline);
        }
    }
}
