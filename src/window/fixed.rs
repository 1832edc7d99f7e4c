//! Windows that depend on the event's time alone.

use std::fmt;

use highwater_state::planted::planted;

use super::{BadWindow, Window};
use crate::time::{EventTime, Span};

/// Into how many windows of one kind an event may fall.
pub(super) const MOST_OVERLAPS: i64 = 10_000;

/// Windows that are a function of the event's time.
pub trait FixedWindows: Clone + fmt::Display + Send + Sync + sealed::Sealed + 'static {
    /// Every time lies in exactly one window: runs of events of the same window are then taken
    /// in together.
    const ONE_WINDOW: bool;

    /// Refuses parameters that cannot mean anything.
    ///
    /// # Errors
    /// What is wrong, with the numbers.
    fn check(&self) -> Result<(), String>;

    /// Calls `f` with every window that contains `time`, the latest first.
    fn for_each(&self, time: EventTime, f: impl FnMut(Window));

    /// As [`for_each`](Self::for_each), where a window that makes no sense is an error.
    #[doc(hidden)]
    #[inline]
    fn assign(&self, time: EventTime, f: impl FnMut(Window)) -> Result<(), BadWindow> {
        self.for_each(time, f);
        Ok(())
    }

    /// Where windows overlap in a regular way: the stretch around `time` that no window begins
    /// or ends in, so that state can be kept once for all windows that contain it.
    #[doc(hidden)]
    #[inline]
    fn slice(&self, time: EventTime) -> Option<Window> {
        let _ = time;
        None
    }
}

pub(super) mod sealed {
    pub trait Sealed {}
}

impl sealed::Sealed for Tumbling {}
impl sealed::Sealed for Hopping {}

/// Windows side by side: each event falls into exactly one.
///
/// ```
/// use highwater::{hours, minutes, EventTime, FixedWindows, Tumbling};
/// let windows = Tumbling::of(hours(1)).offset(minutes(15));
/// windows.for_each("2013-01-01T05:10:00Z".parse()?, |w| {
///     assert_eq!(w.start.to_string(), "2013-01-01T04:15:00Z");
/// });
/// # Ok::<(), highwater::ParseTimeError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tumbling {
    size: Span,
    offset: Span,
}

impl Tumbling {
    /// Windows of this size, one of which starts at the Unix epoch.
    #[must_use]
    pub fn of(size: Span) -> Self {
        Tumbling { size, offset: Span::ZERO }
    }

    /// Moves all windows; the offset must be smaller than the size.
    #[must_use]
    pub fn offset(mut self, offset: Span) -> Self {
        self.offset = offset;
        self
    }
}

impl FixedWindows for Tumbling {
    const ONE_WINDOW: bool = true;

    fn check(&self) -> Result<(), String> {
        check_side_by_side(self.size, self.offset)
    }

    #[inline]
    fn for_each(&self, time: EventTime, f: impl FnMut(Window)) {
        for_each_window(time, self.size, self.size, self.offset, f);
    }
}

impl fmt::Display for Tumbling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tumbling {}", self.size)?;
        display_offset(self.offset, f)
    }
}

/// Windows of one size that start at every slide: they overlap if the slide is smaller than the
/// size, and leave gaps if it is larger. Events in a gap count as filtered.
///
/// ```
/// use highwater::{hours, minutes, EventTime, FixedWindows, Hopping};
/// let mut count = 0;
/// Hopping::of(hours(1), minutes(10)).for_each(EventTime::MIN, |_| count += 1);
/// Hopping::of(hours(1), minutes(10)).for_each(EventTime::from_seconds(0), |_| count += 1);
/// assert_eq!(count, 12);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hopping {
    size: Span,
    slide: Span,
    offset: Span,
}

impl Hopping {
    /// Windows of this size at every slide, one of which starts at the Unix epoch.
    #[must_use]
    pub fn of(size: Span, slide: Span) -> Self {
        Hopping { size, slide, offset: Span::ZERO }
    }

    /// Moves all windows; the offset must be smaller than the slide.
    #[must_use]
    pub fn offset(mut self, offset: Span) -> Self {
        self.offset = offset;
        self
    }
}

impl FixedWindows for Hopping {
    const ONE_WINDOW: bool = false;

    fn check(&self) -> Result<(), String> {
        check(self.size, self.slide, self.offset)
    }

    #[inline]
    fn for_each(&self, time: EventTime, f: impl FnMut(Window)) {
        for_each_window(time, self.size, self.slide, self.offset, f);
    }

