//! The traps of joins, each by its name, and what users are told.

use highwater::prelude::*;
use highwater::testing::{Pushed, TestDriver};

/// A row: key, time, and a number by which it is told from its like.
type Row = (u8, i64, u32);
/// The numbers of the rows of both sides.
type Pair = (Option<u32>, Option<u32>);

fn time_of(row: &Row) -> EventTime {
    EventTime::from_micros(row.1)
}

fn key_of(row: &Row) -> &u8 {
    &row.0
}

fn number(row: Option<&Row>) -> Option<u32> {
    row.map(|row| row.2)
}

/// A flow of two sources with one partition each, both keyed and without disorder.
struct Bench {
    flow: Flow,
}

type Side = Keyed<Row, Lent<u8, fn(&Row) -> &u8>, Timed>;

impl Bench {
    fn new() -> Self {
        Bench { flow: Flow::new("joins") }
    }

    fn side(&self, id: &str) -> Side {
        let source = self.flow.source(id, Pushed::<Row>::partitions(1));
        let key: fn(&Row) -> &u8 = key_of;
        source.event_time(time_of, Disorder::ascending()).key_by(key)
    }

    fn driver(self, pairs: &Joined<Pair, Row, Row>) -> Driver {
        pairs.late().map(|late| late.row).sink("late", Stdout::json());
        pairs.sink("out", Stdout::json());
        // At what time results came, and whether any of them was late.
        let seen = pairs.map(|pair| (0u8, pair)).key_by(|pair| &pair.0);
        let seen = seen.window("seen", Tumbling::of(micros(1))).aggregate(Collect);
        seen.late().map(|late| late.row.1).sink("too-late", Stdout::json());
        seen.flat_map(|r| {
            let at = r.window.start.as_micros();
            r.value.into_iter().map(move |(_, pair)| (at, pair))
        })
        .sink("times", Stdout::json());
        Driver(TestDriver::new(self.flow).unwrap())
    }
}

struct Driver(TestDriver);

impl Driver {
    fn left(&mut self, rows: &[Row]) {
        rows.iter().for_each(|row| self.0.push("left", 0, *row).unwrap());
    }

    fn right(&mut self, rows: &[Row]) {
        rows.iter().for_each(|row| self.0.push("right", 0, *row).unwrap());
    }

    fn tick(&mut self) -> Vec<Pair> {
        self.0.tick().unwrap();
        self.out()
    }

    fn out(&self) -> Vec<Pair> {
        self.0.outputs("out").unwrap()
    }

    fn entries(&self) -> u64 {
        self.0.metrics().operator("join").unwrap().entries
    }

    /// Ends both sides; returns each result with its time.
    fn finish(&mut self) -> Vec<(i64, Pair)> {
        self.0.finish::<Row>("left").unwrap();
        self.0.finish::<Row>("right").unwrap();
        assert_eq!(self.0.outputs::<Pair>("too-late").unwrap(), [], "results were late");
        let mut seen: Vec<(i64, Pair)> = self.0.outputs("times").unwrap();
        seen.sort();
        seen
    }
}

fn full(lower: i64, upper: i64) -> Driver {
    let bench = Bench::new();
    let (left, right) = (bench.side("left"), bench.side("right"));
    let join = left.join(&right).interval("join", micros(lower), micros(upper));
    let pairs = join.full(|_, l, r| (number(l), number(r)));
    bench.driver(&pairs)
}

const fn pair(left: u32, right: u32) -> Pair {
    (Some(left), Some(right))
}

const fn lone_left(left: u32) -> Pair {
    (Some(left), None)
}

const fn lone_right(right: u32) -> Pair {
    (None, Some(right))
}

