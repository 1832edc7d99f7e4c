//! Puts newer changes over older ones, in order: the tail over the base.

use std::ops::Range;

use crate::base::Base;
use crate::changes::{Entry, Op};
use crate::cleared::Cleared;
use crate::store::Visit;
use crate::{Error, KeyGroup};

/// What is newer than the base, of some groups and a prefix.
pub(crate) struct Newer<'a> {
    /// Sorted; no deletions by prefix.
    pub(crate) entries: Vec<Entry<'a>>,
    /// These: what they hide of the entries is left out already, what they hide of the base is not.
    pub(crate) cleared: Vec<Cleared>,
}

/// As [`Newer`], for when what it points to is no longer held.
pub(crate) struct OwnedNewer {
    entries: Vec<(KeyGroup, Vec<u8>, Option<Vec<u8>>)>,
    cleared: Cleared,
}

impl OwnedNewer {
    pub(crate) fn new(entries: Vec<Entry<'_>>, cleared: Cleared) -> Self {
        let own = |(group, key, op): Entry<'_>| (group, key.to_vec(), op.value().map(Vec::from));
        OwnedNewer { entries: entries.into_iter().map(own).collect(), cleared }
    }

    fn iter(&self) -> impl Iterator<Item = Entry<'_>> {
        self.entries.iter().map(|(group, key, value)| {
            (*group, key.as_slice(), value.as_deref().map_or(Op::Delete, Op::Put))
        })
    }
}

/// Puts newer changes over older ones; both are sorted.
pub(crate) fn overlay<'a>(older: &mut Newer<'a>, newer: &'a OwnedNewer) {
    let old = std::mem::take(&mut older.entries).into_iter();
    let mut old =
        old.filter(|(group, key, _)| newer.cleared.last(*group, key).is_none()).peekable();
    for entry in newer.iter() {
        while let Some(before) = old.next_if(|o| (o.0, o.1) < (entry.0, entry.1)) {
            older.entries.push(before);
        }
        old.next_if(|o| (o.0, o.1) == (entry.0, entry.1));
        older.entries.push(entry);
    }
    older.entries.extend(old);
    older.cleared.push(newer.cleared.clone());
}

/// Merges what the base holds with newer changes.
pub(crate) struct Merge<'a, 'v, 'f> {
    newer: std::iter::Peekable<std::vec::IntoIter<Entry<'a>>>,
    cleared: Vec<Cleared>,
    visit: &'v mut Visit<'f>,
}

impl<'a, 'v, 'f> Merge<'a, 'v, 'f> {
    pub(crate) fn new(newer: Newer<'a>, visit: &'v mut Visit<'f>) -> Self {
        let Newer { entries, mut cleared } = newer;
        cleared.retain(|cleared| !cleared.is_empty());
        Merge { newer: entries.into_iter().peekable(), cleared, visit }
    }

    fn base(&mut self, group: KeyGroup, key: &[u8], value: &[u8]) -> Result<(), Error> {
        while let Some((g, k, op)) = self.newer.next_if(|n| (n.0, n.1) < (group, key)) {
            if let Op::Put(v) = op {
                (self.visit)(g, k, v)?;
            }
        }
        match self.newer.next_if(|n| (n.0, n.1) == (group, key)) {
            Some((_, _, Op::Put(newer))) => (self.visit)(group, key, newer),
            Some(_) => Ok(()),
            None if self.cleared.iter().any(|c| c.last(group, key).is_some()) => Ok(()),
            None => (self.visit)(group, key, value),
        }
    }

    pub(crate) fn rest(self) -> Result<(), Error> {
        for (group, key, op) in self.newer {
            if let Op::Put(value) = op {
                (self.visit)(group, key, value)?;
            }
        }
        Ok(())
    }
}

pub(crate) fn scan_base(
    base: &dyn Base,
    operator: &[u8],
    groups: Range<KeyGroup>,
    prefix: &[u8],
    merge: &mut Merge<'_, '_, '_>,
) -> Result<(), Error> {
    let mut from = operator.to_vec();
    from.extend_from_slice(&groups.start.to_be_bytes());
    from.extend_from_slice(prefix);
    base.scan(&from, &mut |full, value| {
        let Some(rest) = full.strip_prefix(operator) else { return Ok(false) };
        let Some((group, key)) = rest.split_first_chunk::<2>() else {
            return Err(Error::Corrupt("the base holds a key without a group".into()));
        };
        let group = KeyGroup::from_be_bytes(*group);
        if group >= groups.end || !key.starts_with(prefix) {
            return Ok(false);
        }
        merge.base(group, key, value)?;
        Ok(true)
    })
}
