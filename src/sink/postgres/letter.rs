//! The rows of one commit, as they lie in the outbox.
//!
//! First the lines, as COPY takes them, then what they are in JSON, then the length of that and
//! the version. So nothing has to be moved when the lines are complete.

use serde::{Deserialize, Serialize};

use crate::error::Error;

const VERSION: u8 = 1;

/// A row that could not be written as a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Refused {
    /// As JSON.
    pub(super) row: String,
    pub(super) error: String,
}

/// What the lines are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Footer {
    pub(super) columns: Vec<String>,
    pub(super) refused: Vec<Refused>,
}

/// A letter, opened.
#[derive(Debug)]
pub(super) struct Opened<'a> {
    pub(super) lines: &'a [u8],
    pub(super) footer: Footer,
}

/// Completes the lines to a letter.
pub(super) fn seal(lines: &mut Vec<u8>, footer: &Footer) {
    // Texts always have a JSON; without one the letter would not open.
    let json = serde_json::to_vec(footer).unwrap_or_default();
    lines.extend_from_slice(&json);
    lines.extend_from_slice(&(json.len() as u64).to_le_bytes());
    lines.push(VERSION);
}

pub(super) fn open(letter: &[u8]) -> Result<Opened<'_>, Error> {
    let damaged = || Error::state("a letter for PostgreSQL is not one of this version");
    let (version, rest) = letter.split_last().ok_or_else(damaged)?;
    let (rest, length) = rest.split_last_chunk().ok_or_else(damaged)?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok();
    let start = length.and_then(|length| rest.len().checked_sub(length));
    let start = start.filter(|_| *version == VERSION);
    let (lines, json) = rest.split_at(start.ok_or_else(damaged)?);
    let footer = serde_json::from_slice(json).map_err(|e| damaged().because(e))?;
    Ok(Opened { lines, footer })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_sealed_and_opened() {
        let footer = Footer {
            columns: vec!["a".to_owned(), "b\n".to_owned()],
            refused: vec![Refused { row: "{}".to_owned(), error: "no".to_owned() }],
        };
        let mut letter = b"1\t2\n".to_vec();
        seal(&mut letter, &footer);
        let opened = open(&letter).unwrap();
        assert_eq!((opened.lines, opened.footer), (&b"1\t2\n"[..], footer));
        for damaged in [&letter[..letter.len() - 1], b"", b"\x01", &letter[letter.len() - 5..]] {
            assert!(open(damaged).is_err());
        }
        *letter.last_mut().unwrap() = 2;
        assert!(open(&letter).is_err());
    }
}
