//! Bad input, bad places and plans that make no sense: each ends with an error that names source,
//! partition and position or the operator and its line; mended, the flow goes on exactly.

use std::io::Write;
use std::path::Path;

use highwater::prelude::*;
use highwater::sink::channel;
use highwater::testing::{Pushed, TestDriver};

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Row {
    key: String,
    at: i64,
}

/// Hourly counts of CSV files, exactly once into a directory.
fn flow(directory: &Path, policy: Undecodable) -> Flow {
    let flow = Flow::new("bad");
    let pattern = format!("{}/in/*.csv*", directory.display());
    let rows = flow.source("rows", CsvFiles::<Row>::glob(pattern).undecodable(policy));
    if policy == Undecodable::DeadLetter {
        let letters = JsonLines::to(directory.join("dead"));
        rows.dead_letters().sink("dead", letters);
    }
    rows.event_time(|r| EventTime::from_seconds(r.at), Disorder::at_most(seconds(10)))
        .key_by(|r| &r.key)
        .window("counts", Tumbling::of(seconds(10)))
        .aggregate(Count)
        .drop_late("none in these files")
        .map(|r| (r.key, r.window.start, r.value))
        .sink("out", JsonLines::to(directory.join("out")));
    flow
}

fn run(directory: &Path, policy: Undecodable) -> Result<Metrics, Error> {
    let settings = Settings::at(directory.join("state")).workers(2).tick_max_events(5);
    let settings = settings.commit_interval(std::time::Duration::ZERO);
    flow(directory, policy).spawn(settings)?.wait()
}

fn lines(directory: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for file in std::fs::read_dir(directory).into_iter().flatten() {
        let path = file.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().starts_with("part-") {
            let text = std::fs::read_to_string(path).unwrap();
            lines.extend(text.lines().map(ToOwned::to_owned));
        }
    }
    lines.sort();
    lines
}

/// Fifty rows, of which row 30 is replaced.
fn csv(bad: Option<&[u8]>) -> Vec<u8> {
    let mut text = b"key,at\n".to_vec();
    for index in 0..50 {
        match bad {
            Some(bad) if index == 30 => text.extend_from_slice(bad),
            _ => writeln!(text, "k{},{index}", index % 3).unwrap(),
        }
    }
    text
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn with(files: &[(&str, &[u8])]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("in")).unwrap();
        let place = Place { directory };
        for (name, bytes) in files {
            place.write(name, bytes);
        }
        place
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path().join("in").join(name), bytes).unwrap();
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// What an undisturbed run writes.
fn expected() -> Vec<String> {
    let place = Place::with(&[("a.csv", &csv(None)), ("b.csv", &csv(None))]);
    run(place.path(), Undecodable::Fail).unwrap();
    lines(&place.path().join("out"))
}

#[test]
fn bad_rows_name_their_place_and_mended_the_flow_goes_on_exactly() {
    // Each bad row is as long as the good one it replaces, so that positions stay.
    for (bad, word) in [
        (&b"k0,3,\n"[..], "3 fields"),
        (&b"k0,xx\n"[..], "invalid digit"),
        (&b"k\xff,30\n"[..], "UTF-8"),
    ] {
        let place = Place::with(&[("a.csv", &csv(None)), ("b.csv", &csv(Some(bad)))]);
        let error = run(place.path(), Undecodable::Fail).unwrap_err();
        let what = format!("{error}");
        assert_eq!(error.kind(), ErrorKind::Input, "{what}");
        assert_eq!(error.operator(), Some("rows"), "{what}");
        assert!(error.partition().unwrap().ends_with("in/b.csv"), "{what}");
        let position = csv(None).windows(6).position(|w| w == b"k0,30\n").unwrap();
        assert_eq!(error.position(), Some(position as u64), "{what}");
        assert!(what.to_lowercase().contains(&word.to_lowercase()), "{what}");
        place.write("b.csv", &csv(None));
        assert!(run(place.path(), Undecodable::Fail).unwrap().finished);
        assert_eq!(lines(&place.path().join("out")), expected(), "after {what}");
    }
}

