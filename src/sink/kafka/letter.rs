//! Records on their way to a topic, as bytes: a letter of the outbox, or a part of one.
//!
//! A version byte, then the records. A record is a byte of flags, then what the flags say is
//! there, in this order: time (8 bytes), key, value, number of headers, and of each header its
//! name and value. Numbers are little endian; what has a length begins with it in four bytes.

use crate::error::Error;

const VERSION: u8 = 1;

const TIME: u8 = 1;
const KEY: u8 = 2;
const VALUE: u8 = 4;
const HEADERS: u8 = 8;

/// What Kafka adds to a record that stands alone in its batch, with something to spare.
const OVERHEAD_BYTES: usize = 100;
const HEADER_OVERHEAD_BYTES: usize = 10;

/// One record: what the topic will hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record<'a> {
    /// Milliseconds since the Unix epoch.
    pub(super) time: Option<i64>,
    pub(super) key: Option<&'a [u8]>,
    /// `None` deletes the key in a compacted topic.
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: Vec<(&'a str, &'a [u8])>,
}

impl Record<'_> {
    /// What it may take in a topic, before it is compressed.
    pub(super) fn size(&self) -> usize {
        let headers = self.headers.iter();
        let headers: usize =
            headers.map(|(name, value)| name.len() + value.len() + HEADER_OVERHEAD_BYTES).sum();
        let parts = [self.key, self.value].into_iter().flatten().map(<[u8]>::len);
        parts.sum::<usize>() + headers + OVERHEAD_BYTES
    }
}

/// Appends a record to a letter, which it begins if there is none.
pub(super) fn append(letter: &mut Vec<u8>, record: &Record<'_>) -> Result<(), Error> {
    if letter.is_empty() {
        letter.push(VERSION);
    }
    let flag = |is_there: bool, flag: u8| if is_there { flag } else { 0 };
    letter.push(
        flag(record.time.is_some(), TIME)
            | flag(record.key.is_some(), KEY)
            | flag(record.value.is_some(), VALUE)
            | flag(!record.headers.is_empty(), HEADERS),
    );
    if let Some(time) = record.time {
        letter.extend_from_slice(&time.to_le_bytes());
    }
    for part in [record.key, record.value].into_iter().flatten() {
        bytes(letter, part)?;
    }
    if !record.headers.is_empty() {
        length(letter, record.headers.len())?;
    }
    for (name, value) in &record.headers {
        bytes(letter, name.as_bytes())?;
        bytes(letter, value)?;
    }
    Ok(())
}

/// Appends one letter to another.
pub(super) fn join(letter: &mut Vec<u8>, mut other: Vec<u8>) {
    if letter.is_empty() {
        std::mem::swap(letter, &mut other);
    } else {
        letter.extend_from_slice(other.get(1..).unwrap_or_default());
    }
}

fn bytes(letter: &mut Vec<u8>, part: &[u8]) -> Result<(), Error> {
    length(letter, part.len())?;
    letter.extend_from_slice(part);
    Ok(())
}

fn length(letter: &mut Vec<u8>, length: usize) -> Result<(), Error> {
    let length = u32::try_from(length);
    let length = length.map_err(|_| Error::input("a record has a part of more than 4 GiB"))?;
    letter.extend_from_slice(&length.to_le_bytes());
    Ok(())
}

/// The records of a letter.
pub(super) struct Records<'a> {
    rest: &'a [u8],
}

impl<'a> Records<'a> {
    pub(super) fn of(letter: &'a [u8]) -> Result<Self, Error> {
        match letter.split_first() {
            None => Ok(Records { rest: &[] }),
            Some((&VERSION, rest)) => Ok(Records { rest }),
            Some((version, _)) => Err(Error::state(format!(
                "output that waits to be sent has the format {version}, and this program reads \
                 {VERSION}: start with a program that knows it"
            ))),
        }
    }

    /// The next one.
    pub(super) fn next(&mut self) -> Result<Option<Record<'a>>, Error> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let record = self.record();
        record.map(Some).ok_or_else(|| Error::state("output that waits to be sent is damaged"))
    }

    fn record(&mut self) -> Option<Record<'a>> {
        let flags = self.take(1)?[0];
        if flags > TIME | KEY | VALUE | HEADERS {
            return None;
        }
        let mut record = Record::default();
        if flags & TIME > 0 {
            record.time = Some(i64::from_le_bytes(*self.take(8)?.first_chunk()?));
        }
        if flags & KEY > 0 {
            record.key = Some(self.bytes()?);
        }
        if flags & VALUE > 0 {
            record.value = Some(self.bytes()?);
        }
        if flags & HEADERS > 0 {
            // Each takes a byte at least: a number that is damaged reserves nothing.
            for _ in 0..self.length()? {
                let name = std::str::from_utf8(self.bytes()?).ok()?;
                record.headers.push((name, self.bytes()?));
            }
        }
        Some(record)
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(u32::from_le_bytes(*self.take(4)?.first_chunk()?)).ok()
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.length()?;
        self.take(length)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(letter: &[u8]) -> Result<Vec<Record<'_>>, Error> {
        let (mut records, mut found) = (Records::of(letter)?, Vec::new());
        while let Some(record) = records.next()? {
            found.push(record);
        }
        Ok(found)
    }

    type Parts = (Option<i64>, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, Vec<u8>)>);

    fn record(parts: &Parts) -> Record<'_> {
        Record {
            time: parts.0,
            key: parts.1.as_deref(),
            value: parts.2.as_deref(),
            headers: parts.3.iter().map(|(name, value)| (name.as_str(), &value[..])).collect(),
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(rows in prop::collection::vec(any::<Parts>(), 0..8), cut: u8) {
            let (mut first, mut second) = (Vec::new(), Vec::new());
            for (index, row) in rows.iter().enumerate() {
                let letter = if index < usize::from(cut) { &mut first } else { &mut second };
                append(letter, &record(row)).unwrap();
            }
            join(&mut first, second);
            let expected: Vec<_> = rows.iter().map(record).collect();
            prop_assert_eq!(read(&first).unwrap(), expected);
        }

        #[test]
        fn damage_is_an_error_and_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = read(&bytes);
        }

        #[test]
        fn a_letter_cut_short_is_an_error(row: Parts, keep in 2_usize..40) {
            let mut letter = Vec::new();
            append(&mut letter, &record(&row)).unwrap();
            if keep < letter.len() {
                prop_assert!(read(&letter[..keep]).is_err());
            }
        }
    }

    #[test]
    fn another_version_is_refused() {
        let error = read(&[9, 0]).unwrap_err().to_string();
        assert!(error.contains("format 9"), "{error}");
    }
}
