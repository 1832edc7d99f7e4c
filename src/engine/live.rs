//! A live flow: a coordinator thread, a commit thread and worker threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use highwater_state::Store;
use timely::communication::{Config, WorkerGuards, initialize_from};

use super::base_work::BaseWork;
use super::coordinator::{Coordinator, Parts};
use super::lane::ThreadLane;
use super::shared::{Event, Poison, Progress};
use super::snapshots::SnapshotWork;
use super::worker::{self, WorkerStart};
use super::{shared, start};
use crate::error::{Error, ErrorKind, panic_message};
use crate::flow::Plan;
use crate::handle::{self, Handle, HandleOwner};
use crate::settings::Settings;
use crate::tick::Committer;
use crate::tick::outbox::Outbox;
use crate::time::clock::{Clock, SystemClock};

/// How often a busy flow publishes its metrics, in µs.
const PUBLISH_EVERY_MICROS: i64 = 50_000;

/// Starts a flow on threads of its own.
pub(crate) fn spawn(plan: Plan, settings: Settings) -> Result<Handle, Error> {
    settings.check().map_err(Error::plan)?;
    let (events, inbox) = mpsc::channel();
    let stop_events = events.clone();
    let snapshot_events = events.clone();
    let (handle, owner) = handle::pair(
        move || {
            // A flow that has ended has nobody to stop.
            let _ = stop_events.send(Event::Shutdown);
        },
        move |reply| {
            // Nor anybody to answer: then the reply is dropped, and that is heard.
            let _ = snapshot_events.send(Event::Snapshot(reply));
        },
    );
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
    let start::Opened { store, durable } = start::open_store(&settings)?;
    let (mut record, resumed) = start::read_record(&*store, &plan)?;
    let sources = start::list_sources(&plan, &record, resumed, &events)?;
    let _span = tracing::info_span!("flow", name = %plan.name).entered();
    tracing::info!(tick = record.tick.0, resumed, ?settings, "starting");
    let mut outbox = Outbox::default();
    if record.finished {
        start::check_finished(&record, &sources)?;
    }
    let sinks = start::open_sinks(&*store, &plan, &record, &mut outbox)?;
    start::commit_start(&*store, &plan, &mut record, &sources, &mut outbox)?;
    if record.finished {
        // What a crash after the last commit may have left unsent is there now.
        sources.iter().for_each(super::sources::SourceState::detach);
        let totals = super::totals::Totals::new(&plan, &record, resumed);
        owner.publish(totals.metrics(&plan));
        return Ok(());
    }
    let poison = Poison::new(events.clone());
    let progress = Arc::new(Progress::default());
    let committer = Committer::new(store.clone(), sinks, progress.committed.clone());
    let sinks_due_micros = committer.sinks_due_micros()?;
    let work = BaseWork::new(&store, &events, &poison);
    let snapshots = SnapshotWork::new(durable, &settings, &poison);
    let (lane, threads) = ThreadLane::start(committer, work, snapshots, &events, &poison)?;
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
        sinks_due_micros,
    });
    // Sources are asked things on this thread too: whatever they do, the workers are stopped.
    let run = AssertUnwindSafe(|| run_loop(&mut coordinator, &*clock, inbox, owner));
    let result = catch_unwind(run).unwrap_or_else(|panic| {
        let message = format!("a source panicked: {}", panic_message(&*panic));
        Err(Error::new(ErrorKind::UserCode, message))
    });
    log_end(&result);
    coordinator.stop_workers(inbox);
    coordinator.detach_sources();
    owner.publish(coordinator.metrics());
    // Nobody else sends to the lane's threads: without it they end.
    drop(coordinator);
    let workers = workers.join().into_iter().find_map(Result::err);
    let panics = threads.into_iter().filter_map(|thread| thread.join().err());
    match workers.or(panics.map(|panic| panic_message(&*panic)).next()) {
        Some(message) => result.and(Err(Error::bug(format!("a thread panicked: {message}")))),
        None => result,
    }
}

fn log_end(result: &Result<(), Error>) {
    match result {
        Ok(()) => tracing::info!("ended"),
        Err(error) => tracing::error!(%error, "failed"),
    }
}

fn run_loop(
    coordinator: &mut Coordinator,
    clock: &dyn Clock,
    inbox: &Receiver<Event>,
    owner: &HandleOwner,
) -> Result<(), Error> {
    let mut published = clock.now_micros();
    // Something happened that the metrics do not show yet: then even a quiet flow wakes once.
    let mut news = true;
    while !coordinator.is_done() {
        coordinator.open_due_ticks();
        let publish_at = news.then_some(published + PUBLISH_EVERY_MICROS);
        let due = coordinator.next_due_micros().into_iter().chain(publish_at).min();
        let event = match due {
            None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(due) => {
                let wait = u64::try_from(due - clock.now_micros()).unwrap_or(0);
                inbox.recv_timeout(Duration::from_micros(wait))
            }
        };
        match event {
            Ok(event) => {
                coordinator.handle(event)?;
                news = true;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Error::bug("nobody is left who could tell the flow anything"));
            }
        }
        while let Ok(event) = inbox.try_recv() {
            coordinator.handle(event)?;
        }
        let now = clock.now_micros();
        if news && now - published >= PUBLISH_EVERY_MICROS {
            (published, news) = (now, false);
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
