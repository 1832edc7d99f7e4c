//! What has come of a tick that an operator has not ended, and the right to send in it.

use std::sync::Arc;

use timely::dataflow::operators::{Capability, CapabilityTrait, InputCapability};

use super::parcel::{Body, Parcel, TickEnd};
use super::runner::Output;
use crate::event::Rows;
use crate::operator::Reading;
use crate::time::{EventTime, Summary};

/// What has come of a tick.
pub(super) struct Pending {
    /// How many senders have ended it.
    pub(super) ends: usize,
    pub(super) summary: Summary,
    pub(super) largest: Option<EventTime>,
    pub(super) readings: Option<Arc<[Reading]>>,
    /// Batches that came before the tick's turn.
    pub(super) early: Vec<(usize, Box<dyn Rows>)>,
    /// The right to send in the tick, by port, if something is to be done later on.
    pub(super) capabilities: Vec<Capability<u64>>,
}

impl Default for Pending {
    fn default() -> Self {
        Pending {
            ends: 0,
            summary: Summary::Absent,
            largest: None,
            readings: None,
            early: Vec::new(),
            capabilities: Vec::new(),
        }
    }
}

impl Pending {
    /// One more sender has ended the tick.
    pub(super) fn hear(&mut self, end: TickEnd) {
        self.ends += 1;
        self.summary = self.summary.merge(end.summary);
        self.largest = self.largest.max(end.largest);
        self.readings = self.readings.take().or(end.readings);
    }

    /// Keeps the right to send in the tick.
    pub(super) fn keep(&mut self, cap: &InputCapability<u64>, ports: usize) {
        if self.capabilities.is_empty() {
            self.capabilities = (0..ports).filter_map(|port| cap.retain_least(port)).collect();
        }
    }
}

/// The right to send in a tick: of the message that has just come, or kept.
pub(super) enum Right<'a> {
    Input(&'a InputCapability<u64>),
    Kept(&'a [Capability<u64>]),
}

impl Right<'_> {
    pub(super) fn give(&self, outputs: &mut [Output], port: usize, target: usize, body: Body) {
        match self {
            Right::Input(cap) => give(&mut outputs[port], *cap, target, body),
            Right::Kept(capabilities) => {
                if let Some(cap) = capabilities.get(port) {
                    give(&mut outputs[port], cap, target, body);
                }
            }
        }
    }
}

/// Sends one parcel. Nothing is sent without the right to send in that tick.
pub(super) fn give<C: CapabilityTrait<u64>>(
    output: &mut Output,
    cap: &C,
    target: usize,
    body: Body,
) {
    let mut parcel = Parcel { target, body };
    output.activate().session_with_builder(cap).give_container(&mut parcel);
}
