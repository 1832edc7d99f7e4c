//! `check_law` over the built-in operators: sameness where the plan says class Input, and
//! consistency of the others. And what it says of flows that break the law.
//!
//! By default a few hundred runs; with `LAW=full` at least 1,800.

use highwater::prelude::*;
use highwater::testing::generate::{Sample, Streams};
use highwater::testing::{LawInput, Pushed, check_law};
use highwater::{Process, ProcessCx, Stream, Timed, Timer, Window};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

const BOUND: Span = micros(9);

fn full() -> bool {
    std::env::var("LAW").is_ok_and(|value| value == "full")
}

fn input(partitions: usize, events: usize) -> Vec<Vec<Vec<Sample>>> {
    let streams = Streams::new().partitions(partitions..=partitions).events(events..=events);
    let strategy = streams.keys(3).batch();
    let mut runner = TestRunner::deterministic();
    let draw = |_| strategy.new_tree(&mut runner).unwrap().current();
    (0..if full() { 4 } else { 2 }).map(draw).collect()
}

type Rows = Stream<Sample, Timed>;

/// Results and late events as text, so that every operator can be compared in the same way.
fn end<O: highwater::Data + std::fmt::Debug>(results: WithLate<O, Sample>) {
    results.late().map(|late| late.row.number).sink("late", Stdout::json());
    results.map(|row| format!("{row:?}")).sink("out", Stdout::json());
}

fn flow(name: &str, partitions: usize, operator: fn(&Rows)) -> Flow {
    let flow = Flow::new(name);
    let rows = flow
        .source("events", Pushed::<Sample>::partitions(partitions))
        .event_time(|e| e.time, Disorder::at_most(BOUND));
    operator(&rows);
    flow
}

/// Collects numbers, and lets a silence end the collection.
struct Silence;

impl Process<u32, Sample> for Silence {
    type State = (EventTime, Vec<u32>);
    type Output = (u32, EventTime, Vec<u32>);

    fn event(&self, cx: &mut ProcessCx<'_, Self::State, Self::Output>, _: &u32, event: Sample) {
        let (armed, mut numbers) = cx.state().take().unwrap_or_default();
        if !numbers.is_empty() {
            cx.delete_timer("silence", armed);
        }
        numbers.push(event.number);
        let at = event.time + micros(7);
        cx.set_timer("silence", at);
        *cx.state() = Some((at, numbers));
    }

    fn timer(&self, cx: &mut ProcessCx<'_, Self::State, Self::Output>, key: &u32, timer: &Timer) {
        let (_, numbers) = cx.state().take().unwrap_or_default();
        cx.emit((*key, timer.time, numbers));
    }
}

/// A window's result as an event of a further one.
fn again(result: WindowResult<u32, Vec<Sample>>) -> Sample {
    let number = result.value.iter().map(|e| e.number).sum();
    Sample { key: result.key / 2, time: result.window.last_time(), number }
}

