//! Seeded events for tests and benchmarks.

use serde::{Deserialize, Serialize};

use super::{Partitions, RangeReader, Silent};
use crate::error::Error;
use crate::source::{Reader, Replay, Resume, Source};
use crate::time::{EventTime, Span};

/// An event of a [`GeneratedSource`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Generated {
    /// The partition it belongs to.
    pub partition: u32,
    /// Its index in the partition, which is its position too.
    pub index: u64,
    /// Its key, below the number of keys; with skew, key 0 is the most frequent one.
    pub key: u64,
    /// A random value over all of `u64`.
    pub value: u64,
    /// Its event time.
    pub time: EventTime,
}

impl Generated {
    /// A source of seeded random events: by default one endless partition of 1,000 equally
    /// frequent keys, 1,000 events per second of event time, in order.
    #[must_use]
    pub fn source(seed: u64) -> GeneratedSource {
        GeneratedSource {
            partitions: Partitions::new(1, None),
            shape: Shape {
                seed,
                keys: 1_000,
                rate_per_second: 1_000,
                disorder: Span::ZERO,
                share_percent: 0,
                zipf_exponent: 0.0,
            },
        }
    }
}

/// A source of seeded random events, each a pure function of (seed, partition, index): exactly
/// replayable, and the same on every run.
///
/// Keys drawn with skew go through the platform's `exp` and `ln`, whose last bit may differ from
/// one platform to another.
///
/// ```
/// use highwater::seconds;
/// use highwater::source::{Fetched, Generated, ReadState, Resume, Source};
/// let source = Generated::source(42)
///     .partitions(4)
///     .events(10_000)
///     .keys(100)
///     .rate(50_000)
///     .disorder(seconds(2), 10)
///     .skew(1.1);
/// assert_eq!(Source::partitions(&source)?.len(), 4);
/// let mut fetched = Fetched::default();
/// let state = source.open("3", &Resume::default())?.read(20_000, &mut fetched)?;
/// assert_eq!((fetched.len(), state), (10_000, ReadState::End));
/// # Ok::<(), highwater::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct GeneratedSource {
    partitions: Partitions,
    shape: Shape,
}

/// Everything that an event depends on besides its partition and index.
#[derive(Clone, Copy, Debug)]
struct Shape {
    seed: u64,
    keys: u64,
    rate_per_second: u64,
    disorder: Span,
    share_percent: u32,
    zipf_exponent: f64,
}

impl GeneratedSource {
    /// How many partitions, named `0`, `1`, and so on.
    #[must_use]
    pub fn partitions(mut self, count: u32) -> Self {
        self.partitions.count = count;
        self
    }

    /// How many events each partition has; without it, they never end.
    #[must_use]
    pub fn events(mut self, per_partition: u64) -> Self {
        self.partitions.events = Some(per_partition);
        self
    }

    /// How many keys there are, from 0 on.
    #[must_use]
    pub fn keys(mut self, count: u64) -> Self {
        self.shape.keys = count;
        self
    }

    /// How many events each partition has per second of event time, from the Unix epoch on.
    #[must_use]
    pub fn rate(mut self, events_per_second: u64) -> Self {
        self.shape.rate_per_second = events_per_second;
        self
    }

    /// Moves `share_percent` of the events back in time, each by a random amount below `span`.
    #[must_use]
    pub fn disorder(mut self, span: Span, share_percent: u32) -> Self {
        self.shape.disorder = span;
        self.shape.share_percent = share_percent;
        self
    }

    /// Draws keys by Zipf's law: key `k` is as frequent as `1 / (k + 1)^exponent`. With 0 all
    /// keys are equally frequent.
    #[must_use]
    pub fn skew(mut self, exponent: f64) -> Self {
        self.shape.zipf_exponent = exponent;
        self
    }

    /// Makes a partition one that stays open and never brings an event.
    #[must_use]
    pub fn silent(mut self, partition: u32) -> Self {
        self.partitions.silent.insert(partition);
        self
    }
}

