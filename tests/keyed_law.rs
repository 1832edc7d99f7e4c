//! The law of the house for keyed functions in event-time order: on generated input, whatever the
//! tick size, number of workers, interleaving of partitions and moment of a crash, results and
//! late events are what the reference models make of all events.

use std::collections::VecDeque;

use highwater::prelude::*;
use highwater::sink::channel;
use highwater::testing::model::{self, Judged, KeyModel, Occasion};
use highwater::testing::{Pushed, TestDriver};
use proptest::prelude::*;

/// An event: key, time in µs, and a number by which it is told from its like.
type Event = (u8, i64, u32);
/// Events by partition.
type Input = Vec<Vec<Event>>;
/// A result: key, time or index, and the numbers of events.
type Out = (u8, i64, Vec<u32>);

/// Events of this key are broadcast in the pipeline that does so.
const CONTROL: u8 = 0;

fn input() -> impl Strategy<Value = Input> {
    let event = (0u8..4, -40i64..40);
    let partition = prop::collection::vec(event, 0..25);
    prop::collection::vec(partition, 1..4).prop_map(|partitions| {
        let mut number = 0;
        let mut tell_apart = |(key, time)| {
            number += 1;
            (key, time, number)
        };
        partitions
            .into_iter()
            .map(|mut events: Vec<(u8, i64)>| {
                // Mostly rising, as real partitions are: sorted in parts.
                events.chunks_mut(9).for_each(|part| part.sort_by_key(|e| e.1));
                events.into_iter().map(&mut tell_apart).collect()
            })
            .collect()
    })
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Pipeline {
    Dedup,
    Count,
    CountSliding,
    CountIncomplete,
    Over,
    GlobalEvents,
    GlobalSpan,
    GlobalAccumulating,
    /// Sets, deletes and lists timers, reads and writes state, as event numbers say.
    Script,
    ScriptTtlWrite,
    ScriptTtlRead,
    /// The script over two connected streams that hold the events between them.
    ScriptTwo,
    MapWithState,
    UpdateState,
    Broadcast,
    /// What dedup keeps, in tumbling windows, in count windows.
    Chain,
}

const ALL: [Pipeline; 16] = [
    Pipeline::Dedup,
    Pipeline::Count,
    Pipeline::CountSliding,
    Pipeline::CountIncomplete,
    Pipeline::Over,
    Pipeline::GlobalEvents,
    Pipeline::GlobalSpan,
    Pipeline::GlobalAccumulating,
    Pipeline::Script,
    Pipeline::ScriptTtlWrite,
    Pipeline::ScriptTtlRead,
    Pipeline::ScriptTwo,
    Pipeline::MapWithState,
    Pipeline::UpdateState,
    Pipeline::Broadcast,
    Pipeline::Chain,
];

fn t(micros: i64) -> EventTime {
    EventTime::from_micros(micros)
}

fn ttl(pipeline: Pipeline) -> Option<Ttl> {
    match pipeline {
        Pipeline::ScriptTtlWrite => Some(Ttl::from_write(micros(9))),
        Pipeline::ScriptTtlRead => Some(Ttl::from_read(micros(9))),
        _ => None,
    }
}

/// What a script needs of a key: given by the engine, and by the model.
trait Hand {
    fn time(&self) -> i64;
    fn get(&mut self) -> Option<Vec<u32>>;
    fn put(&mut self, state: Option<Vec<u32>>);
    fn emit(&mut self, out: Out);
    fn set_timer(&mut self, name: &str, time: i64);
    fn delete_timer(&mut self, name: &str, time: i64) -> bool;
    fn timers(&self) -> Vec<(i64, String)>;
}

impl Hand for ProcessCx<'_, Vec<u32>, Out> {
    fn time(&self) -> i64 {
        ProcessCx::time(self).as_micros()
    }
    fn get(&mut self) -> Option<Vec<u32>> {
        ProcessCx::get(self).cloned()
    }
    fn put(&mut self, state: Option<Vec<u32>>) {
        *self.state() = state;
    }
    fn emit(&mut self, out: Out) {
        ProcessCx::emit(self, out);
    }
    fn set_timer(&mut self, name: &str, time: i64) {
        ProcessCx::set_timer(self, name, t(time));
    }
    fn delete_timer(&mut self, name: &str, time: i64) -> bool {
        ProcessCx::delete_timer(self, name, t(time))
    }
    fn timers(&self) -> Vec<(i64, String)> {
        ProcessCx::timers(self).map(|t| (t.time.as_micros(), t.name.clone())).collect()
    }
}

