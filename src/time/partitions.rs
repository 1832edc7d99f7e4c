//! The times of all partitions that one worker reads, and what follows from them at the end of a
//! tick. The cost of a tick is that of the partitions with news, not of all there are.

use std::collections::BTreeSet;

use highwater_state::planted::planted;

use super::least::Least;
use super::{Activity, EventTime, Span, Summary, TimeState};

/// News of one partition in a tick. A partition without news goes on as its last news said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was read. With `more`, it is known to hold unread events, and is not read again
    /// unless that is said; without, it counts as read in all ticks to come.
    Read { more: bool },
    /// It may hold unread events: neither silence nor news. Either it is not read until that is
    /// said, or what was read does not tell whether there is more.
    Waits,
    /// It has ended.
    Finished,
    /// It has been taken away from the source.
    Removed,
}

/// Partition times by slot.
///
/// How long a partition has been quiet is never counted up one by one: there is one clock of
/// quiet time for all, and each partition knows since when, on that clock, it has been quiet.
#[derive(Debug)]
pub(crate) struct PartitionTimes {
    idle_after: Option<Span>,
    slots: Vec<Slot>,
    least: Least,
    /// The largest event time of all partitions.
    largest: Option<EventTime>,
    /// The time between ticks on the tick clock, added up, in µs.
    quiet_clock: i64,
    last_clock_micros: Option<i64>,
    /// Partitions that are waited for and count as read: since when they are quiet, and their
    /// slots. Only kept where an idle timeout is set.
    counting: BTreeSet<(i64, usize)>,
    /// Slots that changed in this tick.
    touched: Vec<usize>,
}

#[derive(Debug)]
struct Slot {
    state: TimeState,
    quiet: Quiet,
    /// An event time was assigned in this tick.
    heard: bool,
    touched: bool,
}

/// How long a partition has brought no event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quiet {
    /// It was not read before: the time up to now does not count.
    New,
    /// So many µs, and no more while it is not read.
    Stands(i64),
    /// Since this moment on the quiet clock.
    Since(i64),
}

/// What follows from a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TickTimes {
    pub(crate) summary: Summary,
    pub(crate) largest: Option<EventTime>,
    /// How long until the next partition becomes idle if nothing comes, in µs.
    pub(crate) idle_in_micros: Option<i64>,
}

impl PartitionTimes {
    pub(crate) fn new(idle_after: Option<Span>) -> Self {
        PartitionTimes {
            idle_after,
            slots: Vec::new(),
            least: Least::new(),
            largest: None,
            quiet_clock: 0,
            last_clock_micros: None,
            counting: BTreeSet::new(),
            touched: Vec::new(),
        }
    }

    /// Adds a partition as it was committed, or as it starts.
    pub(crate) fn add(&mut self, state: TimeState) -> usize {
        let slot = self.least.push(state.summary());
        self.slots.push(Slot { state, quiet: Quiet::New, heard: false, touched: false });
        self.touch(slot);
        slot
    }

    pub(crate) fn state(&self, slot: usize) -> &TimeState {
        &self.slots[slot].state
    }

    /// An event time was assigned: the caller moves the promise.
    pub(crate) fn heard(&mut self, slot: usize) -> &mut TimeState {
        self.touch(slot);
        let slot = &mut self.slots[slot];
        slot.heard = true;
        slot.state.activity = Activity::Active;
        &mut slot.state
    }

    fn touch(&mut self, slot: usize) {
        if !std::mem::replace(&mut self.slots[slot].touched, true) {
            self.touched.push(slot);
        }
    }

    /// The tick is over, with this news: each partition at most once, and none that was heard
    /// left out. `changed` is told of the partitions that changed.
    pub(crate) fn end_tick(
        &mut self,
        clock_micros: i64,
        news: impl IntoIterator<Item = (usize, Outcome)>,
        mut changed: impl FnMut(usize, &TimeState),
    ) -> TickTimes {
        let elapsed = self.last_clock_micros.map_or(0, |last| (clock_micros - last).max(0));
        self.last_clock_micros = Some(clock_micros);
        let before = self.quiet_clock;
        self.quiet_clock = before.saturating_add(elapsed);
        for (slot, outcome) in news {
            self.news(slot, outcome, before, elapsed);
        }
        self.find_idle();
        for slot in std::mem::take(&mut self.touched) {
            let at = &mut self.slots[slot];
            (at.touched, at.heard) = (false, false);
            self.largest = self.largest.max(at.state.largest);
            self.least.set(slot, at.state.summary());
            changed(slot, &at.state);
        }
        TickTimes {
            summary: self.least.merged(),
            largest: self.largest,
            idle_in_micros: self.counting.first().zip(self.idle_after).map(|((since, _), t)| {
                since.saturating_add(t.as_micros()).saturating_sub(self.quiet_clock)
            }),
        }
    }

