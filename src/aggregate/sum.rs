//! Sums and means, exact: the result does not depend on the order of the rows.

use std::marker::PhantomData;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Aggregate, Stamp};
use crate::event::Data;

/// A number that can be summed: every integer up to 64 bits, `f32` and `f64`.
pub trait Number: Copy + Send + 'static {
    /// The exact sum of such numbers.
    type Sum: NumberSum<Self>;
}

/// An exact sum.
pub trait NumberSum<N>: Default + Clone + Serialize + DeserializeOwned + Send + 'static {
    /// The sum as it is given out.
    type Total: Data;
    /// Adds a number.
    fn add(&mut self, number: N);
    /// Adds another sum.
    fn merge(&mut self, other: Self);
    /// The sum: of integers as `i64`, saturating; of floats as the nearest `f64`.
    fn total(&self) -> Self::Total;
    /// The sum as the nearest `f64`.
    fn as_f64(&self) -> f64;
}

macro_rules! integers {
    ($($integer:ty),*) => {$(
        impl Number for $integer {
            type Sum = i128;
        }

        // 2^64 additions of 64-bit numbers fit into an i128.
        impl NumberSum<$integer> for i128 {
            type Total = i64;

            #[inline]
            fn add(&mut self, number: $integer) {
                *self += i128::from(number);
            }

            fn merge(&mut self, other: i128) {
                *self += other;
            }

            fn total(&self) -> i64 {
                (*self).clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
            }

            fn as_f64(&self) -> f64 {
                *self as f64
            }
        }
    )*};
}

integers!(i8, i16, i32, i64, u8, u16, u32, u64);

macro_rules! floats {
    ($($float:ty),*) => {$(
        impl Number for $float {
            type Sum = ExactSum;
        }

        impl NumberSum<$float> for ExactSum {
            type Total = f64;

            fn add(&mut self, number: $float) {
                self.push(f64::from(number));
            }

            fn merge(&mut self, other: ExactSum) {
                other.partials.iter().for_each(|p| self.push(*p));
                self.special += other.special;
            }

            fn total(&self) -> f64 {
                self.value()
            }

            fn as_f64(&self) -> f64 {
                self.value()
            }
        }
    )*};
}

floats!(f32, f64);

/// The exact sum of floats: non-overlapping partial sums (J. R. Shewchuk, "Adaptive Precision
/// Floating-Point Arithmetic", 1997), rounded once, at the end.
///
/// Sums whose partial sums leave the range of `f64` become infinite or NaN.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ExactSum {
    /// Finite, by rising magnitude; their exact sum is the sum.
    partials: Vec<f64>,
    /// The sum of infinities and NaNs, which win over everything finite.
    special: f64,
}

impl ExactSum {
    fn push(&mut self, number: f64) {
        if !number.is_finite() {
            self.special += number;
            return;
        }
        let mut x = number;
        let mut kept = 0;
        for index in 0..self.partials.len() {
            let mut y = self.partials[index];
            if x.abs() < y.abs() {
                std::mem::swap(&mut x, &mut y);
            }
            let high = x + y;
            let low = y - (high - x);
            if low != 0.0 {
                self.partials[kept] = low;
                kept += 1;
            }
            x = high;
        }
        self.partials.truncate(kept);
        if x.is_finite() {
            self.partials.push(x);
        } else {
            self.special += x;
        }
    }

    /// The sum, rounded to the nearest `f64`, ties to even.
    fn value(&self) -> f64 {
        if self.special != 0.0 || self.special.is_nan() {
            return self.special;
        }
        let Some((last, below)) = self.partials.split_last() else { return 0.0 };
        let (mut high, mut low) = (*last, 0.0);
        let mut index = below.len();
        while index > 0 && low == 0.0 {
            index -= 1;
            let (x, y) = (high, below[index]);
            high = x + y;
            low = y - (high - x);
        }
        // What lies below decides a tie that the rounding above could not see.
        if index > 0 && low * below[index - 1].signum() > 0.0 {
            let doubled = low * 2.0;
            let rounded = high + doubled;
            if doubled == rounded - high {
                high = rounded;
            }
        }
        high
    }
}

/// The sum of a number of each row: exact, so the order of rows does not matter.
///
/// ```
/// use highwater::Sum;
/// struct Sale { cents: i64, weight_kg: f64 }
/// let integers = Sum::of(|s: &Sale| s.cents); // gives an i64, saturating
/// let floats = Sum::of(|s: &Sale| s.weight_kg); // gives an f64, rounded once
/// # let _ = (integers, floats);
/// ```
pub struct Sum<F, N> {
    f: F,
    number: PhantomData<fn() -> N>,
}

