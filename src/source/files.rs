//! Files of rows: one partition per file.

mod csv_rows;
mod input;
mod json_rows;

use std::fmt;
use std::marker::PhantomData;

use serde::de::DeserializeOwned;

use csv_rows::CsvReader;
use json_rows::JsonReader;

use super::{Reader, Replay, Resume, Source, Undecodable};
use crate::error::Error;
use crate::event::Data;

/// CSV files with a header row, one partition per file.
///
/// Columns are matched to the fields of `T` by name, through serde. Names that end in `.gz` and
/// `.zst` are decompressed as they are read. A position is the byte offset of a row in the
/// decompressed file, and a partition is named by the path that the pattern gives it.
///
/// A row with another number of fields than the header, with a value of the wrong type or with
/// invalid UTF-8 is treated as [`undecodable`](CsvFiles::undecodable) says. These always stop the
/// flow: a missing header row or column, a row of over 16 MiB (an open quote swallows all that
/// follows it), and a file that is damaged, unreadable or not the one that was read before. (Damage
/// in a `.zst` file that was written without checksums may pass for other rows.)
///
/// ```
/// use highwater::source::{CsvFiles, Fetched, ReadState, Resume, Source};
///
/// #[derive(Clone, serde::Deserialize)]
/// struct Departure {
///     carrier: String,
///     delay_minutes: Option<i32>,
/// }
///
/// let dir = tempfile::tempdir()?;
/// let path = dir.path().join("jan.csv");
/// std::fs::write(&path, "carrier,delay_minutes\nAA,5\nUA,\n")?;
///
/// let source = CsvFiles::<Departure>::glob(dir.path().join("*.csv").display().to_string());
/// let partitions = source.partitions()?;
/// assert_eq!(partitions, [path.display().to_string()]);
/// let mut fetched = Fetched::default();
/// let state = source.open(&partitions[0], &Resume::default())?.read(100, &mut fetched)?;
/// assert_eq!((fetched.len(), state), (2, ReadState::End));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct CsvFiles<T> {
    files: Files,
    rows: PhantomData<fn() -> T>,
}

/// Files with one JSON value per line, one partition per file.
///
/// Names that end in `.gz` and `.zst` are decompressed as they are read. A position is the byte
/// offset of a line in the decompressed file, and a partition is named by the path that the
/// pattern gives it. Empty lines are passed over.
///
/// A line that is not valid JSON, not a `T` or not valid UTF-8 is treated as
/// [`undecodable`](JsonLinesFiles::undecodable) says. These always stop the flow: a line of over
/// 16 MiB, and a file that is damaged, unreadable or not the one that was read before. (Damage in a
/// `.zst` file that was written without checksums may pass for other rows.)
///
/// ```
/// use highwater::source::{Fetched, JsonLinesFiles, ReadState, Resume, Source};
///
/// #[derive(Clone, serde::Deserialize)]
/// struct Click {
///     user: String,
/// }
///
/// let dir = tempfile::tempdir()?;
/// std::fs::write(dir.path().join("a.jsonl"), "{\"user\":\"ann\"}\n\n{\"user\":\"bob\"}")?;
///
/// let source = JsonLinesFiles::<Click>::glob(dir.path().join("*.jsonl").display().to_string());
/// let partitions = source.partitions()?;
/// let mut fetched = Fetched::default();
/// let state = source.open(&partitions[0], &Resume::default())?.read(100, &mut fetched)?;
/// assert_eq!((fetched.len(), state), (2, ReadState::End));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct JsonLinesFiles<T> {
    files: Files,
    rows: PhantomData<fn() -> T>,
}

/// Which files, and what to do with what is wrong in them.
#[derive(Clone, Debug)]
struct Files {
    pattern: String,
    undecodable: Undecodable,
}

impl Files {
    fn matching(pattern: impl Into<String>) -> Self {
        Files { pattern: pattern.into(), undecodable: Undecodable::Fail }
    }

    fn paths(&self) -> Result<Vec<String>, Error> {
        let pattern = &self.pattern;
        let matches = glob::glob(pattern)
            .map_err(|e| Error::plan(format!("`{pattern}` is no file pattern")).because(e))?;
        let mut paths = Vec::new();
        for path in matches {
            let path = path.map_err(|e| {
                let unreadable = e.path().display().to_string();
                Error::io(format!("cannot list `{unreadable}` for the pattern `{pattern}`"), e)
            })?;
            if path.is_dir() {
                continue;
            }
            match path.into_os_string().into_string() {
                Ok(path) => paths.push(path),
                Err(path) => {
                    let path = path.display();
                    return Err(Error::input(format!("the path `{path}` is not valid UTF-8")));
                }
            }
        }
        if paths.is_empty() {
            return Err(Error::input(format!("no file matches the pattern `{pattern}`")));
        }
        paths.sort_unstable();
        Ok(paths)
    }
}

macro_rules! files_source {
    ($name:ident, $reader:ident) => {
        impl<T: DeserializeOwned + Data> $name<T> {
            /// The files that match a pattern: `*` and `?` stand for characters of one name, `**`
            /// for any folders, `[..]` for one of a set of characters.
            ///
            /// A pattern that matches no file is an error when the flow starts.
            #[must_use]
            pub fn glob(pattern: impl Into<String>) -> Self {
                $name { files: Files::matching(pattern), rows: PhantomData }
            }

            /// What to do with records that cannot be decoded; by default the flow stops.
            #[must_use]
            pub fn undecodable(mut self, policy: Undecodable) -> Self {
                self.files.undecodable = policy;
                self
            }
        }

        impl<T> Clone for $name<T> {
            fn clone(&self) -> Self {
                $name { files: self.files.clone(), rows: PhantomData }
            }
        }

        impl<T> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).field("files", &self.files).finish()
            }
        }

        impl<T: DeserializeOwned + Data> Source for $name<T> {
            type Item = T;

            fn describe(&self) -> String {
                format!(concat!(stringify!($name), "({})"), self.files.pattern)
            }

            fn replay(&self) -> Replay {
                Replay::Exact
            }

            fn partitions(&self) -> Result<Vec<String>, Error> {
                self.files.paths()
            }

            fn is_complete(&self) -> bool {
                true
            }

            fn open(&self, partition: &str, resume: &Resume) -> Result<Box<dyn Reader<T>>, Error> {
                Ok(Box::new($reader::<T>::open(partition, resume, self.files.undecodable)?))
            }

            fn undecodable(&self) -> Undecodable {
                self.files.undecodable
            }
        }
    };
}

files_source!(CsvFiles, CsvReader);
files_source!(JsonLinesFiles, JsonReader);

#[cfg(test)]
mod bad_input_tests;
#[cfg(test)]
mod tests;
