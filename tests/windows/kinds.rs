//! Every kind of window, as the engine has it and as the model has it.

use highwater::prelude::*;
use highwater::testing::model::{self, Judged, Windows, bounded, judge};
use proptest::prelude::*;

/// An event: key, time in units of its kind, and a number by which it is told from its like.
pub type Event = (u8, i64, u32);
/// Events by partition.
pub type Input = Vec<Vec<Event>>;
/// A result: key, window, and the numbers of its events, in order.
pub type Out = (u8, Window, Vec<u32>);

pub fn input() -> impl Strategy<Value = Input> {
    let event = (0u8..3, -60i64..60);
    let partition = prop::collection::vec(event, 0..25);
    prop::collection::vec(partition, 1..4).prop_map(|partitions| {
        let mut number = 0;
        let mut tell_apart = |(key, time)| {
            number += 1;
            (key, time, number)
        };
        partitions
            .into_iter()
            .map(|mut events| {
                // Mostly rising, as real partitions are: sorted in parts.
                events.chunks_mut(9).for_each(|part| part.sort_by_key(|e| e.1));
                events.into_iter().map(&mut tell_apart).collect()
            })
            .collect()
    })
}

#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Tumbling,
    /// Slices of two lengths.
    Hopping,
    HoppingWithGaps,
    Cumulate,
    /// Hours around the day of 25 hours.
    Days,
    /// Windows of two lengths that overlap in no regular way, and times without any.
    Custom,
    Global,
    Session,
    /// The gap depends on the event, and may be nothing.
    SessionBy,
}

pub const ALL: [Kind; 9] = [
    Kind::Tumbling,
    Kind::Hopping,
    Kind::HoppingWithGaps,
    Kind::Cumulate,
    Kind::Days,
    Kind::Custom,
    Kind::Global,
    Kind::Session,
    Kind::SessionBy,
];

const HOUR: i64 = 3_600_000_000;
/// 2013-10-27T00:00:00Z: Berlin has summer time for one more hour.
const BASE: i64 = 1_382_832_000_000_000;

impl Kind {
    fn unit(self) -> i64 {
        if let Kind::Days = self { HOUR } else { 1 }
    }

    /// A span of so many units.
    pub fn span(self, units: i64) -> Span {
        micros(units * self.unit())
    }

    pub fn time(self, event: &Event) -> EventTime {
        let base = if let Kind::Days = self { BASE } else { 0 };
        EventTime::from_micros(base + event.1 * self.unit())
    }

    pub fn judge(self, input: &Input, bound: i64) -> Vec<Judged<Event>> {
        judge(input, |event| self.time(event), bounded(self.span(bound)))
    }