impl Hand for KeyModel<'_, Vec<u32>, Out> {
    fn time(&self) -> i64 {
        KeyModel::time(self).as_micros()
    }
    fn get(&mut self) -> Option<Vec<u32>> {
        KeyModel::get(self)
    }
    fn put(&mut self, state: Option<Vec<u32>>) {
        KeyModel::put(self, state);
    }
    fn emit(&mut self, out: Out) {
        KeyModel::emit(self, out);
    }
    fn set_timer(&mut self, name: &str, time: i64) {
        KeyModel::set_timer(self, name, t(time));
    }
    fn delete_timer(&mut self, name: &str, time: i64) -> bool {
        KeyModel::delete_timer(self, name, t(time))
    }
    fn timers(&self) -> Vec<(i64, String)> {
        KeyModel::timers(self).into_iter().map(|(time, name)| (time.as_micros(), name)).collect()
    }
}

const NAMES: [&str; 3] = ["a", "b", "c"];

/// A function that does everything a process function can do, as the number of the event says.
fn script(hand: &mut impl Hand, key: u8, occasion: Occasion<Event>) {
    let now = hand.time();
    match occasion {
        Occasion::Event((_, _, number)) => {
            let name = NAMES[number as usize / 6 % 3];
            match number % 6 {
                0 => hand.set_timer(name, now + i64::from(number % 11) - 3),
                1 => {
                    let mut state = hand.get().unwrap_or_default();
                    state.push(number);
                    hand.put(Some(state));
                    hand.set_timer(name, now + 4);
                }
                2 => {
                    let seen = hand.get().unwrap_or_default();
                    hand.emit((key, now, seen));
                }
                3 => {
                    if let Some((time, name)) = hand.timers().first().cloned() {
                        assert!(hand.delete_timer(&name, time));
                        hand.emit((key, time, vec![number]));
                    }
                    assert!(!hand.delete_timer("never", now));
                }
                4 => {
                    let timers = hand.timers().len() as u32;
                    hand.emit((key, now, vec![number, timers]));
                }
                _ => hand.put((number % 4 != 1).then(|| vec![number])),
            }
        }
        Occasion::Timer(name) => {
            let state = hand.get().unwrap_or_default();
            let length = state.len();
            hand.emit((key, now, [state, vec![u32::from(name.as_bytes()[0])]].concat()));
            match name.as_str() {
                // Its neighbours do not fire then.
                "a" => {
                    for (time, name) in hand.timers() {
                        if time == now {
                            hand.delete_timer(&name, time);
                        }
                    }
                }
                // A heartbeat, which the end of input ends.
                "b" => hand.set_timer("b", now + 3 + length as i64),
                _ => hand.put(None),
            }
        }
    }
}

struct Script;

impl Process<u8, Event> for Script {
    type State = Vec<u32>;
    type Output = Out;

    fn event(&self, cx: &mut ProcessCx<'_, Vec<u32>, Out>, key: &u8, event: Event) {
        script(cx, *key, Occasion::Event(event));
    }

    fn timer(&self, cx: &mut ProcessCx<'_, Vec<u32>, Out>, key: &u8, timer: &Timer) {
        assert_eq!(cx.time(), timer.time);
        script(cx, *key, Occasion::Timer(timer.name.clone()));
    }
}

struct ScriptTwo;

impl Process2<u8, Event, Event> for ScriptTwo {
    type State = Vec<u32>;
    type Output = Out;

    fn left(&self, cx: &mut ProcessCx<'_, Vec<u32>, Out>, key: &u8, event: Event) {
        assert_eq!(event.2 % 5, 0);
        script(cx, *key, Occasion::Event(event));
    }