const INPUT: &[(&str, fn(&Rows))] = &[
    ("tumbling", |rows| {
        let windows = rows.key_by(|e| &e.key).window("w", Tumbling::of(micros(10)));
        end(windows.aggregate(Collect));
    }),
    ("tumbling with lateness", |rows| {
        let windows = rows.key_by(|e| &e.key).window("w", Tumbling::of(micros(10)));
        end(windows.lateness(micros(6)).aggregate(Collect));
    }),
    ("hopping", |rows| {
        let windows = rows.key_by(|e| &e.key).window("w", Hopping::of(micros(12), micros(5)));
        end(windows.aggregate(Collect));
    }),
    ("hopping with lateness", |rows| {
        let windows = rows.key_by(|e| &e.key).window("w", Hopping::of(micros(12), micros(4)));
        end(windows.lateness(micros(5)).aggregate(Collect));
    }),
    ("hopping with gaps", |rows| {
        let windows = rows.key_by(|e| &e.key).window("w", Hopping::of(micros(5), micros(8)));
        end(windows.aggregate(Collect));
    }),
    ("cumulate", |rows| {
        let windows = rows.key_by(|e| &e.key).window("w", Cumulate::of(micros(5), micros(20)));
        end(windows.aggregate(Collect));
    }),
    ("custom", |rows| {
        let kind = CustomWindows::new("one early, one long", |time, out| {
            let start = time.as_micros().div_euclid(30) * 30;
            let t = EventTime::from_micros;
            out(Window { start: t(start), end: t(start + 30) });
            if time < t(start + 7) {
                out(Window { start: t(start), end: t(start + 7) });
            }
        });
        end(rows.key_by(|e| &e.key).window("w", kind).aggregate(Collect));
    }),
    ("global", |rows| {
        end(rows.key_by(|e| &e.key).window("w", Global).aggregate(Collect));
    }),
    ("session", |rows| {
        let windows = rows.key_by(|e| &e.key).window("w", Session::with_gap(micros(6)));
        end(windows.aggregate(Collect));
    }),
    ("session with lateness", |rows| {
        let windows = rows.key_by(|e| &e.key).window("w", Session::with_gap(micros(4)));
        end(windows.lateness(micros(5)).aggregate(Collect));
    }),
    ("session by event", |rows| {
        let gap = |e: &Sample| micros(i64::from(e.number % 9) - 1);
        let windows = rows.key_by(|e| &e.key).window("w", Session::with_gap_of("gap", gap));
        end(windows.aggregate(Collect));
    }),
    ("the last rows of a window", |rows| {
        let windows = rows.key_by(|e| &e.key).window("w", Tumbling::of(micros(20)));
        end(windows.aggregate(LastN::of(2, Collect)));
    }),
    ("many aggregates", |rows| {
        let windows = rows.key_by(|e| &e.key).window("w", Tumbling::of(micros(15)));
        end(windows.aggregate((Count, First, Last, Mean::of(|e: &Sample| e.number))));
    }),
    ("chain of two", |rows| {
        let first = rows.key_by(|e| &e.key).window("first", Tumbling::of(micros(10)));
        let first = first.aggregate(Collect);
        first.late().map(|late| late.row.number).sink("late", Stdout::json());
        let second = first.map(again);
        let second = second.key_by(|e| &e.key).window("w", Hopping::of(micros(30), micros(10)));
        let never = "results are never late";
        let results = second.aggregate(Collect).drop_late(never);
        results.map(|row| format!("{row:?}")).sink("out", Stdout::json());
    }),
    ("chain with lateness", |rows| {
        let first = rows.key_by(|e| &e.key).window("first", Tumbling::of(micros(10)));
        let first = first.lateness(micros(7)).aggregate(Collect);
        first.late().map(|late| late.row.number).sink("late", Stdout::json());
        let second = first.map(again).key_by(|e| &e.key).window("w", Session::with_gap(micros(11)));
        let results = second.aggregate(Collect).drop_late("results are never late");
        results.map(|row| format!("{row:?}")).sink("out", Stdout::json());
    }),
    ("union of fired and raw", |rows| {
        let first = rows.key_by(|e| &e.key).window("first", Tumbling::of(micros(10)));
        let fired = first.aggregate(Collect).drop_late("told by the second").map(again);
        let both = fired.union(&[rows]);
        end(both.key_by(|e| &e.key).window("w", Tumbling::of(micros(20))).aggregate(Collect));
    }),
    ("process with timers", |rows| {
        end(rows.key_by(|e| &e.key).process("w", Silence).unbounded());
    }),
    ("dedup", |rows| {
        end(rows.key_by(|e| &e.key).dedup("w", micros(8)));
    }),
    ("count windows", |rows| {
        let windows = rows.key_by(|e| &e.key).count_window("w", 4).every(2).with_incomplete();
        end(windows.aggregate(Collect).unbounded());
    }),
    ("the span before each event", |rows| {
        end(rows.key_by(|e| &e.key).over("w", micros(9)).aggregate(Collect));
    }),
    ("a trigger by events", |rows| {
        let trigger = GlobalTrigger::every_events(3).accumulating().and_at_the_end();
        end(rows.key_by(|e| &e.key).global("w", trigger).aggregate(Collect).unbounded());
    }),
    ("a trigger by time", |rows| {
        let trigger = GlobalTrigger::every(micros(8));
        end(rows.key_by(|e| &e.key).global("w", trigger).aggregate(Collect).unbounded());
    }),
    ("update state", |rows| {
        let keyed = rows.key_by(|e| &e.key);
        let lists = keyed.update_state("w", |_, state: &mut Option<Vec<u32>>, e: Sample| {
            state.get_or_insert_default().push(e.number);
        });
        end(lists.unbounded());
    }),
    ("process with ttl", |rows| {
        let kept = Ttl::from_write(micros(8));
        end(rows.key_by(|e| &e.key).process("w", Silence).ttl(kept));
    }),
];

