use super::*;
use crate::time::{EventTime, seconds};

fn drain<S: Source>(source: &S, partition: &str, from: u64, limit: usize) -> Vec<(u64, S::Item)> {
    let resume = Resume { position: from, check: String::new() };
    let mut reader = source.open(partition, &resume).unwrap();
    let mut all = Vec::new();
    loop {
        let mut fetched = Fetched::default();
        let state = reader.read(limit, &mut fetched).unwrap();
        assert!(fetched.len() <= limit);
        let (rows, positions, _) = fetched.into_parts();
        all.extend(rows.into_iter().enumerate().map(|(i, row)| (positions.at(i), row)));
        if state == ReadState::End {
            assert_eq!(reader.position(), from + all.len() as u64);
            return all;
        }
    }
}

fn all(source: &GeneratedSource, partition: &str) -> Vec<Generated> {
    drain(source, partition, 0, 1 << 20).into_iter().map(|(_, event)| event).collect()
}

#[test]
fn rows_are_a_function_of_partition_and_index() {
    let source = Generator::new(2, Some(10), |partition, index| u64::from(partition) * 100 + index);
    for from in 0..=10 {
        for limit in [1, 3, 10, 11] {
            let expected: Vec<_> = (from..10).map(|index| (index, 100 + index)).collect();
            assert_eq!(drain(&source, "1", from, limit), expected);
        }
    }
    assert!(source.open("2", &Resume::default()).is_err());
    assert!(source.open("x", &Resume::default()).is_err());
    let beyond = Resume { position: 11, check: String::new() };
    let error = source.open("0", &beyond).err().unwrap().to_string();
    assert!(error.contains("has 10 rows, fewer than the 11"), "{error}");
}

#[test]
fn an_endless_or_silent_partition_never_ends() {
    let source = Generator::new(2, None, |_, index| index).silent(1);
    let mut fetched = Fetched::default();
    let mut endless = source.open("0", &Resume::default()).unwrap();
    assert_eq!(endless.read(1_000, &mut fetched).unwrap(), ReadState::More);
    assert_eq!((fetched.len(), endless.position()), (1_000, 1_000));
    let mut fetched = Fetched::default();
    let mut silent = source.open("1", &Resume::default()).unwrap();
    assert_eq!(silent.read(1_000, &mut fetched).unwrap(), ReadState::Pending);
    assert!(fetched.is_empty());
}

#[test]
fn the_same_seed_gives_the_same_events_from_any_position() {
    let source =
        || Generated::source(7).partitions(3).events(500).disorder(seconds(1), 30).skew(1.0);
    let whole = drain(&source(), "2", 0, 1_000);
    assert_eq!(whole.len(), 500);
    for from in [0, 1, 17, 250, 499, 500] {
        for limit in [1, 7, 1_000] {
            assert_eq!(drain(&source(), "2", from, limit), whole[from as usize..]);
        }
    }
    let values = |events: Vec<Generated>| events.iter().map(|e| e.value).collect::<Vec<_>>();
    assert_ne!(values(all(&source(), "0")), values(all(&source(), "1")));
    let other = Generated::source(8).partitions(3).events(500);
    assert_ne!(values(all(&source(), "0")), values(all(&other, "0")));
}

#[test]
fn regression_the_events_of_a_seed_are_pinned() {
    let first = all(&Generated::source(42).events(2).keys(10), "0");
    let summary: Vec<_> = first.iter().map(|e| (e.key, e.value, e.time.as_micros())).collect();
    assert_eq!(summary, PINNED);
}

const PINNED: [(u64, u64, i64); 2] =
    [(8, 4_169_739_942_164_508_535, 0), (3, 4_040_444_147_450_644_655, 1_000)];