    /// Windows begin at each slide, and end at each slide plus what the size holds beyond whole
    /// slides: so a slide falls into two slices at most.
    #[inline]
    fn slice(&self, time: EventTime) -> Option<Window> {
        let (t, size, slide) = (time.as_micros(), self.size.as_micros(), self.slide.as_micros());
        if slide >= size || !is_near(t) || size >= FAR {
            return None;
        }
        let into = (t - self.offset.as_micros()).rem_euclid(slide);
        let (start, cut) = (t - into, size % slide);
        let (start, end) =
            if into < cut { (start, start + cut) } else { (start + cut, start + slide) };
        Some(Window { start: EventTime::from_micros(start), end: EventTime::from_micros(end) })
    }
}

impl fmt::Display for Hopping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hopping {} every {}", self.size, self.slide)?;
        display_offset(self.offset, f)
    }
}

pub(super) fn display_offset(offset: Span, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if offset == Span::ZERO { Ok(()) } else { write!(f, ", offset {offset}") }
}

/// Windows that begin where the one before ends have no slide.
pub(super) fn check_side_by_side(size: Span, offset: Span) -> Result<(), String> {
    if size.as_micros() <= 0 {
        return Err(format!("a window of size {size}: it must be above zero"));
    }
    if offset.as_micros().unsigned_abs() >= size.as_micros().unsigned_abs() {
        return Err(format!("the offset {offset} is not smaller than the size {size}"));
    }
    Ok(())
}

fn check(size: Span, slide: Span, offset: Span) -> Result<(), String> {
    let (micros, slide_micros) = (size.as_micros(), slide.as_micros());
    if micros <= 0 || slide_micros <= 0 {
        return Err(format!("a window of size {size} and slide {slide}: both must be above zero"));
    }
    // Rounded up: an event may fall into one window more than the size holds slides.
    if (micros - 1) / slide_micros >= MOST_OVERLAPS {
        return Err(format!(
            "a window of size {size} and slide {slide}: an event would fall into more than \
             {MOST_OVERLAPS} windows"
        ));
    }
    if offset.as_micros().unsigned_abs() >= slide_micros.unsigned_abs() {
        return Err(format!("the offset {offset} is not smaller than the slide {slide}"));
    }
    Ok(())
}

/// Beyond this distance from the epoch (73,000 years), sums of times may leave an `i64`.
pub(super) const FAR: i64 = 1 << 61;

/// Whether sums of this time and other near times and spans stay within an `i64`.
#[inline]
pub(super) fn is_near(t: i64) -> bool {
    (-FAR..FAR).contains(&t)
}

#[inline]
fn for_each_window(
    time: EventTime,
    size: Span,
    slide: Span,
    offset: Span,
    mut f: impl FnMut(Window),
) {
    let (t, size, slide, offset) =
        (time.as_micros(), size.as_micros(), slide.as_micros(), offset.as_micros());
    if !is_near(t) || size >= FAR || slide >= FAR {
        return for_each_far(t, size, slide, offset, f);
    }
    let into = if planted("hopping-below-zero") {
        (t - offset) % slide
    } else {
        (t - offset).rem_euclid(slide)
    };
    let mut start = t - into;
    while start > t - size {
        let end = EventTime::from_micros(start + size);
        f(Window { start: EventTime::from_micros(start), end });
        start -= slide;
    }
}

/// As [`for_each_window`], in wider numbers.
#[cold]
fn for_each_far(t: i64, size: i64, slide: i64, offset: i64, mut f: impl FnMut(Window)) {
    let (t, size, slide, offset) =
        (i128::from(t), i128::from(size), i128::from(slide), i128::from(offset));
    let mut start = t - (t - offset).rem_euclid(slide);
    while start > t - size {
        f(window(start, size));
        start -= slide;
    }
}

