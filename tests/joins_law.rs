//! Joins on generated input: for every tick size, number of workers, interleaving of partitions
//! and moment of a crash, results, their times and late rows are what nested loops over all
//! events make of them.

use std::collections::VecDeque;

use highwater::prelude::*;
use highwater::sink::channel;
use highwater::testing::model::{self, JoinKind, JoinedRow, Judged, bounded, judge};
use highwater::testing::{Pushed, TestDriver};
use proptest::prelude::*;

/// An event: key, time in µs, and a number by which it is told from its like.
type Event = (u8, i64, u32);
/// Events by partition.
type Input = Vec<Vec<Event>>;
/// What a join makes: key, and the numbers of the rows of both sides.
type Pair = (u8, Option<u32>, Option<u32>);
/// What a window of 1 µs behind the join makes of it: key, time, and the pairs in order.
type Out = (u8, i64, Vec<(Option<u32>, Option<u32>)>);
/// The side of a late row, 0 or 1, and its number.
type LateRow = (u8, u32);

fn input(first_number: u32) -> impl Strategy<Value = Input> {
    let event = (0u8..3, -40i64..40);
    let partition = prop::collection::vec(event, 0..16);
    prop::collection::vec(partition, 1..3).prop_map(move |partitions| {
        let mut number = first_number;
        let mut tell_apart = |(key, time)| {
            number += 1;
            (key, time, number)
        };
        partitions
            .into_iter()
            .map(|mut events| {
                // Mostly rising, as real partitions are: sorted in parts.
                events.chunks_mut(7).for_each(|part| part.sort_by_key(|e| e.1));
                events.into_iter().map(&mut tell_apart).collect()
            })
            .collect()
    })
}

#[derive(Clone, Copy, Debug)]
enum Pipeline {
    Interval(JoinKind, i64, i64),
    /// Partners have numbers of which one is odd and one is even.
    Conditional(JoinKind, i64, i64),
    /// The left stream on both sides.
    OfItself(JoinKind, i64, i64),
    AsOf(Option<i64>),
    AsOfInner,
    Windows(JoinKind),
    ConditionalWindows(JoinKind),
    Sessions,
}

/// Whether two rows fulfil the condition of the conditional pipelines.
fn condition(l: &Event, r: &Event) -> bool {
    (l.2 + r.2) % 2 == 1
}

fn hopping() -> Hopping {
    Hopping::of(micros(12), micros(5))
}

fn key_of(e: &Event) -> &u8 {
    &e.0
}

fn time_of(e: &Event) -> EventTime {
    EventTime::from_micros(e.1)
}

type Told = (Stream<Pair, Timed>, Stream<Late<Either<Event, Event>>, Untimed>);

fn told<O: Data>(
    joined: Joined<O, Event, Event>,
    pair: impl Fn(O) -> Pair + Send + Sync + 'static,
) -> Told {
    (joined.map(pair), joined.late())
}

fn number(e: Option<&Event>) -> Option<u32> {
    e.map(|e| e.2)
}

fn tell_interval<A, B, C>(join: IntervalJoin<Event, Event, A, B, C>, kind: JoinKind) -> Told
where
    A: KeyOf<Event, Key = u8>,
    B: KeyOf<Event, Key = u8>,
    C: Fn(&Event, &Event) -> bool + Send + Sync + 'static,
{
    match kind {
        JoinKind::Inner => told(join.inner(|k, l, r| (*k, Some(l.2), Some(r.2))), |p| p),
        JoinKind::Left => told(join.left(|k, l, r| (*k, Some(l.2), number(r))), |p| p),
        JoinKind::Right => told(join.right(|k, l, r| (*k, number(l), Some(r.2))), |p| p),
        JoinKind::Full => told(join.full(|k, l, r| (*k, number(l), number(r))), |p| p),
        JoinKind::Semi => told(join.semi(), |l| (l.0, Some(l.2), None)),
        JoinKind::Anti => told(join.anti(), |l| (l.0, Some(l.2), None)),
    }
}

fn tell_window<A, B, W, C>(join: WindowJoin<Event, Event, A, B, W, C>, kind: JoinKind) -> Told
where
    A: KeyOf<Event, Key = u8>,
    B: KeyOf<Event, Key = u8>,
    W: WindowKind<Either<Event, Event>>,
    C: Fn(&Event, &Event) -> bool + Send + Sync + 'static,
{
    type Numbers = WindowResult<u8, (Option<u32>, Option<u32>)>;
    let pair = |r: Numbers| (r.key, r.value.0, r.value.1);
    match kind {
        JoinKind::Left => told(join.left(|l, r| (Some(l.2), number(r))), pair),
        JoinKind::Right => told(join.right(|l, r| (number(l), Some(r.2))), pair),
        JoinKind::Full => told(join.full(|l, r| (number(l), number(r))), pair),
        _ => told(join.inner(|l, r| (Some(l.2), Some(r.2))), pair),
    }
}

