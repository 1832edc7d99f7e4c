//! Keyed streams with windows.

use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;

use super::keyed::{Keyed, stateful, types};
use super::plan::{BuildCx, Factory};
use super::ports::WithLate;
use super::stream::{Spec, Stream, Timed, Updates};
use crate::aggregate::Aggregate;
use crate::event::{Data, Stored};
use crate::keyed::{Key, KeyOf};
use crate::operator::session::SessionAggregate;
use crate::operator::window::WindowAggregate;
use crate::operator::window_latest::LatestPanes;
use crate::operator::window_panes::WindowPanes;
use crate::operator::{Class, Logic};
use crate::time::Span;
use crate::window::{
    Emit, FixedWindows, Gap, Pane, PaneRules, Session, SessionBy, Window, WindowResult,
};

/// A keyed stream with windows, waiting for an aggregate.
#[must_use = "windows do nothing until they are aggregated"]
pub struct Windowed<T, K, W> {
    keyed: Keyed<T, K, Timed>,
    id: String,
    windows: W,
    lateness: Span,
    location: &'static Location<'static>,
}

impl<T, K, W> Windowed<T, K, W> {
    pub(super) fn new(
        keyed: Keyed<T, K, Timed>,
        id: &str,
        windows: W,
        location: &'static Location<'static>,
    ) -> Self {
        Windowed { keyed, id: id.to_owned(), windows, lateness: Span::ZERO, location }
    }

    /// Accepts events that are late by up to `lateness`: an event is late for a window only if
    /// the promise of its partition has reached the window's end plus `lateness`. Sessions take
    /// events one by one: there it is the event's time plus `lateness` that the promise must have
    /// passed.
    ///
    /// The result still comes once, when nothing can change it any more: as soon as the watermark
    /// has reached the window's end plus `lateness`. So it is final, and may feed further windows
    /// and process functions, whose watermark stays behind by `lateness`. For results before
    /// that, see [`emit`](Self::emit).
    ///
    /// ```
    /// use highwater::prelude::*;
    /// # let flow = Flow::new("clicks");
    /// # let clicks = flow.source("clicks", Memory::of([(7u32, EventTime::MIN)]));
    /// let keyed = clicks.event_time(|c| c.1, Disorder::at_most(seconds(5))).key_by(|c| &c.0);
    /// let per_minute =
    ///     keyed.window("per-minute", Tumbling::of(minutes(1))).lateness(minutes(10));
    /// per_minute.aggregate(Count).drop_late("ten minutes are enough").sink("out", Stdout::json());
    /// # flow.plan()?;
    /// # Ok::<(), highwater::Error>(())
    /// ```
    pub fn lateness(mut self, lateness: Span) -> Self {
        self.lateness = lateness;
        self
    }
}

/// A lateness as the plan prints it: nothing where there is none.
fn with_lateness(windows: String, lateness: Span) -> String {
    if lateness == Span::ZERO { windows } else { format!("{windows}, lateness {lateness}") }
}

fn lateness_fault(lateness: Span) -> Option<String> {
    (lateness < Span::ZERO).then(|| format!("the lateness {lateness} is negative"))
}

impl<T: Data, K: KeyOf<T>, W: WindowKind<T>> Windowed<T, K, W> {
    /// Aggregates the rows of each key and window; the result comes in the tick in which the
    /// watermark reaches the window's end, or its end plus the [lateness](Self::lateness).
    pub fn aggregate<A: Aggregate<T>>(
        self,
        aggregate: A,
    ) -> WithLate<WindowResult<K::Key, A::Output>, T> {
        let windows = with_lateness(self.windows.describe(), self.lateness);
        let params = format!("{windows}, {}", aggregate.describe());
        let needs_order = aggregate.needs_order();
        let fault = self.windows.fault().or(lateness_fault(self.lateness));
        let types = types::<K::Key, A::State>();
        let spec = Spec { fault, needs_order, types, ..stateful("window", params) };
        let key_of = self.keyed.key_of.clone();
        let make = self.windows.factory(key_of, self.lateness, Arc::new(aggregate));
        let stream = &self.keyed.stream;
        let node = stream.add(Some(&self.id), spec, vec![stream.port], self.location, make);
        WithLate::new(stream.at(node, 0), stream.at(node, 1))
    }
}

