//! The first of its kind.

use highwater_state::planted::planted;

use super::process::{Process, ProcessCx};
use crate::event::Data;

/// Lets the first row of a key through, until its state expires: the ttl from the last write
/// does the rest.
pub(crate) struct Dedup;

impl<K, T: Data> Process<K, T> for Dedup {
    type State = ();
    type Output = T;

    fn event(&self, cx: &mut ProcessCx<'_, (), T>, _: &K, row: T) {
        if cx.get().is_none() {
            *cx.state() = Some(());
            cx.emit(row);
        } else {
            cx.leave_out();
            if planted("dedup-refreshed") {
                cx.state();
            }
        }
    }
}