/// The window, cut off at the ends of time. Two windows never become one: a window that begins
/// before time keeps its own end, and one that ends after time its own start.
pub(super) fn window(start: i128, size: i128) -> Window {
    let clamp = |t: i128| {
        EventTime::from_micros(t.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64)
    };
    Window { start: clamp(start), end: clamp(start + size) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::micros;

    fn windows(kind: &impl FixedWindows, t: i64) -> Vec<(i64, i64)> {
        let mut found = Vec::new();
        kind.for_each(EventTime::from_micros(t), |w| {
            found.push((w.start.as_micros(), w.end.as_micros()));
        });
        found
    }

    #[test]
    fn tumbling_starts() {
        let ten = Tumbling::of(micros(10));
        for (t, start) in [(0, 0), (9, 0), (10, 10), (-1, -10), (-10, -10), (-11, -20)] {
            assert_eq!(windows(&ten, t), [(start, start + 10)], "at {t}");
        }
        let offset = ten.offset(micros(3));
        for (t, start) in [(12, 3), (2, -7), (-8, -17)] {
            assert_eq!(windows(&offset, t), [(start, start + 10)], "at {t}");
        }
    }

    #[test]
    fn hopping_windows() {
        let hop = |size, slide| Hopping::of(micros(size), micros(slide));
        assert_eq!(windows(&hop(10, 5), 4), [(0, 10), (-5, 5)]);
        assert_eq!(windows(&hop(10, 5), 5), [(5, 15), (0, 10)]);
        assert_eq!(windows(&hop(10, 5), -1), [(-5, 5), (-10, 0)]);
        assert_eq!(windows(&hop(12, 5), 125), [(125, 137), (120, 132), (115, 127)]);
        assert_eq!(windows(&hop(5, 8), 4), [(0, 5)]);
        assert_eq!(windows(&hop(5, 8), 5), []);
        assert_eq!(windows(&hop(5, 8), 8), [(8, 13)]);
    }

    #[test]
    fn windows_at_the_ends_of_time_stay_apart() {
        let hop = Hopping::of(micros(10), micros(3));
        for t in [i64::MIN, i64::MIN + 1, i64::MIN + 7, i64::MAX - 7, i64::MAX - 1, i64::MAX] {
            let mut found = windows(&hop, t);
            let count = found.len();
            assert!((3..=4).contains(&count), "{found:?}");
            assert!(found.iter().all(|(s, e)| *s <= t && (t < *e || *e == i64::MAX)), "{found:?}");
            found.sort_unstable();
            found.dedup();
            assert_eq!(found.len(), count, "at {t}");
        }
        assert_eq!(windows(&Tumbling::of(micros(i64::MAX)), i64::MIN).len(), 1);
    }

    #[test]
    fn senseless_parameters_are_refused_with_their_numbers() {
        let refused = |kind: Hopping, word: &str| {
            let message = kind.check().unwrap_err();
            assert!(message.contains(word), "{message}");
        };
        refused(Hopping::of(micros(0), micros(1)), "0µs");
        refused(Hopping::of(micros(1), micros(-1)), "-1µs");
        refused(Hopping::of(micros(20_001), micros(2)), "10000");
        refused(Hopping::of(micros(10), micros(5)).offset(micros(-5)), "-5µs");
        assert!(Tumbling::of(micros(10)).offset(micros(9)).check().is_ok());
        let message = Tumbling::of(Span::ZERO).check().unwrap_err();
        assert_eq!(message, "a window of size 0µs: it must be above zero");
        let message = Tumbling::of(micros(10)).offset(micros(-10)).check().unwrap_err();
        assert_eq!(message, "the offset -10µs is not smaller than the size 10µs");
    }

    proptest! {
        /// The obvious model: look at every multiple of the slide near the time.
        #[test]
        fn differential_hopping_against_a_scan(
            t in -500i64..500, size in 1i64..60, slide in 1i64..60, offset in -59i64..60,
        ) {
            prop_assume!(offset.abs() < slide);
            let mut expected = Vec::new();
            for k in (-2_000..2_000).rev() {
                let start = offset + k * slide;
                if start <= t && t < start + size {
                    expected.push((start, start + size));
                }
            }
            let hop = Hopping::of(micros(size), micros(slide)).offset(micros(offset));
            prop_assert_eq!(windows(&hop, t), expected);
        }

        #[test]
        fn differential_near_and_far(
            t in -2_000i64..2_000, size in 1i64..90, slide in 1i64..90, offset in -89i64..90,
        ) {
            prop_assume!(offset.abs() < slide);
            let collect = |windows: &mut Vec<Window>, w| windows.push(w);
            let (mut near, mut far) = (Vec::new(), Vec::new());
            let hop = Hopping::of(micros(size), micros(slide)).offset(micros(offset));
            hop.for_each(EventTime::from_micros(t), |w| collect(&mut near, w));
            for_each_far(t, size, slide, offset, |w| collect(&mut far, w));
            prop_assert_eq!(near, far);
        }

        #[test]
        /// No window begins or ends inside of a slice: all its times have the same windows.
        #[test]
        fn slices_lie_in_the_same_windows_throughout(
            t in -500i64..500, size in 1i64..60, slide in 1i64..60, offset in -59i64..60,
        ) {
            prop_assume!(offset.abs() < slide);
            let hop = Hopping::of(micros(size), micros(slide)).offset(micros(offset));
            match hop.slice(EventTime::from_micros(t)) {
                None => prop_assert!(slide >= size),
                Some(slice) => {
                    prop_assert!(slice.contains(EventTime::from_micros(t)));
                    for other in slice.start.as_micros()..slice.end.as_micros() {
                        prop_assert_eq!(windows(&hop, other), windows(&hop, t));
                        prop_assert_eq!(hop.slice(EventTime::from_micros(other)), Some(slice));
                    }
                }
            }
        }

        #[test]
        fn tumbling_is_hopping_by_its_size(t: i64, size in 1i64..1_000_000) {
            let tumbling = Tumbling::of(micros(size));
            let hopping = Hopping::of(micros(size), micros(size));
            prop_assert_eq!(windows(&tumbling, t), windows(&hopping, t));
        }
    }
}
