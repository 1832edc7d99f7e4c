//! Panes, checked tick by tick against what the model makes of the events so far: when they come,
//! what they hold, that they are counted without gaps, and that each key and window has exactly
//! one that is final, with the model's result; with ticks, commits and crashes at random, and live.

#[path = "windows/kinds.rs"]
mod kinds;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use highwater::prelude::*;
use highwater::sink::{Sink, channel};
use highwater::testing::{Pushed, TestDriver};
use kinds::{ALL, Event, Input, Kind, input, sorted};
use proptest::prelude::*;

/// What the test is about.
#[derive(Clone, Copy, Debug)]
struct Case {
    kind: Kind,
    emit: Emit,
    purging: bool,
    lateness: i64,
    bound: i64,
}

const CLOCK: i64 = 50;

fn emits(kind: Kind) -> [Emit; 5] {
    [
        Emit::OnClose,
        Emit::OnChange,
        Emit::Every(kind.span(7)),
        Emit::EveryClock(micros(CLOCK)),
        Emit::EveryCount(3),
    ]
}

fn cases(lateness: i64, bound: i64, purging: bool) -> Vec<Case> {
    let kinds = ALL.into_iter().filter(|k| !matches!(k, Kind::Session | Kind::SessionBy));
    let case = |kind: Kind, emit| Case { kind, emit, purging, lateness, bound };
    kinds.flat_map(|kind| emits(kind).map(|emit| case(kind, emit))).collect()
}

type Told = Pane<u8, Vec<u32>>;

fn told(pane: Pane<u8, Vec<Event>>) -> Told {
    let Pane { key, window, value, index, timing, is_final, expires } = pane;
    let value = value.into_iter().map(|event| event.2).collect();
    Pane { key, window, value, index, timing, is_final, expires }
}

fn build(
    case: Case,
    source: &Stream<Event, Raw>,
    sinks: (impl Sink<Told>, impl Sink<u32>, impl Sink<Told>),
) {
    let Case { kind, emit, purging, lateness, bound } = case;
    let timed = source.event_time(move |e| kind.time(e), Disorder::at_most(kind.span(bound)));
    let panes = kind.panes(&timed.key_by(|e| &e.0), "panes", lateness, emit, purging);
    panes.map(told).sink("out", sinks.0);
    panes.late().map(|late| late.row.2).sink("late", sinks.1);
    panes.key_by(|pane| &pane.key).latest("latest").map(told).sink("newest", sinks.2);
}

/// What has been told of one key and window.
#[derive(Clone, Debug, Default)]
struct Known {
    panes: u32,
    numbers: Vec<u32>,
    done: bool,
}

/// What the test knows, and goes back to after a crash.
#[derive(Clone, Debug, Default)]
struct World {
    known: BTreeMap<(u8, Window), Known>,
    watermark: Watermark,
}

struct Run {
    case: Case,
    driver: TestDriver,
    pushed: Input,
    world: World,
    committed: World,
    clock: i64,
    last_clock: Option<i64>,
}

impl Run {
    fn new(case: Case, partitions: usize) -> Self {
        let flow = Flow::new("panes");
        let source = flow.source("events", Pushed::<Event>::partitions(partitions));
        build(case, &source, (Stdout::json(), Stdout::json(), Stdout::json()));
        Run {
            case,
            driver: TestDriver::new(flow).unwrap(),
            pushed: vec![Vec::new(); partitions],
            world: World::default(),
            committed: World::default(),
            clock: 0,
            last_clock: None,
        }
    }

    /// The watermark that the events so far make, if the input has not ended.
    fn watermark(&self) -> Watermark {
        let Case { kind, bound, .. } = self.case;
        let promise = |events: &Vec<Event>| {
            events.iter().map(|e| kind.time(e)).max().map(|time| time - kind.span(bound))
        };
        let all: Option<Vec<EventTime>> = self.pushed.iter().map(promise).collect();
        let least = all.and_then(|all| all.into_iter().min());
        self.world.watermark.max(least.map_or(Watermark::Unknown, Watermark::At))
    }

    fn tick(&mut self, commit: bool) {
        let seen = self.driver.outputs::<Told>("out").unwrap().len();
        let newest_seen = self.driver.outputs::<Told>("newest").unwrap().len();
        if commit {
            self.driver.commit().unwrap()
        } else {
            self.driver.tick().unwrap()
        }
        let (before, now) = (self.world.watermark, self.watermark());
        self.world.watermark = now;
        assert_eq!(self.driver.watermark("panes"), now);
        let panes = self.driver.outputs::<Told>("out").unwrap().split_off(seen);
        let newest = self.driver.outputs::<Told>("newest").unwrap().split_off(newest_seen);
        let last: BTreeMap<_, _> = panes.iter().map(|p| ((p.key, p.window), p.clone())).collect();
        assert_eq!(sorted(newest), sorted(last.into_values()), "the newest panes of the tick");
        self.check_tick(panes, before, now);
        if commit {
            self.committed = self.world.clone();
        }
        let metrics = self.driver.metrics();
        assert!(metrics.operators.iter().all(|o| o.counters.balanced()));
    }

