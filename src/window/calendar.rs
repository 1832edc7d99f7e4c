//! Windows by the calendar of a time zone: days, weeks and months as people there live them.

use std::fmt;
use std::sync::Arc;

use highwater_state::planted::planted;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::{AmbiguousOffset, TimeZone};

use super::fixed::sealed;
use super::{FixedWindows, Window};
use crate::time::EventTime;

/// Windows from midnight to midnight, Monday to Monday, or first to first of the month, in a time
/// zone. Daylight saving is honoured: a day may have 23 or 25 hours, and it begins with its first
/// moment, even where that is not midnight.
///
/// Time zones are named as in the IANA database, and come with the crate, so that every machine
/// knows the same. Before the year -9990 and from the year 9990 on there is one window each.
///
/// ```
/// use highwater::{Calendar, EventTime, FixedWindows};
/// // The night in which clocks went forward.
/// let windows = Calendar::days("Europe/Berlin");
/// windows.for_each("2013-03-31T12:00:00Z".parse()?, |w| {
///     assert_eq!(w.start.to_string(), "2013-03-30T23:00:00Z");
///     assert_eq!(w.end.to_string(), "2013-03-31T22:00:00Z");
/// });
/// # Ok::<(), highwater::ParseTimeError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Calendar {
    unit: Unit,
    zone: Arc<Zone>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Day,
    Week,
    Month,
}

#[derive(Debug)]
struct Zone {
    name: String,
    /// What is wrong with the name, if it is none.
    zone: Result<TimeZone, String>,
}

impl Calendar {
    /// A window per day of a time zone, `Europe/Berlin` for example.
    #[must_use]
    pub fn days(zone: &str) -> Self {
        Self::new(Unit::Day, zone)
    }

    /// A window per week, from Monday on.
    #[must_use]
    pub fn weeks(zone: &str) -> Self {
        Self::new(Unit::Week, zone)
    }

    /// A window per month.
    #[must_use]
    pub fn months(zone: &str) -> Self {
        Self::new(Unit::Month, zone)
    }

    fn new(unit: Unit, name: &str) -> Self {
        let zone = TimeZone::get(name).map_err(|e| e.to_string());
        Calendar { unit, zone: Arc::new(Zone { name: name.to_owned(), zone }) }
    }
}

/// The years within which windows are counted out; beyond, dates have no room for their
/// neighbours.
const FIRST: Date = Date::constant(-9990, 1, 1);
const LAST: Date = Date::constant(9990, 1, 1);

impl Unit {
    /// The first day of the window that holds a day.
    fn first_day(self, day: Date) -> Date {
        match self {
            Unit::Day => day,
            Unit::Month => day.first_of_month(),
            Unit::Week => {
                let past_monday = day.weekday().to_monday_zero_offset();
                let back = (0..past_monday).try_fold(day, |day, _| day.yesterday());
                back.unwrap_or(day)
            }
        }
    }

    /// The first day of the window after the one that begins on this day.
    fn next(self, first: Date) -> Date {
        let days = match self {
            Unit::Day => 1,
            Unit::Week => 7,
            Unit::Month => first.days_in_month(),
        };
        (0..days).try_fold(first, |day, _| day.tomorrow()).unwrap_or(first)
    }

    /// The first day of the window before the one that begins on this day.
    fn previous(self, first: Date) -> Date {
        self.first_day(first.yesterday().unwrap_or(first))
    }
}

/// The first moment of a day, in microseconds.
fn start_of(zone: &TimeZone, day: Date) -> Option<EventTime> {
    let midnight = zone.to_ambiguous_timestamp(day.at(0, 0, 0, 0));
    let start = match midnight.offset() {
        // The day begins when the clock is moved over its midnight.
        AmbiguousOffset::Gap { .. } => {
            let before = midnight.earlier().ok()?;
            zone.following(before).next()?.timestamp()
        }
        _ => midnight.earlier().ok()?,
    };
    Some(EventTime::from_micros(start.as_microsecond()))
}

/// The window that holds a time within the years that are counted out.
fn find(zone: &TimeZone, unit: Unit, time: EventTime) -> Option<Window> {
    let timestamp = Timestamp::from_microsecond(time.as_micros()).ok()?;
    let mut first = unit.first_day(zone.to_datetime(timestamp).date());
    // A clock that is set back over midnight shows the day before once more: what counts is
    // that each day has begun, and days follow each other.
    while start_of(zone, first)? > time {
        first = unit.previous(first);
    }
    while start_of(zone, unit.next(first))? <= time {
        first = unit.next(first);
    }
    let start = start_of(zone, first)?;
    let end = if planted("calendar-day-24h") && unit == Unit::Day {
        start + crate::time::days(1)
    } else {
        start_of(zone, unit.next(first))?
    };
    Some(Window { start, end })
}

fn window(zone: &TimeZone, unit: Unit, time: EventTime) -> Option<Window> {
    let (first, last) =
        (start_of(zone, unit.first_day(FIRST))?, start_of(zone, unit.first_day(LAST))?);
    if time < first {
        Some(Window { start: EventTime::MIN, end: first })
    } else if time >= last {
        Some(Window { start: last, end: EventTime::MAX })
    } else {
        find(zone, unit, time)
    }
}

impl sealed::Sealed for Calendar {}

impl FixedWindows for Calendar {
    const ONE_WINDOW: bool = true;

    fn check(&self) -> Result<(), String> {
        match &self.zone.zone {
            Ok(_) => Ok(()),
            Err(why) => Err(format!("there is no time zone `{}`: {why}", self.zone.name)),
        }
    }