impl Source for GeneratedSource {
    type Item = Generated;

    fn describe(&self) -> String {
        format!("Generated({}, {})", self.partitions, self.shape.describe())
    }

    fn replay(&self) -> Replay {
        Replay::Exact
    }

    fn partitions(&self) -> Result<Vec<String>, Error> {
        self.shape.validate()?;
        Ok(self.partitions.names())
    }

    fn is_complete(&self) -> bool {
        true
    }

    fn open(&self, partition: &str, resume: &Resume) -> Result<Box<dyn Reader<Generated>>, Error> {
        self.shape.validate()?;
        let check = self.shape.describe();
        if !resume.check.is_empty() && resume.check != check {
            return Err(Error::input(format!(
                "the generator was changed: it is now `{check}`, and was `{}`",
                resume.check
            )));
        }
        let Some(range) = self.partitions.range(partition, resume)? else {
            return Ok(Box::new(Silent { position: resume.position, check }));
        };
        let make = Maker::new(&self.shape, range.partition);
        Ok(match Zipf::new(self.shape.keys, self.shape.zipf_exponent) {
            None => {
                let row = move |partition, index| make.event(partition, index, uniform);
                Box::new(RangeReader::checked(range, check, row))
            }
            Some(zipf) => {
                let key = move |random, _| zipf.draw(random);
                let row = move |partition, index| make.event(partition, index, key);
                Box::new(RangeReader::checked(range, check, row))
            }
        })
    }
}

impl Shape {
    /// The number of events is left out: a run may go on with more of them.
    fn describe(&self) -> String {
        let mut text =
            format!("seed {}, {} keys, {}/s", self.seed, self.keys, self.rate_per_second);
        if self.share_percent > 0 {
            text += &format!(", {}% out of order by {}", self.share_percent, self.disorder);
        }
        if self.zipf_exponent > 0.0 {
            text += &format!(", zipf {}", self.zipf_exponent);
        }
        text
    }

    fn validate(&self) -> Result<(), Error> {
        let wrong = if self.keys == 0 {
            "`keys` must be at least 1"
        } else if self.rate_per_second == 0 {
            "`rate` must be at least 1 per second"
        } else if self.share_percent > 100 {
            "the share of `disorder` is a percentage, so at most 100"
        } else if self.disorder < Span::ZERO {
            "the span of `disorder` must not be negative"
        } else if !(self.zipf_exponent.is_finite() && self.zipf_exponent >= 0.0) {
            "the exponent of `skew` must be a number from 0 on"
        } else {
            return Ok(());
        };
        Err(Error::plan(format!("generated source: {wrong}")))
    }
}

/// `splitmix64`'s output function: a bijection of `u64` in which every input bit counts.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The increment of `splitmix64`'s sequence.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// The high half of a product: maps a random `a` evenly to `0..b`, without a division.
fn scale(a: u64, b: u64) -> u64 {
    // The product of two 64-bit numbers has 128 bits, so its high half fits.
    ((u128::from(a) * u128::from(b)) >> 64) as u64
}

fn uniform(random: u64, keys: u64) -> u64 {
    scale(random, keys)
}

/// What is worked out once per partition, so that an event costs a few multiplications.
#[derive(Clone, Copy, Debug)]
struct Maker {
    base: u64,
    keys: u64,
    /// Microseconds from one event to the next: the whole ones, and the rest in 1/2^64.
    step_micros: u64,
    step_fraction: u64,
    disorder_micros: u64,
    /// A random number below this moves the event back.
    disorder_below: u64,
}

