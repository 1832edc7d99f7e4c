//! One window for all time.

use std::fmt;

use super::fixed::sealed;
use super::{FixedWindows, Window};
use crate::time::EventTime;

/// One window that holds everything and closes at the end of the input: of use with
/// [`emit`](crate::Windowed::emit), which says when to tell what is in it so far.
///
/// ```
/// use highwater::{EventTime, FixedWindows, Global};
/// Global.for_each(EventTime::MAX, |w| assert!(w.contains(EventTime::MIN)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Global;

impl sealed::Sealed for Global {}

impl FixedWindows for Global {
    const ONE_WINDOW: bool = true;

    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    fn for_each(&self, _: EventTime, mut f: impl FnMut(Window)) {
        f(Window { start: EventTime::MIN, end: EventTime::MAX });
    }
}

impl fmt::Display for Global {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("global")
    }
}
