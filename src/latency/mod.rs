//! How long answers take, under a load that does not wait for them.
//!
//! Most programs that measure latency wait for an answer before they ask again: while the system
//! stands still they ask nothing, and so the stall hardly shows ("coordinated omission", as Gil
//! Tene named it). Here the load is **open**: every event has a moment at which it is due, fixed
//! before the run, and carries it. What is overdue is released at once, still with its own due
//! time, and an answer's latency is counted from the moment at which it could have come at the
//! earliest: for an event, when it was due; for a window's result, when the first event was due
//! that could close it.
//!
//! A [`Load`] runs any flow:
//!
//! ```
//! use std::time::Duration;
//! use highwater::latency::Load;
//! use highwater::prelude::*;
//!
//! const BOUND: Span = millis(5);
//! let load = Load::of(20_000.0).warm_up(Duration::from_millis(100));
//! let outcome = load.lasting(Duration::from_millis(400)).run(Settings::in_memory(), |setup| {
//!     let flow = Flow::new("clicks a page");
//!     // Event 17 is due at `due`, and brings what you make of it.
//!     let clicks = setup.events(|index, due| (index % 100, due));
//!     flow.source("clicks", clicks)
//!         .event_time(|click| click.1, Disorder::at_most(BOUND))
//!         .key_by(|click| &click.0)
//!         .window("counts", Tumbling::of(millis(20)))
//!         .aggregate(Count)
//!         .drop_late("there are none")
//!         // A window can close when an event is due that is `BOUND` after its end.
//!         .sink("answers", setup.answers(|count: &WindowResult<u64, u64>| {
//!             count.window.end + BOUND
//!         }));
//!     flow
//! })?;
//! assert_eq!(outcome.unread, 0);
//! assert!(outcome.latency.len() > 1_000, "100 keys in 20 windows");
//! println!("{outcome}");
//! # Ok::<(), highwater::Error>(())
//! ```
//!
//! [`Load::find_limit`] looks for the highest rate that a flow keeps up with. The command
//! `highwater bench latency` does all of this for a keyed count.

mod answers;
mod clock;
mod hiccup;
mod limit;
mod load;
mod outcome;
mod paced;
mod plot;
mod record;

pub use answers::Answers;
pub use hiccup::hiccups;
pub use limit::{Limit, Trial};
pub use load::{Load, Setup};
pub use outcome::{Outcome, Slice};
pub use paced::Paced;
