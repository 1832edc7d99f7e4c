//! The tick record: all that a commit says besides the operators' entries.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::flow::{Signature, StateCheck, Verdict};
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
    /// The source no longer names it. If it does again, it is read on from `resume`.
    pub(crate) removed: bool,
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

    pub(crate) fn check_name(&self, flow: &str) -> Result<(), Error> {
        if self.flow == flow {
            return Ok(());
        }
        Err(Error::state(format!(
            "it belongs to the flow `{}`, and this is the flow `{flow}`: use another directory",
            self.flow
        )))
    }

    /// Refuses state that this flow cannot go on from.
    pub(crate) fn check(
        &self,
        flow: &str,
        signatures: &[Signature],
        forgotten: &[String],
    ) -> Result<StateCheck, Error> {
        self.check_name(flow)?;

        let check = StateCheck::new(&self.signatures, signatures, forgotten);
        match check.refused() {
            None => Ok(check),
            Some((id, Verdict::Incompatible(why))) => {
                Err(Error::state(why.clone()).in_operator(id))
            }
            Some((id, _)) => {
                let old = self.signatures.iter().find(|old| old.id == *id);
                let kind = old.map_or("operator", |old| old.kind.as_str());
                Err(Error::state(format!(
                    "it holds state of the {kind} `{id}`, which the flow no longer has: say \
                     `flow.forget(\"{id}\")` to let it go"
                )))
            }
        }
    }
}