    fn for_each(&self, time: EventTime, mut f: impl FnMut(Window)) {
        if let Ok(zone) = &self.zone.zone
            && let Some(window) = window(zone, self.unit, time)
        {
            f(window);
        }
    }
}

impl fmt::Display for Calendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.unit {
            Unit::Day => "days",
            Unit::Week => "weeks",
            Unit::Month => "months",
        };
        write!(f, "{unit} in {}", self.zone.name)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> EventTime {
        text.parse().unwrap()
    }

    fn of(kind: &Calendar, time: EventTime) -> Window {
        let mut found = Vec::new();
        kind.for_each(time, |w| found.push(w));
        assert_eq!(found.len(), 1, "{kind} at {time}");
        found[0]
    }

    /// Zone, unit, a time, and its window, to the minute.
    const VECTORS: &[&str] = &[
        "UTC d 1970-01-01T00:00 1970-01-01T00:00 1970-01-02T00:00",
        "UTC d 1969-12-31T23:59 1969-12-31T00:00 1970-01-01T00:00",
        // 23 hours, and 25.
        "Europe/Berlin d 2013-03-31T12:00 2013-03-30T23:00 2013-03-31T22:00",
        "Europe/Berlin d 2013-10-27T12:00 2013-10-26T22:00 2013-10-27T23:00",
        "Europe/Berlin d 2013-10-27T22:59 2013-10-26T22:00 2013-10-27T23:00",
        "Europe/Berlin d 2013-10-27T23:00 2013-10-27T23:00 2013-10-28T23:00",
        "Europe/Berlin w 2013-10-27T23:00 2013-10-27T23:00 2013-11-03T23:00",
        "Europe/Berlin w 2013-10-27T22:00 2013-10-20T22:00 2013-10-27T23:00",
        "Europe/Berlin m 2013-10-27T22:00 2013-09-30T22:00 2013-10-31T23:00",
        "America/New_York m 2012-02-29T12:00 2012-02-01T05:00 2012-03-01T05:00",
        // There was no midnight: clocks went from 24:00 to 01:00.
        "America/Sao_Paulo d 2015-10-18T12:00 2015-10-18T03:00 2015-10-19T02:00",
        // Clocks went forward from 23:30 to 00:30.
        "America/Toronto d 1919-03-31T12:00 1919-03-31T04:30 1919-04-01T04:00",
        // There was no 30th of December.
        "Pacific/Apia d 2011-12-30T09:59 2011-12-29T10:00 2011-12-30T10:00",
        "Pacific/Apia d 2011-12-30T10:00 2011-12-30T10:00 2011-12-31T10:00",
        // A minute past midnight, clocks went back to the day before: but the day had begun.
        "America/St_Johns d 2010-11-07T03:00 2010-11-07T02:30 2010-11-08T03:30",
    ];

    #[test]
    fn days_weeks_and_months() {
        for vector in VECTORS {
            let words: Vec<&str> = vector.split(' ').collect();
            let minute = |index: usize| at(&format!("{}:00Z", words[index]));
            let kind = match words[1] {
                "d" => Calendar::days(words[0]),
                "w" => Calendar::weeks(words[0]),
                _ => Calendar::months(words[0]),
            };
            let expected = Window { start: minute(3), end: minute(4) };
            assert_eq!(of(&kind, minute(2)), expected, "{vector}");
        }
    }

    #[test]
    fn a_calendar_day_has_23_or_25_hours() {
        let days = Calendar::days("Europe/Berlin");
        let hours = |time| {
            let window = of(&days, at(time));
            (window.end - window.start).as_micros() / 3_600_000_000
        };
        assert_eq!(hours("2013-03-31T12:00:00Z"), 23);
        assert_eq!(hours("2013-06-30T12:00:00Z"), 24);
        assert_eq!(hours("2013-10-27T12:00:00Z"), 25);
    }

    #[test]
    fn a_zone_that_is_none_is_refused() {
        let refused = Calendar::days("Europe/Atlantis").check().unwrap_err();
        assert!(refused.contains("Europe/Atlantis"), "{refused}");
        assert!(Calendar::weeks("Asia/Kathmandu").check().is_ok());
    }

    #[test]
    fn every_time_has_a_window_to_the_ends_of_time() {
        for kind in ["UTC", "Europe/Berlin", "Pacific/Apia"]
            .into_iter()
            .flat_map(|zone| [Calendar::days(zone), Calendar::weeks(zone), Calendar::months(zone)])
        {
            let first = of(&kind, EventTime::MIN);
            let last = of(&kind, EventTime::MAX);
            for edge in [first.end, last.start] {
                for time in [edge - crate::micros(1), edge, edge + crate::micros(1)] {
                    assert!(of(&kind, time).contains(time), "{kind} at {time}");
                }
            }
        }
    }

    proptest! {
        /// Windows lie side by side: each holds its time, and begins where the last one ended.
        #[test]
        fn windows_lie_side_by_side(
            t in any::<i64>(), near in -70_000i64..70_000, zone in 0usize..5,
        ) {
            let zones = ["UTC", "Europe/Berlin", "America/St_Johns", "Pacific/Apia", "Asia/Gaza"];
            for time in [t, near * 86_400_000_000 / 3] {
                let time = EventTime::from_micros(time);
                for kind in [Calendar::days, Calendar::weeks, Calendar::months] {
                    let kind = kind(zones[zone]);
                    let window = of(&kind, time);
                    prop_assert!(window.contains(time) && window.start < window.end);
                    if window.end < EventTime::MAX {
                        prop_assert_eq!(of(&kind, window.end).start, window.end);
                    }
                    if window.start > EventTime::MIN {
                        let before = of(&kind, window.start - crate::micros(1));
                        prop_assert_eq!(before.end, window.start);
                    }
                }
            }
        }
    }
}
