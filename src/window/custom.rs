//! Windows by a function of the user's own.

use std::fmt;
use std::sync::Arc;

use super::fixed::sealed;
use super::{FixedWindows, Window};
use crate::time::EventTime;

type Assign = dyn Fn(EventTime, &mut dyn FnMut(Window)) + Send + Sync;

/// Windows by a function of the event's time. It calls `out` with each window that the event
/// falls into, in any order and each once; an event without any counts as filtered.
///
/// The function must be pure: the same time, the same windows. A window that does not contain
/// the event's time, or does not end after its start, stops the flow with a [`BadWindow`].
///
/// ```
/// use highwater::{hours, CustomWindows, EventTime, FixedWindows, Window};
/// // One window a day, during office hours.
/// let office = CustomWindows::new("office hours", |time, out| {
///     let day = time.as_micros().div_euclid(86_400_000_000) * 86_400_000_000;
///     let start = EventTime::from_micros(day) + hours(9);
///     let window = Window { start, end: start + hours(8) };
///     if window.contains(time) {
///         out(window);
///     }
/// });
/// let mut count = 0;
/// office.for_each("2013-01-01T13:10:00Z".parse()?, |_| count += 1);
/// office.for_each("2013-01-01T20:10:00Z".parse()?, |_| count += 1);
/// assert_eq!(count, 1);
/// # Ok::<(), highwater::ParseTimeError>(())
/// ```
#[derive(Clone)]
pub struct CustomWindows {
    name: Arc<str>,
    assign: Arc<Assign>,
}

impl CustomWindows {
    /// Windows by `assign`. The name stands for the function in the plan, and in its comparison
    /// with a state: give another name to another function.
    #[must_use]
    pub fn new(
        name: &str,
        assign: impl Fn(EventTime, &mut dyn FnMut(Window)) + Send + Sync + 'static,
    ) -> Self {
        CustomWindows { name: name.into(), assign: Arc::new(assign) }
    }
}

/// A window that a function of the user's own should not have named.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the windows `{name}` put an event at {time} into [{start}, {end}), {why}",
    start = .window.start,
    end = .window.end
)]
pub struct BadWindow {
    /// The name of the windows.
    pub name: String,
    /// The event's time.
    pub time: EventTime,
    /// The window.
    pub window: Window,
    why: &'static str,
}

impl sealed::Sealed for CustomWindows {}

impl FixedWindows for CustomWindows {
    const ONE_WINDOW: bool = false;

    fn check(&self) -> Result<(), String> {
        if self.name.is_empty() { Err("custom windows have no name".into()) } else { Ok(()) }
    }

    /// Windows that make no sense are left out here.
    fn for_each(&self, time: EventTime, mut f: impl FnMut(Window)) {
        (self.assign)(time, &mut |window| {
            if window.start < window.end && window.contains(time) {
                f(window);
            }
        });
    }

    fn assign(&self, time: EventTime, mut f: impl FnMut(Window)) -> Result<(), BadWindow> {
        let mut bad = None;
        (self.assign)(time, &mut |window| {
            let why = if window.start >= window.end {
                "which has no time inside"
            } else if !window.contains(time) {
                "which does not contain it"
            } else {
                return f(window);
            };
            bad.get_or_insert((window, why));
        });
        let Some((window, why)) = bad else { return Ok(()) };
        Err(BadWindow { name: self.name.to_string(), time, window, why })
    }
}

impl fmt::Display for CustomWindows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "custom windows `{}`", self.name)
    }
}

impl fmt::Debug for CustomWindows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_that_make_no_sense_are_errors() {
        let at = EventTime::from_micros;
        let window = |start, end| Window { start: at(start), end: at(end) };
        let refused = |bad: Window| {
            let kind = CustomWindows::new("mine", move |t, out| {
                out(Window { start: t, end: t + crate::micros(1) });
                out(bad);
            });
            let (mut named, mut found) = (Vec::new(), Vec::new());
            let error = kind.assign(at(7), |w| named.push(w)).unwrap_err();
            kind.for_each(at(7), |w| found.push(w));
            assert_eq!((named.len(), found.len()), (1, 1));
            assert_eq!(error.window, bad);
            error.to_string()
        };
        assert!(refused(window(8, 9)).contains("does not contain"));
        assert!(refused(window(0, 7)).contains("does not contain"));
        assert!(refused(window(7, 7)).contains("no time inside"));
        assert!(refused(window(9, 7)).contains("no time inside"));
        assert!(CustomWindows::new("", |_, _| ()).check().is_err());
    }
}
