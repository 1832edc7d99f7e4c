use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use highwater_state::{Commit, Error as StateError, Found, KeyGroup, Store, Tail, Visit};

use super::*;
use crate::settings::Settings;
use crate::tick::TickRecord;

/// A store whose commit panics, or whose tail fills up while it is being moved.
#[derive(Default)]
struct Odd {
    commit_panics: bool,
    maintain_panics: bool,
    /// Moves that are left; the tail is full during the first of them.
    moves: AtomicU64,
    full: AtomicBool,
}

impl Store for Odd {
    fn record(&self) -> Result<Option<Vec<u8>>, StateError> {
        Ok(None)
    }

    fn commit(&self, _: Commit) -> Result<(), StateError> {
        assert!(!self.commit_panics, "on purpose");
        Ok(())
    }

    fn get(&self, _: &str, _: &[(KeyGroup, &[u8])], _: &mut Found<'_>) -> Result<(), StateError> {
        Ok(())
    }

    fn scan(
        &self,
        _: &str,
        _: std::ops::Range<KeyGroup>,
        _: &[u8],
        _: &mut Visit<'_>,
    ) -> Result<(), StateError> {
        Ok(())
    }

    fn tail(&self) -> Tail {
        Tail { bytes: 0, full: self.full.load(Ordering::SeqCst) }
    }

    fn maintain(&self, _: bool) -> Result<bool, StateError> {
        assert!(!self.maintain_panics, "on purpose");
        let left = self.moves.load(Ordering::SeqCst);
        self.full.store(left > 1, Ordering::SeqCst);
        if left > 0 {
            self.moves.store(left - 1, Ordering::SeqCst);
        }
        Ok(left > 0)
    }
}

fn lane(store: Odd) -> (ThreadLane, Vec<JoinHandle<()>>, mpsc::Receiver<Event>, Poison) {
    let store: Arc<dyn Store> = Arc::new(store);
    let (events, inbox) = mpsc::channel();
    let poison = Poison::new(events.clone());
    let committer = Committer::new(store.clone(), Default::default(), Arc::default());
    let work = BaseWork::new(&store, &events, &poison);
    let snapshots = SnapshotWork::new(None, &Settings::in_memory(), &poison);
    let (lane, threads) = ThreadLane::start(committer, work, snapshots, &events, &poison).unwrap();
    (lane, threads, inbox, poison)
}

fn hear(inbox: &mpsc::Receiver<Event>, wanted: impl Fn(&Event) -> bool) {
    loop {
        let event = inbox.recv_timeout(Duration::from_secs(10)).expect("nobody said anything");
        if wanted(&event) {
            return;
        }
    }
}

fn end(lane: ThreadLane, threads: Vec<JoinHandle<()>>) {
    drop(lane);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn a_tail_that_fills_while_it_is_moved_is_told_when_it_has_moved() {
    // Nothing is committed: what an earlier run left is moved, too.
    let store = Odd { moves: AtomicU64::new(2), ..Odd::default() };
    let (lane, threads, inbox, poison) = lane(store);
    hear(&inbox, |event| matches!(event, Event::TailMoved));
    hear(&inbox, |event| matches!(event, Event::TailMoved));
    assert!(!poison.is_set());
    end(lane, threads);
}

/// What made the flow fail.
fn failure(inbox: &mpsc::Receiver<Event>) -> String {
    loop {
        let event = inbox.recv_timeout(Duration::from_secs(10)).expect("nobody said anything");
        if let Event::Failed(error) = event {
            return error.to_string();
        }
    }
}

#[test]
fn a_panic_on_a_thread_behind_the_ticks_stops_the_flow() {
    let store = Odd { commit_panics: true, ..Odd::default() };
    let (mut first, threads, inbox, poison) = lane(store);
    let job = CommitJob { record: TickRecord::default(), changes: Vec::new(), last: false };
    first.commit(job).unwrap();
    let message = failure(&inbox);
    assert!(message.contains("a commit panicked: on purpose"), "{message}");
    assert!(poison.is_set());
    end(first, threads);

    let (second, threads, inbox, poison) = lane(Odd { maintain_panics: true, ..Odd::default() });
    let message = failure(&inbox);
    assert!(message.contains("the base panicked: on purpose"), "{message}");
    assert!(poison.is_set());
    end(second, threads);
}