#[test]
fn law_of_every_operator_of_class_input() {
    let runs = if full() { 30 } else { 6 };
    let (mut total, mut crashes) = (0, 0);
    for (name, operator) in INPUT {
        for (number, events) in input(3, 14).into_iter().enumerate() {
            let input = LawInput::new()
                .partitions("events", events)
                .compare::<String>("out")
                .compare::<u32>("late")
                .seed(number as u64)
                .runs(runs);
            let report = check_law(|| flow(name, 3, *operator), input)
                .unwrap_or_else(|violation| panic!("{name}: {violation}"));
            assert_eq!(report.compared(), 2, "{name} is not of class Input");
            total += report.runs();
            crashes += report.crashes();
        }
    }
    println!("law: {total} runs of {} flows, {crashes} crashes, all equal", INPUT.len());
    assert!(!full() || total >= 1_800);
}

type Side = highwater::Keyed<Sample, highwater::Lent<u32, fn(&Sample) -> &u32>, Timed>;

const NUMBERS: fn(&u32, Option<&Sample>, Option<&Sample>) -> (u32, Option<u32>, Option<u32>) =
    |key, left, right| (*key, left.map(|e| e.number), right.map(|e| e.number));

/// Results and late events of a join.
fn end_join<O: highwater::Data + std::fmt::Debug>(joined: Joined<O, Sample, Sample>) {
    joined.late().map(|late| format!("{:?}", late.row)).sink("late", Stdout::json());
    joined.map(|row| format!("{row:?}")).sink("out", Stdout::json());
}

const JOINS: &[(&str, fn(&Side, &Side))] = &[
    ("interval, inner", |left, right| {
        let join = left.join(right).interval("w", micros(-3), micros(5));
        end_join(join.inner(|key, l, r| NUMBERS(key, Some(l), Some(r))));
    }),
    ("interval, full", |left, right| {
        let join = left.join(right).interval("w", micros(-2), micros(4));
        let join = join.on(|l: &Sample, r: &Sample| l.number % 3 != r.number % 3);
        end_join(join.full(NUMBERS));
    }),
    ("interval, anti", |left, right| {
        end_join(left.join(right).interval("w", micros(0), micros(3)).anti());
    }),
    ("window, full", |left, right| {
        let join = left.join(right).window("w", Tumbling::of(micros(10)));
        end_join(join.full(|l, r| (l.map(|e| e.number), r.map(|e| e.number))));
    }),
    ("as of", |left, right| {
        let join = left.join(right).as_of("w").within(micros(20));
        end_join(join.left(|key, l, r| NUMBERS(key, Some(l), r)));
    }),
];

#[test]
fn law_of_joins() {
    let runs = if full() { 30 } else { 6 };
    for (name, join) in JOINS {
        for events in input(4, 9) {
            let (left, right) = events.split_at(2);
            let input = LawInput::new()
                .partitions("left", left.to_vec())
                .partitions("right", right.to_vec())
                .compare::<String>("out")
                .compare::<String>("late")
                .runs(runs);
            let build = || {
                let flow = Flow::new(name);
                let side = |id: &str| {
                    let key: fn(&Sample) -> &u32 = |e| &e.key;
                    flow.source(id, Pushed::<Sample>::partitions(2))
                        .event_time(|e| e.time, Disorder::at_most(BOUND))
                        .key_by(key)
                };
                join(&side("left"), &side("right"));
                flow
            };
            let report = check_law(build, input).unwrap_or_else(|v| panic!("{name}: {v}"));
            assert_eq!(report.compared(), 2, "{name} is not of class Input");
        }
    }
}

/// The last row of a running total, the final panes of windows that tell early: same in every
/// run. The rest is consistent: nothing is lost or counted twice, whatever the class.
#[test]
fn consistency_of_operators_of_class_arrival() {
    let runs = if full() { 60 } else { 15 };
    for events in input(3, 20) {
        let count = events.iter().map(Vec::len).sum::<usize>() as u64;
        let running = |rows: &Rows| {
            let totals = rows.key_by(|e| &e.key).running("w", Count).unbounded();
            totals.sink("out", Stdout::json());
        };
        let input = LawInput::new().partitions("events", events.clone());
        let input = input
            .compare::<(u32, u64)>("out")
            .compare_last("out", |row: &(u32, u64)| row.0)
            .invariant("out", move |rows: &[(u32, u64)]| {
                let last = |key| rows.iter().rev().find(|row| row.0 == key).map_or(0, |row| row.1);
                let sum: u64 = (0..3).map(last).sum();
                if sum == count { Ok(()) } else { Err(format!("{sum} of {count} counted")) }
            });
        let report = check_law(|| flow("running", 3, running), input.runs(runs)).unwrap();
        assert_eq!(report.compared(), 2, "rows of class Arrival are not compared as a bag");

        let panes = |rows: &Rows| {
            let windows = rows.key_by(|e| &e.key).window("w", Tumbling::of(micros(10)));
            let panes = windows.lateness(micros(5)).emit(Emit::OnChange).aggregate(Collect);
            let last = panes.drop_late("not compared").filter(|pane| pane.is_final);
            last.map(|pane| (pane.key, pane.window, pane.value)).sink("out", Stdout::json());
        };
        let input = LawInput::new().partitions("events", events.clone());
        let input = input.compare_any_class::<(u32, Window, Vec<Sample>)>("out");
        check_law(|| flow("final panes", 3, panes), input.runs(runs)).unwrap();

        let at_once = |rows: &Rows| {
            end(rows.key_by(|e| &e.key).process_on_arrival("w", Silence).unbounded());
        };
        let input = LawInput::new().partitions("events", events).compare::<String>("out");
        let report = check_law(|| flow("at once", 3, at_once), input.runs(runs)).unwrap();
        assert_eq!(report.compared(), 0);
    }
}

