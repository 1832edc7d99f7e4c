//! Closures with a state per key.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Key;
use super::process::{Process, ProcessCx};
use crate::event::Data;

/// Tells the state of a key after each event.
pub(crate) struct UpdateState<F, S> {
    pub(crate) f: F,
    pub(crate) state: PhantomData<fn() -> S>,
}

impl<K, T, S, F> Process<K, T> for UpdateState<F, S>
where
    K: Key,
    S: Data + Serialize + DeserializeOwned,
    F: Fn(&K, &mut Option<S>, T) + Send + Sync + 'static,
{
    type State = S;
    type Output = (K, Option<S>);

    fn event(&self, cx: &mut ProcessCx<'_, S, Self::Output>, key: &K, event: T) {
        let state = cx.state();
        (self.f)(key, state, event);
        let now = state.clone();
        cx.emit((key.clone(), now));
    }
}

/// Maps each event with the state of its key.
pub(crate) struct MapWithState<F, S, U> {
    pub(crate) f: F,
    pub(crate) types: PhantomData<fn() -> (S, U)>,
}

impl<K, T, S, U, F> Process<K, T> for MapWithState<F, S, U>
where
    K: Key,
    S: Serialize + DeserializeOwned + Send + 'static,
    U: Data,
    F: Fn(&K, &mut Option<S>, T) -> Option<U> + Send + Sync + 'static,
{
    type State = S;
    type Output = U;

    fn event(&self, cx: &mut ProcessCx<'_, S, U>, key: &K, event: T) {
        if let Some(output) = (self.f)(key, cx.state(), event) {
            cx.emit(output);
        }
    }
}
