//! The inputs that fuzzing has kept, through the same functions.

#[path = "../../fuzz/fuzz_targets/shared/mod.rs"]
mod shared;

use std::path::{Path, PathBuf};

fn replay(target: &str, run: fn(&[u8])) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
    let files = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files.collect();
    files.sort();
    assert!(files.len() > 10, "{} holds too little", dir.display());
    for file in files {
        println!("{}", file.display());
        run(&std::fs::read(&file).unwrap());
    }
    run(&[]);
}

#[test]
fn kept_inputs_of_values() {
    replay("values", shared::values::run);
}

#[test]
fn kept_inputs_of_log() {
    replay("log", shared::log::run);
}

#[test]
fn kept_inputs_of_store() {
    replay("store", shared::store::run);
}

#[test]
fn kept_inputs_of_crashes() {
    replay("crashes", shared::crashes::run);
}

#[test]
fn kept_inputs_of_manifest() {
    replay("manifest", shared::manifest::run);
}