#[test]
fn bad_rows_are_skipped_or_kept_as_the_program_says() {
    let bad: &[u8] = b"k0,xx\n";
    let place = Place::with(&[("a.csv", &csv(None)), ("b.csv", &csv(Some(bad)))]);
    let metrics = run(place.path(), Undecodable::Skip).unwrap();
    let counters = metrics.operator("rows").unwrap().counters;
    assert_eq!((counters.events_in, counters.dead, counters.used), (100, 1, 99));
    assert!(counters.balanced());

    let place = Place::with(&[("a.csv", &csv(None)), ("b.csv", &csv(Some(bad)))]);
    let metrics = run(place.path(), Undecodable::DeadLetter).unwrap();
    assert_eq!(metrics.operator("rows").unwrap().counters.dead, 1);
    let letters = lines(&place.path().join("dead"));
    assert_eq!(letters.len(), 1);
    let letter: serde_json::Value = serde_json::from_str(&letters[0]).unwrap();
    assert!(letter["raw"].as_str().unwrap().starts_with("k0,xx"), "{letter}");
    assert!(letter["partition"].as_str().unwrap().ends_with("b.csv"), "{letter}");
    assert!(letter["position"].as_u64().unwrap() > 0, "{letter}");
}

#[test]
fn a_truncated_archive_is_an_error_after_what_it_holds() {
    let whole = gzip(&csv(None));
    let place = Place::with(&[("a.csv", &csv(None)), ("b.csv.gz", &whole[..whole.len() - 20])]);
    for policy in [Undecodable::Fail, Undecodable::Skip] {
        let error = run(place.path(), policy).unwrap_err();
        assert_eq!(error.operator(), Some("rows"), "{error}");
        assert!(error.partition().unwrap().ends_with("b.csv.gz"), "{error}");
        assert!(error.to_string().contains("truncated"), "{error}");
    }
}

#[test]
fn a_last_line_without_an_end_is_a_row() {
    let mut text = csv(None);
    text.pop();
    let place = Place::with(&[("a.csv", &csv(None)), ("b.csv", &text)]);
    run(place.path(), Undecodable::Fail).unwrap();
    assert_eq!(lines(&place.path().join("out")), expected());
}

#[test]
fn missing_and_changed_files_are_named() {
    let place = Place::with(&[]);
    let error = run(place.path(), Undecodable::Fail).unwrap_err();
    assert!(
        error.kind() == ErrorKind::Input && error.to_string().contains("/in/*.csv*"),
        "{error}"
    );

    // Long enough for commits before the bad row at its end.
    let mut bad = b"key,at\n".to_vec();
    (0..3_000).for_each(|index| writeln!(bad, "k0,{index}").unwrap());
    bad.extend_from_slice(b"k0,xx\n");
    let place = Place::with(&[("a.csv", &csv(None)), ("b.csv", &bad)]);
    run(place.path(), Undecodable::Fail).unwrap_err();
    let mut changed = bad.clone();
    changed[8] = b'9';
    place.write("b.csv", &changed);
    let error = run(place.path(), Undecodable::Fail).unwrap_err();
    assert!(error.partition().is_some_and(|p| p.ends_with("b.csv")), "{error}");
    assert!(error.to_string().contains("not the file that was read before"), "{error}");

    std::fs::remove_file(place.path().join("in/b.csv")).unwrap();
    let error = run(place.path(), Undecodable::Fail).unwrap_err();
    assert!(error.to_string().contains("no longer there"), "{error}");
}

#[test]
fn a_finished_flow_refuses_new_input_by_name() {
    let place = Place::with(&[("a.csv", &csv(None)), ("b.csv", &csv(None))]);
    run(place.path(), Undecodable::Fail).unwrap();
    assert!(run(place.path(), Undecodable::Fail).unwrap().finished, "nothing new is fine");
    let mut longer = csv(None);
    longer.extend_from_slice(b"k0,99\n");
    place.write("a.csv", &longer);
    let error = run(place.path(), Undecodable::Fail).unwrap_err();
    assert!(error.kind() == ErrorKind::State, "{error}");
    assert!(error.partition().unwrap().ends_with("a.csv"), "{error}");
    assert_eq!(error.position(), Some(csv(None).len() as u64), "{error}");
}

