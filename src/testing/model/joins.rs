//! Joins as nested loops over all events.

use super::Judged;
use crate::time::{EventTime, Span};
use crate::window::Window;

/// Which rows come out of a join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinKind {
    /// Pairs.
    Inner,
    /// Pairs, and left rows without a partner.
    Left,
    /// Pairs, and right rows without a partner.
    Right,
    /// Pairs, and rows of both sides without a partner.
    Full,
    /// Left rows that have a partner, once each.
    Semi,
    /// Left rows that have none.
    Anti,
}

impl JoinKind {
    /// All of them.
    pub const ALL: [JoinKind; 6] = [
        JoinKind::Inner,
        JoinKind::Left,
        JoinKind::Right,
        JoinKind::Full,
        JoinKind::Semi,
        JoinKind::Anti,
    ];
}

/// What comes out of a join: a pair, or a row of one side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedRow<L, R> {
    /// The time of the result.
    pub time: EventTime,
    /// The left row, if there is one.
    pub left: Option<L>,
    /// The right row, if there is one.
    pub right: Option<R>,
}

fn on_time<T>(events: &[Judged<T>]) -> Vec<&Judged<T>> {
    events.iter().filter(|event| !event.late()).collect()
}

/// The interval join: `right.time` is in `[left.time + lower, left.time + upper]`. `partners`
/// compares keys, and whatever else partners must fulfil. Late events take no part.
///
/// ```
/// use highwater::testing::model::{bounded, interval_join, judge, JoinKind};
/// use highwater::{micros, EventTime};
///
/// let events = |times: [i64; 2]| {
///     judge(&[times.to_vec()], |t| EventTime::from_micros(*t), bounded(micros(0)))
/// };
/// let interval = (micros(0), micros(5));
/// let (left, right) = (events([10, 20]), events([15, 16]));
/// let joined = interval_join(JoinKind::Left, &left, &right, interval, |_, _| true);
/// let rows: Vec<_> = joined.iter().map(|j| (j.time.as_micros(), j.left, j.right)).collect();
/// assert_eq!(rows, [(15, Some(10), Some(15)), (25, Some(20), None)]);
/// ```
pub fn interval_join<L: Clone, R: Clone>(
    kind: JoinKind,
    left: &[Judged<L>],
    right: &[Judged<R>],
    (lower, upper): (Span, Span),
    partners: impl Fn(&L, &R) -> bool,
) -> Vec<JoinedRow<L, R>> {
    let (left, right) = (on_time(left), on_time(right));
    let meet = |l: &Judged<L>, r: &Judged<R>| {
        let apart = i128::from(r.time.as_micros()) - i128::from(l.time.as_micros());
        i128::from(lower.as_micros()) <= apart
            && apart <= i128::from(upper.as_micros())
            && partners(&l.row, &r.row)
    };
    let mut joined = Vec::new();
    for l in &left {
        let met: Vec<_> = right.iter().filter(|r| meet(l, r)).collect();
        let alone = |time| JoinedRow { time, left: Some(l.row.clone()), right: None };
        let last = l.time.max(l.time + upper);
        match kind {
            JoinKind::Semi if !met.is_empty() => joined.push(alone(last)),
            JoinKind::Semi => {}
            JoinKind::Anti if met.is_empty() => joined.push(alone(last)),
            JoinKind::Anti => {}
            JoinKind::Left | JoinKind::Full if met.is_empty() => joined.push(alone(last)),
            _ => joined.extend(met.iter().map(|r| JoinedRow {
                time: l.time.max(r.time),
                left: Some(l.row.clone()),
                right: Some(r.row.clone()),
            })),
        }
    }
    if matches!(kind, JoinKind::Right | JoinKind::Full) {
        for r in right.iter().filter(|r| !left.iter().any(|l| meet(l, r))) {
            let time = r.time.max(r.time - lower);
            joined.push(JoinedRow { time, left: None, right: Some(r.row.clone()) });
        }
    }
    joined
}

/// The as-of join, left outer: each left row with the newest right one at or before its time,
/// if that is not older than `within`; of right rows of one time, the last by partition and
/// position. Late events take no part.
pub fn as_of_join<L: Clone, R: Clone>(
    left: &[Judged<L>],
    right: &[Judged<R>],
    within: Option<Span>,
    same_key: impl Fn(&L, &R) -> bool,
) -> Vec<JoinedRow<L, R>> {
    let versions = on_time(right);
    let one = |l: &Judged<L>| {
        let known = versions.iter().filter(|r| same_key(&l.row, &r.row) && r.time <= l.time);
        let newest = known.max_by_key(|r| (r.time, r.partition, r.position));
        let fresh = newest.filter(|r| within.is_none_or(|age| l.time - r.time <= age));
        let right = fresh.map(|r| r.row.clone());
        JoinedRow { time: l.time, left: Some(l.row.clone()), right }
    };
    on_time(left).into_iter().map(one).collect()
}

/// The window join: rows are partners if they share a window, of those that `windows` gives for
/// a time, and `partners` says so. An event takes no part in a window that its partition had
/// closed. A result has the window's last time.
pub fn window_join<L: Clone, R: Clone>(
    kind: JoinKind,
    left: &[Judged<L>],
    right: &[Judged<R>],
    windows: impl Fn(EventTime) -> Vec<Window>,
    partners: impl Fn(&L, &R) -> bool,
) -> Vec<JoinedRow<L, R>> {
    let times = left.iter().map(|l| l.time).chain(right.iter().map(|r| r.time));
    let mut all: Vec<Window> = times.flat_map(&windows).collect();
    all.sort();
    all.dedup();
    let mut joined = Vec::new();
    for window in all {
        // Within a window time no longer matters: any interval that is long enough will do.
        let inside = |time: EventTime, late: bool| !late && windows(time).contains(&window);
        let l: Vec<Judged<L>> =
            left.iter().filter(|l| inside(l.time, l.late_for(window.end))).cloned().collect();
        let r: Vec<Judged<R>> =
            right.iter().filter(|r| inside(r.time, r.late_for(window.end))).cloned().collect();
        let ever = (Span::from_micros(i64::MIN), Span::from_micros(i64::MAX));
        let together = interval_join(kind, &trusted(&l), &trusted(&r), ever, &partners);
        joined
            .extend(together.into_iter().map(|row| JoinedRow { time: window.last_time(), ..row }));
    }
    joined
}

/// The same events, none of them late.
fn trusted<T: Clone>(events: &[Judged<T>]) -> Vec<Judged<T>> {
    let promise = crate::time::Watermark::Unknown;
    events.iter().map(|event| Judged { promise, ..event.clone() }).collect()
}