impl<F, N> Sum<F, N> {
    /// Sums `f` of each row.
    pub fn of<T>(f: F) -> Self
    where
        F: Fn(&T) -> N,
    {
        Sum { f, number: PhantomData }
    }
}

impl<T, F, N> Aggregate<T> for Sum<F, N>
where
    F: Fn(&T) -> N + Send + Sync + 'static,
    N: Number,
{
    type State = N::Sum;
    type Output = <N::Sum as NumberSum<N>>::Total;

    fn describe(&self) -> String {
        "sum".to_owned()
    }

    fn init(&self) -> N::Sum {
        N::Sum::default()
    }

    #[inline]
    fn add(&self, state: &mut N::Sum, row: &T, _: &dyn Fn() -> Stamp) {
        state.add((self.f)(row));
    }

    fn merge(&self, into: &mut N::Sum, from: N::Sum) {
        into.merge(from);
    }

    fn finish(&self, state: N::Sum) -> Self::Output {
        state.total()
    }

    fn peek(&self, state: &N::Sum) -> Self::Output {
        state.total()
    }
}

/// Count, sum and mean of a number of each row.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stats<S> {
    /// How many rows.
    pub count: u64,
    /// The sum.
    pub sum: S,
    /// The exact sum, rounded, by the count.
    pub mean: f64,
}

/// The aggregate that gives [`Stats`].
///
/// ```
/// use highwater::Stats;
/// struct Departure { delay_min: i64 }
/// let stats = Stats::of(|d: &Departure| d.delay_min);
/// # let _ = stats;
/// ```
pub struct StatsOf<F, N> {
    f: F,
    number: PhantomData<fn() -> N>,
}

impl Stats<()> {
    /// Count, sum and mean of `f` of each row.
    pub fn of<T, F, N>(f: F) -> StatsOf<F, N>
    where
        F: Fn(&T) -> N,
    {
        StatsOf { f, number: PhantomData }
    }
}

impl<T, F, N> Aggregate<T> for StatsOf<F, N>
where
    F: Fn(&T) -> N + Send + Sync + 'static,
    N: Number,
{
    type State = (u64, N::Sum);
    type Output = Stats<<N::Sum as NumberSum<N>>::Total>;

    fn describe(&self) -> String {
        "count, sum and mean".to_owned()
    }

    fn init(&self) -> Self::State {
        (0, N::Sum::default())
    }

    #[inline]
    fn add(&self, state: &mut Self::State, row: &T, _: &dyn Fn() -> Stamp) {
        state.0 += 1;
        state.1.add((self.f)(row));
    }

    fn merge(&self, into: &mut Self::State, from: Self::State) {
        into.0 += from.0;
        into.1.merge(from.1);
    }

    fn finish(&self, state: Self::State) -> Self::Output {
        Aggregate::<T>::peek(self, &state)
    }

    fn peek(&self, (count, sum): &Self::State) -> Self::Output {
        Stats { count: *count, sum: sum.total(), mean: sum.as_f64() / *count as f64 }
    }
}

/// The mean of a number of each row: the exact sum, rounded, by the count.
///
/// ```
/// use highwater::Mean;
/// struct Departure { delay_min: i64 }
/// let mean = Mean::of(|d: &Departure| d.delay_min);
/// # let _ = mean;
/// ```
pub struct Mean<F, N>(StatsOf<F, N>);

impl<F, N> Mean<F, N> {
    /// The mean of `f` of each row.
    pub fn of<T>(f: F) -> Self
    where
        F: Fn(&T) -> N,
    {
        Mean(Stats::of(f))
    }
}

impl<T, F, N> Aggregate<T> for Mean<F, N>
where
    F: Fn(&T) -> N + Send + Sync + 'static,
    N: Number,
{
    type State = (u64, N::Sum);
    type Output = f64;

    fn describe(&self) -> String {
        "mean".to_owned()
    }

    fn init(&self) -> Self::State {
        Aggregate::<T>::init(&self.0)
    }

    #[inline]
    fn add(&self, state: &mut Self::State, row: &T, stamp: &dyn Fn() -> Stamp) {
        self.0.add(state, row, stamp);
    }

    fn merge(&self, into: &mut Self::State, from: Self::State) {
        Aggregate::<T>::merge(&self.0, into, from);
    }

    fn finish(&self, state: Self::State) -> f64 {
        Aggregate::<T>::finish(&self.0, state).mean
    }

    fn peek(&self, state: &Self::State) -> f64 {
        Aggregate::<T>::peek(&self.0, state).mean
    }
}