    fn right(&self, cx: &mut ProcessCx<'_, Vec<u32>, Out>, key: &u8, event: Event) {
        assert_ne!(event.2 % 5, 0);
        script(cx, *key, Occasion::Event(event));
    }

    fn timer(&self, cx: &mut ProcessCx<'_, Vec<u32>, Out>, key: &u8, timer: &Timer) {
        script(cx, *key, Occasion::Timer(timer.name.clone()));
    }
}

/// Each event tells what has been broadcast up to its time, as does a timer 3 µs later.
struct Broadcasts;

impl BroadcastProcess<u8, Event, Event> for Broadcasts {
    type State = ();
    type Shared = Vec<u32>;
    type Output = Out;

    fn broadcast(&self, shared: &mut Vec<u32>, row: Event, time: EventTime) {
        assert_eq!(t(row.1), time);
        shared.push(row.2);
    }

    fn event(
        &self,
        cx: &mut ProcessCx<'_, (), Out>,
        shared: &Vec<u32>,
        key: &u8,
        (_, time, number): Event,
    ) {
        cx.set_timer("", t(time + 3));
        cx.emit((*key, i64::from(number), shared.clone()));
    }

    fn timer(&self, cx: &mut ProcessCx<'_, (), Out>, shared: &Vec<u32>, key: &u8, timer: &Timer) {
        cx.emit((*key, timer.time.as_micros(), shared.clone()));
    }
}

fn count_out(r: CountResult<u8, Vec<Event>>) -> Out {
    assert_eq!(r.count, r.value.len() as u64);
    assert_eq!(r.first.as_micros(), r.value[0].1);
    assert_eq!(r.last.as_micros(), r.value[r.value.len() - 1].1);
    (r.key, r.index as i64, r.value.into_iter().map(|e| e.2).collect())
}

/// Adds the pipeline behind a source, with the sinks `out` and `late`.
fn build(
    pipeline: Pipeline,
    source: &Stream<Event, Raw>,
    bound: i64,
    out: impl highwater::sink::Sink<Out>,
    late: impl highwater::sink::Sink<u32>,
) {
    let timed = source.event_time(|e| t(e.1), Disorder::at_most(micros(bound)));
    let keyed = timed.key_by(|e| &e.0);
    let counted = |windows: CountWindowed<Event, _>| windows.aggregate(Collect).unbounded();
    let global = |trigger| keyed.global("k", trigger).aggregate(Collect).unbounded();
    macro_rules! finish {
        ($results:expr, $map:expr) => {{
            let results = $results;
            results.late().map(|l| l.row.2).sink("late", late);
            results.map($map).sink("out", out);
        }};
    }
    match pipeline {
        Pipeline::Dedup => finish!(keyed.dedup("k", micros(8)), |e| (e.0, e.1, vec![e.2])),
        Pipeline::Count => finish!(counted(keyed.count_window("k", 3)), count_out),
        Pipeline::CountSliding => {
            finish!(counted(keyed.count_window("k", 6).every(4)), count_out)
        }
        Pipeline::CountIncomplete => {
            let windows = keyed.count_window("k", 5).every(2).with_incomplete();
            finish!(counted(windows), count_out)
        }
        Pipeline::Over => {
            finish!(keyed.over("k", micros(6)).aggregate(Collect), |(e, seen)| {
                (e.0, i64::from(e.2), seen.into_iter().map(|e| e.2).collect())
            })
        }
        Pipeline::GlobalEvents => {
            finish!(global(GlobalTrigger::every_events(3).and_at_the_end()), count_out)
        }
        Pipeline::GlobalSpan => finish!(global(GlobalTrigger::every(micros(7))), count_out),
        Pipeline::GlobalAccumulating => {
            finish!(global(GlobalTrigger::every(micros(7)).accumulating()), count_out)
        }
        Pipeline::Script | Pipeline::ScriptTtlWrite | Pipeline::ScriptTtlRead => {
            let results = keyed.process("k", Script);
            match ttl(pipeline) {
                Some(ttl) => finish!(results.ttl(ttl), |r| r),
                None => finish!(results.unbounded(), |r| r),
            }
        }
        Pipeline::ScriptTwo => {
            let (left, right) = timed.split(|e| e.2 % 5 == 0);
            let both = left.key_by(|e| &e.0).connect(&right.key_by(|e| &e.0));
            let results = both.process2("k", ScriptTwo).unbounded();
            let number = |row: Either<Event, Event>| match row {
                Either::Left(event) | Either::Right(event) => event.2,
            };
            results.late().map(move |l| number(l.row)).sink("late", late);
            results.sink("out", out);
        }
        Pipeline::MapWithState => {
            let rises = keyed.map_with_state("k", |key, last: &mut Option<u32>, e: Event| {
                let before = last.replace(e.2)?;
                Some((*key, e.1, vec![before, e.2]))
            });
            finish!(rises.unbounded(), |r| r)
        }
        Pipeline::UpdateState => {
            let sums = keyed.update_state("k", |_, sum: &mut Option<u32>, e: Event| {
                *sum = Some(sum.unwrap_or(0) + e.2).filter(|sum| sum % 3 != 0);
            });
            finish!(sums.unbounded(), |(key, sum)| (key, 0, sum.into_iter().collect()))
        }
        Pipeline::Broadcast => {
            let (control, others) = timed.split(|e| e.0 == CONTROL);
            let results = others
                .key_by(|e| &e.0)
                .with_broadcast(&control)
                .process("k", Broadcasts)
                .unbounded();
            let late_rows = results.late().union(&[&results.late_broadcast()]);
            late_rows.map(|l| l.row.2).sink("late", late);
            results.sink("out", out);
        }
        Pipeline::Chain => {
            let kept = keyed.dedup("first", micros(8));
            kept.late().map(|l| l.row.2).sink("late", late);
            kept.key_by(|e| &e.0)
                .window("second", Tumbling::of(micros(10)))
                .aggregate(Collect)
                .drop_late("results are never late")
                .key_by(|r| &r.key)
                .count_window("third", 2)
                .aggregate(Collect)
                .unbounded()
                .drop_late("results are never late")
                .map(|r| {
                    let rows = r.value.into_iter().flat_map(|w| w.value).map(|e| e.2).collect();
                    (r.key, r.index as i64, rows)
                })
                .sink("out", out);
        }
    }
}

