//! The tick record: all that a commit says besides the operators' entries.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::flow::Signature;
use crate::operator::Counters;
use crate::source::Resume;
use crate::time::{Tick, TimeState, Watermark};

/// Written whole with every commit. Recovery opens the last one and goes on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct TickRecord {
    pub(crate) flow: String,
    /// The stateful operators and sources that this state belongs to.
    pub(crate) signatures: Vec<Signature>,
    /// The last tick that the commit covers; the next run goes on with the one after it.
    pub(crate) tick: Tick,
    /// The tick clock of that tick, in µs since the Unix epoch.
    pub(crate) clock_micros: i64,
    /// All input has ended: nothing is to be read any more.
    pub(crate) finished: bool,
    /// How many times the flow has been started on this state.
    pub(crate) incarnation: u64,
    pub(crate) commits: u64,
    /// By source id, in order of discovery.
    pub(crate) sources: BTreeMap<String, Vec<PartitionRecord>>,
    /// By operator id.
    pub(crate) operators: BTreeMap<String, OperatorRecord>,
    /// By sink id: what the sink's writer needs after a crash.
    pub(crate) sinks: BTreeMap<String, Vec<u8>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PartitionRecord {
    pub(crate) name: String,
    pub(crate) resume: Resume,
    pub(crate) ended: bool,
    pub(crate) discovered: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct OperatorRecord {
    pub(crate) watermark: Watermark,
    pub(crate) counters: Counters,
    pub(crate) entries: u64,
    /// Of an `event_time` operator: partition name and time.
    pub(crate) promises: Vec<(String, TimeState)>,
}

impl TickRecord {
    pub(crate) fn encode(&self) -> Result<Vec<u8>, Error> {
        Ok(highwater_state::encode_sealed(self)?)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        Ok(highwater_state::decode_sealed(bytes)?)
    }

    /// Refuses state that was written by a flow that is not this one.
    pub(crate) fn check(&self, flow: &str, signatures: &[Signature]) -> Result<(), Error> {
        if self.flow != flow {
            let message = format!(
                "it belongs to the flow `{}`, and this is the flow `{flow}`: use another directory",
                self.flow
            );
            return Err(Error::state(message));
        }
        for old in &self.signatures {
            let Some(new) = signatures.iter().find(|s| s.id == old.id) else {
                let message = format!(
                    "it holds state of the {} `{}`, which the flow no longer has",
                    old.kind, old.id
                );
                return Err(Error::state(message));
            };
            if new != old {
                let message = format!(
                    "the state is of {} ({}), and the flow now has {} ({}): use another directory",
                    old.kind, old.params, new.kind, new.params
                );
                return Err(Error::state(message).in_operator(&old.id));
            }
        }
        Ok(())
    }
}