#[test]
fn no_false_nulls_in_an_outer_self_join() {
    for (ticks, commits) in [(1, 2), (2, 5), (7, 100)] {
        let bench = Bench::new();
        let (left, _) = (bench.side("left"), bench.side("right"));
        let join = left.join(&left).interval("join", micros(0), micros(0));
        let pairs = join.full(|_, l, r| (number(l), number(r)));
        let mut driver = bench.driver(&pairs);
        for n in 0..30u32 {
            driver.left(&[((n % 3) as u8, i64::from(n / 4), n)]);
            if n % ticks == 0 {
                driver.tick();
            }
            if n % commits == 0 {
                driver.0.commit().unwrap();
                driver.0.crash_and_restart().unwrap();
            }
        }
        let seen = driver.finish();
        let nulls = seen.iter().filter(|(_, (l, r))| l.is_none() || r.is_none());
        assert_eq!(nulls.count(), 0, "{seen:?}");
        let with_themselves = seen.iter().filter(|(_, (l, r))| l == r).count();
        assert_eq!(with_themselves, 30);
    }
}

#[test]
fn matched_and_evicted_in_the_same_tick() {
    let mut driver = full(0, 5);
    driver.left(&[(1, 0, 1), (1, 100, 2)]);
    driver.right(&[(1, 5, 3), (1, 101, 4)]);
    driver.tick();
    assert_eq!(driver.out(), [pair(1, 3), pair(2, 4)]);
    assert_eq!(driver.finish(), [(5, pair(1, 3)), (101, pair(2, 4))]);
}

#[test]
fn the_null_row_is_there_when_its_partner_lies_between_late_and_eviction() {
    let mut driver = full(0, 10);
    driver.left(&[(1, 10, 1), (1, 15, 2)]);
    driver.right(&[(2, 15, 3)]);
    driver.tick();
    // Both sides are at 15: the right row at 12 is late, though the left one at 10 is kept until
    // 20 is past.
    driver.right(&[(1, 12, 4)]);
    driver.tick();
    assert_eq!(driver.0.outputs::<Either<Row, Row>>("late").unwrap(), [Either::Right((1, 12, 4))]);
    driver.left(&[(1, 20, 5)]);
    driver.right(&[(2, 20, 6)]);
    assert_eq!(driver.tick(), [lone_right(3)], "20 is not past");
    driver.left(&[(1, 21, 7)]);
    driver.right(&[(2, 21, 8)]);
    driver.tick();
    assert!(driver.out().contains(&lone_left(1)));
    let seen = driver.finish();
    assert_eq!(seen.iter().filter(|(_, p)| *p == lone_left(1)).count(), 1, "never twice");
    assert!(seen.contains(&(20, lone_left(1))), "{seen:?}");
}

#[test]
fn a_condition_decides_who_is_alone() {
    let bench = Bench::new();
    let (left, right) = (bench.side("left"), bench.side("right"));
    let join = left.join(&right).interval("join", micros(0), micros(5));
    let join = join.on(|l, r| l.2 < r.2);
    let pairs = join.full(|_, l, r| (number(l), number(r)));
    let mut driver = bench.driver(&pairs);
    driver.left(&[(1, 0, 10), (1, 20, 20)]);
    driver.right(&[(1, 1, 5), (1, 2, 30), (1, 22, 7)]);
    let seen = driver.finish();
    let expected =
        [(1, lone_right(5)), (2, pair(10, 30)), (22, lone_right(7)), (25, lone_left(20))];
    assert_eq!(seen, expected);
}

#[test]
fn no_left_result_before_the_window_closes() {
    let bench = Bench::new();
    let (left, right) = (bench.side("left"), bench.side("right"));
    let pairs = left.join(&right).window("join", Tumbling::of(micros(10)));
    let pairs = pairs.left(|l, r| (Some(l.2), number(r)));
    pairs.late().map(|late| late.row).sink("late", Stdout::json());
    pairs.map(|r| r.value).sink("out", Stdout::json());
    let mut driver = Driver(TestDriver::new(bench.flow).unwrap());
    driver.left(&[(1, 0, 1), (2, 3, 2), (1, 9, 3)]);
    driver.right(&[(3, 9, 4)]);
    assert_eq!(driver.tick(), []);
    driver.left(&[(1, 30, 5)]);
    assert_eq!(driver.tick(), [], "the right side is at 9");
    driver.right(&[(1, 9, 6), (1, 30, 7)]);
    let mut out = driver.tick();
    out.sort();
    assert_eq!(out, [pair(1, 6), lone_left(2), pair(3, 6)]);
}

