//! What is committed of a partition's time.

use serde::{Deserialize, Serialize};

use super::{EventTime, Summary, Watermark};

/// Whether a partition takes part in the minimum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Activity {
    /// Has brought no event yet and is waited for.
    Fresh,
    Active,
    Idle,
    Finished,
    /// Taken away from the source: as if it had never been, until it is there again.
    Removed,
}

/// What is committed of a partition's time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TimeState {
    /// No event below this is still promised to come. Written at each event, never cleared.
    pub(crate) promise: Watermark,
    /// The largest time so far: at the end of input, timers beyond it fire only once.
    pub(crate) largest: Option<EventTime>,
    /// The state of a custom strategy.
    pub(crate) custom: Vec<u8>,
    pub(crate) activity: Activity,
}

impl TimeState {
    pub(crate) fn summary(&self) -> Summary {
        match (self.activity, self.promise) {
            (Activity::Finished, _) => Summary::Finished,
            (Activity::Removed, _) => Summary::Absent,
            (Activity::Idle, _) => Summary::Idle,
            (_, Watermark::At(time)) => Summary::At(time),
            (_, Watermark::Unknown | Watermark::End) => Summary::Unknown,
        }
    }
}
