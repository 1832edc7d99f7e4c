//! What becomes of input that cannot be decoded.

use super::{DeadLetter, Fetched, Undecodable};
use crate::error::Error;

/// A record that could not be decoded.
pub(super) struct Bad<'a> {
    pub(super) raw: &'a [u8],
    pub(super) error: String,
    pub(super) partition: &'a str,
    pub(super) position: u64,
}

impl Bad<'_> {
    /// Does what the policy says.
    pub(super) fn settle<T>(
        self,
        policy: Undecodable,
        fetched: &mut Fetched<T>,
    ) -> Result<(), Error> {
        match policy {
            Undecodable::Fail => return Err(Error::input(self.error).at_position(self.position)),
            Undecodable::Skip => fetched.skip(),
            Undecodable::DeadLetter => fetched.push_dead(DeadLetter {
                raw: self.raw.to_vec(),
                error: self.error,
                partition: self.partition.to_owned(),
                position: self.position,
            }),
        }
        Ok(())
    }
}

/// A line without its end, which may be `\n`, `\r\n` or missing.
pub(super) fn without_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}
