//! Who starts the program again when it has ended, and strikes it and its servers.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::events::random;
use super::postgres_common::Db;
use super::program::{ENDED_BY_IO, ENDED_BY_STATE, Life};
use super::servers::Server;

/// How often what is struck.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    pub flow: usize,
    pub broker: usize,
    pub database: usize,
    pub copies: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Flow,
    Broker,
    Database,
    /// A copy is started while the first one runs, or while it stands still and goes on later.
    Copy {
        paused: bool,
    },
}

/// What happened.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub kills: usize,
    pub of_broker: usize,
    pub of_database: usize,
    pub copies: usize,
    /// Kills before the first commit of a life, and with a server away.
    early: usize,
    in_outage: usize,
    /// Lives that ended because a server was away, and were followed by another one.
    ended_by_io: usize,
    /// Copies that shut the first one out, and that were refused as older than the target.
    pub taken_over: usize,
    refused: usize,
    lives: usize,
    /// Of the results, in percent, when the last fault had struck.
    percent: usize,
    rest: Duration,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} lives; {} kills before a life's first commit, {} with a server away; {} lives \
             ended by themselves because a server was away; of the copies {} took over and {} \
             were refused as older; {} % of the results were there after the last fault, the rest \
             took {:.1} s",
            self.lives,
            self.early,
            self.in_outage,
            self.ended_by_io,
            self.taken_over,
            self.refused,
            self.percent,
            self.rest.as_secs_f64()
        )
    }
}

/// A process, and where its words are.
struct Process {
    child: Child,
    life: Life,
    words: PathBuf,
    /// A copy was refused by one target, and may have claimed another one before.
    beside_copy: bool,
}

/// How a process ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It got to the end of its input.
    Input,
    /// A server was away.
    Io,
    /// A later start had claimed its targets.
    ShutOut,
    /// Its targets hold more than it knows of.
    Older,
}

impl Process {
    /// `None` while it runs; a test that fails if it ended as it must not.
    fn ended(&mut self) -> Option<End> {
        let status = self.child.try_wait().unwrap()?;
        let words = std::fs::read_to_string(&self.words).unwrap_or_default();
        match status.code() {
            Some(0) => Some(End::Input),
            Some(ENDED_BY_IO) => {
                println!("ended by Io: {}", words.lines().last().unwrap_or_default());
                Some(End::Io)
            }
            Some(ENDED_BY_STATE) if words.contains("has taken over the target") => {
                Some(End::ShutOut)
            }
            Some(ENDED_BY_STATE) if words.contains("the target holds output of") => {
                Some(End::Older)
            }
            _ => panic!("the program ended with {status}:\n{words}"),
        }
    }

    fn signal(&self, signal: &str) {
        let mut kill = std::process::Command::new("kill");
        let status = kill.args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub struct Campaign<'a> {
    broker: &'a Server,
    db: &'a Db,
    events: u64,
    plan: Vec<(Fault, Duration)>,
    random: Random,
    directory: TempDir,
    /// The first state directory, or the copy that took over last.
    state: PathBuf,
    pace: u64,
    tally: Tally,
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 += 1;
        random(self.0) % limit
    }

    /// In a start or a recovery, or anywhere in the time that a life takes.
    fn moment(&mut self) -> Duration {
        let limit = if self.below(5) < 2 { 1_000 } else { 5_000 };
        Duration::from_millis(self.below(limit))
    }
}

impl<'a> Campaign<'a> {
    pub fn new(broker: &'a Server, db: &'a Db, events: u64, faults: Faults, seed: u64) -> Self {
        let mut random = Random(seed << 32);
        let mut plan = Vec::new();
        plan.extend(std::iter::repeat_n(Fault::Flow, faults.flow));
        plan.extend(std::iter::repeat_n(Fault::Broker, faults.broker));
        plan.extend(std::iter::repeat_n(Fault::Database, faults.database));
        plan.extend((0..faults.copies).map(|n| Fault::Copy { paused: n % 2 == 0 }));
        for n in (1..plan.len()).rev() {
            plan.swap(n, random.below(n as u64 + 1) as usize);
        }
        let plan: Vec<_> = plan.into_iter().map(|fault| (fault, random.moment())).collect();
        // So that events are left when the last fault strikes. A copy takes a while.
        let moments: Duration = plan.iter().map(|(_, moment)| *moment).sum();
        let seconds = moments.as_secs() + 1 + 6 * faults.copies as u64;
        // In a start nothing is read, so that it could be more: some is left in any case.
        let pace = events * 5 / 4 / seconds;
        println!("{} faults in {seconds} s, {pace} events/s", plan.len());
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state-0");
        let tally = Tally::default();
        Campaign { broker, db, events, plan, random, directory, state, pace, tally }
    }

    pub fn run(mut self) -> Tally {
        std::thread::scope(|scope| {
            let mut outages = Outages::new(self.broker, self.db);
            let mut process = self.start(Some(self.pace));
            for (fault, moment) in self.plan.clone() {
                self.pass(&mut process, moment);
                match fault {
                    Fault::Flow => process = self.kill(process, &outages),
                    Fault::Broker => {
                        let back = Duration::from_millis(self.random.below(2_000));
                        outages.strike(scope, true, back);
                        self.tally.of_broker += 1;
                    }
                    Fault::Database => {
                        let back = Duration::from_millis(self.random.below(2_000));
                        outages.strike(scope, false, back);
                        self.tally.of_database += 1;
                    }
                    Fault::Copy { paused } => {
                        outages.end();
                        process = self.copy(process, paused);
                    }
                }
            }
            outages.end();
            self.finish(process);
        });
        self.tally
    }

    fn start(&mut self, pace: Option<u64>) -> Process {
        let state = self.state.clone();
        self.start_on(state, pace)
    }

