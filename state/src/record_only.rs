//! The store of state that lives and dies in hot tables.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use crate::store::{Found, Visit};
use crate::{Commit, Error, KeyGroup, Store};

/// Remembers the record of the last commit, and no entry: for a program that is content to begin
/// anew after a crash, and whose tables are never made to forget.
///
/// ```
/// use highwater_state::{Commit, RecordOnly, Store};
/// let store = RecordOnly::default();
/// store.commit(Commit { record: b"tick 7".to_vec(), changes: vec![] })?;
/// assert_eq!(store.record()?.as_deref(), Some(&b"tick 7"[..]));
/// assert!(!store.keeps_entries());
/// # Ok::<(), highwater_state::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct RecordOnly {
    record: Mutex<Option<Vec<u8>>>,
}

impl Store for RecordOnly {
    fn record(&self) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.record.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    fn commit(&self, commit: Commit) -> Result<(), Error> {
        *self.record.lock().unwrap_or_else(PoisonError::into_inner) = Some(commit.record);
        Ok(())
    }

    fn get(&self, _: &str, _: &[(KeyGroup, &[u8])], _: &mut Found<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn scan(&self, _: &str, _: Range<KeyGroup>, _: &[u8], _: &mut Visit<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn keeps_entries(&self) -> bool {
        false
    }
}