impl Maker {
    fn new(shape: &Shape, partition: u32) -> Self {
        let rate = shape.rate_per_second.max(1);
        let fraction = (u128::from(1_000_000 % rate) << 64).div_ceil(u128::from(rate));
        let share = u128::from(shape.share_percent.min(100));
        let seed = mix(shape.seed.wrapping_add(GAMMA));
        Maker {
            base: mix(seed ^ u64::from(partition).wrapping_add(1).wrapping_mul(GAMMA)),
            keys: shape.keys,
            step_micros: 1_000_000 / rate,
            step_fraction: u64::try_from(fraction).unwrap_or(u64::MAX),
            disorder_micros: u64::try_from(shape.disorder.as_micros()).unwrap_or(0),
            disorder_below: u64::try_from((share << 64) / 100).unwrap_or(u64::MAX),
        }
    }

    #[inline]
    fn event(&self, partition: u32, index: u64, key: impl Fn(u64, u64) -> u64) -> Generated {
        let random = mix(self.base.wrapping_add(index.wrapping_mul(GAMMA)));
        let value = mix(random ^ GAMMA);
        let on_time =
            index.wrapping_mul(self.step_micros).wrapping_add(scale(index, self.step_fraction));
        let mut micros = i64::try_from(on_time).unwrap_or(i64::MAX);
        if self.disorder_below > 0 {
            let chance = mix(value ^ GAMMA);
            if chance < self.disorder_below {
                let back = scale(mix(chance ^ GAMMA), self.disorder_micros);
                micros = micros.saturating_sub_unsigned(back);
            }
        }
        let key = key(random, self.keys);
        Generated { partition, index, key, value, time: EventTime::from_micros(micros) }
    }
}

/// Draws ranks by Zipf's law in constant time and space, by rejection-inversion (Hörmann and
/// Derflinger, 1996): `H` is the integral of the density `h(x) = x^-exponent`, inverted at a
/// uniform point, and rejected where the step function of the ranks lies below the density.
#[derive(Clone, Copy, Debug)]
struct Zipf {
    exponent: f64,
    ranks: f64,
    low: f64,
    high: f64,
    /// A point that close to its rank is accepted without computing `H`.
    sure: f64,
}

impl Zipf {
    /// `None` where all ranks are equally frequent.
    fn new(ranks: u64, exponent: f64) -> Option<Self> {
        if exponent == 0.0 || ranks < 2 {
            return None;
        }
        let mut zipf = Zipf { exponent, ranks: ranks as f64, low: 0.0, high: 0.0, sure: 0.0 };
        zipf.low = zipf.integral(1.5) - 1.0;
        zipf.high = zipf.integral(zipf.ranks + 0.5);
        zipf.sure = 2.0 - zipf.inverse(zipf.integral(2.5) - zipf.density(2.0));
        Some(zipf)
    }

    fn draw(&self, mut random: u64) -> u64 {
        loop {
            // 53 bits are what an `f64` holds without rounding.
            let unit = (random >> 11) as f64 / (1_u64 << 53) as f64;
            let point = self.high + unit * (self.low - self.high);
            let x = self.inverse(point);
            let rank = x.round().clamp(1.0, self.ranks);
            if rank - x <= self.sure || point >= self.integral(rank + 0.5) - self.density(rank) {
                // A whole number from 1 to the number of keys.
                return rank as u64 - 1;
            }
            random = mix(random.wrapping_add(GAMMA));
        }
    }

    fn density(&self, x: f64) -> f64 {
        (-self.exponent * x.ln()).exp()
    }

    fn integral(&self, x: f64) -> f64 {
        let log = x.ln();
        let power = (1.0 - self.exponent) * log;
        // (e^p - 1) / p, which near 0 is 1 + p/2: exponent 1 divides by zero otherwise.
        let ratio = if power.abs() > 1e-8 { power.exp_m1() / power } else { 1.0 + power * 0.5 };
        ratio * log
    }

    fn inverse(&self, y: f64) -> f64 {
        let power = (y * (1.0 - self.exponent)).max(-1.0);
        let ratio = if power.abs() > 1e-8 { power.ln_1p() / power } else { 1.0 - power * 0.5 };
        (ratio * y).exp()
    }
}
