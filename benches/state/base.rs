//! RocksDB without us, and how much our base takes in for good.

use std::sync::Arc;
use std::time::{Duration, Instant};

use highwater_state::{Commit, Store, hash_key};
use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, DB, Options, WriteBatch, WriteOptions,
};

use crate::lanes::{changes, filled_store};
use crate::updates::{filled_table, timed};
use crate::{BASE_MEMORY, Bench, Random, Result, TAIL_LIMIT, mb, median, short, splitmix64};

const GOAL: f64 = 40.0;
const ROUNDS: usize = 5;

/// Entries to a commit, where only the store is measured.
const COMMIT: usize = 100_000;

/// The options of our base.
fn options() -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_bloom_filter(10.0, false);
    table.set_block_cache(&Cache::new_lru_cache((BASE_MEMORY / 2) as usize));
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    table.set_partition_filters(true);
    table.set_pin_top_level_index_and_filter(true);
    table.set_format_version(6);
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_compression_type(rocksdb::DBCompressionType::Lz4);
    options.set_write_buffer_size((BASE_MEMORY / 4) as usize);
    options.set_max_write_buffer_number(2);
    options.set_max_background_jobs(2);
    options.set_ratelimiter(96 << 20, 100_000, 10);
    options.set_level_compaction_dynamic_level_bytes(true);
    options.create_if_missing(true);
    options
}

/// State that lives in RocksDB: a get and a put to an update, or a put alone in batches. Its log
/// is off, which is to its advantage.
pub(crate) fn raw(bench: &mut Bench) -> Result<()> {
    let (keys, dir) = (bench.largest(), bench.place("raw"));
    let db = DB::open(&options(), &dir)?;
    let mut without_log = WriteOptions::default();
    without_log.disable_wal(true);
    for first in (0..keys).step_by(1000) {
        let mut batch = WriteBatch::default();
        (first..keys.min(first + 1000)).for_each(|k| batch.put(k.to_be_bytes(), [0; 8]));
        db.write_opt(batch, &without_log)?;
    }
    db.flush()?;
    let mut table = filled_table(keys);
    let mut random = Random(keys);
    let (mut get_put, mut batched, mut ours, mut ratios) = (vec![], vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        let wanted: Vec<u64> = (0..200_000).map(|_| random.below(keys)).collect();
        let mut failed = None;
        let single = timed(&wanted, |key| {
            let key = key.to_be_bytes();
            let count = match db.get_pinned(key) {
                Ok(Some(bytes)) => bytes.first_chunk().map_or(0, |b| u64::from_le_bytes(*b)),
                _ => 0,
            };
            failed = db.put_opt(key, (count + 1).to_le_bytes(), &without_log).err();
        });
        let groups: Vec<&[u64]> = wanted.chunks(1000).collect();
        let group = timed(&groups, |group| {
            let mut batch = WriteBatch::default();
            group.iter().for_each(|key| batch.put(key.to_be_bytes(), [1; 8]));
            failed = db.write_opt(batch, &without_log).err();
        });
        if let Some(error) = failed {
            return Err(error.into());
        }
        let wanted: Vec<u64> = (0..3_000_000).map(|_| random.below(keys)).collect();
        let update = timed(&wanted, |key| *table.update(hash_key(key), key, || 0) += 1);
        get_put.push(single);
        batched.push(group / 1000.0);
        ours.push(update);
        ratios.push(single / update);
    }
    let name = short(keys);
    let ratio = median(ratios);
    println!("\nRocksDB at {name} keys, without its log, medians of {ROUNDS}");
    println!("  get and put             {:>8.0} ns an update", median(get_put));
    println!("  batches of 1000 puts    {:>8.0} ns a put", median(batched));
    println!("  the table               {:>8.0} ns an update", median(ours));
    let goal = format!("update at {name} keys, at least {GOAL}x RocksDB's get and put");
    bench.goal(goal, format!("{ratio:.1}x"), ratio >= GOAL);
    drop(db);
    Ok(std::fs::remove_dir_all(dir)?)
}

/// Commits as fast as the tail's limit lets them, while a thread fills the base.
pub(crate) fn sustained(bench: &mut Bench) -> Result<()> {
    let (keys, dir) = (bench.largest(), bench.store_of(bench.largest()));
    let store = Arc::new(filled_store(&dir, (TAIL_LIMIT, BASE_MEMORY), keys, &0u64)?);
    let (warm, time) = (Duration::from_secs(5), Duration::from_secs(15));
    let deadline = Instant::now() + warm + time;
    let filling = store.clone();
    let base = std::thread::spawn(move || {
        while Instant::now() < deadline {
            if !filling.maintain(false)? {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok::<_, highwater_state::Error>(())
    });
    let mut random = Random(0);
    let (mut began, mut entries, mut bytes) = (None, 0, store.tail().bytes);
    let started = Instant::now();
    while Instant::now() < deadline {
        if store.tail().full {
            // From here on it goes no faster than the base.
            if began.is_none() && started.elapsed() > warm {
                (began, entries) = (Some(Instant::now()), 0);
            }
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        let keys = (0..COMMIT).map(|_| random.below(keys));
        let changes = vec![changes(keys, &splitmix64(entries))?];
        bytes = changes[0].size() as u64 / COMMIT as u64;
        store.commit(Commit { record: b"record".to_vec(), changes })?;
        entries += COMMIT as u64;
    }
    let took = began.unwrap_or(started).elapsed().as_secs_f64();
    base.join().map_err(|_| "a thread panicked")??;
    bench.sustained = entries as f64 / took;
    println!("\nthe base at {} keys, filled for {took:.0} s", short(keys));
    println!(
        "  takes in {:.0} thousand entries a second for good ({:.1} MB/s of changes){}",
        bench.sustained / 1e3,
        bench.sustained * mb(bytes),
        if began.is_none() { "; the tail never filled" } else { "" },
    );
    Ok(())
}