fn numbers(events: &[Event]) -> Vec<u32> {
    events.iter().map(|e| e.2).collect()
}

fn windows(results: Vec<(u8, u64, Vec<Event>)>) -> Vec<Out> {
    results.into_iter().map(|(key, index, rows)| (key, index as i64, numbers(&rows))).collect()
}

/// The broadcast pipeline, in plain loops.
fn broadcast(events: &[Judged<Event>]) -> Vec<Out> {
    let mut out = Vec::new();
    let control: Vec<&Judged<Event>> = events.iter().filter(|e| e.row.0 == CONTROL).collect();
    let before = |time: i64, same: bool| {
        let earlier = control.iter().filter(|c| c.row.1 < time || (same && c.row.1 == time));
        earlier.map(|c| c.row.2).collect::<Vec<_>>()
    };
    let mut timers: Vec<(u8, i64)> = Vec::new();
    for event in events.iter().filter(|e| e.row.0 != CONTROL) {
        let (key, time, number) = event.row;
        out.push((key, i64::from(number), before(time, true)));
        timers.push((key, time + 3));
    }
    timers.sort_unstable();
    timers.dedup();
    // A timer comes before what is broadcast at its time.
    out.extend(timers.into_iter().map(|(key, time)| (key, time, before(time, false))));
    out
}

