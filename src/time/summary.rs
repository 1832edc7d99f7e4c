//! What one sender says about event time at the end of a tick, and how such sayings merge.

use highwater_state::planted::planted;

use super::{EventTime, Span, Watermark};

/// The state of a set of partitions, seen from one sender.
///
/// Merging is associative and commutative, so summaries can be combined per worker, per input
/// and per operator in any order. The minimum runs over partitions that are neither idle nor
/// finished; one active partition without a promise holds everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Summary {
    /// No partition stands behind this sender.
    Absent,
    /// Every partition is finished.
    Finished,
    /// Some partitions are not finished, and all of those are idle.
    Idle,
    /// An active partition has made no promise yet.
    Unknown,
    /// The least promise of the active partitions.
    At(EventTime),
}

impl Summary {
    pub(crate) fn merge(self, other: Summary) -> Summary {
        use Summary::{Absent, At, Finished, Idle, Unknown};
        match (self, other) {
            (Unknown, _) | (_, Unknown) => Unknown,
            (At(a), At(b)) => At(a.min(b)),
            (At(a), _) | (_, At(a)) => At(a),
            (Idle, _) | (_, Idle) => Idle,
            (Finished, _) | (_, Finished) => Finished,
            (Absent, Absent) => Absent,
        }
    }

    /// The watermark after this summary, which never goes back behind `before`.
    pub(crate) fn advance(self, before: Watermark) -> Watermark {
        match self {
            Summary::At(time) if planted("idle-partition-drags-time-back") => Watermark::At(time),
            Summary::At(time) => before.max(Watermark::At(time)),
            Summary::Finished => Watermark::End,
            Summary::Absent | Summary::Idle | Summary::Unknown => before,
        }
    }

    /// The same, said by an operator whose results may lie this far behind its watermark.
    pub(crate) fn behind(self, span: Span) -> Summary {
        match self {
            Summary::At(time) => Summary::At(time - span),
            other => other,
        }
    }

    /// What an operator that holds the watermark `own` says to its receivers: its own monotone
    /// watermark, unless its partitions are out of the game.
    pub(crate) fn downstream(self, own: Watermark) -> Summary {
        match (self, own) {
            (Summary::Absent | Summary::Finished | Summary::Idle, _) => self,
            (_, Watermark::At(time)) => Summary::At(time),
            (_, Watermark::Unknown) => Summary::Unknown,
            (_, Watermark::End) => Summary::Finished,
        }
    }
}
