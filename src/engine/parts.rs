//! What a coordinator is made of.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use highwater_state::Store;

use super::assembly::CommitLane;
use super::shared::{Control, Poison};
use super::sources::SourceState;
use crate::flow::Plan;
use crate::settings::Settings;
use crate::tick::TickRecord;
use crate::time::clock::Clock;

/// What a live flow and a test driver hand to their coordinator.
pub(super) struct Parts {
    pub(super) plan: Arc<Plan>,
    pub(super) store: Arc<dyn Store>,
    pub(super) settings: Settings,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) lane: Box<dyn CommitLane>,
    pub(super) poison: Poison,
    pub(super) controls: Vec<Sender<Control>>,
    pub(super) sources: Vec<SourceState>,
    pub(super) record: TickRecord,
    /// The record was found, not made.
    pub(super) resumed: bool,
    /// When the first sink wants a commit, on the tick clock.
    pub(super) sinks_due_micros: Option<i64>,
}