/// Adds the pipeline, with the sinks `out` and `late`. Behind each join stands a window of 1 µs:
/// it shows at what time results came, and would report those that are late.
fn build(
    pipeline: Pipeline,
    sources: [&Stream<Event, Raw>; 2],
    bound: i64,
    out_sink: impl highwater::sink::Sink<Out>,
    late_sink: impl highwater::sink::Sink<LateRow>,
    too_late_sink: impl highwater::sink::Sink<Pair>,
) {
    let timed = sources.map(|s| s.event_time(time_of, Disorder::at_most(micros(bound))));
    let left = timed[0].key_by(key_of);
    let right = match pipeline {
        Pipeline::OfItself(..) => left.clone(),
        _ => timed[1].key_by(key_of),
    };
    let join = left.join(&right);
    let (pairs, late) = match pipeline {
        Pipeline::Interval(kind, lower, upper) | Pipeline::OfItself(kind, lower, upper) => {
            tell_interval(join.interval("join", micros(lower), micros(upper)), kind)
        }
        Pipeline::Conditional(kind, lower, upper) => {
            let join = join.interval("join", micros(lower), micros(upper));
            tell_interval(join.on(condition), kind)
        }
        Pipeline::AsOf(Some(age)) => {
            let join = join.as_of("join").within(micros(age));
            told(join.left(|k, l, r| (*k, Some(l.2), number(r))), |p| p)
        }
        Pipeline::AsOf(None) => {
            let join = join.as_of("join").unbounded();
            told(join.left(|k, l, r| (*k, Some(l.2), number(r))), |p| p)
        }
        Pipeline::AsOfInner => {
            let join = join.as_of("join").unbounded();
            told(join.inner(|k, l, r| (*k, Some(l.2), Some(r.2))), |p| p)
        }
        Pipeline::Windows(kind) => tell_window(join.window("join", hopping()), kind),
        Pipeline::ConditionalWindows(kind) => {
            tell_window(join.window("join", hopping()).on(condition), kind)
        }
        Pipeline::Sessions => {
            let sessions = Session::with_gap(micros(4));
            let joined = join.cogroup("join", sessions, |left, right| {
                let left = left.iter().map(|l| (Some(l.2), None));
                left.chain(right.iter().map(|r| (None, Some(r.2)))).collect::<Vec<_>>()
            });
            told(joined, |r| (r.key, r.value.0, r.value.1))
        }
    };
    late.map(|late| match late.row {
        Either::Left(row) => (0, row.2),
        Either::Right(row) => (1, row.2),
    })
    .sink("late", late_sink);
    let seen =
        pairs.key_by(|pair| &pair.0).window("seen", Tumbling::of(micros(1))).aggregate(Collect);
    seen.late().map(|late| late.row).sink("too-late", too_late_sink);
    seen.map(|r| {
        let pairs = r.value.into_iter().map(|(_, l, r)| (l, r)).collect();
        (r.key, r.window.start.as_micros(), pairs)
    })
    .sink("out", out_sink);
}

/// What nested loops make of the input: results one by one, and late rows.
mod oracle {
    use super::*;

    pub type One = (u8, i64, Option<u32>, Option<u32>);

    fn one(joined: JoinedRow<Event, Event>) -> One {
        let key = joined.left.or(joined.right).map_or(0, |e| e.0);
        let number = |e: Option<Event>| e.map(|e| e.2);
        (key, joined.time.as_micros(), number(joined.left), number(joined.right))
    }

    /// Windows of 12 µs every 5 µs.
    fn windows(time: EventTime) -> Vec<Window> {
        let t = time.as_micros();
        let starts = (-40..40).map(|k| k * 5).filter(|s| *s <= t && t < s + 12);
        let at = EventTime::from_micros;
        starts.map(|s| Window { start: at(s), end: at(s + 12) }).collect()
    }

    /// Rows of both sides of a key, cut where the next one is 4 µs or more away.
    fn sessions(left: &[Judged<Event>], right: &[Judged<Event>]) -> Vec<One> {
        let mut out = Vec::new();
        for key in 0..3 {
            let on_time = |events: &[Judged<Event>]| -> Vec<Event> {
                let of_key = events.iter().filter(|e| e.row.0 == key && !e.late());
                of_key.map(|e| e.row).collect()
            };
            let mut all: Vec<One> = Vec::new();
            all.extend(on_time(left).iter().map(|l| (key, l.1, Some(l.2), None)));
            all.extend(on_time(right).iter().map(|r| (key, r.1, None, Some(r.2))));
            all.sort_by_key(|row| row.1);
            let times: Vec<i64> = all.iter().map(|row| row.1).collect();
            for (mut row, index) in all.into_iter().zip(0..) {
                // The last time of the session: that of the first row before a gap, and the gap.
                let mut last = index;
                while times.get(last + 1).is_some_and(|next| next - times[last] < 4) {
                    last += 1;
                }
                row.1 = times[last] + 3;
                out.push(row);
            }
        }
        out
    }

