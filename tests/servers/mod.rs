//! Real servers for tests: `scripts/servers.sh` starts them, once for all test binaries.
//!
//! A test that needs one begins with `let Some(broker) = servers::kafka() else { return };`. It
//! is skipped with a line that says so where the server cannot be had, and fails instead if
//! `HIGHWATER_SERVERS=required` is set. Who shares a server uses names of his own.

// Every test binary uses some of it.
#![allow(dead_code)]

#[cfg(feature = "kafka")]
pub mod topics;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tempfile::TempDir;

/// A server that is running, shared or of this test alone.
#[derive(Debug)]
pub struct Server {
    name: &'static str,
    address: String,
    /// Where it stores what it has, if it is of this test alone.
    private: Option<TempDir>,
}

/// The shared Kafka broker.
pub fn kafka() -> Option<Server> {
    shared("kafka")
}

/// A Kafka broker of this test alone, to be killed or paused. It takes some seconds to start.
pub fn private_kafka() -> Option<Server> {
    private("kafka")
}

/// The shared PostgreSQL: its address is a connection string.
pub fn postgres() -> Option<Server> {
    shared("postgres")
}

/// A PostgreSQL of this test alone, to be killed or paused.
pub fn private_postgres() -> Option<Server> {
    private("postgres")
}

/// A server by the name of its file in `scripts/servers`, shared by all tests.
pub fn shared(name: &'static str) -> Option<Server> {
    static STARTED: Mutex<BTreeMap<&str, Result<String, String>>> = Mutex::new(BTreeMap::new());
    keep_in_use();
    let started = {
        let mut all = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(name).or_insert_with(|| start(name, None)).clone()
    };
    let address = or_skip(name, started)?;
    Some(Server { name, address, private: None })
}

/// A server of this test alone, which ends with it.
pub fn private(name: &'static str) -> Option<Server> {
    let dir = TempDir::with_prefix("highwater-server-").unwrap();
    let address = or_skip(name, start(name, Some(dir.path())))?;
    Some(Server { name, address, private: Some(dir) })
}

impl Server {
    /// Where clients reach it; the same after a [`kill`](Self::kill) and [`start`](Self::start).
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Kills the process; what it stored stays.
    pub fn kill(&self) {
        self.signal("kill");
    }

    /// Starts it again on what it stored, and waits until it answers.
    pub fn start(&self) {
        let address = start(self.name, Some(self.dir())).unwrap();
        assert_eq!(address, self.address, "a server came back elsewhere");
    }

    /// Stops the process where it stands: connections stay open, and nothing is answered.
    pub fn pause(&self) {
        self.signal("pause");
    }

    pub fn resume(&self) {
        self.signal("resume");
    }

    fn signal(&self, how: &str) {
        let output = script(&[how, self.name], Some(self.dir()));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn dir(&self) -> &Path {
        self.private.as_ref().expect("a shared server is left alone").path()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(dir) = &self.private {
            script(&["stop", self.name], Some(dir.path()));
            let _ = std::fs::remove_file(dir.path().with_extension("lock"));
        }
    }
}

/// A name that no other test uses, of this run or of another one: for topics, groups, tables.
pub fn unique(what: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let nanos = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() % 1_000_000_000_000;
    format!("{what}-{}-{nanos}-{number}", std::process::id())
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn script(arguments: &[&str], dir: Option<&Path>) -> Output {
    let mut command = Command::new(root().join("scripts/servers.sh"));
    command.args(arguments);
    if let Some(dir) = dir {
        command.env("HIGHWATER_SERVERS_DIR", dir);
    }
    command.output().expect("scripts/servers.sh cannot be run")
}

/// Starts a server unless it runs, and says where it can be reached.
fn start(name: &str, dir: Option<&Path>) -> Result<String, String> {
    let output = script(&["start", name], dir);
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let key = format!("HIGHWATER_{}=", name.to_uppercase());
    let address = lines.lines().find_map(|line| line.strip_prefix(&key));
    Ok(address.expect("a server that runs has an address").to_owned())
}

/// The server, or a line that says why the test is skipped.
fn or_skip(name: &str, started: Result<String, String>) -> Option<String> {
    let why = match started {
        Ok(address) => return Some(address),
        Err(why) => why,
    };
    let required = std::env::var("HIGHWATER_SERVERS").is_ok_and(|value| value == "required");
    assert!(!required, "{name} is required here, and cannot be had:\n{why}");
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test").to_owned();
    let reason = why.lines().last().unwrap_or_default().to_owned();
    // Not by `eprintln`, which shows nothing of tests that pass.
    let line = format!("SKIPPED {test}: {name} cannot be had here ({reason})\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
    None
}

/// Shared servers are stopped when nobody has used them for a while: long tests say that they do.
fn keep_in_use() {
    static KEEPER: OnceLock<()> = OnceLock::new();
    KEEPER.get_or_init(|| {
        std::thread::spawn(|| {
            loop {
                std::thread::sleep(Duration::from_secs(60));
                script(&["touch"], None);
            }
        });
    });
}
