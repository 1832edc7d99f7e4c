//! The lane of commits: a thread that makes them durable and visible, one that works behind it
//! on the base, and one that takes snapshots.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::thread::{self, JoinHandle};

use highwater_state::work_in_background;

use super::assembly::CommitLane;
use super::base_work::{BaseJob, BaseWork};
use super::shared::{Event, Poison};
use super::snapshots::SnapshotWork;
use crate::error::{Error, panic_message};
use crate::handle::Reply;
use crate::sink::Chunk;
use crate::tick::{CommitDone, CommitJob, Committer};
use crate::time::Tick;

/// How many messages may wait for the commit thread before the coordinator waits for it.
pub(super) const COMMIT_QUEUE: usize = 256;

/// Commits on a thread of its own, so that later ticks go on while a commit is written.
pub(super) struct ThreadLane {
    jobs: SyncSender<Job>,
    snapshots: Sender<Reply>,
}

enum Job {
    Output { sink: String, tick: Tick, chunk: Chunk },
    Commit(Box<CommitJob>),
}

impl ThreadLane {
    /// Starts its threads; they end when the lane is dropped.
    pub(super) fn start(
        mut committer: Committer,
        work: BaseWork,
        snapshots: SnapshotWork,
        events: &Sender<Event>,
        poison: &Poison,
    ) -> Result<(Self, Vec<JoinHandle<()>>), Error> {
        let (jobs, inbox) = mpsc::sync_channel(COMMIT_QUEUE);
        let (base, base_jobs) = mpsc::channel();
        let (snapshot, snapshot_jobs) = mpsc::channel();
        let (committed, events, poison) = (base, events.clone(), poison.clone());
        let commits = move || {
            while let Ok(job) = inbox.recv() {
                if poison.is_set() {
                    continue;
                }
                let done = catch_unwind(AssertUnwindSafe(|| run_job(&mut committer, job)))
                    .unwrap_or_else(|panic| Err(panicked("a commit", &*panic)));
                match done {
                    Ok(None) => {}
                    Ok(Some(done)) => {
                        let _ = committed.send(BaseJob::Committed);
                        let _ = events.send(Event::Committed(done));
                    }
                    Err(error) => poison.fail(error),
                }
            }
        };
        let threads = vec![
            spawn("highwater-commit", commits)?,
            spawn("highwater-base", move || {
                work_in_background();
                run_base_work(&work, &base_jobs);
            })?,
            spawn("highwater-snapshot", move || {
                work_in_background();
                snapshots.run(&snapshot_jobs);
            })?,
        ];
        Ok((ThreadLane { jobs, snapshots: snapshot }, threads))
    }

    fn send(&self, job: Job) -> Result<(), Error> {
        self.jobs.send(job).map_err(|_| Error::bug("the commit thread is gone"))
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Error> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map_err(|e| Error::io(format!("cannot start the thread {name}"), e))
}

/// A panic leaves a commit in doubt, as an error does: nothing further is committed.
fn panicked(what: &str, panic: &(dyn std::any::Any + Send)) -> Error {
    Error::bug(format!("{what} panicked: {}", panic_message(panic)))
}

fn run_job(committer: &mut Committer, job: Job) -> Result<Option<CommitDone>, Error> {
    match job {
        Job::Output { sink, tick, chunk } => {
            committer.output(&sink, tick, chunk)?;
            Ok(None)
        }
        Job::Commit(job) => Ok(Some(committer.commit(*job)?)),
    }
}

fn run_base_work(work: &BaseWork, jobs: &Receiver<BaseJob>) {
    let result = catch_unwind(AssertUnwindSafe(|| work.run(jobs)))
        .unwrap_or_else(|panic| Err(panicked("the base", &*panic)));
    if let Err(error) = result {
        work.poison.fail(error);
    }
}

impl CommitLane for ThreadLane {
    fn output(&mut self, sink: &str, tick: Tick, chunk: Chunk) -> Result<(), Error> {
        self.send(Job::Output { sink: sink.to_owned(), tick, chunk })
    }

    fn commit(&mut self, job: CommitJob) -> Result<Option<CommitDone>, Error> {
        self.send(Job::Commit(Box::new(job)))?;
        Ok(None)
    }

    fn snapshot(&mut self, reply: Reply) {
        // A thread that is gone drops the reply, and that is heard.
        let _ = self.snapshots.send(reply);
    }
}

#[cfg(test)]
#[path = "lane_tests.rs"]
mod tests;