    fn late(
        side: u8,
        events: &[Judged<Event>],
        is_late: impl Fn(&Judged<Event>) -> bool,
    ) -> Vec<LateRow> {
        events.iter().filter(|e| is_late(e)).map(|e| (side, e.row.2)).collect()
    }

    pub fn expect(pipeline: Pipeline, inputs: [&Input; 2], bound: i64) -> (Vec<One>, Vec<LateRow>) {
        let judged = |input| judge(input, time_of, bounded(micros(bound)));
        let left = judged(inputs[0]);
        let right = match pipeline {
            Pipeline::OfItself(..) => left.clone(),
            _ => judged(inputs[1]),
        };
        let span = |lower, upper| (micros(lower), micros(upper));
        let same_key = |l: &Event, r: &Event| l.0 == r.0;
        let partners = |l: &Event, r: &Event| l.0 == r.0 && condition(l, r);
        let out = match pipeline {
            Pipeline::Interval(kind, lower, upper) | Pipeline::OfItself(kind, lower, upper) => {
                model::interval_join(kind, &left, &right, span(lower, upper), same_key)
            }
            Pipeline::Conditional(kind, lower, upper) => {
                model::interval_join(kind, &left, &right, span(lower, upper), partners)
            }
            Pipeline::AsOf(within) => {
                model::as_of_join(&left, &right, within.map(micros), same_key)
            }
            Pipeline::AsOfInner => {
                let mut all = model::as_of_join(&left, &right, None, same_key);
                all.retain(|row| row.right.is_some());
                all
            }
            Pipeline::Windows(kind) => model::window_join(kind, &left, &right, windows, same_key),
            Pipeline::ConditionalWindows(kind) => {
                model::window_join(kind, &left, &right, windows, partners)
            }
            Pipeline::Sessions => Vec::new(),
        };
        let mut out: Vec<One> = out.into_iter().map(one).collect();
        if let Pipeline::Sessions = pipeline {
            out = sessions(&left, &right);
        }
        let late_for_all = |e: &Judged<Event>| windows(e.time).iter().all(|w| e.late_for(w.end));
        let mut missed = match pipeline {
            Pipeline::Windows(_) | Pipeline::ConditionalWindows(_) => {
                [late(0, &left, late_for_all), late(1, &right, late_for_all)].concat()
            }
            _ => [late(0, &left, Judged::late), late(1, &right, Judged::late)].concat(),
        };
        out.sort_unstable();
        missed.sort_unstable();
        (out, missed)
    }
}

fn sorted<T: Ord>(rows: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut rows: Vec<T> = rows.into_iter().collect();
    rows.sort();
    rows
}

/// Results one by one.
fn singly(out: &[Out]) -> Vec<oracle::One> {
    let all = out.iter().flat_map(|(key, time, pairs)| {
        pairs.iter().map(move |(left, right)| (*key, *time, *left, *right))
    });
    sorted(all)
}

fn check_balance(metrics: &Metrics) {
    for operator in &metrics.operators {
        assert!(operator.counters.balanced(), "{}: {:?}", operator.id, operator.counters);
    }
}

/// Nothing is left of a join when all input has ended, unless versions are kept for ever.
fn check_empty(pipeline: Pipeline, metrics: &Metrics) {
    if !matches!(pipeline, Pipeline::AsOf(None) | Pipeline::AsOfInner) {
        let entries = metrics.operator("join").unwrap().entries;
        assert_eq!(entries, 0, "{pipeline:?}");
    }
}

/// The live engine.
fn live(
    pipeline: Pipeline,
    inputs: [&Input; 2],
    bound: i64,
    (ticks, workers): (usize, usize),
) -> (Vec<Out>, Vec<LateRow>) {
    let flow = Flow::new("joins");
    let ((out_sink, out), (late_sink, late), (too_late_sink, too_late)) =
        (channel(), channel(), channel());
    let left = flow.source("left", Memory::partitions(inputs[0].clone()));
    let right = flow.source("right", Memory::partitions(inputs[1].clone()));
    build(pipeline, [&left, &right], bound, out_sink, late_sink, too_late_sink);
    let settings = Settings::in_memory().workers(workers).tick_max_events(ticks);
    let metrics = flow.spawn(settings).unwrap().wait().unwrap();
    check_balance(&metrics);
    check_empty(pipeline, &metrics);
    assert_eq!(too_late.into_iter().collect::<Vec<_>>(), [], "{pipeline:?}");
    (sorted(out), sorted(late))
}

