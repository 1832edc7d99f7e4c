//! Migration of all that a state directory holds, at once.

use std::path::Path;
use std::sync::Arc;

use highwater_state::{Changes, Commit, DurableStore, KEY_GROUPS, Store};

use super::dir::open;
use super::{TickRecord, read_record};
use crate::error::Error;
use crate::flow::{Plan, Rewrite};
use crate::operator::process::STATE;

/// Key groups whose entries are rewritten by one commit.
const GROUPS: u16 = 32;

/// Brings every stored state of the plan's operators up to date; returns how many were not.
pub(crate) fn migrate_state(path: &Path, plan: &Plan) -> Result<u64, Error> {
    let store = open(path)?;
    let mut record = read_record(&store, path)?;
    let signatures = plan.signatures();
    record.check(&plan.name, &signatures, &plan.forgotten)?;
    // First of all, so that the program of before is refused while this is under way. What is
    // not reached before a crash is migrated when its key comes, or by the next call.
    for (old, new) in matching(&mut record, &signatures) {
        old.types = new;
    }
    store.commit(Commit { record: record.encode()?, changes: Vec::new() })?;
    let mut migrated = 0;
    for node in &plan.nodes {
        let Some(rewrite) = &node.rewrite else { continue };
        for first in (0..KEY_GROUPS).step_by(usize::from(GROUPS)) {
            let changes = rewrite_groups(&store, &node.id, first..first + GROUPS, rewrite)
                .map_err(|e| Error::from(e).in_operator(&node.id))?;
            migrated += changes.len() as u64;
            if !changes.is_empty() {
                store.commit(Commit { record: record.encode()?, changes: vec![changes] })?;
                while store.maintain(false)? {}
            }
        }
    }
    Ok(migrated)
}

type Pair<'a> = (&'a mut crate::flow::Signature, crate::flow::Types);

/// The signatures that both have, with the types of the new one.
fn matching<'a>(
    record: &'a mut TickRecord,
    signatures: &'a [crate::flow::Signature],
) -> impl Iterator<Item = Pair<'a>> {
    record.signatures.iter_mut().filter_map(|old| {
        let new = signatures.iter().find(|new| new.id == old.id)?;
        Some((old, new.types))
    })
}

fn rewrite_groups(
    store: &DurableStore,
    id: &Arc<str>,
    groups: std::ops::Range<u16>,
    rewrite: &Rewrite,
) -> Result<Changes, highwater_state::Error> {
    let mut changes = Changes::new(id.clone());
    store.scan(id, groups, &[STATE], &mut |group, key, value| {
        let Some(new) = rewrite(value)? else { return Ok(()) };
        changes.put(
            group,
            |bytes| {
                bytes.extend_from_slice(key);
                Ok(())
            },
            |bytes| {
                bytes.extend_from_slice(&new);
                Ok(())
            },
        )
    })?;
    Ok(changes)
}
