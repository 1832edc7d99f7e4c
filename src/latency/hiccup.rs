//! What the machine itself does to anybody's latency.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::clock::LoadClock;
use super::record::{histogram, note};
use crate::error::Error;

/// How far apart the moments lie at which the control has something to do.
const EVERY_MICROS: u64 = 100;

/// Spins for so long on one core, with something to do every 100 µs, and returns how late each
/// was done, in µs: nothing is in its way but the machine, so no flow can be more punctual. It
/// must not run beside a load, from which it would take a core.
///
/// ```
/// use std::time::Duration;
/// let late = highwater::latency::hiccups(Duration::from_millis(20))?;
/// assert_eq!(late.len(), 200);
/// println!("p99 {} µs", late.value_at_quantile(0.99));
/// # Ok::<(), highwater::Error>(())
/// ```
///
/// # Errors
/// None that can be expected.
pub fn hiccups(duration: Duration) -> Result<Histogram<u64>, Error> {
    let mut late = histogram()?;
    let clock = LoadClock::default();
    let moments = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX) / EVERY_MICROS;
    for moment in 1..=moments {
        let due = moment * EVERY_MICROS;
        let now = loop {
            let now = u64::try_from(clock.now_micros()).unwrap_or_default();
            if now >= due {
                break now;
            }
            std::hint::spin_loop();
        };
        note(&mut late, now - due);
    }
    Ok(late)
}