    fn start_on(&mut self, state: PathBuf, pace: Option<u64>) -> Process {
        self.tally.lives += 1;
        let number = self.tally.lives;
        let life = Life {
            broker: self.broker.address().to_owned(),
            database: self.db.at.clone(),
            input: "in".to_owned(),
            output: "out".to_owned(),
            state,
            pace,
            workers: number % 2 + 1,
            commit_ms: 20 + self.random.below(80),
            sign: self.directory.path().join(format!("{number}.sign")),
        };
        let words = self.directory.path().join(format!("{number}.words"));
        Process { child: life.start(&words), life, words, beside_copy: false }
    }

    /// Lets time pass, and starts the program again where it ended because a server was away.
    fn pass(&mut self, process: &mut Process, time: Duration) {
        let until = Instant::now() + time;
        loop {
            match process.ended() {
                None => {}
                Some(End::Io) => {
                    self.tally.ended_by_io += 1;
                    *process = self.start(Some(self.pace));
                }
                Some(End::ShutOut) if process.beside_copy => {
                    *process = self.start(Some(self.pace));
                }
                Some(end) => panic!("the program ended too early: {end:?}, {}", self.tally),
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(Duration::from_millis(10)));
        }
    }

    fn kill(&mut self, mut process: Process, outages: &Outages<'_, '_>) -> Process {
        process.child.kill().unwrap();
        process.child.wait().unwrap();
        self.tally.kills += 1;
        self.tally.early += usize::from(!process.life.sign.exists());
        self.tally.in_outage += usize::from(outages.any());
        self.start(Some(self.pace))
    }

    /// Starts a copy of the flow on a copy of its state as a crash would leave it.
    fn copy(&mut self, mut first: Process, paused: bool) -> Process {
        self.tally.copies += 1;
        while paused && !first.life.sign.exists() {
            self.pass(&mut first, Duration::from_millis(10));
        }
        let state = self.directory.path().join(format!("state-{}", self.tally.copies));
        first.signal("-STOP");
        // Until every thread of it stands still.
        std::thread::sleep(Duration::from_millis(50));
        copy_directory(&first.life.state, &state);
        if !paused {
            first.signal("-CONT");
        }
        let mut second = self.start_on(state, Some(self.pace));
        if paused {
            std::thread::sleep(Duration::from_millis(self.random.below(4_000)));
            first.signal("-CONT");
        }
        let (until, mut ends) = (Instant::now() + Duration::from_secs(90), [None, None]);
        while ends == [None, None] {
            assert!(Instant::now() < until, "a copy runs beside the first, and neither ends");
            std::thread::sleep(Duration::from_millis(10));
            ends = [first.ended(), second.ended()];
        }
        // Whoever lost may have shut the other one out of one of the targets before.
        std::thread::sleep(Duration::from_millis(1_000));
        ends = [first.ended(), second.ended()];
        println!("copy, paused {paused}: {ends:?}");
        match ends {
            // The first one may have been in the middle of its start.
            [Some(end @ (End::ShutOut | End::Older)), None] if paused || end == End::ShutOut => {
                self.tally.taken_over += usize::from(end == End::ShutOut);
                self.tally.refused += usize::from(end == End::Older);
                self.state = second.life.state.clone();
                second
            }
            [None, Some(End::Older)] => {
                self.tally.refused += 1;
                first.beside_copy = true;
                first
            }
            [Some(End::ShutOut), Some(End::Older)] => {
                self.tally.refused += 1;
                self.start(Some(self.pace))
            }
            ends => panic!("first and copy ended as they must not: {ends:?}"),
        }
    }

    /// The rest of the input, without any fault.
    fn finish(&mut self, mut process: Process) {
        let results = super::events::expected(self.events).sums.len();
        let there: usize = self.db.one("select count(*) from sums").parse().unwrap();
        self.tally.percent = there * 100 / results;
        process.child.kill().unwrap();
        process.child.wait().unwrap();
        self.tally.kills += 1;
        let started = Instant::now();
        let mut last = self.start(None);
        loop {
            assert!(started.elapsed() < Duration::from_secs(300), "the last life does not end");
            match last.ended() {
                None => std::thread::sleep(Duration::from_millis(10)),
                Some(End::Input) => break,
                Some(end) => panic!("the last life ended: {end:?}"),
            }
        }
        self.tally.rest = started.elapsed();
        // A flow that has finished has nothing left to do.
        let mut after = self.start(None);
        assert!(after.child.wait().unwrap().success());
    }
}

fn copy_directory(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_directory(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Servers that have been killed, and come back.
struct Outages<'scope, 'env> {
    broker: &'env Server,
    db: &'env Db,
    under_way: [Option<ScopedJoinHandle<'scope, ()>>; 2],
}

impl<'scope, 'env> Outages<'scope, 'env> {
    fn new(broker: &'env Server, db: &'env Db) -> Self {
        Outages { broker, db, under_way: [None, None] }
    }

    /// Kills a server, once it is back from the time before; it is started again after a while.
    fn strike(&mut self, scope: &'scope Scope<'scope, 'env>, broker: bool, back: Duration) {
        let place = &mut self.under_way[usize::from(broker)];
        if let Some(before) = place.take() {
            before.join().unwrap();
        }
        let server = if broker { self.broker } else { &self.db.server };
        server.kill();
        *place = Some(scope.spawn(move || {
            std::thread::sleep(back);
            server.start();
        }));
    }

    fn any(&self) -> bool {
        self.under_way.iter().flatten().any(|outage| !outage.is_finished())
    }

    fn end(&mut self) {
        for outage in self.under_way.iter_mut().filter_map(Option::take) {
            outage.join().unwrap();
        }
    }
}
