//! Events from the program itself, acknowledged when they are durable.

use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker as TaskWaker};
use std::thread::Thread;

use tokio::sync::mpsc::error::{TryRecvError, TrySendError};
use tokio::sync::{Semaphore, mpsc, watch};

use super::signal::{Signal, lock};
use super::{Fetched, ReadState, Reader, Replay, Resume, Source, Waker};
use crate::error::{Error, ErrorKind};
use crate::event::Data;

/// The one partition of a channel.
const PARTITION: &str = "channel";

/// A source that the program sends events to.
///
/// At most `capacity` events wait to be read; beyond that senders wait too. The source has one
/// partition, `channel`, which ends when all senders are dropped. What was sent but not committed
/// is gone with the process; [`Receipt`] tells which that is.
///
/// ```
/// use highwater::source::{Fetched, Resume, Source, channel};
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let (sender, source) = channel::<&str>(100);
/// let receipt = sender.send("hello").await?;
///
/// // What a flow does with the source:
/// let mut reader = source.open("channel", &Resume::default())?;
/// let mut fetched = Fetched::default();
/// reader.read(10, &mut fetched)?;
/// assert_eq!(fetched.len(), 1);
/// source.committed("channel", reader.position());
///
/// receipt.durable().await?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn channel<T: Data>(capacity: usize) -> (ChannelSender<T>, ChannelSource<T>) {
    let (events, receiver) = mpsc::channel(capacity.clamp(1, Semaphore::MAX_PERMITS));
    let shared = Arc::new(Shared {
        signal: Signal::default(),
        progress: watch::Sender::new(Progress::default()),
        next_index: Mutex::new(0),
    });
    let source = ChannelSource { events: Mutex::new(Some(receiver)), shared: shared.clone() };
    (ChannelSender { events, shared: RaiseOnDrop(shared) }, source)
}

struct Shared {
    signal: Signal,
    progress: watch::Sender<Progress>,
    /// The index of the next event to be sent. Held while an event is put into the queue, so that
    /// indices have the order of the queue.
    next_index: Mutex<u64>,
}

/// How far the flow has come, in indices of events since the channel was made.
#[derive(Debug, Default)]
struct Progress {
    /// The position of the event with index 0: where the last run left off.
    first_position: u64,
    /// All events below this index are durable.
    durable: u64,
    /// Events from this index on will never be read.
    lost_from: Option<u64>,
    /// Nothing more will be committed.
    stopped: bool,
}

impl Progress {
    /// `None` while it is open whether the event becomes durable.
    fn fate(&self, index: u64) -> Option<bool> {
        if index < self.durable {
            return Some(true);
        }
        let lost = self.stopped || self.lost_from.is_some_and(|from| index >= from);
        lost.then_some(false)
    }
}

/// The sending end of a [`channel`]. Cheap to clone.
///
/// ```
/// use highwater::source::{SendError, channel};
/// let (sender, source) = channel(1);
/// sender.try_send(1)?;
/// assert_eq!(sender.try_send(2).err(), Some(SendError::Full(2)));
/// drop(source);
/// assert_eq!(sender.blocking_send(3).err(), Some(SendError::Stopped(3)));
/// # Ok::<(), SendError<i32>>(())
/// ```
pub struct ChannelSender<T> {
    // IMPORTANT: dropped before `shared`, which wakes the flow: it then finds the channel closed.
    events: mpsc::Sender<T>,
    shared: RaiseOnDrop,
}

struct RaiseOnDrop(Arc<Shared>);

impl Drop for RaiseOnDrop {
    fn drop(&mut self) {
        self.0.signal.raise();
    }
}

impl<T: Data> ChannelSender<T> {
    /// Sends an event, and waits while the channel is full.
    ///
    /// # Errors
    /// [`SendError::Stopped`] where no flow will read the event.
    pub async fn send(&self, event: T) -> Result<Receipt, SendError<T>> {
        match self.events.reserve().await {
            Ok(permit) => Ok(self.put(permit, event)),
            Err(_) => Err(SendError::Stopped(event)),
        }
    }

    /// Sends an event, and blocks the thread while the channel is full. Not for async code.
    ///
    /// # Errors
    /// [`SendError::Stopped`] where no flow will read the event.
    pub fn blocking_send(&self, event: T) -> Result<Receipt, SendError<T>> {
        block_on(self.send(event))
    }

    /// Sends an event, if there is room for it now.
    ///
    /// # Errors
    /// [`SendError::Full`] where there is none, and [`SendError::Stopped`] where no flow will read
    /// the event.
    pub fn try_send(&self, event: T) -> Result<Receipt, SendError<T>> {
        match self.events.try_reserve() {
            Ok(permit) => Ok(self.put(permit, event)),
            Err(TrySendError::Full(())) => Err(SendError::Full(event)),
            Err(TrySendError::Closed(())) => Err(SendError::Stopped(event)),
        }
    }

    fn put(&self, permit: mpsc::Permit<'_, T>, event: T) -> Receipt {
        let shared = &self.shared.0;
        let index = {
            let mut next = lock(&shared.next_index);
            permit.send(event);
            let index = *next;
            *next += 1;
            index
        };
        shared.signal.raise();
        Receipt { index, shared: shared.clone() }
    }
}