    /// What the model makes of events.
    pub fn expect(self, lateness: i64, events: &[Judged<Event>]) -> (Vec<Out>, Vec<u32>) {
        let size = |units| micros(units);
        let hopping = |size, slide| Windows::Hopping { size, slide, offset: Span::ZERO };
        let gap = |event: &Event| gap_of(event);
        let six = |_: &Event| micros(6);
        let windows: Windows<'_, Event> = match self {
            Kind::Tumbling => Windows::Hopping { size: size(10), slide: size(10), offset: size(3) },
            Kind::Hopping => hopping(size(12), size(5)),
            Kind::HoppingWithGaps => hopping(size(5), size(8)),
            Kind::Cumulate => Windows::Cumulate { step: size(4), size: size(16) },
            Kind::Days => Windows::Fixed(&berlin_days),
            Kind::Custom => Windows::Fixed(&irregular),
            Kind::Global => Windows::Fixed(&|_| vec![ALL_TIME]),
            Kind::Session => Windows::Session(&six),
            Kind::SessionBy => Windows::Session(&gap),
        };
        let outcome = model::windows(&windows, self.span(lateness), events, |event| event.0);
        let results = outcome.results.into_iter();
        let out = |(key, window, rows): (u8, Window, Vec<Event>)| (key, window, numbers(rows));
        (results.map(out).collect(), sorted(numbers(outcome.late)))
    }

    /// What the engine has.
    #[allow(dead_code, reason = "not every test has results")]
    pub fn aggregate<K: KeyOf<Event, Key = u8>>(
        self,
        keyed: &Keyed<Event, K, Timed>,
        id: &str,
        lateness: i64,
    ) -> WithLate<WindowResult<u8, Vec<Event>>, Event> {
        let span = self.span(lateness);
        let hopping = |size, slide| Hopping::of(micros(size), micros(slide));
        match self {
            Kind::Tumbling => {
                let windows = Tumbling::of(micros(10)).offset(micros(3));
                keyed.window(id, windows).lateness(span).aggregate(Collect)
            }
            Kind::Hopping => keyed.window(id, hopping(12, 5)).lateness(span).aggregate(Collect),
            Kind::HoppingWithGaps => {
                keyed.window(id, hopping(5, 8)).lateness(span).aggregate(Collect)
            }
            Kind::Cumulate => {
                let windows = Cumulate::of(micros(4), micros(16));
                keyed.window(id, windows).lateness(span).aggregate(Collect)
            }
            Kind::Days => {
                let days = Calendar::days("Europe/Berlin");
                keyed.window(id, days).lateness(span).aggregate(Collect)
            }
            Kind::Custom => keyed.window(id, custom()).lateness(span).aggregate(Collect),
            Kind::Global => keyed.window(id, Global).lateness(span).aggregate(Collect),
            Kind::Session => {
                let session = Session::with_gap(micros(6));
                keyed.window(id, session).lateness(span).aggregate(Collect)
            }
            Kind::SessionBy => {
                let session = Session::with_gap_of("by number", gap_of);
                keyed.window(id, session).lateness(span).aggregate(Collect)
            }
        }
    }

    /// The same windows, telling more than once.
    #[allow(dead_code, reason = "not every test has panes")]
    pub fn panes<K: KeyOf<Event, Key = u8>>(
        self,
        keyed: &Keyed<Event, K, Timed>,
        id: &str,
        lateness: i64,
        emit: Emit,
        purging: bool,
    ) -> WithLate<Pane<u8, Vec<Event>>, Event, Updates> {
        fn add<K: KeyOf<Event, Key = u8>, W: highwater::FixedWindows>(
            windows: highwater::Windowed<Event, K, W>,
            lateness: Span,
            emit: Emit,
            purging: bool,
        ) -> WithLate<Pane<u8, Vec<Event>>, Event, Updates> {
            let windows = windows.lateness(lateness).emit(emit);
            if purging { windows.purging().aggregate(Collect) } else { windows.aggregate(Collect) }
        }
        let span = self.span(lateness);
        let hopping = |size, slide| Hopping::of(micros(size), micros(slide));
        match self {
            Kind::Tumbling => {
                let windows = Tumbling::of(micros(10)).offset(micros(3));
                add(keyed.window(id, windows), span, emit, purging)
            }
            Kind::Hopping => add(keyed.window(id, hopping(12, 5)), span, emit, purging),
            Kind::HoppingWithGaps => add(keyed.window(id, hopping(5, 8)), span, emit, purging),
            Kind::Cumulate => {
                let windows = Cumulate::of(micros(4), micros(16));
                add(keyed.window(id, windows), span, emit, purging)
            }
            Kind::Days => {
                let days = Calendar::days("Europe/Berlin");
                add(keyed.window(id, days), span, emit, purging)
            }
            Kind::Custom => add(keyed.window(id, custom()), span, emit, purging),
            _ => add(keyed.window(id, Global), span, emit, purging),
        }
    }
}

const ALL_TIME: Window = Window { start: EventTime::MIN, end: EventTime::MAX };

fn gap_of(event: &Event) -> Span {
    micros(i64::from(event.2 % 7) * 2 - 1)
}

fn window(start: i64, end: i64) -> Window {
    Window { start: EventTime::from_micros(start), end: EventTime::from_micros(end) }
}

/// Stretches of seven, the last time of each in no window; every other has a wider one around.
fn irregular(time: EventTime) -> Vec<Window> {
    let t = time.as_micros();
    let start = t.div_euclid(7) * 7;
    let mut all = Vec::new();
    if t - start < 6 {
        all.push(window(start, start + 6));
        if start.rem_euclid(14) == 0 {
            all.push(window(start - 3, start + 10));
        }
    }
    all
}

pub fn custom() -> CustomWindows {
    CustomWindows::new("irregular", |time, out| irregular(time).into_iter().for_each(out))
}

/// The day in Berlin of an hour in October 2013, by looking at all hours around it.
fn berlin_days(time: EventTime) -> Vec<Window> {
    let hour = (time.as_micros() - BASE).div_euclid(HOUR);
    let day = |hour: i64| (hour + if hour < 1 { 2 } else { 1 }).div_euclid(24);
    let same: Vec<i64> = (hour - 30..hour + 30).filter(|other| day(*other) == day(hour)).collect();
    let at = |hour: i64| EventTime::from_micros(BASE + hour * HOUR);
    vec![Window { start: at(same[0]), end: at(same[same.len() - 1] + 1) }]
}

fn numbers(rows: Vec<Event>) -> Vec<u32> {
    rows.into_iter().map(|event| event.2).collect()
}

#[allow(dead_code, reason = "not every test has results")]
pub fn out(result: WindowResult<u8, Vec<Event>>) -> Out {
    (result.key, result.window, numbers(result.value))
}

pub fn sorted<T: Ord>(rows: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut rows: Vec<T> = rows.into_iter().collect();
    rows.sort();
    rows
}