impl<T: Data, K: KeyOf<T>, W: FixedWindows> Windowed<T, K, W> {
    /// Tells what is in a window also before its result is final: see [`Emit`].
    ///
    /// What comes is a stream of [`Pane`]s, of [`Updates`]: they go to sinks, and to operators
    /// that take upserts. Nothing else may follow, or events would count twice:
    ///
    /// ```
    /// use highwater::prelude::*;
    /// # let flow = Flow::new("clicks");
    /// # let clicks = flow.source("clicks", Memory::of([(7u32, EventTime::MIN)]));
    /// let keyed = clicks.event_time(|c| c.1, Disorder::at_most(seconds(5))).key_by(|c| &c.0);
    /// let windows = keyed.window("live", Tumbling::of(minutes(1))).lateness(minutes(10));
    /// let panes = windows.emit(Emit::OnChange).aggregate(Count).drop_late("enough is enough");
    /// panes.filter(|pane| pane.value > 1).sink("board", Stdout::json());
    /// panes.key_by(|pane| &pane.key).latest("newest").sink("table", Stdout::json());
    /// # flow.plan()?;
    /// # Ok::<(), highwater::Error>(())
    /// ```
    ///
    /// ```compile_fail,E0599
    /// # use highwater::prelude::*;
    /// # let flow = Flow::new("clicks");
    /// # let clicks = flow.source("clicks", Memory::of([(7u32, EventTime::MIN)]));
    /// # let keyed = clicks.event_time(|c| c.1, Disorder::at_most(seconds(5))).key_by(|c| &c.0);
    /// # let windows = keyed.window("live", Tumbling::of(minutes(1))).lateness(minutes(10));
    /// # let panes = windows.emit(Emit::OnChange).aggregate(Count).drop_late("enough is enough");
    /// panes.key_by(|pane| &pane.key).window("again", Tumbling::of(minutes(5)));
    /// ```
    ///
    /// ```compile_fail,E0599
    /// # use highwater::prelude::*;
    /// # let flow = Flow::new("clicks");
    /// # let clicks = flow.source("clicks", Memory::of([(7u32, EventTime::MIN)]));
    /// # let keyed = clicks.event_time(|c| c.1, Disorder::at_most(seconds(5))).key_by(|c| &c.0);
    /// # let windows = keyed.window("live", Tumbling::of(minutes(1))).lateness(minutes(10));
    /// # let panes = windows.emit(Emit::OnChange).aggregate(Count).drop_late("enough is enough");
    /// panes.key_by(|pane| &pane.key).running("again", Count);
    /// ```
    ///
    /// ```compile_fail,E0599
    /// # use highwater::prelude::*;
    /// # let flow = Flow::new("clicks");
    /// # let clicks = flow.source("clicks", Memory::of([(7u32, EventTime::MIN)]));
    /// # let keyed = clicks.event_time(|c| c.1, Disorder::at_most(seconds(5))).key_by(|c| &c.0);
    /// # let windows = keyed.window("live", Tumbling::of(minutes(1))).lateness(minutes(10));
    /// # let panes = windows.emit(Emit::OnChange).aggregate(Count).drop_late("enough is enough");
    /// panes.event_time(|pane| pane.window.end, Disorder::ascending());
    /// ```
    ///
    /// ```compile_fail,E0599
    /// # use highwater::prelude::*;
    /// # struct Nothing;
    /// # impl Process<u32, Pane<u32, u64>> for Nothing {
    /// #     type State = (); type Output = ();
    /// #     fn event(&self, _: &mut ProcessCx<'_, (), ()>, _: &u32, _: Pane<u32, u64>) {}
    /// # }
    /// # let flow = Flow::new("clicks");
    /// # let clicks = flow.source("clicks", Memory::of([(7u32, EventTime::MIN)]));
    /// # let keyed = clicks.event_time(|c| c.1, Disorder::at_most(seconds(5))).key_by(|c| &c.0);
    /// # let windows = keyed.window("live", Tumbling::of(minutes(1))).lateness(minutes(10));
    /// # let panes = windows.emit(Emit::OnChange).aggregate(Count).drop_late("enough is enough");
    /// panes.key_by(|pane| &pane.key).process("again", Nothing);
    /// ```
    pub fn emit(self, emit: Emit) -> WindowedPanes<T, K, W> {
        WindowedPanes { windowed: self, emit, purging: false }
    }
}