#[test]
fn no_lone_row_before_its_state_goes() {
    let mut driver = full(-3, 10);
    driver.left(&[(1, 0, 1)]);
    driver.right(&[(1, 100, 2)]);
    assert_eq!(driver.tick(), []);
    driver.left(&[(1, 10, 3)]);
    assert_eq!(driver.tick(), [], "the watermark is at 10, and not past it");
    driver.left(&[(1, 11, 4)]);
    assert_eq!(driver.tick(), [lone_left(1)]);
    // The right row at 100 is kept for left ones up to 103.
    driver.left(&[(1, 103, 5)]);
    driver.right(&[(1, 120, 6)]);
    assert!(driver.tick().contains(&pair(5, 2)));
}

#[test]
fn an_outer_row_has_the_last_time_of_its_partners_and_is_not_late() {
    // Partners after the left row: the left row alone comes at the end of its interval.
    let mut driver = full(5, 20);
    driver.left(&[(1, 10, 1), (1, 200, 2)]);
    driver.right(&[(1, 50, 3), (1, 200, 4)]);
    driver.tick();
    let seen = driver.finish();
    let expected =
        [(30, lone_left(1)), (50, lone_right(3)), (200, lone_right(4)), (220, lone_left(2))];
    assert_eq!(seen, expected);
    // Partners before it: then at its own time.
    let mut driver = full(-20, -5);
    driver.left(&[(1, 10, 1), (1, 200, 2)]);
    driver.right(&[(1, 50, 3), (1, 200, 4)]);
    driver.tick();
    let seen = driver.finish();
    let expected =
        [(10, lone_left(1)), (70, lone_right(3)), (200, lone_left(2)), (220, lone_right(4))];
    assert_eq!(seen, expected);
}

#[test]
fn both_bounds_of_the_interval_are_inside() {
    let mut driver = full(-2, 3);
    driver.left(&[(1, 10, 1)]);
    driver.right(&[(1, 7, 2), (1, 8, 3), (1, 13, 4), (1, 14, 5)]);
    let mut pairs: Vec<Pair> = driver.finish().into_iter().map(|(_, pair)| pair).collect();
    pairs.retain(|(l, r)| l.is_some() && r.is_some());
    assert_eq!(pairs, [pair(1, 3), pair(1, 4)]);
}

#[test]
fn nothing_is_kept_that_can_find_no_partner() {
    let mut driver = full(-4, 6);
    for n in 0..50i64 {
        driver.left(&[((n % 5) as u8, n, n as u32)]);
        driver.right(&[((n % 7) as u8, n, 100 + n as u32)]);
        driver.tick();
        // Left rows of the last 6 µs and right ones of the last 4, and those at the watermark.
        assert!(driver.entries() <= 7 + 5, "{}", driver.entries());
    }
    driver.left(&[(9, 1_000, 999)]);
    driver.right(&[(8, 1_000, 999)]);
    driver.tick();
    assert_eq!(driver.entries(), 2, "the two that have just come");
    driver.finish();
    assert_eq!(driver.entries(), 0);
}

#[test]
fn that_a_row_was_matched_survives_a_crash() {
    let mut driver = full(0, 10);
    driver.left(&[(1, 0, 1), (1, 1, 2)]);
    driver.0.commit().unwrap();
    driver.right(&[(1, 0, 3)]);
    driver.0.commit().unwrap();
    driver.0.crash_and_restart().unwrap();
    driver.left(&[(1, 50, 4)]);
    driver.right(&[(2, 50, 5)]);
    assert_eq!(driver.tick(), [pair(1, 3), lone_left(2)]);
    driver.0.crash_and_restart().unwrap();
    assert_eq!(driver.tick(), [pair(1, 3), lone_left(2)], "and so does what was not committed");
    assert_eq!(driver.finish().iter().filter(|(_, p)| *p == lone_left(1)).count(), 0);
}

