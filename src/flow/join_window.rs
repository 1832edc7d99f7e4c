//! Window joins and cogroup: windows over the rows of two streams.

use super::join::{Join, Joined};
use super::windowed::{WindowKind, Windowed};
use crate::aggregate::{Aggregate, Collect, Stamp};
use crate::event::{Data, Stored};
use crate::keyed::{Either, EitherKey, KeyOf};
use crate::window::WindowResult;

/// A window join that waits to be told what comes out: see [`Join::window`].
#[must_use = "say what comes out: `.inner(..)`, `.left(..)`, `.cogroup(..)`, .."]
pub struct WindowJoin<L, R, A, B, W, C> {
    windowed: Windowed<Either<L, R>, EitherKey<A, B>, W>,
    condition: C,
}

impl<L: Stored, R: Stored, A: KeyOf<L>, B: KeyOf<R, Key = A::Key>> Join<L, R, A, B> {
    /// Joins rows that share a window, of any kind: sessions are those of both sides together.
    /// What comes out is made when the window closes, and has its last time. All rows of a
    /// window are kept until then. `id` names the operator in errors, metrics and state.
    ///
    #[track_caller]
    pub fn window<W: WindowKind<Either<L, R>>>(
        self,
        id: &str,
        windows: W,
    ) -> WindowJoin<L, R, A, B, W, impl Fn(&L, &R) -> bool + Send + Sync + 'static> {
        let both = self.left.connect_at(&self.right, std::panic::Location::caller());
        WindowJoin { windowed: both.window(id, windows), condition: |_: &L, _: &R| true }
    }

    /// Any function of the rows of both sides that share key and window, each in order of time,
    /// then of (source, partition, position). One side may be empty. As with
    /// [`window`](Self::window), the results come when the window closes.
    ///
    /// ```
    /// use highwater::prelude::*;
    ///
    /// #[derive(Clone, serde::Serialize, serde::Deserialize)]
    /// struct View { user: u32, at: EventTime }
    /// #[derive(Clone, serde::Serialize, serde::Deserialize)]
    /// struct Click { user: u32, at: EventTime }
    ///
    /// let flow = Flow::new("clicks");
    /// let views = flow.source("views", Memory::of([View { user: 7, at: EventTime::MIN }]));
    /// let clicks = flow.source("clicks", Memory::of([Click { user: 7, at: EventTime::MIN }]));
    /// let views = views.event_time(|v| v.at, Disorder::ascending()).key_by(|v| &v.user);
    /// let clicks = clicks.event_time(|c| c.at, Disorder::ascending()).key_by(|c| &c.user);
    /// let rates = views
    ///     .join(&clicks)
    ///     .cogroup("click-rate", Tumbling::of(minutes(1)), |views, clicks| {
    ///         [(views.len(), clicks.len())]
    ///     });
    /// rates
    ///     .drop_late("an example")
    ///     .map(|rate| (rate.key, rate.value))
    ///     .sink("out", Stdout::json());
    /// println!("{}", flow.plan()?);
    /// # Ok::<(), highwater::Error>(())
    /// ```
    #[track_caller]
    pub fn cogroup<W: WindowKind<Either<L, R>>, O: Data, I: IntoIterator<Item = O> + 'static>(
        self,
        id: &str,
        windows: W,
        f: impl Fn(&[L], &[R]) -> I + Send + Sync + 'static,
    ) -> Joined<WindowResult<A::Key, O>, L, R> {
        let both = self.left.connect_at(&self.right, std::panic::Location::caller());
        cogroup(both.window(id, windows), f)
    }
}

