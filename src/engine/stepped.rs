//! The workers of a test driver. One worker lives on the calling thread; several live on threads
//! of their own, because timely builds them nowhere else, but only one of them runs at any time:
//! the driver names the next one and waits for it. So the driver's choices decide everything.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Mutex, PoisonError};

use timely::communication::allocator::Thread;
use timely::communication::{Allocator, Config, WorkerGuards, initialize_from};

use super::dice::Dice;
use super::worker::{RunningWorker, WorkerStart};
use crate::error::{Error, ErrorKind, panic_message};

pub(super) enum Workers {
    Here(Box<RunningWorker>),
    Apart(Threads),
}

/// Workers on threads of their own, each waiting for its turn.
pub(super) struct Threads {
    orders: Vec<Sender<Order>>,
    answers: Receiver<Result<(), Error>>,
    guards: Option<WorkerGuards<()>>,
}

enum Order {
    Build,
    Step,
    Stop,
}

/// What a worker's thread is started with.
struct Seat {
    start: WorkerStart,
    orders: Receiver<Order>,
    answers: Sender<Result<(), Error>>,
}

impl Workers {
    /// Builds one worker for each start, in this order.
    pub(super) fn build(mut starts: Vec<WorkerStart>) -> Result<Self, Error> {
        if starts.len() == 1
            && let Some(start) = starts.pop()
        {
            let allocator = Allocator::Thread(Thread::default());
            return Ok(Workers::Here(Box::new(RunningWorker::build(allocator, start)?)));
        }
        let threads = Threads::start(starts)?;
        for worker in 0..threads.orders.len() {
            threads.turn(worker, Order::Build)?;
        }
        Ok(Workers::Apart(threads))
    }

    /// Lets one worker, chosen by the dice, do what it can do now.
    pub(super) fn step(&mut self, dice: &mut Dice) -> Result<(), Error> {
        match self {
            Workers::Here(worker) => {
                worker.step(false);
                Ok(())
            }
            Workers::Apart(threads) => threads.turn(dice.below(threads.orders.len()), Order::Step),
        }
    }
}

impl Threads {
    fn start(starts: Vec<WorkerStart>) -> Result<Self, Error> {
        let cannot = |message: String| Error::bug(format!("timely cannot be started: {message}"));
        let (builders, others) = Config::Process(starts.len()).try_build().map_err(cannot)?;
        let (answers_sender, answers) = mpsc::channel();
        let (mut orders, mut seats) = (Vec::new(), Vec::new());
        for start in starts {
            let (sender, inbox) = mpsc::channel();
            orders.push(sender);
            seats.push(Some(Seat { start, orders: inbox, answers: answers_sender.clone() }));
        }
        let seats = Mutex::new(seats);
        let guards = initialize_from(builders, others, move |allocator| {
            let mut seats = seats.lock().unwrap_or_else(PoisonError::into_inner);
            let seat = seats.get_mut(allocator.index()).and_then(Option::take);
            drop(seats);
            if let Some(seat) = seat {
                sit(allocator, seat);
            }
        });
        Ok(Threads { orders, answers, guards: Some(guards.map_err(cannot)?) })
    }

    /// Gives one worker its turn and waits until it is over.
    fn turn(&self, worker: usize, order: Order) -> Result<(), Error> {
        let gone = || Error::bug(format!("worker {worker} of a test driver is gone"));
        self.orders.get(worker).and_then(|o| o.send(order).ok()).ok_or_else(gone)?;
        self.answers.recv().map_err(|_| gone())?
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        for worker in 0..self.orders.len() {
            // A worker that is gone has nothing to tear down.
            let _ = self.turn(worker, Order::Stop);
        }
        self.orders.clear();
        if let Some(guards) = self.guards.take() {
            // What a worker panicked with was told as an error when it happened.
            drop(guards.join());
        }
    }
}

/// The life of a worker's thread.
fn sit(allocator: Allocator, seat: Seat) {
    let Seat { start, orders, answers } = seat;
    let (mut unbuilt, mut worker) = (Some((allocator, start)), None);
    while let Ok(order) = orders.recv() {
        // The driver waits for an answer, whatever happens here.
        let turn = AssertUnwindSafe(|| obey(order, &mut unbuilt, &mut worker));
        let answer = catch_unwind(turn).unwrap_or_else(|panic| {
            let message = format!("a worker thread panicked: {}", panic_message(&*panic));
            Err(Error::new(ErrorKind::Bug, message))
        });
        if answers.send(answer).is_err() {
            return;
        }
    }
}

fn obey(
    order: Order,
    unbuilt: &mut Option<(Allocator, WorkerStart)>,
    worker: &mut Option<RunningWorker>,
) -> Result<(), Error> {
    match order {
        Order::Build => {
            if let Some((allocator, start)) = unbuilt.take() {
                *worker = Some(RunningWorker::build(allocator, start)?);
            }
        }
        Order::Step => {
            if let Some(worker) = worker {
                worker.step(false);
            }
        }
        Order::Stop => {
            *worker = None;
            *unbuilt = None;
        }
    }
    Ok(())
}