#[test]
fn unusable_directories_are_named() {
    let place = Place::with(&[("a.csv", &csv(None))]);
    std::fs::write(place.path().join("out"), "a file").unwrap();
    let error = run(place.path(), Undecodable::Fail).unwrap_err();
    assert!(error.kind() == ErrorKind::Io && error.operator() == Some("out"), "{error}");

    let place = Place::with(&[("a.csv", &csv(None))]);
    std::fs::write(place.path().join("state"), "a file").unwrap();
    let error = run(place.path(), Undecodable::Fail).unwrap_err();
    assert!(error.kind() == ErrorKind::Io && error.to_string().contains("state"), "{error}");
}

#[test]
fn state_of_another_flow_or_of_another_plan_is_refused() {
    let place = Place::with(&[("a.csv", &csv(None))]);
    run(place.path(), Undecodable::Fail).unwrap();
    let with = |name: &str, size: i64, bound: i64| {
        let flow = Flow::new(name);
        let pattern = format!("{}/in/*.csv*", place.path().display());
        flow.source("rows", CsvFiles::<Row>::glob(pattern))
            .event_time(|r| EventTime::from_seconds(r.at), Disorder::at_most(seconds(bound)))
            .key_by(|r| &r.key)
            .window("counts", Tumbling::of(seconds(size)))
            .aggregate(Count)
            .drop_late("none")
            .sink("out2", Stdout::json());
        let settings = Settings::at(place.path().join("state"));
        flow.spawn(settings).unwrap().wait().unwrap_err()
    };
    let error = with("other", 10, 10);
    assert!(error.kind() == ErrorKind::State && error.to_string().contains("`bad`"), "{error}");
    let error = with("bad", 20, 10);
    assert!(error.operator() == Some("counts") && error.to_string().contains("20s"), "{error}");
    let error = with("bad", 10, 11);
    assert!(error.operator() == Some("rows.event_time"), "{error}");
}

#[test]
fn a_state_directory_has_one_user_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let start = || {
        let flow = Flow::new("one");
        let (sender, source) = highwater::source::channel::<u64>(4);
        flow.source("events", source).sink("out", Stdout::<u64>::json());
        (flow.spawn(Settings::at(directory.path())).unwrap(), sender)
    };
    let (first, sender) = start();
    let receipt = sender.blocking_send(1).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(receipt.durable()).unwrap();
    let (second, _sender) = start();
    let error = second.wait().unwrap_err();
    assert!(error.kind() == ErrorKind::State && error.to_string().contains("in use"), "{error}");
    first.stop();
    first.wait().unwrap();
}

fn refused(build: impl FnOnce(&Flow)) -> Error {
    let flow = Flow::new("refused");
    build(&flow);
    let error = flow.plan().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Plan, "{error}");
    error
}

