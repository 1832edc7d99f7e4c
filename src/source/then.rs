//! One source after another: what is stored first, then what is live.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use super::signal::lock;
use super::{Fetched, ReadState, Reader, Replay, Resume, Source, Undecodable, Waker};
use crate::error::Error;

const HISTORY: &str = "history/";
const LIVE: &str = "live/";

/// Reads one source to its end, and then another one: made by [`Source::then`].
///
/// Partitions of the two are named `history/..` and `live/..`. The hand-over is exact, also over
/// crashes: where the live partitions begin is found out, and committed, at the very first start,
/// before the first event of the history is read; and both have their positions in the same
/// commits.
///
/// The live partitions are opened when all partitions of the history have ended. Until then they
/// do not hold time back, so that windows of the history close as it is read. From then on they
/// do: time stands still until each has brought an event, or is idle. An event of theirs is late
/// only if its time is before what the history has promised at its end, which is its largest time
/// less the bound of its disorder: as if it had stood at the end of the history.
///
/// ```
/// use highwater::source::{Memory, Source};
///
/// let source = Memory::of([1, 2]).then(Memory::of([3]));
/// assert_eq!(source.describe(), "Memory(1 partitions), then Memory(1 partitions)");
/// ```
#[derive(Debug)]
pub struct Then<H, L> {
    history: H,
    live: Arc<L>,
    progress: Arc<Mutex<Progress>>,
}

/// How far the history is, in this run.
#[derive(Debug, Default)]
struct Progress {
    waker: Option<Waker>,
    /// Partitions of the history that have not ended, once they were listed.
    unended: Option<BTreeSet<String>>,
    /// Those that are known to have ended.
    ended: BTreeSet<String>,
    /// The live source's turn has come.
    handed_over: bool,
    /// The partitions of both were listed, for the engine to know where they begin.
    listed: bool,
}

impl<H: Source, L: Source<Item = H::Item>> Then<H, L> {
    pub(super) fn new(history: H, live: L) -> Self {
        Then { history, live: Arc::new(live), progress: Arc::default() }
    }

    fn is_handed_over(&self) -> bool {
        lock(&self.progress).handed_over
    }

    /// Partitions of the history; none once it is over, wherever its files may be by then.
    fn history_partitions(&self) -> Result<Vec<String>, Error> {
        if self.is_handed_over() {
            return Ok(Vec::new());
        }
        // IMPORTANT: asked before the partitions are, so that none is added in between.
        let complete = self.history.is_complete();
        let names = self.history.partitions()?;
        let mut progress = lock(&self.progress);
        let unended = names.iter().filter(|name| !progress.ended.contains(*name)).cloned();
        progress.unended = complete.then(|| unended.collect());
        progress.hand_over_if_ended();
        Ok(names)
    }
}

impl Progress {
    /// Says whether the live source's turn has come just now.
    fn hand_over_if_ended(&mut self) -> bool {
        let now = !self.handed_over && self.unended.as_ref().is_some_and(BTreeSet::is_empty);
        self.handed_over |= now;
        now
    }
}

fn prefixed(prefix: &str, names: Vec<String>) -> impl Iterator<Item = String> {
    names.into_iter().map(move |name| format!("{prefix}{name}"))
}

/// Wakes for a partition by the name that it has here.
fn prefixed_waker(waker: &Waker, prefix: &'static str) -> Waker {
    let waker = waker.clone();
    Waker::new(move |partition| match partition {
        Some(partition) => waker.wake_partition(&format!("{prefix}{partition}")),
        None => waker.wake(),
    })
}

impl<H: Source, L: Source<Item = H::Item>> Source for Then<H, L> {
    type Item = H::Item;

    fn describe(&self) -> String {
        format!("{}, then {}", self.history.describe(), self.live.describe())
    }

    fn replay(&self) -> Replay {
        match (self.history.replay(), self.live.replay()) {
            (Replay::Exact, Replay::Exact) => Replay::Exact,
            _ => Replay::Lost,
        }
    }

    fn resume(&self, known: &[(&str, bool)]) {
        let of = |prefix: &str| -> Vec<(String, bool)> {
            let names = known
                .iter()
                .filter_map(|(name, ended)| Some((name.strip_prefix(prefix)?.to_owned(), *ended)));
            names.collect()
        };
        let (history, live) = (of(HISTORY), of(LIVE));
        let ended = history.iter().filter(|(_, ended)| *ended);
        let ended: BTreeSet<String> = ended.map(|(name, _)| name.clone()).collect();
        // What is added to a history that is over is not read.
        let handed_over = !history.is_empty() && ended.len() == history.len();
        *lock(&self.progress) = Progress { ended, handed_over, ..Progress::default() };
        let borrowed = |list: &[(String, bool)], f: &dyn Fn(&[(&str, bool)])| {
            f(&list.iter().map(|(name, ended)| (&**name, *ended)).collect::<Vec<_>>());
        };
        borrowed(&history, &|list| self.history.resume(list));
        borrowed(&live, &|list| self.live.resume(list));
    }

