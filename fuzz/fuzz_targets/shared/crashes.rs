//! Faults at any operation of the disk: what was acknowledged is there after every restart, with
//! or without the commit that was under way.

use highwater_state::fault::{Fault, SimDisk, Survival};
use highwater_state::{DurableStore, Store};

use super::history::{Content, next, open, read};
use super::input::Input;

const FAULTS: [Fault; 7] = [
    Fault::CrashBefore,
    Fault::CrashTorn,
    Fault::CrashAfter,
    Fault::Fail,
    Fault::FailAfter,
    Fault::Full,
    Fault::LostSync,
];

struct Run<'a> {
    input: Input<'a>,
    disk: SimDisk,
    acknowledged: Content,
    /// What the commit that failed would have left.
    under_way: Option<Content>,
    /// Syncs may have been lost: only the death of the process is survived then.
    lost: bool,
    number: u64,
}

pub fn run(bytes: &[u8]) {
    let mut run = Run {
        input: Input(bytes),
        disk: SimDisk::new(),
        acknowledged: Content::default(),
        under_way: None,
        lost: false,
        number: 0,
    };
    let mut store = None;
    // A long input adds nothing that several short ones do not show.
    for _ in 0..60 {
        if run.input.is_empty() {
            break;
        }
        store = run.step(store);
    }
    drop(store);
    run.restart();
    let store = open(&run.disk).expect("no fault is planned");
    run.settle(&store);
}

impl Run<'_> {
    /// What is there is one of what may be there; from now on it has to stay.
    fn settle(&mut self, store: &DurableStore) {
        let found = read(store).expect("what was opened can be read");
        let under_way = self.under_way.take();
        let known = found == self.acknowledged || Some(&found) == under_way.as_ref();
        assert!(known, "{found:?} is neither {:?} nor {under_way:?}", self.acknowledged);
        self.acknowledged = found;
    }

    fn restart(&mut self) {
        let survival = match self.input.below(4) {
            _ if self.lost => Survival::Everything,
            0 => Survival::Synced,
            1 => Survival::Everything,
            _ => Survival::Some(u64::from(self.input.byte()) << 33 | 0x1234_5678_9abc),
        };
        self.disk.restart(survival);
        self.lost = false;
    }

    fn plan(&mut self) {
        let at = self.disk.operation_count() + self.input.below(12);
        let fault = *self.input.pick(&FAULTS);
        // The one before it may have struck without anybody's notice.
        self.lost |= fault == Fault::LostSync;
        self.disk.fault_at(at, fault);
    }

    fn step(&mut self, store: Option<DurableStore>) -> Option<DurableStore> {
        let Some(store) = store else { return self.open() };
        let worked = match self.input.below(8) {
            0..3 => self.commit(&store),
            3 => store.maintain(false).is_ok(),
            4 => store.maintain(true).is_ok(),
            5 | 6 => {
                self.plan();
                true
            }
            _ => false,
        };
        if worked {
            return Some(store);
        }
        // It still shows what it showed, whatever has failed: unless the disk is gone.
        if !self.disk.is_dead() {
            assert_eq!(read(&store).expect("it is in memory"), self.acknowledged);
        }
        drop(store);
        self.restart();
        None
    }

    fn open(&mut self) -> Option<DurableStore> {
        let planned = self.input.below(3) == 0;
        if planned {
            self.plan();
        }
        match open(&self.disk) {
            Ok(store) => {
                self.settle(&store);
                Some(store)
            }
            Err(error) => {
                assert!(planned, "{error}");
                self.restart();
                None
            }
        }
    }

    fn commit(&mut self, store: &DurableStore) -> bool {
        self.number += 1;
        let (commit, after) = next(&self.acknowledged, self.number, &mut self.input);
        match store.commit(commit) {
            Ok(()) => {
                self.acknowledged = after;
                true
            }
            Err(_) => {
                self.under_way = Some(after);
                false
            }
        }
    }
}