impl<T> Clone for ChannelSender<T> {
    fn clone(&self) -> Self {
        let shared = RaiseOnDrop(self.shared.0.clone());
        ChannelSender { events: self.events.clone(), shared }
    }
}

impl<T> fmt::Debug for ChannelSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelSender").finish_non_exhaustive()
    }
}

/// Why an event was not sent. It certainly was not, and is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError<T> {
    /// As many events are waiting as the channel holds.
    Full(T),
    /// The flow has stopped, or was dropped before it started.
    Stopped(T),
}

impl<T> SendError<T> {
    /// The event that was not sent.
    pub fn into_event(self) -> T {
        match self {
            SendError::Full(event) | SendError::Stopped(event) => event,
        }
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SendError::Full(_) => "the channel is full",
            SendError::Stopped(_) => "the flow that reads the channel has stopped",
        })
    }
}

impl<T: fmt::Debug> std::error::Error for SendError<T> {}

/// The promise that a sent event will become durable. Dropping it costs nothing.
#[must_use = "a sent event may still be lost: wait for `durable`, or drop the receipt on purpose"]
pub struct Receipt {
    index: u64,
    shared: Arc<Shared>,
}

impl Receipt {
    /// Waits until the commit that holds the event is durable.
    ///
    /// # Errors
    /// Where the flow stopped before it was known to be. If the event was not read yet it is lost;
    /// otherwise the next run may or may not hold it.
    pub async fn durable(self) -> Result<(), Error> {
        let mut progress = self.shared.progress.subscribe();
        let settled = progress.wait_for(|progress| progress.fate(self.index).is_some()).await;
        let fate = settled.ok().and_then(|progress| progress.fate(self.index));
        if fate == Some(true) {
            return Ok(());
        }
        let error = "the flow stopped before the event was known to be durable";
        Err(Error::new(ErrorKind::Io, error))
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receipt").field("index", &self.index).finish_non_exhaustive()
    }
}

/// The source at the other end of a [`channel`]: it serves one run of a flow.
///
/// Positions count events, and go on where the last run's commit left off.
pub struct ChannelSource<T> {
    /// Taken when the partition is opened.
    events: Mutex<Option<mpsc::Receiver<T>>>,
    shared: Arc<Shared>,
}

impl<T: Data> Source for ChannelSource<T> {
    type Item = T;

    fn describe(&self) -> String {
        "Channel".to_owned()
    }

    fn replay(&self) -> Replay {
        Replay::Lost
    }

    fn partitions(&self) -> Result<Vec<String>, Error> {
        Ok(vec![PARTITION.to_owned()])
    }

    fn is_complete(&self) -> bool {
        true
    }

    fn open(&self, partition: &str, resume: &Resume) -> Result<Box<dyn Reader<T>>, Error> {
        if partition != PARTITION {
            return Err(Error::input(format!("a channel has no partition `{partition}`")));
        }
        let Some(events) = lock(&self.events).take() else {
            return Err(Error::plan(
                "the channel was opened before: it serves one run, so a second run of the flow \
                 needs a flow with a new channel",
            ));
        };
        let position = resume.position;
        self.shared.progress.send_modify(|progress| progress.first_position = position);
        let shared = self.shared.clone();
        Ok(Box::new(ChannelReader { events, shared, first: position, position, ended: false }))
    }

    fn attach(&self, waker: Waker) -> Result<(), Error> {
        self.shared.signal.attach(waker);
        Ok(())
    }

    fn committed(&self, _partition: &str, position: u64) {
        self.shared.progress.send_if_modified(|progress| {
            let durable = position.saturating_sub(progress.first_position);
            let moved = durable > progress.durable;
            progress.durable = durable.max(progress.durable);
            moved
        });
    }

    fn detach(&self) {
        self.shared.progress.send_modify(|progress| progress.stopped = true);
    }
}

impl<T> Drop for ChannelSource<T> {
    fn drop(&mut self) {
        self.shared.progress.send_modify(|progress| progress.stopped = true);
    }
}

impl<T> fmt::Debug for ChannelSource<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelSource").finish_non_exhaustive()
    }
}

struct ChannelReader<T> {
    events: mpsc::Receiver<T>,
    shared: Arc<Shared>,
    first: u64,
    position: u64,
    ended: bool,
}

impl<T: Data> Reader<T> for ChannelReader<T> {
    fn read(&mut self, limit: usize, fetched: &mut Fetched<T>) -> Result<ReadState, Error> {
        self.shared.signal.lower();
        for _ in 0..limit {
            match self.events.try_recv() {
                Ok(event) => {
                    fetched.push(self.position, event);
                    self.position += 1;
                }
                Err(TryRecvError::Empty) => return Ok(ReadState::Pending),
                Err(TryRecvError::Disconnected) => {
                    self.ended = true;
                    return Ok(ReadState::End);
                }
            }
        }
        Ok(ReadState::More)
    }

    fn position(&self) -> u64 {
        self.position
    }
}

impl<T> Drop for ChannelReader<T> {
    /// What was read may still be committed; what was not never will be.
    fn drop(&mut self) {
        if !self.ended {
            let lost_from = Some(self.position - self.first);
            self.shared.progress.send_modify(|progress| progress.lost_from = lost_from);
        }
    }
}

/// Runs a future on this thread, which sleeps while there is nothing to do.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = TaskWaker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[cfg(test)]
mod tests;
