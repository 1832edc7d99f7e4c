//! The one container that flows between operators, and the way it takes between workers.

use std::sync::Arc;

use timely::Accountable;
use timely::communication::Push;
use timely::dataflow::channels::pushers::exchange::Distributor;
use timely::dataflow::channels::{ContainerBytes, Message};
use timely::progress::Stamp;

use crate::event::Rows;
use crate::operator::Reading;
use crate::time::{EventTime, Summary};

/// A batch of rows or the end of a tick, for one worker.
#[derive(Default)]
pub(super) struct Parcel {
    pub(super) target: usize,
    pub(super) body: Body,
}

#[derive(Default)]
pub(super) enum Body {
    /// What `mem::take` leaves behind.
    #[default]
    Taken,
    Rows(Box<dyn Rows>),
    End(TickEnd),
}

/// Said exactly once by each sender to each receiver of each tick: completion is never inferred.
#[derive(Clone, Debug)]
pub(super) struct TickEnd {
    pub(super) summary: Summary,
    pub(super) largest: Option<EventTime>,
    /// Passed on from a source to its `event_time`, on the same worker.
    pub(super) readings: Option<Arc<[Reading]>>,
}

impl Clone for Parcel {
    /// A fan-out copies the rows.
    fn clone(&self) -> Self {
        let body = match &self.body {
            Body::Taken => Body::Taken,
            Body::Rows(rows) => Body::Rows(rows.clone_rows()),
            Body::End(end) => Body::End(end.clone()),
        };
        Parcel { target: self.target, body }
    }
}

impl Accountable for Parcel {
    /// Always one: an empty container would not be sent.
    fn record_count(&self) -> i64 {
        1
    }
}

/// Called only between processes, and there is one.
impl ContainerBytes for Parcel {
    fn from_bytes(_: timely::bytes::arc::Bytes) -> Self {
        Parcel::default()
    }

    fn length_in_bytes(&self) -> usize {
        0
    }

    fn into_bytes<W: std::io::Write>(&self, _: &mut W) {}
}

/// Sends each parcel to the worker that it names. (timely's own exchange would hash record by
/// record into buffers of a fixed size.)
pub(super) struct ByTarget;

impl Distributor<Parcel> for ByTarget {
    fn partition<T: Clone, P: Push<Message<T, Parcel>>>(
        &mut self,
        parcel: &mut Parcel,
        stamp: &Stamp<T>,
        pushers: &mut [P],
    ) {
        let target = parcel.target;
        Message::push_at(parcel, stamp.clone(), &mut pushers[target]);
    }

    fn flush<T: Clone, P: Push<Message<T, Parcel>>>(&mut self, _: &Stamp<T>, _: &mut [P]) {}
}
