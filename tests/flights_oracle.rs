//! The oracle of the flights against totals that were counted by other means.

#[path = "common/flights.rs"]
mod flights;

use flights::{Key, expect, read};

#[test]
fn the_oracle_gives_the_known_totals() {
    let files = read();
    let sizes: Vec<usize> = files.iter().map(Vec::len).collect();
    assert_eq!(sizes, [117_596, 109_416, 101_509]);
    let delay: i64 = files.iter().flatten().map(|flight| flight.row.dep_delay_min).sum();

    // (bound in minutes, key, used, results, late), with hourly windows.
    let known = [
        (60, Key::Carrier, 314_938, 59_044, 13_583),
        (60, Key::Origin, 314_938, 19_423, 13_583),
        (60, Key::Dest, 314_938, 190_427, 13_583),
        (180, Key::Carrier, 326_942, 59_621, 1_579),
        (15, Key::Carrier, 295_090, 58_174, 33_431),
    ];
    for (bound, key, used, results, late) in known {
        let expected = expect(&files, bound, 60, key);
        let found = (expected.used(), expected.results.len(), expected.late.len());
        assert_eq!(found, (used, results, late), "bound {bound} min, {key:?}");
        assert_eq!(used as usize + late, 328_521);
        assert!(expected.late.iter().all(|late| late.late_by > 0));
    }

    // A bound that nothing breaks: every delay is in a result.
    let all = expect(&files, 60 * 24 * 400, 60, Key::Origin);
    assert!(all.late.is_empty());
    assert_eq!(all.results.values().map(|(_, delay)| delay).sum::<i64>(), delay);
}