#[test]
fn a_semi_row_comes_once_and_at_once() {
    let bench = Bench::new();
    let (left, right) = (bench.side("left"), bench.side("right"));
    let semi = left.join(&right).interval("join", micros(0), micros(10)).semi();
    semi.late().sink("late", Stdout::json());
    semi.map(|row| row.2).sink("out", Stdout::json());
    let mut driver = Driver(TestDriver::new(bench.flow).unwrap());
    driver.left(&[(1, 0, 1), (1, 1, 2)]);
    driver.0.tick().unwrap();
    driver.right(&[(1, 0, 3), (1, 0, 4)]);
    driver.0.tick().unwrap();
    assert_eq!(driver.0.outputs::<u32>("out").unwrap(), [1], "long before its interval is past");
    assert_eq!(driver.entries(), 3, "it is no longer kept");
    driver.right(&[(1, 5, 5), (1, 6, 6)]);
    driver.0.tick().unwrap();
    assert_eq!(driver.0.outputs::<u32>("out").unwrap(), [1, 2]);
}

#[test]
fn a_row_takes_the_version_in_force_at_its_time() {
    let bench = Bench::new();
    let (left, right) = (bench.side("left"), bench.side("right"));
    let priced = left.join(&right).as_of("join").within(micros(20));
    let pairs = priced.left(|_, l, r| (Some(l.2), number(r)));
    let mut driver = bench.driver(&pairs);
    // The version at 10 comes after the row at 10, and is in force all the same; of two versions
    // of one time it is the last.
    driver.left(&[(1, 9, 1), (1, 10, 2), (1, 29, 3)]);
    driver.right(&[(1, 5, 10), (1, 10, 11), (1, 10, 12)]);
    assert_eq!(driver.tick(), [pair(1, 10)], "the watermark is at 10");
    driver.left(&[(1, 30, 4), (1, 31, 5)]);
    driver.right(&[(2, 40, 13)]);
    driver.tick();
    let seen = driver.finish();
    let expected = [
        (9, pair(1, 10)),
        (10, pair(2, 12)),
        (29, pair(3, 12)),
        (30, pair(4, 12)),
        (31, lone_left(5)),
    ];
    assert_eq!(seen, expected, "20 µs after it came, a version is still good, and then no more");
    assert_eq!(driver.entries(), 0);
}

#[test]
fn plans_say_how_much_is_kept() {
    let bench = Bench::new();
    let (left, right) = (bench.side("left"), bench.side("right"));
    let join = left.join(&right).interval("join", seconds(-5), minutes(10));
    join.semi().drop_late("a test");
    left.join(&right).as_of("as-of").unbounded().left(|_, _, _| ()).drop_late("a test");
    let plan = bench.flow.plan().unwrap();
    let expected = "semi, right in [left-5s, left+10min]; left rows are kept for 10min, right \
                    rows for 5s of event time";
    assert!(plan.contains(expected), "{plan}");
    assert!(plan.contains("left, the last version of each key is kept for ever"), "{plan}");
    assert!(plan.contains("join  interval_join [Input]"), "{plan}");
}

#[test]
fn joins_that_make_no_sense_are_refused() {
    let refused = |build: fn(&Side, &Side)| {
        let bench = Bench::new();
        let (left, right) = (bench.side("left"), bench.side("right"));
        build(&left, &right);
        bench.flow.plan().unwrap_err().to_string()
    };
    let message = refused(|left, right| {
        left.join(right).interval("backwards", micros(2), micros(1)).semi().drop_late("a test");
    });
    assert!(message.contains("the lower bound 2µs is above the upper 1µs"), "{message}");
    assert!(message.contains("backwards") && message.contains("joins.rs"), "{message}");
    let message = refused(|left, right| {
        let join = left.join(right).as_of("negative").within(micros(-1));
        join.inner(|_, _, _| ()).drop_late("a test");
    });
    assert!(message.contains("below zero") && message.contains("negative"), "{message}");
    let message = refused(|left, right| {
        let _ = left.join(right).interval("unheard", micros(0), micros(1)).semi();
    });
    assert!(message.contains("late") && message.contains("unheard"), "{message}");
}
