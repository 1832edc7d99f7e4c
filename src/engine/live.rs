//! A live flow: a coordinator thread, a commit thread and worker threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use highwater_state::Store;
use timely::communication::{Config, WorkerGuards, initialize_from};

use super::assembly::CommitLane;
use super::coordinator::{Coordinator, Parts};
use super::shared::{Event, Poison, Progress};
use super::worker::{self, WorkerStart};
use super::{shared, start};
use crate::error::{Error, ErrorKind, panic_message};
use crate::flow::Plan;
use crate::handle::{self, Handle, HandleOwner};
use crate::settings::Settings;
use crate::sink::Chunk;
use crate::tick::{CommitDone, CommitJob, Committer};
use crate::time::Tick;
use crate::time::clock::{Clock, SystemClock};

/// How often a busy flow publishes its metrics, in µs.
const PUBLISH_EVERY_MICROS: i64 = 50_000;

/// How many messages may wait for the commit thread before the coordinator waits for it.
const COMMIT_QUEUE: usize = 256;

/// Starts a flow on threads of its own.
pub(crate) fn spawn(plan: Plan, settings: Settings) -> Result<Handle, Error> {
    settings.check().map_err(Error::plan)?;
    let (events, inbox) = mpsc::channel();
    let stop_events = events.clone();
    let (handle, owner) = handle::pair(move || {
        // A flow that has ended has nobody to stop.
        let _ = stop_events.send(Event::Shutdown);
    });
    thread::Builder::new()
        .name("highwater".to_owned())
        .spawn(move || {
            let result = drive(plan, settings, events, &inbox, &owner);
            owner.finish(result);
        })
        .map_err(|e| Error::io("cannot start a thread", e))?;
    Ok(handle)
}

/// Ctrl-C stops the flow cleanly; a second one ends the process at once.
pub(crate) fn stop_on_ctrl_c(handle: &Handle) -> Result<(), Error> {
    let stop = handle.stopper();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::io("cannot listen for Ctrl-C", e))?;
    thread::Builder::new()
        .name("highwater-ctrl-c".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                if tokio::signal::ctrl_c().await.is_ok() {
                    stop();
                }
                if tokio::signal::ctrl_c().await.is_ok() {
                    std::process::exit(130);
                }
            });
        })
        .map_err(|e| Error::io("cannot start a thread", e))?;
    Ok(())
}

fn drive(
    plan: Plan,
    settings: Settings,
    events: Sender<Event>,
    inbox: &Receiver<Event>,
    owner: &HandleOwner,
) -> Result<(), Error> {
    let plan = Arc::new(plan);
    let store = start::open_store(&settings)?;
    let (mut record, resumed) = start::read_record(&*store, &plan)?;
    let sources = start::list_sources(&plan, &record, resumed, &events)?;
    let _span = tracing::info_span!("flow", name = %plan.name).entered();
    tracing::info!(tick = record.tick.0, resumed, ?settings, "starting");
    if record.finished {
        start::check_finished(&record, &sources)?;
        let totals = super::totals::Totals::new(&plan, &record, resumed);
        owner.publish(totals.metrics(&plan));
        return Ok(());
    }
    let sinks = start::open_sinks(&plan, &record)?;
    start::commit_start(&*store, &mut record, &sources)?;
    let poison = Poison::new(events.clone());
    let progress = Arc::new(Progress::default());
    let committer = Committer::new(store.clone(), sinks, progress.committed.clone());
    let (committed, commits) = mpsc::channel();
    let (lane, commit_thread) =
        ThreadLane::start(committer, committed, events.clone(), poison.clone())?;
    let base_thread = start_filling(store.clone(), commits, events.clone(), poison.clone())?;
    let (controls, workers) =
        start_workers(&plan, &store, &record, &settings, &events, &poison, &progress)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let lane = Box::new(lane);
    let mut coordinator = Coordinator::new(Parts {
        plan,
        store,
        settings,
        clock: clock.clone(),
        lane,
        poison,
        controls,
        sources,
        record,
        resumed,
    });
    // Sources are asked things on this thread too: whatever they do, the workers are stopped.
    let run = AssertUnwindSafe(|| run_loop(&mut coordinator, &*clock, inbox, owner));
    let result = catch_unwind(run).unwrap_or_else(|panic| {
        let message = format!("a source panicked: {}", panic_message(&*panic));
        Err(Error::new(ErrorKind::UserCode, message))
    });
    match &result {
        Ok(()) => tracing::info!("ended"),
        Err(error) => tracing::error!(%error, "failed"),
    }
    coordinator.stop_workers(inbox);
    coordinator.detach_sources();
    owner.publish(coordinator.metrics());
    // The lane is the commit thread's only sender: without it the thread ends.
    drop(coordinator);
    let workers = workers.join().into_iter().find_map(Result::err);
    let commits = commit_thread.join().err().map(|panic| panic_message(&*panic));
    // The commit thread was the only one to tell it of commits: without it, it ends too.
    let base = base_thread.join().err().map(|panic| panic_message(&*panic));
    match workers.or(commits).or(base) {
        Some(message) => result.and(Err(Error::bug(format!("a thread panicked: {message}")))),
        None => result,
    }
}

