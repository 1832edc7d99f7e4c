//! Windows of so many events.

use std::collections::VecDeque;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::Key;
use super::process::{Process, ProcessCx, Timer, stamp};
use crate::aggregate::Aggregate;
use crate::event::{Data, EventOrder};
use crate::time::EventTime;

/// What came out of a window of so many events.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CountResult<K, V> {
    /// The key.
    pub key: K,
    /// Counts the key's results, from 0.
    pub index: u64,
    /// How many events it holds.
    pub count: u64,
    /// The time of its first event.
    pub first: EventTime,
    /// The time of its last event.
    pub last: EventTime,
    /// The aggregate's output.
    pub value: V,
}

/// Parameters of count windows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counting {
    pub(crate) size: u64,
    pub(crate) every: u64,
    pub(crate) incomplete: bool,
}

impl Counting {
    pub(crate) fn fault(&self) -> Option<String> {
        let Counting { size, every, .. } = *self;
        (size == 0 || every == 0 || every > size).then(|| {
            format!("windows of {size} events, every {every}: it must be 1 <= every <= size")
        })
    }

    /// Windows are made of blocks of so many events.
    fn block(&self) -> u64 {
        let (mut a, mut b) = (self.size, self.every);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a.max(1)
    }
}

impl fmt::Display for Counting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} events", self.size)?;
        if self.every != self.size {
            write!(f, " every {}", self.every)?;
        }
        if self.incomplete { f.write_str(", incomplete ones at the end") } else { Ok(()) }
    }
}

/// Count windows, as a process function.
pub(crate) struct CountWindows<A> {
    pub(crate) counting: Counting,
    pub(crate) aggregate: A,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct CountState<S> {
    /// Results so far.
    index: u64,
    /// Events since the last result.
    since: u64,
    /// The events that further results may hold, in blocks, all full but perhaps the last one.
    blocks: VecDeque<Block<S>>,
}

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Block<S> {
    pub(crate) count: u64,
    pub(crate) first: EventTime,
    pub(crate) last: EventTime,
    pub(crate) state: S,
}

impl<S> Block<S> {
    /// No events yet; the first will be at this time.
    pub(crate) fn new(time: EventTime, state: S) -> Self {
        Block { count: 0, first: time, last: time, state }
    }

    /// Takes an event in.
    pub(crate) fn add<T, A: Aggregate<T, State = S>>(
        &mut self,
        aggregate: &A,
        row: &T,
        time: EventTime,
        order: Option<&EventOrder>,
    ) {
        self.count += 1;
        self.last = time;
        aggregate.add(&mut self.state, row, &|| stamp(time, order));
    }

    /// Takes in the events of a later block.
    pub(crate) fn append<T, A: Aggregate<T, State = S>>(&mut self, aggregate: &A, later: Block<S>) {
        self.count += later.count;
        self.last = later.last;
        aggregate.merge(&mut self.state, later.state);
    }

    /// The result so far.
    pub(crate) fn peek<K: Clone, T, A: Aggregate<T, State = S>>(
        &self,
        aggregate: &A,
        key: &K,
        index: u64,
    ) -> CountResult<K, A::Output> {
        let Block { count, first, last, ref state } = *self;
        CountResult { key: key.clone(), index, count, first, last, value: aggregate.peek(state) }
    }

    /// The result.
    pub(crate) fn finish<K: Clone, T, A: Aggregate<T, State = S>>(
        self,
        aggregate: &A,
        key: &K,
        index: u64,
    ) -> CountResult<K, A::Output> {
        let Block { count, first, last, state } = self;
        let value = aggregate.finish(state);
        CountResult { key: key.clone(), index, count, first, last, value }
    }
}

/// The name of the timer that comes at the end of time.
pub(crate) const AT_END: &str = "end";

impl<A> CountWindows<A> {
    /// The window of the last events: of so many blocks, if there are as many. What no further
    /// window holds is forgotten.
    fn window<T, S: Clone>(&self, state: &mut CountState<S>, blocks: u64) -> Option<Block<S>>
    where
        A: Aggregate<T, State = S>,
    {
        let count = usize::try_from(blocks).unwrap_or(usize::MAX).min(state.blocks.len());
        let mut whole: Option<Block<S>> = None;
        for block in state.blocks.range(state.blocks.len() - count..) {
            match &mut whole {
                None => whole = Some(block.clone()),
                Some(whole) => whole.append(&self.aggregate, block.clone()),
            }
        }
        let Counting { size, every, .. } = self.counting;
        let kept = usize::try_from((size - every) / self.counting.block()).unwrap_or(usize::MAX);
        while state.blocks.len() > kept {
            state.blocks.pop_front();
        }
        whole
    }
}

impl<K: Key, T: Data, A: Aggregate<T>> Process<K, T> for CountWindows<A> {
    type State = CountState<A::State>;
    type Output = CountResult<K, A::Output>;

    fn event(&self, cx: &mut ProcessCx<'_, Self::State, Self::Output>, key: &K, row: T) {
        let (time, order) = (cx.time(), cx.order);
        if self.counting.incomplete {
            cx.set_timer(AT_END, EventTime::MAX);
        }
        let Counting { size, every, .. } = self.counting;
        let block = self.counting.block();
        let state = cx.state().get_or_insert_with(|| CountState {
            index: 0,
            since: 0,
            blocks: VecDeque::new(),
        });
        if state.blocks.back().is_none_or(|last| last.count == block) {
            state.blocks.push_back(Block::new(time, self.aggregate.init()));
        }
        if let Some(last) = state.blocks.back_mut() {
            last.add(&self.aggregate, &row, time, order);
        }
        state.since += 1;
        if state.since == every {
            state.since = 0;
            let index = state.index;
            state.index += 1;
            if let Some(window) = self.window(state, size / block) {
                cx.emit(window.finish(&self.aggregate, key, index));
            }
        }
    }

    /// The end of time: what is left is told, if that was asked for.
    fn timer(&self, cx: &mut ProcessCx<'_, Self::State, Self::Output>, key: &K, _: &Timer) {
        let Counting { size, every, .. } = self.counting;
        let block = self.counting.block();
        let Some(mut state) = cx.state().take() else { return };
        if state.since > 0 {
            // Blocks that the window would still have got.
            let missing = (every - state.since) / block;
            if let Some(window) = self.window(&mut state, size / block - missing) {
                cx.emit(window.finish(&self.aggregate, key, state.index));
            }
        }
    }
}