/// Windows that tell what is in them more than once: see [`Windowed::emit`].
#[must_use = "windows do nothing until they are aggregated"]
pub struct WindowedPanes<T, K, W> {
    windowed: Windowed<T, K, W>,
    emit: Emit,
    purging: bool,
}

impl<T: Data, K: KeyOf<T>, W: FixedWindows> WindowedPanes<T, K, W> {
    /// A pane tells what came since the last one, instead of everything so far.
    pub fn purging(mut self) -> Self {
        self.purging = true;
        self
    }

    /// Aggregates the rows of each key and window.
    pub fn aggregate<A: Aggregate<T>>(
        self,
        aggregate: A,
    ) -> WithLate<Pane<K::Key, A::Output>, T, Updates> {
        let Windowed { keyed, id, windows, lateness, location } = self.windowed;
        let rules = PaneRules { emit: self.emit, purging: self.purging, lateness };
        let kind = with_lateness(windows.to_string(), lateness);
        let mode = if rules.purging { "purging" } else { "accumulating" };
        let params = format!("{kind}, {}, {mode}, {}", rules.emit, aggregate.describe());
        let fault = windows.check().err().or(lateness_fault(lateness)).or(rules.emit.check());
        let class = match rules.emit {
            Emit::EveryClock(_) => Class::Clock,
            // The moment of a pane depends on ticks, and only the final one is the same always.
            _ => Class::Arrival,
        };
        let needs_order = aggregate.needs_order();
        let types = types::<K::Key, A::State>();
        let spec = Spec { fault, class, needs_order, types, ..stateful("panes", params) };
        let (key_of, aggregate) = (keyed.key_of.clone(), Arc::new(aggregate));
        let make: Factory = Arc::new(move |cx: &BuildCx| {
            let (key_of, aggregate) = (key_of.clone(), aggregate.clone());
            let backing = cx.backing.clone();
            let logic = WindowPanes::new(backing, key_of, windows.clone(), rules, aggregate)?;
            Ok(Box::new(logic) as Box<dyn Logic>)
        });
        let stream = &keyed.stream;
        let node = stream.add(Some(&id), spec, vec![stream.port], location, make);
        WithLate::new(stream.at(node, 0), stream.at(node, 1))
    }
}

impl<K: Key, V: Stored, F: KeyOf<Pane<K, V>, Key = K>> Keyed<Pane<K, V>, F, Updates> {
    /// Keeps the newest pane of each key and window, until it expires, and tells it in each tick
    /// in which it changed: once, however many panes came.
    #[track_caller]
    pub fn latest(&self, id: &str) -> Stream<Pane<K, V>, Updates> {
        let spec = Spec {
            class: Class::Arrival,
            stateful: true,
            types: types::<K, (Window, V)>(),
            ..Spec::stateless("latest")
        };
        let key_of = self.key_of.clone();
        let make: Factory = Arc::new(move |cx: &BuildCx| {
            let mut logic = LatestPanes::new(cx.backing.clone(), key_of.clone());
            logic.restore()?;
            Ok(Box::new(logic) as Box<dyn Logic>)
        });
        let inputs = vec![self.stream.port];
        let node = self.stream.add(Some(id), spec, inputs, Location::caller(), make);
        self.stream.at(node, 0)
    }
}

