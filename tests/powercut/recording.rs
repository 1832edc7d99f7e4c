//! Running the program with the recorder below it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::disk::Disk;
use crate::journal::{self, Op};
use crate::program;

/// What some processes, one after the other, did to one directory.
pub struct Recording {
    directory: TempDir,
    /// The disk they found.
    pub before: Disk,
    /// The commit that they had to find, and the last that they could.
    pub bounds: (u64, u64),
    pub ops: Vec<Op>,
}

/// The recorder, compiled once.
fn recorder() -> &'static Path {
    static LIBRARY: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let build = || {
        let directory = tempfile::tempdir().unwrap();
        let library = directory.path().join("record.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/powercut/record.c");
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O2", "-o"]).arg(&library).arg(source);
        assert!(cc.args(["-ldl", "-pthread"]).status().unwrap().success());
        (directory, library)
    };
    &LIBRARY.get_or_init(build).1
}

impl Recording {
    /// An empty disk, in a directory that has `root` in it.
    pub fn new(directory: TempDir) -> Self {
        let root = directory.path().join("root");
        std::fs::create_dir_all(&root).unwrap();
        let before = Disk::holding(&root, program::GRANTS);
        Recording { directory, before, bounds: (0, 0), ops: Vec::new() }
    }

    pub fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    /// Runs the program until it has made commit `until`: for each of `deaths` it dies, as if
    /// killed, in place of the sync of that number, and another process goes on.
    pub fn run(mut self, until: u64, deaths: &[u64]) -> Self {
        let journal = self.directory.path().join("journal");
        for death in deaths.iter().map(Some).chain([None]) {
            let mut child = Command::new(std::env::current_exe().unwrap());
            child.args(["--exact", "run_program", "--ignored", "--nocapture"]);
            child.env("LD_PRELOAD", recorder()).env("POWERCUT_JOURNAL", &journal);
            child.env("POWERCUT_ROOT", self.root().canonicalize().unwrap());
            child.env("POWERCUT_UNTIL", until.to_string());
            if let Some(sync) = death {
                child.env("POWERCUT_DIE_AT_SYNC", sync.to_string());
            }
            let output = child.output().unwrap();
            let expected = if death.is_some() { 99 } else { 0 };
            let told = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(expected), "death {death:?}: {told}");
        }
        self.ops = journal::read(&std::fs::read(&journal).unwrap());
        self
    }
}
