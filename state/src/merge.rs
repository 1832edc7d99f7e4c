//! Puts newer changes over older ones, in order: the tail over the base.

use std::ops::Range;

use crate::base::Base;
use crate::changes::Entry;
use crate::store::Visit;
use crate::{Error, KeyGroup};

pub(crate) type OwnedEntry = (KeyGroup, Vec<u8>, Option<Vec<u8>>);

pub(crate) fn owned(entries: Vec<Entry<'_>>) -> Vec<OwnedEntry> {
    entries.into_iter().map(|(g, k, v)| (g, k.to_vec(), v.map(<[u8]>::to_vec))).collect()
}

/// Puts newer changes over older ones; both are sorted.
pub(crate) fn overlay<'a>(older: &mut Vec<Entry<'a>>, newer: impl Iterator<Item = Entry<'a>>) {
    let mut old = std::mem::take(older).into_iter().peekable();
    for entry in newer {
        while let Some(before) = old.next_if(|o| (o.0, o.1) < (entry.0, entry.1)) {
            older.push(before);
        }
        old.next_if(|o| (o.0, o.1) == (entry.0, entry.1));
        older.push(entry);
    }
    older.extend(old);
}

/// Merges what the base holds with newer changes.
pub(crate) struct Merge<'a, 'v, 'f> {
    newer: std::iter::Peekable<std::vec::IntoIter<Entry<'a>>>,
    visit: &'v mut Visit<'f>,
}

impl<'a, 'v, 'f> Merge<'a, 'v, 'f> {
    pub(crate) fn new(newer: Vec<Entry<'a>>, visit: &'v mut Visit<'f>) -> Self {
        Merge { newer: newer.into_iter().peekable(), visit }
    }

    fn base(&mut self, group: KeyGroup, key: &[u8], value: &[u8]) -> Result<(), Error> {
        while let Some((g, k, v)) = self.newer.next_if(|n| (n.0, n.1) < (group, key)) {
            if let Some(v) = v {
                (self.visit)(g, k, v)?;
            }
        }
        match self.newer.next_if(|n| (n.0, n.1) == (group, key)) {
            Some((_, _, Some(newer))) => (self.visit)(group, key, newer),
            Some((_, _, None)) => Ok(()),
            None => (self.visit)(group, key, value),
        }
    }

    pub(crate) fn rest(self) -> Result<(), Error> {
        for (group, key, value) in self.newer {
            if let Some(value) = value {
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