    fn crash(&mut self) {
        self.driver.crash_and_restart().unwrap();
        self.world = self.committed.clone();
        self.last_clock = None;
    }

    /// Whether early panes were due in the tick.
    fn due(&mut self, before: Watermark, now: Watermark) -> bool {
        let slot = |w: Watermark, span: Span| match w {
            Watermark::At(time) => Some(time.as_micros().div_euclid(span.as_micros())),
            _ => None,
        };
        let last = self.last_clock.replace(self.clock);
        match self.case.emit {
            Emit::OnChange => true,
            Emit::Every(span) => slot(before, span) < slot(now, span),
            Emit::EveryClock(_) => last.is_none_or(|last| last / CLOCK < self.clock / CLOCK),
            Emit::OnClose | Emit::EveryCount(_) => false,
        }
    }

    fn check_tick(&mut self, panes: Vec<Told>, before: Watermark, now: Watermark) {
        let Case { kind, emit, lateness, bound, .. } = self.case;
        let due = self.due(before, now);
        let accepted: BTreeMap<(u8, Window), Vec<u32>> = kind
            .expect(lateness, &kind.judge(&self.pushed, bound))
            .0
            .into_iter()
            .map(|(key, window, numbers)| ((key, window), numbers))
            .collect();
        let mut at_the_end = BTreeSet::new();
        for pane in panes {
            let name = (pane.key, pane.window);
            let all = &accepted[&name];
            let news = self.take(&pane, all);
            let (closed, closed_now) =
                (pane.window.is_closed_by(before), pane.window.is_closed_by(now));
            if let (Emit::EveryCount(n), Timing::Early) = (emit, pane.timing) {
                assert!(news as u64 == n && !closed && !pane.is_final, "{pane:?}");
                continue;
            }
            let timing = match (closed, closed_now) {
                (true, _) => Timing::Late,
                (false, true) => Timing::OnTime,
                (false, false) => Timing::Early,
            };
            assert_eq!(pane.timing, timing, "{pane:?}");
            assert!(timing != Timing::Early || due, "{pane:?} was not due");
            assert_eq!(pane.is_final, pane.window.is_over_by(now, kind.span(lateness)), "{pane:?}");
            assert!(pane.is_final || news > 0, "{pane:?} has nothing to tell");
            assert_eq!(self.world.known[&name].numbers, sorted(all.clone()), "{pane:?}");
            assert!(at_the_end.insert(name), "{pane:?} came twice in a tick");
        }
        for ((key, window), all) in accepted {
            let known = self.world.known.get(&(key, window)).cloned().unwrap_or_default();
            let untold = all.len() - known.numbers.len();
            let over = window.is_over_by(now, kind.span(lateness));
            assert_eq!(known.done, over, "{key} {window:?}");
            match emit {
                _ if window.is_closed_by(now) || due => assert_eq!(untold, 0, "{key} {window:?}"),
                Emit::EveryCount(n) => assert!((untold as u64) < n, "{key} {window:?}"),
                _ => {}
            }
        }
    }

    /// Takes a pane in, and says how many events it tells for the first time.
    fn take(&mut self, pane: &Told, accepted: &[u32]) -> usize {
        let known = self.world.known.entry((pane.key, pane.window)).or_default();
        assert!(!known.done, "{pane:?} came after the final one");
        assert_eq!(pane.index, known.panes, "{pane:?}");
        let lateness = self.case.kind.span(self.case.lateness);
        assert_eq!(pane.expires, pane.window.end + lateness);
        known.panes += 1;
        known.done = pane.is_final;
        let mut numbers = if self.case.purging { known.numbers.clone() } else { Vec::new() };
        numbers.extend(&pane.value);
        numbers.sort_unstable();
        let count = numbers.len();
        numbers.dedup();
        assert_eq!(numbers.len(), count, "{pane:?} tells something twice");
        assert!(numbers.iter().all(|n| accepted.contains(n)), "{pane:?}");
        assert!(known.numbers.iter().all(|n| numbers.contains(n)), "{pane:?} forgets something");
        let news = numbers.len() - known.numbers.len();
        known.numbers = numbers;
        news
    }