/// A kind of window for rows of type `T`: fixed ones such as [`Tumbling`](crate::Tumbling), and
/// [`Session`].
pub trait WindowKind<T>: 'static {
    /// The parameters, as the plan prints them.
    #[doc(hidden)]
    fn describe(&self) -> String;

    #[doc(hidden)]
    fn fault(&self) -> Option<String>;

    #[doc(hidden)]
    #[expect(private_interfaces, reason = "only the engine calls it")]
    fn factory<K: KeyOf<T>, A: Aggregate<T>>(
        &self,
        key_of: Arc<K>,
        lateness: Span,
        aggregate: Arc<A>,
    ) -> Factory;
}

impl<T: Data, W: FixedWindows> WindowKind<T> for W {
    fn describe(&self) -> String {
        self.to_string()
    }

    fn fault(&self) -> Option<String> {
        self.check().err()
    }

    #[expect(private_interfaces, reason = "only the engine calls it")]
    fn factory<K: KeyOf<T>, A: Aggregate<T>>(
        &self,
        key_of: Arc<K>,
        lateness: Span,
        aggregate: Arc<A>,
    ) -> Factory {
        let windows = self.clone();
        Arc::new(move |cx: &BuildCx| {
            let BuildCx { backing, ordered_by, .. } = cx;
            let (key_of, aggregate) = (key_of.clone(), aggregate.clone());
            let logic = WindowAggregate::new(
                backing.clone(),
                *ordered_by,
                key_of,
                windows.clone(),
                lateness,
                aggregate,
            )?;
            Ok(Box::new(logic) as Box<dyn Logic>)
        })
    }
}

impl<T: Data> WindowKind<T> for Session {
    fn describe(&self) -> String {
        self.to_string()
    }

    fn fault(&self) -> Option<String> {
        self.check().err()
    }

    #[expect(private_interfaces, reason = "only the engine calls it")]
    fn factory<K: KeyOf<T>, A: Aggregate<T>>(
        &self,
        key_of: Arc<K>,
        lateness: Span,
        aggregate: Arc<A>,
    ) -> Factory {
        sessions(*self, key_of, lateness, aggregate)
    }
}

impl<T: Data, F: Fn(&T) -> Span + Send + Sync + 'static> WindowKind<T> for SessionBy<F> {
    fn describe(&self) -> String {
        self.to_string()
    }

    fn fault(&self) -> Option<String> {
        None
    }

    #[expect(private_interfaces, reason = "only the engine calls it")]
    fn factory<K: KeyOf<T>, A: Aggregate<T>>(
        &self,
        key_of: Arc<K>,
        lateness: Span,
        aggregate: Arc<A>,
    ) -> Factory {
        sessions(self.clone(), key_of, lateness, aggregate)
    }
}

fn sessions<T, K, G, A>(gap: G, key_of: Arc<K>, lateness: Span, aggregate: Arc<A>) -> Factory
where
    T: Data,
    K: KeyOf<T>,
    G: Gap<T> + Send + Sync,
    A: Aggregate<T>,
{
    Arc::new(move |cx: &BuildCx| {
        let mut logic = SessionAggregate {
            key_of: key_of.clone(),
            gap: gap.clone(),
            lateness,
            aggregate: aggregate.clone(),
            backing: cx.backing.clone(),
            table: cx.backing.table(Vec::new(), 0),
            due: Default::default(),
            ordered_by: cx.ordered_by,
            types: PhantomData,
        };
        cx.backing.scan(&[], |key, value| logic.restore(key, value))?;
        Ok(Box::new(logic) as Box<dyn Logic>)
    })
}
