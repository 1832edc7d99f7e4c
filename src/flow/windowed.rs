//! Keyed streams with windows.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;

use highwater_state::Table;

use super::keyed::{Keyed, stateful, types};
use super::plan::{BuildCx, Factory};
use super::stream::{Spec, Timed, WithLate};
use crate::aggregate::Aggregate;
use crate::event::Data;
use crate::keyed::KeyOf;
use crate::operator::Logic;
use crate::operator::session::SessionAggregate;
use crate::operator::window::WindowAggregate;
use crate::window::{FixedWindows, Session, WindowResult};

/// A keyed stream with windows, waiting for an aggregate.
#[must_use = "windows do nothing until they are aggregated"]
pub struct Windowed<T, K, W> {
    keyed: Keyed<T, K, Timed>,
    id: String,
    windows: W,
    location: &'static Location<'static>,
}

impl<T, K, W> Windowed<T, K, W> {
    pub(super) fn new(
        keyed: Keyed<T, K, Timed>,
        id: &str,
        windows: W,
        location: &'static Location<'static>,
    ) -> Self {
        Windowed { keyed, id: id.to_owned(), windows, location }
    }
}

impl<T: Data, K: KeyOf<T>, W: WindowKind> Windowed<T, K, W> {
    /// Aggregates the rows of each key and window; the result comes in the tick in which the
    /// watermark reaches the window's end.
    pub fn aggregate<A: Aggregate<T>>(
        self,
        aggregate: A,
    ) -> WithLate<WindowResult<K::Key, A::Output>, T> {
        let params = format!("{}, {}", self.windows.describe(), aggregate.describe());
        let needs_order = aggregate.needs_order();
        let fault = self.windows.fault();
        let types = types::<K::Key, A::State>();
        let spec = Spec { fault, needs_order, types, ..stateful("window", params) };
        let make = self.windows.factory(self.keyed.key_of.clone(), Arc::new(aggregate));
        let stream = &self.keyed.stream;
        let node = stream.add(Some(&self.id), spec, vec![stream.port], self.location, make);
        WithLate::new(stream.at(node, 0), stream.at(node, 1))
    }
}

/// A kind of window: [`Tumbling`](crate::Tumbling), [`Hopping`](crate::Hopping) or [`Session`].
pub trait WindowKind: 'static {
    /// The parameters, as the plan prints them.
    #[doc(hidden)]
    fn describe(&self) -> String;

    #[doc(hidden)]
    fn fault(&self) -> Option<String>;

    #[doc(hidden)]
    #[expect(private_interfaces, reason = "only the engine calls it")]
    fn factory<T: Data, K: KeyOf<T>, A: Aggregate<T>>(
        &self,
        key_of: Arc<K>,
        aggregate: Arc<A>,
    ) -> Factory;
}

impl<W: FixedWindows> WindowKind for W {
    fn describe(&self) -> String {
        self.to_string()
    }

    fn fault(&self) -> Option<String> {
        self.check().err()
    }

    #[expect(private_interfaces, reason = "only the engine calls it")]
    fn factory<T: Data, K: KeyOf<T>, A: Aggregate<T>>(
        &self,
        key_of: Arc<K>,
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
                aggregate,
            )?;
            Ok(Box::new(logic) as Box<dyn Logic>)
        })
    }
}

impl WindowKind for Session {
    fn describe(&self) -> String {
        self.to_string()
    }

    fn fault(&self) -> Option<String> {
        self.check().err()
    }

    #[expect(private_interfaces, reason = "only the engine calls it")]
    fn factory<T: Data, K: KeyOf<T>, A: Aggregate<T>>(
        &self,
        key_of: Arc<K>,
        aggregate: Arc<A>,
    ) -> Factory {
        let session = *self;
        Arc::new(move |cx: &BuildCx| {
            let mut logic = SessionAggregate {
                key_of: key_of.clone(),
                session,
                aggregate: aggregate.clone(),
                backing: cx.backing.clone(),
                table: Table::new(Vec::new()),
                due: BTreeMap::new(),
                ordered_by: cx.ordered_by,
                types: PhantomData,
            };
            cx.backing.scan(&[], |key, value| logic.restore(key, value))?;
            Ok(Box::new(logic) as Box<dyn Logic>)
        })
    }
}