    fn news(&mut self, index: usize, outcome: Outcome, before: i64, elapsed: i64) {
        let slot = &mut self.slots[index];
        let was = slot.state.activity;
        let left = matches!(was, Activity::Finished | Activity::Removed);
        if left && matches!(outcome, Outcome::Read { .. } | Outcome::Waits) {
            // It is there again, and is waited for.
            slot.state.activity = Activity::Fresh;
        }
        let so_far = match slot.quiet {
            _ if slot.heard || left || planted("dropped-rows-move-promise") => None,
            Quiet::New => None,
            Quiet::Stands(micros) => Some(micros),
            Quiet::Since(since) => Some(before.saturating_sub(since)),
        };
        let read = so_far.map_or(0, |micros| micros.saturating_add(elapsed));
        let quiet = match outcome {
            Outcome::Read { more: true } => Quiet::Stands(read),
            Outcome::Read { more: false } => Quiet::Since(self.quiet_clock.saturating_sub(read)),
            Outcome::Waits => so_far.map_or(Quiet::New, Quiet::Stands),
            Outcome::Finished | Outcome::Removed => Quiet::New,
        };
        match outcome {
            Outcome::Read { .. } => {
                let idle = self.idle_after.is_some_and(|timeout| read >= timeout.as_micros());
                if idle && matches!(slot.state.activity, Activity::Fresh | Activity::Active) {
                    slot.state.activity = Activity::Idle;
                }
            }
            Outcome::Waits => {}
            Outcome::Finished => slot.state.activity = Activity::Finished,
            Outcome::Removed if was != Activity::Finished => {
                slot.state.activity = Activity::Removed;
            }
            Outcome::Removed => {}
        }
        let changed = slot.state.activity != was;
        self.set_quiet(index, quiet);
        if changed {
            self.touch(index);
        }
    }

    fn set_quiet(&mut self, index: usize, quiet: Quiet) {
        let slot = &mut self.slots[index];
        if let Quiet::Since(since) = slot.quiet {
            self.counting.remove(&(since, index));
        }
        slot.quiet = quiet;
        if let Quiet::Since(since) = quiet
            && self.idle_after.is_some()
            && matches!(slot.state.activity, Activity::Fresh | Activity::Active)
        {
            self.counting.insert((since, index));
        }
    }