    fn attach(&self, waker: Waker) -> Result<(), Error> {
        let handed_over = {
            let mut progress = lock(&self.progress);
            progress.waker = Some(waker.clone());
            progress.handed_over
        };
        if !handed_over {
            self.history.attach(prefixed_waker(&waker, HISTORY))?;
        }
        self.live.attach(prefixed_waker(&waker, LIVE))
    }

    /// The first time all, so that it is known where they begin; then those whose turn it is.
    fn partitions(&self) -> Result<Vec<String>, Error> {
        let mut names: Vec<_> = prefixed(HISTORY, self.history_partitions()?).collect();
        let (first, waker) = {
            let mut progress = lock(&self.progress);
            let first = !std::mem::replace(&mut progress.listed, true);
            (first, progress.waker.clone())
        };
        if first || self.is_handed_over() {
            names.extend(prefixed(LIVE, self.live.partitions()?));
        }
        if first && let Some(waker) = waker {
            waker.wake();
        }
        Ok(names)
    }

    fn is_complete(&self) -> bool {
        self.is_handed_over() && self.live.is_complete()
    }

    fn start(&self, partition: &str, first: bool) -> Result<Resume, Error> {
        match (partition.strip_prefix(HISTORY), partition.strip_prefix(LIVE)) {
            (Some(name), _) => self.history.start(name, first),
            (_, Some(name)) => self.live.start(name, first),
            _ => Err(no_such(partition)),
        }
    }

    fn open(&self, partition: &str, resume: &Resume) -> Result<Box<dyn Reader<H::Item>>, Error> {
        if let Some(name) = partition.strip_prefix(HISTORY) {
            let reader = self.history.open(name, resume)?;
            let (name, progress) = (name.to_owned(), self.progress.clone());
            return Ok(Box::new(HistoryReader { reader, name, progress }));
        }
        match partition.strip_prefix(LIVE) {
            Some(name) if self.is_handed_over() => self.live.open(name, resume),
            Some(name) => Ok(Box::new(LiveReader {
                reader: None,
                resume: resume.clone(),
                name: name.to_owned(),
                live: self.live.clone(),
                progress: self.progress.clone(),
            })),
            None => Err(no_such(partition)),
        }
    }

    fn committed(&self, partition: &str, position: u64) {
        match (partition.strip_prefix(HISTORY), partition.strip_prefix(LIVE)) {
            (Some(name), _) => self.history.committed(name, position),
            (_, Some(name)) => self.live.committed(name, position),
            _ => {}
        }
    }

    fn detach(&self) {
        self.history.detach();
        self.live.detach();
        // The waker leads to a run that is over.
        lock(&self.progress).waker = None;
    }

    fn undecodable(&self) -> Undecodable {
        match (self.history.undecodable(), self.live.undecodable()) {
            (Undecodable::DeadLetter, _) => Undecodable::DeadLetter,
            (_, live) => live,
        }
    }
}

fn no_such(partition: &str) -> Error {
    Error::input(format!("`{partition}` is a partition neither of the history nor live"))
}

/// Notes when its partition ends.
struct HistoryReader<T> {
    reader: Box<dyn Reader<T>>,
    name: String,
    progress: Arc<Mutex<Progress>>,
}

impl<T> Reader<T> for HistoryReader<T> {
    fn read(&mut self, limit: usize, fetched: &mut Fetched<T>) -> Result<ReadState, Error> {
        let state = self.reader.read(limit, fetched)?;
        if state == ReadState::End {
            let mut progress = lock(&self.progress);
            progress.ended.insert(self.name.clone());
            if let Some(unended) = &mut progress.unended {
                unended.remove(&self.name);
            }
            if progress.hand_over_if_ended()
                && let Some(waker) = &progress.waker
            {
                waker.wake();
            }
        }
        Ok(state)
    }

    fn position(&self) -> u64 {
        self.reader.position()
    }

    fn check(&self) -> String {
        self.reader.check()
    }
}

/// A live partition that was opened before its turn came. It is taken away again at once, unless
/// the turn comes first.
struct LiveReader<L: Source> {
    reader: Option<Box<dyn Reader<L::Item>>>,
    resume: Resume,
    name: String,
    live: Arc<L>,
    progress: Arc<Mutex<Progress>>,
}

impl<L: Source> Reader<L::Item> for LiveReader<L> {
    fn read(&mut self, limit: usize, fetched: &mut Fetched<L::Item>) -> Result<ReadState, Error> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            None if !lock(&self.progress).handed_over => return Ok(ReadState::Pending),
            None => self.reader.insert(self.live.open(&self.name, &self.resume)?),
        };
        reader.read(limit, fetched)
    }

    fn position(&self) -> u64 {
        self.reader.as_ref().map_or(self.resume.position, |reader| reader.position())
    }

    fn check(&self) -> String {
        self.reader.as_ref().map_or_else(|| self.resume.check.clone(), |reader| reader.check())
    }
}