/// The test driver: partitions interleaved at random, ticks, commits and crashes in between.
fn driven(
    pipeline: Pipeline,
    inputs: [&Input; 2],
    bound: i64,
    dice: &[u8],
) -> (Vec<Out>, Vec<LateRow>) {
    let flow = Flow::new("joins");
    let left = flow.source("left", Pushed::<Event>::partitions(inputs[0].len()));
    let right = flow.source("right", Pushed::<Event>::partitions(inputs[1].len()));
    build(pipeline, [&left, &right], bound, Stdout::json(), Stdout::json(), Stdout::json());
    let mut driver = TestDriver::new(flow).unwrap();
    let mut left: Vec<(&str, usize, VecDeque<Event>)> = Vec::new();
    for (source, input) in ["left", "right"].into_iter().zip(inputs) {
        for (partition, events) in input.iter().enumerate() {
            left.push((source, partition, events.iter().copied().collect()));
        }
    }
    for die in dice.iter().cycle() {
        let waiting: Vec<usize> = (0..left.len()).filter(|p| !left[*p].2.is_empty()).collect();
        if waiting.is_empty() {
            break;
        }
        let (source, partition, events) = &mut left[waiting[usize::from(*die) % waiting.len()]];
        let event = events.pop_front().unwrap();
        driver.push(source, *partition, event).unwrap();
        match die % 11 {
            0..=2 => driver.tick().unwrap(),
            3 => driver.commit().unwrap(),
            4 => driver.crash_and_restart().unwrap(),
            _ => {}
        }
        check_balance(&driver.metrics());
    }
    // Which side ends first matters as little as everything else.
    let order = if dice[0].is_multiple_of(2) { ["left", "right"] } else { ["right", "left"] };
    order.iter().for_each(|source| driver.finish::<Event>(source).unwrap());
    let metrics = driver.metrics();
    check_balance(&metrics);
    check_empty(pipeline, &metrics);
    assert!(metrics.finished);
    assert_eq!(driver.outputs::<Pair>("too-late").unwrap(), [], "{pipeline:?}");
    (sorted(driver.outputs("out").unwrap()), sorted(driver.outputs("late").unwrap()))
}

fn interval() -> impl Strategy<Value = (i64, i64)> {
    (-15i64..15, 0i64..12).prop_map(|(lower, length)| (lower, lower + length))
}

fn pipelines((lower, upper): (i64, i64)) -> Vec<Pipeline> {
    let mut all = Vec::new();
    for kind in JoinKind::ALL {
        all.push(Pipeline::Interval(kind, lower, upper));
        all.push(Pipeline::Conditional(kind, lower, upper));
        all.push(Pipeline::OfItself(kind, lower, upper));
        if !matches!(kind, JoinKind::Semi | JoinKind::Anti) {
            all.push(Pipeline::Windows(kind));
        }
    }
    all.push(Pipeline::ConditionalWindows(JoinKind::Full));
    all.push(Pipeline::Sessions);
    all.extend([Pipeline::AsOf(None), Pipeline::AsOf(Some(upper.abs())), Pipeline::AsOfInner]);
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn law_live(left in input(0), right in input(1000), bound in 0i64..15, span in interval()) {
        let inputs = [&left, &right];
        for pipeline in pipelines(span) {
            let expected = oracle::expect(pipeline, inputs, bound);
            let mut first = None;
            for how in [(1, 1), (7, 2), (1_000, 3), (3, 3), (usize::MAX, 1)] {
                let (out, late) = live(pipeline, inputs, bound, how);
                let found = (singly(&out), late.clone());
                prop_assert_eq!(&found, &expected, "{:?}, ticks and workers: {:?}", pipeline, how);
                // The order among results of equal time is the same in every run.
                let found = (out, late);
                let first = first.get_or_insert_with(|| found.clone());
                prop_assert_eq!(&*first, &found, "order: {:?}, {:?}", pipeline, how);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn law_driven(
        left in input(0),
        right in input(1000),
        bound in 0i64..15,
        span in interval(),
        dice in prop::collection::vec(any::<u8>(), 1..60),
    ) {
        let inputs = [&left, &right];
        for pipeline in pipelines(span) {
            let expected = oracle::expect(pipeline, inputs, bound);
            let (out, late) = driven(pipeline, inputs, bound, &dice);
            prop_assert_eq!(&(singly(&out), late), &expected, "{:?}", pipeline);
        }
    }
}