#[test]
fn the_rate_is_kept_without_drift() {
    let events = all(&Generated::source(1).events(10).rate(3), "0");
    for (index, event) in (0..).zip(&events) {
        assert_eq!(event.time, EventTime::from_micros(index * 1_000_000 / 3));
    }
    let fast = all(&Generated::source(1).events(5_000_001).rate(5_000_000), "0");
    assert_eq!(fast.last().unwrap().time, EventTime::from_seconds(1));
}

#[test]
fn the_given_share_is_moved_back_by_less_than_the_span() {
    let events = 100_000;
    let ordered = all(&Generated::source(5).events(events), "0");
    let moved = all(&Generated::source(5).events(events).disorder(seconds(2), 10), "0");
    let mut back = 0_u32;
    for (before, after) in ordered.iter().zip(&moved) {
        assert_eq!((before.key, before.value), (after.key, after.value));
        assert!(after.time <= before.time && before.time - after.time < seconds(2));
        back += u32::from(after.time < before.time);
    }
    assert!((9_500..10_500).contains(&back), "{back}");
    let every = all(&Generated::source(5).events(1_000).disorder(seconds(2), 100), "0");
    assert!(every.iter().zip(&ordered).filter(|(a, b)| a.time < b.time).count() > 990);
}

#[test]
fn keys_follow_the_law_they_are_given() {
    let events = 200_000_u32;
    for exponent in [0.0, 0.5, 1.0, 1.2, 2.0] {
        let keys = 50;
        let source = Generated::source(3).events(events.into()).keys(keys).skew(exponent);
        let mut counts = vec![0_u32; keys as usize];
        all(&source, "0").iter().for_each(|event| counts[event.key as usize] += 1);
        let weight = |key: usize| (key as f64 + 1.0).powf(-exponent);
        let total: f64 = (0..counts.len()).map(weight).sum();
        for (key, &count) in counts.iter().enumerate() {
            let expected = f64::from(events) * weight(key) / total;
            let off = (f64::from(count) - expected).abs();
            assert!(off < 5.0 * expected.sqrt() + 1.0, "{exponent} {key}: {count}, {expected}");
        }
    }
    assert!(
        all(&Generated::source(3).events(100).keys(1).skew(1.5), "0").iter().all(|e| e.key == 0)
    );
}

#[test]
fn a_changed_generator_is_not_resumed_and_a_senseless_one_is_refused() {
    let reader = Generated::source(1).events(10).open("0", &Resume::default()).unwrap();
    let resume = Resume { position: 5, check: reader.check() };
    assert!(Generated::source(1).events(20).open("0", &resume).is_ok());
    let error = Generated::source(2).events(10).open("0", &resume).err().unwrap().to_string();
    assert!(error.contains("seed 2") && error.contains("seed 1"), "{error}");
    for (source, word) in [
        (Generated::source(1).keys(0), "keys"),
        (Generated::source(1).rate(0), "rate"),
        (Generated::source(1).disorder(seconds(1), 101), "percentage"),
        (Generated::source(1).disorder(seconds(-1), 1), "negative"),
        (Generated::source(1).skew(f64::NAN), "skew"),
        (Generated::source(1).skew(-1.0), "skew"),
    ] {
        let error = Source::partitions(&source).err().unwrap().to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn rows_appended_together_keep_their_positions_whatever_stood_before_them() {
    let at = |fetched: Fetched<char>| {
        let (rows, positions, _) = fetched.into_parts();
        rows.into_iter().enumerate().map(|(i, row)| (positions.at(i), row)).collect::<Vec<_>>()
    };
    let mut fetched = Fetched::default();
    fetched.extend(7, ['a', 'b']);
    fetched.extend(9, ['c']);
    assert_eq!(at(fetched), [(7, 'a'), (8, 'b'), (9, 'c')]);
    let mut fetched = Fetched::default();
    fetched.push(3, 'a');
    // A gap, and then more behind what is listed.
    fetched.extend(5, ['b', 'c']);
    fetched.extend(7, ['d']);
    assert_eq!(at(fetched), [(3, 'a'), (5, 'b'), (6, 'c'), (7, 'd')]);
}
