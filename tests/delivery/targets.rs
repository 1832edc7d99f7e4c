//! What has come to the targets, beside what must.

use std::collections::BTreeMap;

use super::events::Expected;
use super::postgres_common::Db;
use super::program::Row;
use super::topics::read_committed;

/// How far what was found is from what was expected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mismatch {
    pub lost: u64,
    pub repeated: u64,
    pub wrong: u64,
}

impl Mismatch {
    fn of<K: Ord, V: Eq>(
        expected: BTreeMap<K, V>,
        found: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let mut by_key: BTreeMap<K, Vec<V>> = BTreeMap::new();
        for (key, value) in found {
            by_key.entry(key).or_default().push(value);
        }
        let mut mismatch = Mismatch::default();
        for (key, value) in expected {
            let found = by_key.remove(&key).unwrap_or_default();
            let right = found.iter().filter(|&found| *found == value).count() as u64;
            mismatch.lost += u64::from(found.is_empty());
            mismatch.repeated += (found.len() as u64).saturating_sub(1);
            mismatch.wrong += u64::from(right == 0 && !found.is_empty());
        }
        mismatch.wrong += by_key.values().map(|found| found.len() as u64).sum::<u64>();
        mismatch
    }

    fn and(self, other: Self) -> Self {
        Mismatch {
            lost: self.lost + other.lost,
            repeated: self.repeated + other.repeated,
            wrong: self.wrong + other.wrong,
        }
    }
}

/// The topic, as one reads it with `read_committed`, and the tables.
pub fn compare(broker: &str, topic: &str, db: &Db, expected: &Expected) -> Mismatch {
    let in_topic = read_committed(broker, topic).into_iter().map(|found| {
        let row: Row = serde_json::from_slice(&found.value).unwrap();
        ((row.key, row.start.as_micros() / 1_000), row.value)
    });
    let in_topic = Mismatch::of(expected.sums.clone(), in_topic);
    let query = "select key, (extract(epoch from start) * 1000)::bigint, value from sums";
    let in_table = db.rows(query).into_iter().map(|row| {
        let fields: Vec<i64> = row.split('|').map(|field| field.parse().unwrap()).collect();
        ((fields[0] as u32, fields[1]), fields[2])
    });
    let in_table = Mismatch::of(expected.sums.clone(), in_table);
    let late = db.rows("select number from late").into_iter();
    let late = late.map(|number| (number.parse::<u64>().unwrap(), ()));
    let late = Mismatch::of(expected.late.iter().map(|number| (*number, ())).collect(), late);
    println!("topic {in_topic:?}\ntable {in_table:?}\nlate  {late:?}");
    in_topic.and(in_table).and(late)
}