    /// Partitions that count as read without being told become idle when their time is over.
    fn find_idle(&mut self) {
        let Some(timeout) = self.idle_after else { return };
        while let Some(&(since, index)) = self.counting.first() {
            if self.quiet_clock.saturating_sub(since) < timeout.as_micros() {
                return;
            }
            self.counting.pop_first();
            self.slots[index].state.activity = Activity::Idle;
            self.touch(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::time::{Watermark, micros};

    const IDLE: i64 = 100;

    /// A partition as the rules tell it, looked at in every tick.
    #[derive(Clone)]
    struct Model {
        promise: Option<i64>,
        activity: Activity,
        quiet: i64,
        /// It was read, or counted as read, in the tick before; or its reading waits.
        reading: Option<bool>,
    }

    impl Model {
        fn tick(&mut self, heard: Option<i64>, outcome: Option<Outcome>, elapsed: i64) {
            let new = self.reading.is_none();
            let mut read = self.reading == Some(true);
            if heard.is_some() {
                self.activity = Activity::Active;
                self.promise = self.promise.max(heard);
            }
            let gone = matches!(self.activity, Activity::Finished | Activity::Removed);
            match outcome {
                Some(Outcome::Read { more }) => {
                    read = true;
                    self.reading = Some(!more);
                }
                Some(Outcome::Waits) => {
                    read = false;
                    let fresh = new || gone || heard.is_some();
                    self.reading = if fresh { None } else { Some(false) };
                }
                Some(Outcome::Finished) => self.activity = Activity::Finished,
                Some(Outcome::Removed) if self.activity != Activity::Finished => {
                    self.activity = Activity::Removed;
                }
                Some(Outcome::Removed) | None => {}
            }
            if matches!(outcome, Some(Outcome::Finished | Outcome::Removed)) {
                (self.reading, self.quiet) = (None, 0);
                return;
            }
            if outcome.is_some() && gone {
                (self.activity, self.quiet) = (Activity::Fresh, 0);
                return;
            }
            if heard.is_some() || new {
                self.quiet = 0;
            } else if read {
                self.quiet += elapsed;
            }
            let waited_for = matches!(self.activity, Activity::Fresh | Activity::Active);
            if read && heard.is_none() && waited_for && self.quiet >= IDLE {
                self.activity = Activity::Idle;
            }
        }

        fn summary(&self) -> Summary {
            match (self.activity, self.promise) {
                (Activity::Removed, _) => Summary::Absent,
                (Activity::Finished, _) => Summary::Finished,
                (Activity::Idle, _) => Summary::Idle,
                (_, None) => Summary::Unknown,
                (_, Some(time)) => Summary::At(EventTime::from_micros(time)),
            }
        }
    }

    fn fresh() -> TimeState {
        let (promise, custom) = (Watermark::Unknown, Vec::new());
        TimeState { promise, largest: None, custom, activity: Activity::Fresh }
    }

    /// Per tick: time that passes, and per partition what happens.
    type Step = (i64, Vec<(Option<i64>, Option<Outcome>)>);

    fn step() -> impl Strategy<Value = Step> {
        let outcome = prop_oneof![
            4 => Just(None),
            3 => any::<bool>().prop_map(|more| Some(Outcome::Read { more })),
            2 => Just(Some(Outcome::Waits)),
            1 => Just(Some(Outcome::Finished)),
            1 => Just(Some(Outcome::Removed)),
        ];
        let heard = prop::option::weighted(0.3, 0i64..1000);
        (0i64..60, prop::collection::vec((heard, outcome), 3))
    }

    proptest! {
        #[test]
        fn differential_partition_times_against_counting_in_every_tick(
            steps in prop::collection::vec(step(), 1..40),
        ) {
            let mut times = PartitionTimes::new(Some(micros(IDLE)));
            let model = Model {
                promise: None,
                activity: Activity::Fresh,
                quiet: 0,
                reading: None,
            };
            let mut models = vec![model; 3];
            (0..3).for_each(|_| { times.add(fresh()); });
            let mut clock = 0;
            for (index, (passed, partitions)) in steps.into_iter().enumerate() {
                clock += passed;
                let elapsed = if index == 0 { 0 } else { passed };
                let mut news = Vec::new();
                for (slot, (heard, outcome)) in partitions.into_iter().enumerate() {
                    // Rows come only from a partition that is read, and in that tick.
                    let heard = heard.filter(|_| {
                        !matches!(outcome, None | Some(Outcome::Removed))
                    });
                    if let Some(time) = heard {
                        let state = times.heard(slot);
                        let at = Watermark::At(EventTime::from_micros(time));
                        state.promise = state.promise.max(at);
                    }
                    models[slot].tick(heard, outcome, elapsed);
                    news.extend(outcome.map(|outcome| (slot, outcome)));
                }
                let after = times.end_tick(clock, news, |_, _| {});
                let expected = models.iter().fold(Summary::Absent, |s, m| s.merge(m.summary()));
                for (slot, model) in models.iter().enumerate() {
                    prop_assert_eq!(times.state(slot).activity, model.activity, "slot {}", slot);
                }
                prop_assert_eq!(after.summary, expected);
                let waiting = models.iter().filter(|m| {
                    m.reading == Some(true)
                        && matches!(m.activity, Activity::Fresh | Activity::Active)
                });
                let idle_in = waiting.map(|m| IDLE - m.quiet).min();
                prop_assert_eq!(after.idle_in_micros, idle_in);
            }
        }
    }

    #[test]
    fn ten_thousand_partitions_and_one_with_news() {
        let mut times = PartitionTimes::new(Some(micros(IDLE)));
        for _ in 0..10_000 {
            let slot = times.add(fresh());
            times.heard(slot).promise = Watermark::At(EventTime::from_micros(5));
        }
        let all = (0..10_000).map(|slot| (slot, Outcome::Read { more: false }));
        let mut changed = 0;
        times.end_tick(0, all, |_, _| changed += 1);
        assert_eq!(changed, 10_000);
        times.heard(7).promise = Watermark::At(EventTime::from_micros(9));
        let mut changed = Vec::new();
        let news = [(7, Outcome::Read { more: false })];
        let after = times.end_tick(1, news, |slot, _| changed.push(slot));
        assert_eq!((changed, after.summary), (vec![7], Summary::At(EventTime::from_micros(5))));
        // The others become idle without a word, and the one that spoke holds time alone.
        let after = times.end_tick(IDLE, [], |_, _| {});
        assert_eq!(after.summary, Summary::At(EventTime::from_micros(9)));
        assert_eq!(after.idle_in_micros, Some(1));
    }
}