fn small() -> LawInput {
    let sample = |number, time| Sample { key: 0, time: EventTime::from_micros(time), number };
    let partition =
        |first: u32| (0..10).map(|n| sample(first + n, i64::from(n) * 4)).collect::<Vec<_>>();
    LawInput::new().partitions("events", vec![partition(0), partition(10), partition(20)])
}

#[test]
fn an_aggregate_whose_order_matters_is_found_out_and_made_small() {
    let subtract = |rows: &Rows| {
        let wrong = Fold::new(
            0i64,
            |sum: &mut i64, e: &Sample| *sum = i64::from(e.number) - *sum,
            |into: &mut i64, from| *into -= from,
        );
        let windows = rows.key_by(|e| &e.key).window("w", Tumbling::of(micros(20)));
        end(windows.aggregate(wrong));
    };
    let build = || flow("subtract", 3, subtract);
    let violation = check_law(build, small().compare::<String>("out")).unwrap_err();
    let text = violation.to_string();
    // Two events of two partitions are enough, and nothing else.
    assert_eq!(text.matches("  push").count(), 2, "{text}");
    assert!(text.contains("with 1 worker(s)"), "{text}");
    for part in ["sink `out`, only if all comes in one tick", "made smaller from 30 events to 2"] {
        assert!(text.contains(part), "{text}");
    }
    let seed = violation.seed().unwrap();
    let again = check_law(build, small().compare::<String>("out").replay(seed)).unwrap_err();
    assert_eq!(again.to_string(), text, "the seed replays it");
}

#[test]
fn acting_on_arrival_is_found_out_if_its_rows_are_compared() {
    let at_once = |rows: &Rows| {
        end(rows.key_by(|e| &e.key).process_on_arrival("w", Silence).unbounded());
    };
    let input = small().compare_any_class::<String>("out");
    let violation = check_law(|| flow("at once", 3, at_once), input).unwrap_err();
    let text = violation.to_string();
    assert!(text.matches("  push").count() <= 3, "{text}");
}

#[test]
fn a_flow_that_draws_from_outside_is_found_out() {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let numbered = |rows: &Rows| {
        let numbered = rows.map(|e| (NEXT.fetch_add(1, Ordering::Relaxed), e));
        numbered.map(|row| format!("{row:?}")).sink("out", Stdout::json());
    };
    let input = small().compare::<String>("out");
    let violation = check_law(|| flow("numbered", 3, numbered), input).unwrap_err();
    assert!(violation.to_string().contains("the same run twice"), "{violation}");
}

#[test]
fn a_panic_that_only_some_runs_meet_is_told_with_what_led_to_it() {
    let picky = |rows: &Rows| {
        let checked = rows.per_tick("picky", |_, rows| {
            assert!(rows.len() != 2, "two rows in one tick");
            rows
        });
        checked.map(|row| format!("{row:?}")).sink("out", Stdout::json());
    };
    let violation =
        check_law(|| flow("picky", 3, picky), small().compare::<String>("out")).unwrap_err();
    let text = violation.to_string();
    assert!(text.contains("in this run only: the flow stopped"), "{text}");
    assert!(text.contains("two rows in one tick"), "{text}");
}

#[test]
fn what_cannot_be_checked_is_said() {
    let nothing = |rows: &Rows| rows.sink("out", Stdout::json());
    let build = || flow("nothing", 3, nothing);
    let text = |input: LawInput| check_law(build, input).unwrap_err().to_string();
    assert!(text(small().compare::<String>("none")).contains("has no sink `none`"));
    assert!(text(small().compare::<u8>("out")).contains("are not of type u8"));
    let wrong = LawInput::new().partitions("events", vec![vec![1u8]]);
    assert!(text(wrong).contains("is not a `Pushed` source of u8"));
    let fed = LawInput::new().compare::<Sample>("out");
    assert!(text(fed).contains("did not finish"));
}