/// What the models make of the input.
fn expect(pipeline: Pipeline, input: &Input, bound: i64) -> (Vec<Out>, Vec<u32>) {
    let judged = model::judge(input, |e| t(e.1), model::bounded(micros(bound)));
    let (events, late) = model::accepted(&judged);
    let largest = judged.iter().map(|e| e.time).max().unwrap_or(EventTime::MIN);
    let key = |e: &Event| e.0;
    let out = match pipeline {
        Pipeline::Dedup => {
            let kept = model::dedup(&events, key, micros(8));
            kept.into_iter().map(|e| (e.0, e.1, vec![e.2])).collect()
        }
        Pipeline::Count => windows(model::count_windows(&events, key, 3, 3, false)),
        Pipeline::CountSliding => windows(model::count_windows(&events, key, 6, 4, false)),
        Pipeline::CountIncomplete => windows(model::count_windows(&events, key, 5, 2, true)),
        Pipeline::GlobalEvents => windows(model::count_windows(&events, key, 3, 3, true)),
        Pipeline::Over => {
            let over = model::over(&events, key, micros(6)).into_iter();
            over.map(|(e, seen)| (e.0, i64::from(e.2), numbers(&seen))).collect()
        }
        Pipeline::GlobalSpan => windows(model::triggered(&events, key, micros(7), false)),
        Pipeline::GlobalAccumulating => windows(model::triggered(&events, key, micros(7), true)),
        Pipeline::Script
        | Pipeline::ScriptTtlWrite
        | Pipeline::ScriptTtlRead
        | Pipeline::ScriptTwo => {
            let act = |hand: &mut KeyModel<'_, Vec<u32>, Out>, key: &u8, occasion| {
                script(hand, *key, occasion);
            };
            let out = model::process(&events, largest, ttl(pipeline), key, act);
            out.into_iter().map(|(_, out)| out).collect()
        }
        Pipeline::MapWithState => {
            let all = model::count_windows(&events, key, 2, 1, false).into_iter();
            let pairs = all.filter(|(_, _, rows)| rows.len() == 2);
            pairs.map(|(key, _, rows)| (key, rows[1].1, numbers(&rows))).collect()
        }
        Pipeline::UpdateState => {
            let mut sums = [0u32; 4];
            let mut told = Vec::new();
            for event in &events {
                let sum = &mut sums[usize::from(event.row.0)];
                *sum += event.row.2;
                let kept = Some(*sum).filter(|sum| sum % 3 != 0);
                *sum = kept.unwrap_or(0);
                told.push((event.row.0, 0, kept.into_iter().collect()));
            }
            told
        }
        Pipeline::Broadcast => broadcast(&events),
        Pipeline::Chain => {
            let mut kept = model::dedup(&events, key, micros(8));
            kept.sort_by_key(|e| (e.0, e.1.div_euclid(10), e.1));
            let tumbling: Vec<&[Event]> = kept
                .chunk_by(|a, b| (a.0, a.1.div_euclid(10)) == (b.0, b.1.div_euclid(10)))
                .collect();
            let keys = tumbling.chunk_by(|a, b| a[0].0 == b[0].0);
            let pairs = keys.flat_map(|windows| windows.chunks_exact(2).enumerate());
            pairs.map(|(i, pair)| (pair[0][0].0, i as i64, numbers(&pair.concat()))).collect()
        }
    };
    (sorted(out), sorted(late.into_iter().map(|e| e.row.2)))
}

fn sorted<T: Ord>(rows: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut rows: Vec<T> = rows.into_iter().collect();
    rows.sort();
    rows
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
    let flow = Flow::new("keyed law");
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
    let flow = Flow::new("keyed law");
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
    (sorted(driver.outputs::<Out>("out").unwrap()), sorted(driver.outputs("late").unwrap()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn law_live(input in input(), bound in 0i64..15) {
        for pipeline in ALL {
            let expected = expect(pipeline, &input, bound);
            for (ticks, workers) in [(1, 1), (7, 2), (1_000, 3), (3, 3)] {
                let found = live(pipeline, &input, bound, ticks, workers);
                let how = format!("{pipeline:?}, {ticks} a tick, {workers} workers");
                prop_assert_eq!(&found, &expected, "{}", how);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn law_driven(
        input in input(),
        bound in 0i64..15,
        dice in prop::collection::vec(any::<u8>(), 1..60),
    ) {
        for pipeline in ALL {
            let expected = expect(pipeline, &input, bound);
            let found = driven(pipeline, &input, bound, &dice);
            prop_assert_eq!(&found, &expected, "{:?}", pipeline);
        }
    }
}