#[test]
fn plans_that_make_no_sense_are_refused_with_operator_and_line() {
    type Timed1 = Stream<(u8, EventTime), Timed>;
    let timed = |flow: &Flow| -> Timed1 {
        let source = flow.source("in", Memory::of(Vec::<(u8, EventTime)>::new()));
        source.event_time(|e| e.1, Disorder::ascending()).stream()
    };
    let here = "tests/bad_input.rs:";

    let error = refused(|flow| {
        let counts = timed(flow).key_by(|e| &e.0).window("w", Tumbling::of(Span::ZERO));
        let _ = counts.aggregate(Count).drop_late("none");
    });
    assert!(error.operator() == Some("w") && error.to_string().contains(here), "{error}");

    let error = refused(|flow| {
        let hop = Hopping::of(hours(24), millis(1));
        let _ = timed(flow).key_by(|e| &e.0).window("w", hop).aggregate(Count).drop_late("none");
    });
    assert!(error.operator() == Some("w") && error.to_string().contains("10000"), "{error}");

    let error = refused(|flow| {
        let _ = timed(flow).key_by(|e| &e.0).window("w", Tumbling::of(hours(1))).aggregate(Count);
    });
    assert!(error.operator() == Some("w") && error.to_string().contains("drop_late"), "{error}");
    assert!(error.to_string().contains(here), "{error}");

    let error = refused(|flow| {
        timed(flow).sink("out", Stdout::<(u8, EventTime)>::json());
        timed(flow).sink("out", Stdout::<(u8, EventTime)>::json());
    });
    assert_eq!(error.to_string().matches(here).count(), 2, "both lines: {error}");

    let error = refused(|flow| {
        let source = CsvFiles::<Row>::glob("x.csv").undecodable(Undecodable::DeadLetter);
        flow.source("in", source).sink("out", Stdout::<Row>::json());
    });
    assert!(error.to_string().contains("dead_letters"), "{error}");

    let error = refused(|flow| {
        let source = flow.source("in", Memory::of(Vec::<(u8, EventTime)>::new()));
        let idle = Disorder::ascending().idle_after(Span::ZERO);
        source.event_time(|e: &(u8, EventTime)| e.1, idle).sink("out", Stdout::json());
    });
    assert!(error.to_string().contains("idle timeout"), "{error}");
    assert!(refused(|_| {}).to_string().contains("no source"));
}

#[test]
fn times_at_the_ends_of_time_lose_nothing() {
    let ends = [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX, i64::MAX, i64::MIN];
    let events: Vec<(u8, i64)> = ends.iter().map(|t| (0, *t)).collect();
    let flow = Flow::new("ends");
    let timed = flow
        .source("in", Memory::of(events))
        .event_time(|e| EventTime::from_micros(e.1), Disorder::at_most(hours(1)));
    let keyed = timed.key_by(|e| &e.0);
    let (sink, results) = channel();
    let (late_sink, late) = channel();
    let tumbling = keyed.window("tumbling", Tumbling::of(hours(1))).aggregate(Count);
    tumbling.map(|r| r.value).sink("results", sink);
    tumbling.late().map(|l| l.time).sink("late", late_sink);
    let hop = Hopping::of(hours(1), minutes(7));
    let _ = keyed.window("hopping", hop).aggregate(Count).drop_late("counted");
    let session = Session::with_gap(hours(1));
    let _ = keyed.window("session", session).aggregate(Collect).drop_late("counted");
    let metrics = flow.spawn(Settings::in_memory().workers(2)).unwrap().wait().unwrap();
    // Only the last event breaks a promise: it comes after the end of time.
    assert_eq!(results.sum::<u64>(), 8);
    assert_eq!(late.collect::<Vec<_>>(), [EventTime::MIN]);
    for id in ["tumbling", "hopping", "session"] {
        let counters = metrics.operator(id).unwrap().counters;
        assert_eq!((counters.used, counters.late), (8, 1), "{id}");
        assert_eq!(metrics.operator(id).unwrap().entries, 0, "{id}");
    }
}

#[test]
fn a_timer_that_would_fire_for_ever_is_an_error() {
    struct Endless;
    impl Process<u8, (u8, EventTime)> for Endless {
        type State = ();
        type Output = ();
        fn event(&self, cx: &mut ProcessCx<'_, (), ()>, _: &u8, _: (u8, EventTime)) {
            cx.set_timer("again", cx.time());
        }
        fn timer(&self, cx: &mut ProcessCx<'_, (), ()>, _: &u8, timer: &Timer) {
            cx.set_timer("again", timer.time);
        }
    }
    let flow = Flow::new("endless");
    flow.source("in", Pushed::<(u8, EventTime)>::partitions(1))
        .event_time(|e| e.1, Disorder::ascending())
        .key_by(|e| &e.0)
        .process("endless", Endless)
        .unbounded()
        .drop_late("none")
        .sink("out", Stdout::json());
    let mut driver = TestDriver::new(flow).unwrap();
    driver.push("in", 0, (1u8, EventTime::from_seconds(1))).unwrap();
    let error = driver.finish::<(u8, EventTime)>("in").unwrap_err();
    assert!(error.operator() == Some("endless") && error.to_string().contains("again"), "{error}");
}