    /// Ends the input: every key and window has its final pane, with everything in it.
    fn finish(mut self) {
        let seen = self.driver.outputs::<Told>("out").unwrap().len();
        self.driver.finish::<Event>("events").unwrap();
        let Case { kind, lateness, bound, .. } = self.case;
        let (results, late) = kind.expect(lateness, &kind.judge(&self.pushed, bound));
        for (key, window, numbers) in &results {
            let panes = self.driver.outputs::<Told>("out").unwrap().split_off(seen);
            for pane in panes.iter().filter(|p| (p.key, p.window) == (*key, *window)) {
                self.take(pane, numbers);
            }
            let known = &self.world.known[&(*key, *window)];
            assert!(known.done && known.numbers == sorted(numbers.clone()), "{key} {window:?}");
        }
        assert_eq!(self.world.known.len(), results.len());
        assert_eq!(sorted(self.driver.outputs::<u32>("late").unwrap()), late);
        let metrics = self.driver.metrics();
        for id in ["panes", "latest"] {
            assert_eq!(metrics.operator(id).unwrap().entries, 0, "{id} keeps something");
        }
    }
}

fn driven(case: Case, input: &Input, dice: &[u8]) {
    let mut run = Run::new(case, input.len());
    let mut next = vec![0; input.len()];
    for die in dice.iter().cycle() {
        let waiting: Vec<usize> = (0..input.len()).filter(|p| next[*p] < input[*p].len()).collect();
        if waiting.is_empty() {
            break;
        }
        let partition = waiting[usize::from(*die) % waiting.len()];
        let event = input[partition][next[partition]];
        next[partition] += 1;
        run.pushed[partition].push(event);
        run.driver.push("events", partition, event).unwrap();
        match die % 11 {
            0..=2 => run.tick(false),
            3 => run.tick(true),
            4 => run.crash(),
            5 => {
                run.clock += 37;
                run.driver.advance_clock(micros(37));
            }
            _ => {}
        }
    }
    run.finish();
}

/// The live engine: what is final is the model's, and no pane is missing.
fn live(case: Case, input: &Input, ticks: usize, workers: usize, no_memory: bool) {
    let flow = Flow::new("panes");
    let (out_sink, out) = channel();
    let (late_sink, late) = channel();
    let (newest_sink, newest) = channel();
    let source = flow.source("events", Memory::partitions(input.clone()));
    build(case, &source, (out_sink, late_sink, newest_sink));
    let mut settings = Settings::in_memory().workers(workers).tick_max_events(ticks);
    if no_memory {
        settings = settings.memory_budget(0).commit_interval(Duration::ZERO);
    }
    flow.spawn(settings).unwrap().wait().unwrap();
    let mut all: BTreeMap<(u8, Window), Vec<Told>> = BTreeMap::new();
    for pane in out {
        all.entry((pane.key, pane.window)).or_default().push(pane);
    }
    let (results, expected_late) =
        case.kind.expect(case.lateness, &case.kind.judge(input, case.bound));
    let mut found = Vec::new();
    let mut last = Vec::new();
    for ((key, window), mut panes) in all {
        panes.sort_by_key(|pane| pane.index);
        for (index, pane) in panes.iter().enumerate() {
            assert_eq!(pane.index as usize, index, "{pane:?}");
            assert_eq!(pane.is_final, index + 1 == panes.len(), "{pane:?}");
        }
        last.extend(panes.last().cloned());
        let mut values = panes.into_iter().map(|pane| pane.value);
        let whole =
            if case.purging { values.flatten().collect() } else { values.next_back().unwrap() };
        found.push((key, window, sorted(whole)));
    }
    let expected = results.into_iter().map(|(key, window, numbers)| (key, window, sorted(numbers)));
    assert_eq!(found, sorted(expected), "{case:?}");
    assert_eq!(sorted(late), expected_late, "{case:?}");
    let finals = newest.filter(|pane: &Told| pane.is_final);
    assert_eq!(sorted(finals), sorted(last), "{case:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn panes_driven(
        input in input(),
        bound in 0i64..15,
        lateness in 0i64..25,
        purging: bool,
        dice in prop::collection::vec(any::<u8>(), 1..60),
    ) {
        for case in cases(lateness, bound, purging) {
            driven(case, &input, &dice);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn panes_live(input in input(), bound in 0i64..15, lateness in 0i64..25, purging: bool) {
        for case in cases(lateness, bound, purging) {
            for (ticks, workers, no_memory) in [(1, 1, false), (4, 2, true), (9, 3, true)] {
                live(case, &input, ticks, workers, no_memory);
            }
        }
    }
}