impl<L, R, A, B, W, C> WindowJoin<L, R, A, B, W, C>
where
    L: Stored,
    R: Stored,
    A: KeyOf<L>,
    B: KeyOf<R, Key = A::Key>,
    W: WindowKind<Either<L, R>>,
    C: Fn(&L, &R) -> bool + Send + Sync + 'static,
{
    /// Partners must fulfil `condition` too. Rows that find no such partner have found none.
    pub fn on<D>(self, condition: D) -> WindowJoin<L, R, A, B, W, D>
    where
        D: Fn(&L, &R) -> bool + Send + Sync + 'static,
    {
        WindowJoin { windowed: self.windowed, condition }
    }

    /// Pairs.
    pub fn inner<O: Data>(
        self,
        f: impl Fn(&L, &R) -> O + Send + Sync + 'static,
    ) -> Joined<WindowResult<A::Key, O>, L, R> {
        self.pairs([false, false], move |l, r| Some(f(l?, r?)))
    }

    /// Pairs, and each left row without a partner in the window.
    pub fn left<O: Data>(
        self,
        f: impl Fn(&L, Option<&R>) -> O + Send + Sync + 'static,
    ) -> Joined<WindowResult<A::Key, O>, L, R> {
        self.pairs([true, false], move |l, r| Some(f(l?, r)))
    }

    /// Pairs, and each right row without a partner in the window.
    pub fn right<O: Data>(
        self,
        f: impl Fn(Option<&L>, &R) -> O + Send + Sync + 'static,
    ) -> Joined<WindowResult<A::Key, O>, L, R> {
        self.pairs([false, true], move |l, r| Some(f(l, r?)))
    }

    /// Pairs, and each row of both sides without a partner in the window. `f` gets one or both.
    pub fn full<O: Data>(
        self,
        f: impl Fn(Option<&L>, Option<&R>) -> O + Send + Sync + 'static,
    ) -> Joined<WindowResult<A::Key, O>, L, R> {
        self.pairs([true, true], move |l, r| Some(f(l, r)))
    }

    fn pairs<O: Data>(
        self,
        lone: [bool; 2],
        f: impl Fn(Option<&L>, Option<&R>) -> Option<O> + Send + Sync + 'static,
    ) -> Joined<WindowResult<A::Key, O>, L, R> {
        let WindowJoin { windowed, condition } = self;
        let join = move |left: &[L], right: &[R]| {
            let mut met = vec![false; right.len()];
            let mut out = Vec::new();
            for l in left {
                let before = out.len();
                for (r, met) in right.iter().zip(&mut met).filter(|(r, _)| condition(l, r)) {
                    *met = true;
                    out.extend(f(Some(l), Some(r)));
                }
                if out.len() == before && lone[0] {
                    out.extend(f(Some(l), None));
                }
            }
            let alone = right.iter().zip(met).filter(|(_, met)| lone[1] && !met);
            out.extend(alone.filter_map(|(r, _)| f(None, Some(r))));
            out
        };
        cogroup(windowed, join)
    }
}

fn cogroup<L, R, A, B, W, O, I>(
    windowed: Windowed<Either<L, R>, EitherKey<A, B>, W>,
    f: impl Fn(&[L], &[R]) -> I + Send + Sync + 'static,
) -> Joined<WindowResult<A::Key, O>, L, R>
where
    L: Stored,
    R: Stored,
    A: KeyOf<L>,
    B: KeyOf<R, Key = A::Key>,
    W: WindowKind<Either<L, R>>,
    O: Data,
    I: IntoIterator<Item = O>,
{
    windowed.aggregate(Sides).flat_map_results(move |result| {
        let (left, right) = &result.value;
        let values: Vec<O> = f(left, right).into_iter().collect();
        let WindowResult { key, window, .. } = result;
        values.into_iter().map(move |value| WindowResult { key: key.clone(), window, value })
    })
}

/// The rows of both sides, each in order.
struct Sides;

type Stamped<T> = Vec<(Stamp, T)>;

impl<L: Stored, R: Stored> Aggregate<Either<L, R>> for Sides {
    type State = (Stamped<L>, Stamped<R>);
    type Output = (Vec<L>, Vec<R>);

    fn describe(&self) -> String {
        "the rows of both sides".to_owned()
    }

    fn needs_order(&self) -> bool {
        true
    }

    fn init(&self) -> Self::State {
        (Vec::new(), Vec::new())
    }

    fn add(&self, state: &mut Self::State, row: &Either<L, R>, stamp: &dyn Fn() -> Stamp) {
        match row {
            Either::Left(row) => state.0.push((stamp(), row.clone())),
            Either::Right(row) => state.1.push((stamp(), row.clone())),
        }
    }

    fn merge(&self, into: &mut Self::State, mut from: Self::State) {
        into.0.append(&mut from.0);
        into.1.append(&mut from.1);
    }

    fn finish(&self, (left, right): Self::State) -> Self::Output {
        (Collect.finish(left), Collect.finish(right))
    }
}
