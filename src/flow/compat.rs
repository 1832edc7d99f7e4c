//! Whether a plan can go on from the state of another.

use std::fmt;

use highwater_state::planted::planted;
use serde::{Deserialize, Serialize};

/// How a stateful operator is known again after a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Signature {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) params: String,
    pub(crate) types: Types,
}

/// The types that an operator stores, by the hashes of their shapes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Types {
    /// The key, and the row where rows are stored.
    pub(crate) key: u64,
    /// The state.
    pub(crate) state: u64,
    /// The version of the state.
    pub(crate) version: u16,
}

/// What becomes of an operator's state.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It goes on from its state.
    Kept,
    /// It goes on from its state, which is migrated key by key.
    Migrated {
        /// The version that wrote the state.
        from: u16,
        /// The version that the flow has now.
        to: u16,
    },
    /// There is no state for it: it starts with none.
    New,
    /// There is state of an operator that the flow no longer has. Say
    /// [`Flow::forget`](crate::Flow::forget) to let it go.
    Orphaned,
    /// Its state cannot be used, and why.
    Incompatible(String),
}

/// A flow compared with the state that it would go on from.
///
/// ```no_run
/// # let flow = highwater::Flow::new("clicks");
/// let check = flow.check_state("state")?;
/// assert!(check.is_fine(), "{check}");
/// # Ok::<(), highwater::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateCheck {
    /// Sources and stateful operators with what becomes of their state.
    pub operators: Vec<(String, Verdict)>,
}

impl StateCheck {
    pub(crate) fn new(old: &[Signature], new: &[Signature], forgotten: &[String]) -> Self {
        let mut operators = Vec::new();
        for new in new {
            let old = old.iter().find(|old| old.id == new.id && !forgotten.contains(&old.id));
            let verdict = old.map_or(Verdict::New, |old| compare(old, new));
            operators.push((new.id.clone(), verdict));
        }
        for old in old {
            if !new.iter().any(|new| new.id == old.id) && !forgotten.contains(&old.id) {
                operators.push((old.id.clone(), Verdict::Orphaned));
            }
        }
        StateCheck { operators }
    }

    /// Whether the flow can start on that state.
    #[must_use]
    pub fn is_fine(&self) -> bool {
        self.refused().is_none()
    }

    /// The first operator that keeps the flow from starting.
    pub(crate) fn refused(&self) -> Option<&(String, Verdict)> {
        let refused = |v: &Verdict| matches!(v, Verdict::Orphaned | Verdict::Incompatible(_));
        self.operators.iter().find(|(_, verdict)| refused(verdict))
    }
}

fn compare(old: &Signature, new: &Signature) -> Verdict {
    let (from, to) = (old.types.version, new.types.version);
    if old.kind != new.kind || old.params != new.params {
        Verdict::Incompatible(format!(
            "the state is of {} ({}), and the flow now has {} ({}): use another directory",
            old.kind, old.params, new.kind, new.params
        ))
    } else if old.types.key != new.types.key {
        Verdict::Incompatible(
            "the type of its keys, or of the rows it stores, has changed: use another id or \
             directory"
                .to_owned(),
        )
    } else if from > to {
        Verdict::Incompatible(format!("version {from} of its state is newer than version {to}"))
    } else if from < to {
        Verdict::Migrated { from, to }
    } else if old.types.state != new.types.state && !planted("schema-ignored") {
        Verdict::Incompatible(format!(
            "the type of its state has changed under version {to}: raise its version and say how \
             to migrate, or use another directory"
        ))
    } else {
        Verdict::Kept
    }
}

impl fmt::Display for StateCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (id, verdict) in &self.operators {
            match verdict {
                Verdict::Kept => writeln!(f, "{id}: kept")?,
                Verdict::Migrated { from, to } => {
                    writeln!(f, "{id}: migrated from version {from} to {to}")?;
                }
                Verdict::New => writeln!(f, "{id}: new")?,
                Verdict::Orphaned => writeln!(f, "{id}: orphaned")?,
                Verdict::Incompatible(why) => writeln!(f, "{id}: incompatible: {why}")?,
            }
        }
        Ok(())
    }
}