fn run_loop(
    coordinator: &mut Coordinator,
    clock: &dyn Clock,
    inbox: &Receiver<Event>,
    owner: &HandleOwner,
) -> Result<(), Error> {
    let mut published = clock.now_micros();
    while !coordinator.is_done() {
        coordinator.open_due_ticks();
        let event = match coordinator.next_due_micros() {
            None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(due) => {
                let wait = u64::try_from(due - clock.now_micros()).unwrap_or(0);
                inbox.recv_timeout(Duration::from_micros(wait))
            }
        };
        match event {
            Ok(event) => coordinator.handle(event)?,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Error::bug("nobody is left who could tell the flow anything"));
            }
        }
        while let Ok(event) = inbox.try_recv() {
            coordinator.handle(event)?;
        }
        let now = clock.now_micros();
        if now - published >= PUBLISH_EVERY_MICROS {
            published = now;
            owner.publish(coordinator.metrics());
        }
    }
    Ok(())
}

type Workers = (Vec<Sender<shared::Control>>, WorkerGuards<()>);

fn start_workers(
    plan: &Arc<Plan>,
    store: &Arc<dyn Store>,
    record: &crate::tick::TickRecord,
    settings: &Settings,
    events: &Sender<Event>,
    poison: &Poison,
    progress: &Arc<Progress>,
) -> Result<Workers, Error> {
    let workers = settings.workers;
    let cannot = |message: String| Error::bug(format!("timely cannot be started: {message}"));
    let config = if workers == 1 { Config::Thread } else { Config::Process(workers) };
    let (builders, others) = config.try_build().map_err(cannot)?;
    let record = Arc::new(record.clone());
    let (mut controls, mut starts) = (Vec::new(), Vec::new());
    for _ in 0..workers {
        let (sender, control) = mpsc::channel();
        controls.push(sender);
        starts.push(Some(WorkerStart {
            plan: plan.clone(),
            store: store.clone(),
            record: record.clone(),
            control,
            events: events.clone(),
            poison: poison.clone(),
            progress: progress.clone(),
            memory_limit: settings.hot_memory(),
            collect: false,
        }));
    }
    // timely starts the threads; each takes what was prepared for its index.
    let starts = Mutex::new(starts);
    let guards = initialize_from(builders, others, move |allocator| {
        let mut starts = starts.lock().unwrap_or_else(PoisonError::into_inner);
        let start = starts.get_mut(allocator.index()).and_then(Option::take);
        drop(starts);
        if let Some(start) = start {
            worker::run(allocator, start);
        }
    });
    Ok((controls, guards.map_err(cannot)?))
}

/// Commits on a thread of its own, so that later ticks go on while a commit is written.
struct ThreadLane {
    jobs: SyncSender<Job>,
}

enum Job {
    Output { sink: String, tick: Tick, chunk: Chunk },
    Commit(Box<CommitJob>),
}

impl ThreadLane {
    fn start(
        mut committer: Committer,
        committed: Sender<()>,
        events: Sender<Event>,
        poison: Poison,
    ) -> Result<(Self, JoinHandle<()>), Error> {
        let (jobs, inbox) = mpsc::sync_channel(COMMIT_QUEUE);
        let thread = thread::Builder::new()
            .name("highwater-commit".to_owned())
            .spawn(move || {
                while let Ok(job) = inbox.recv() {
                    if poison.is_set() {
                        continue;
                    }
                    let result = match job {
                        Job::Output { sink, tick, chunk } => committer.output(&sink, tick, chunk),
                        Job::Commit(job) => committer.commit(*job).map(|done| {
                            let _ = committed.send(());
                            let _ = events.send(Event::Committed(done));
                        }),
                    };
                    if let Err(error) = result {
                        poison.fail(error);
                    }
                }
            })
            .map_err(|e| Error::io("cannot start the commit thread", e))?;
        Ok((ThreadLane { jobs }, thread))
    }

    fn send(&self, job: Job) -> Result<(), Error> {
        self.jobs.send(job).map_err(|_| Error::bug("the commit thread is gone"))
    }
}

/// Moves commits from the log into the base, on a thread of its own, as they come.
fn start_filling(
    store: Arc<dyn Store>,
    commits: Receiver<()>,
    events: Sender<Event>,
    poison: Poison,
) -> Result<JoinHandle<()>, Error> {
    let poison_after = poison.clone();
    let fill = move || {
        while let Ok(()) = commits.recv() {
            let was_full = store.tail().full;
            while !poison.is_set() && store.maintain(false)? {}
            if was_full {
                let _ = events.send(Event::TailMoved);
            }
        }
        Ok(())
    };
    thread::Builder::new()
        .name("highwater-base".to_owned())
        .spawn(move || {
            let result = catch_unwind(AssertUnwindSafe(fill)).unwrap_or_else(|panic| {
                let message = format!("filling the base panicked: {}", panic_message(&*panic));
                Err(Error::bug(message))
            });
            if let Err(error) = result {
                poison_after.fail(error);
            }
        })
        .map_err(|e| Error::io("cannot start the base thread", e))
}

impl CommitLane for ThreadLane {
    fn output(&mut self, sink: &str, tick: Tick, chunk: Chunk) -> Result<(), Error> {
        self.send(Job::Output { sink: sink.to_owned(), tick, chunk })
    }

    fn commit(&mut self, job: CommitJob) -> Result<Option<CommitDone>, Error> {
        self.send(Job::Commit(Box::new(job)))?;
        Ok(None)
    }
}
