//! The bytes of a file: decompressed, from any position, and known again.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

use crate::error::Error;
use crate::source::Resume;

/// How much is read from a file at once.
pub(super) const CHUNK_BYTES: usize = 64 * 1024;

/// The longest record: beyond it a quote was not closed, or a line end is missing.
pub(super) const RECORD_LIMIT_BYTES: usize = 16 * 1024 * 1024;

/// By how much of its head a file is known again.
const HEAD_BYTES: u64 = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    Plain,
    Gzip,
    Zstd,
}

/// A file, compressed or not.
#[derive(Clone, Debug)]
pub(super) struct InputFile {
    path: String,
    packing: Packing,
}

pub(super) type Bytes = Box<dyn Read + Send>;

impl InputFile {
    pub(super) fn new(path: &str) -> Self {
        let ending = Path::new(path).extension().unwrap_or_default();
        let packing = if ending.eq_ignore_ascii_case("gz") {
            Packing::Gzip
        } else if ending.eq_ignore_ascii_case("zst") {
            Packing::Zstd
        } else {
            Packing::Plain
        };
        InputFile { path: path.to_owned(), packing }
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    fn open(&self) -> Result<File, Error> {
        File::open(&self.path).map_err(|e| Error::io(format!("cannot open `{}`", self.path), e))
    }

    /// The file's head, after it was compared with what the last run knew of it, if there was one.
    pub(super) fn head(&self, resume: &Resume) -> Result<Head, Error> {
        let mut bytes = Vec::new();
        let file = self.open()?;
        file.take(HEAD_BYTES).read_to_end(&mut bytes).map_err(|e| self.read_error(e))?;
        self.compare(&bytes, resume)?;
        let whole = Head::hash(&bytes);
        Ok(Head { bytes, whole, packing: self.packing })
    }

    fn compare(&self, head: &[u8], resume: &Resume) -> Result<(), Error> {
        if resume.check.is_empty() {
            return Ok(());
        }
        let size = resume.check.split_once(':').and_then(|(size, _)| size.parse::<usize>().ok());
        let Some(size) = size.filter(|&size| size as u64 <= HEAD_BYTES) else {
            let check = &resume.check;
            return Err(Error::state(format!("`{check}` is no check of a file's head")));
        };
        let Some(known) = head.get(..size) else {
            let found = head.len();
            return Err(self.replaced(&format!("it has {found} bytes, and had at least {size}")));
        };
        if Head::hash(known) != resume.check {
            return Err(self.replaced(&format!("its first {size} bytes are others")));
        }
        Ok(())
    }

    fn replaced(&self, why: &str) -> Error {
        Error::input(format!("`{}` is not the file that was read before: {why}", self.path))
    }

    /// The decompressed bytes from a position on.
    pub(super) fn bytes_from(&self, position: u64) -> Result<Bytes, Error> {
        let mut file = self.open()?;
        let read_error = |e| self.read_error(e);
        let mut bytes: Bytes = match self.packing {
            Packing::Plain => {
                let size = file.metadata().map_err(read_error)?.len();
                if size < position {
                    return Err(self.ends_before(size, position));
                }
                file.seek(SeekFrom::Start(position)).map_err(read_error)?;
                return Ok(Box::new(file));
            }
            Packing::Gzip => {
                let file = BufReader::with_capacity(CHUNK_BYTES, file);
                Box::new(flate2::bufread::MultiGzDecoder::new(file))
            }
            Packing::Zstd => Box::new(zstd::Decoder::new(file).map_err(read_error)?),
        };
        let skipped = io::copy(&mut bytes.by_ref().take(position), &mut io::sink());
        match skipped.map_err(read_error)? {
            skipped if skipped < position => Err(self.ends_before(skipped, position)),
            _ => Ok(bytes),
        }
    }

    fn ends_before(&self, size: u64, position: u64) -> Error {
        self.replaced(&format!("it ends at {size}, and was read up to {position}"))
    }

    /// How many line ends stand before a position. Reads all that, so it is for errors only.
    pub(super) fn lines_before(&self, position: u64) -> Result<u64, Error> {
        let mut bytes = BufReader::with_capacity(CHUNK_BYTES, self.bytes_from(0)?.take(position));
        let mut lines = 0;
        loop {
            let chunk = bytes.fill_buf().map_err(|e| self.read_error(e))?;
            if chunk.is_empty() {
                return Ok(lines);
            }
            lines += chunk.iter().filter(|&&byte| byte == b'\n').count() as u64;
            let read = chunk.len();
            bytes.consume(read);
        }
    }

    /// An error of the operating system is one of the machine; any other comes from the decoder.
    pub(super) fn read_error(&self, error: io::Error) -> Error {
        let path = &self.path;
        if error.raw_os_error().is_none() && self.packing != Packing::Plain {
            let what = format!("`{path}` is truncated or damaged: it cannot be decompressed");
            return Error::input(what).because(error);
        }
        Error::io(format!("cannot read `{path}`"), error)
    }
}

/// The beginning of a file, by which it is known again.
#[derive(Debug)]
pub(super) struct Head {
    bytes: Vec<u8>,
    whole: String,
    packing: Packing,
}

impl Head {
    fn hash(bytes: &[u8]) -> String {
        format!("{}:{:016x}", bytes.len(), xxh3_64(bytes))
    }

    /// What identifies the file once it has been read up to `position`: only what has been read
    /// of it, so that a row further on may be mended. Of a compressed file it is the whole head,
    /// because nothing in it can be changed without changing everything behind it.
    pub(super) fn check(&self, position: u64) -> String {
        let read = usize::try_from(position).unwrap_or(usize::MAX);
        match self.bytes.get(..read) {
            Some(read) if self.packing == Packing::Plain => Self::hash(read),
            _ => self.whole.clone(),
        }
    }
}

/// Line numbers for errors: those before the place where reading began are counted only when
/// the first error asks for them.
#[derive(Debug)]
pub(super) struct LineNumbers {
    began_at: u64,
    before: Option<u64>,
}

impl LineNumbers {
    pub(super) fn from(began_at: u64) -> Self {
        LineNumbers { began_at, before: None }
    }

    /// The number in the file of line `line` since reading began, both from 1.
    pub(super) fn in_file(&mut self, file: &InputFile, line: u64) -> Result<u64, Error> {
        let before = match self.before {
            Some(before) => before,
            None => *self.before.insert(file.lines_before(self.began_at)?),
        };
        Ok(before + line)
    }
}
