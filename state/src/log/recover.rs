//! Reads what earlier lives left in the log.

use std::path::Path;
use std::sync::Arc;

use super::group::{Group, decode, later_group};
use super::{HEAD, Head, parse_name};
use crate::base::Position;
use crate::files::Files;
use crate::planted::planted;
use crate::{Commit, Error};

/// No commit and no life of a log has a number as large: so the next one has a number, too.
const NO_NUMBER: u64 = 1 << 62;

/// What the log holds after the base.
pub(crate) struct Recovered {
    /// The last life of the log; 0 if there is none.
    pub(crate) incarnation: u64,
    pub(crate) commits: Vec<(Position, Arc<Commit>)>,
}

/// Reads the commits after `base`, and refuses a log that does not continue it, or that is
/// missing though it was `started`.
///
/// # Errors
/// Where the log is damaged before its end, has a gap, or belongs to another base.
pub(crate) fn recover(
    files: &dyn Files,
    dir: &Path,
    base: Position,
    started: bool,
) -> Result<Recovered, Error> {
    let failed = |e: std::io::Error| Error::io(dir, &e);
    let listed = files.list(dir).map_err(failed)?;
    let mut segments: Vec<(u64, u64, String)> = Vec::new();
    for name in listed.keys() {
        match parse_name(name) {
            Some((incarnation, first)) if incarnation.max(first) < NO_NUMBER => {
                segments.push((incarnation, first, name.clone()));
            }
            // What was being written when an earlier life ended.
            None if name.ends_with(".tmp") => {}
            _ => return Err(damaged(dir, name, "is no segment of the log")),
        }
    }
    segments.sort();
    let Some(&(incarnation, ..)) = segments.last() else {
        if started {
            return Err(Error::Corrupt(format!("the log is missing in {}", dir.display())));
        }
        return Ok(Recovered { incarnation: 0, commits: Vec::new() });
    };
    // The first segment of a life is complete before it gets its name, and holds the whole
    // tail: what earlier lives left is older.
    segments.retain(|segment| segment.0 == incarnation);
    let mut reader = Chain { dir, incarnation, base, end: None, commits: Vec::new() };
    let read = |(_, first, name): &(u64, u64, String)| {
        let bytes = files.read(&dir.join(name)).map_err(failed)?;
        Ok::<_, Error>(Segment { name: name.clone(), first: *first, bytes })
    };
    let mut segments = segments.iter().map(read).peekable();
    while let Some(segment) = segments.next() {
        let next = match segments.peek() {
            None => Next::None,
            Some(Ok(next)) => next.as_next(),
            Some(Err(_)) => Next::Unknown,
        };
        reader.segment(&segment?, next)?;
    }
    let end = reader.end.unwrap_or_default();
    if end.seq < base.seq {
        let message = format!("ends at commit {}, and the base holds commit {}", end.seq, base.seq);
        return Err(damaged(dir, "the log", &message));
    }
    Ok(Recovered { incarnation, commits: reader.commits })
}

fn damaged(dir: &Path, name: &str, what: &str) -> Error {
    Error::Corrupt(format!("{}: `{name}` {what}", dir.display()))
}

struct Segment {
    name: String,
    first: u64,
    bytes: Vec<u8>,
}

/// What the segment behind one says of where that one ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// There is none: the last commit may be torn.
    None,
    /// The log went on from here. A commit behind it was never acknowledged.
    From(Position),
    /// It was begun for this commit, and its head was not yet durable.
    Begun(u64),
    Unknown,
}

impl Segment {
    fn as_next(&self) -> Next {
        match Head::decode(&self.bytes) {
            Some(head) => Next::From(head.before),
            None if self.bytes.len() < HEAD => Next::Begun(self.first),
            None => Next::Unknown,
        }
    }
}

impl Next {
    /// Whether what stands behind this position may be damaged.
    fn allows_end(self, end: Position) -> bool {
        match self {
            Next::None => true,
            Next::From(position) => position == end,
            Next::Begun(first) => first == end.seq + 1,
            Next::Unknown => false,
        }
    }
}

struct Chain<'a> {
    dir: &'a Path,
    incarnation: u64,
    base: Position,
    end: Option<Position>,
    commits: Vec<(Position, Arc<Commit>)>,
}

impl Chain<'_> {
    fn segment(&mut self, segment: &Segment, next: Next) -> Result<(), Error> {
        let Segment { name, first, bytes } = segment;
        let Some(head) = Head::decode(bytes) else {
            // A segment that was begun and never written to: its head was not yet durable. It was
            // begun behind the last commit, or behind the one before if that one failed.
            let follows = self.end.is_some_and(|end| *first == end.seq || *first == end.seq + 1);
            if follows && next == Next::None && !later_group(bytes, self.incarnation, 0) {
                return Ok(());
            }
            return Err(damaged(self.dir, name, "has a damaged head"));
        };
        if head.incarnation != self.incarnation || Some(head.before.seq) != first.checked_sub(1) {
            return Err(damaged(self.dir, name, "has another file's name"));
        }
        match self.end {
            None if head.before.seq > self.base.seq => {
                let message = format!(
                    "begins after commit {}, and the base ends at commit {}",
                    head.before.seq, self.base.seq
                );
                return Err(damaged(self.dir, name, &message));
            }
            Some(end) if end != head.before => {
                return Err(damaged(self.dir, name, "does not continue the segment before it"));
            }
            _ => {}
        }
        self.check_base(name, head.before)?;
        self.end = Some(head.before);
        self.groups(name, head.before, &bytes[HEAD..], next)
    }

    fn groups(
        &mut self,
        name: &str,
        mut end: Position,
        mut bytes: &[u8],
        after: Next,
    ) -> Result<(), Error> {
        // A commit that failed was never acknowledged, though all of it may be here.
        while after != Next::From(end)
            && let Some(group) = Group::first(bytes)
        {
            let next = group.head.seq.checked_sub(1) == Some(end.seq)
                && group.head.before == end.chain
                && group.head.incarnation == self.incarnation;
            if !next && !planted("other-life-accepted") {
                break;
            }
            end = group.position();
            self.check_base(name, end)?;
            if end.seq > self.base.seq {
                let commit = decode(group.payload).ok_or_else(|| {
                    damaged(
                        self.dir,
                        name,
                        &format!("holds commit {}, which adds up to none", end.seq),
                    )
                })?;
                self.commits.push((end, Arc::new(commit)));
            }
            self.end = Some(end);
            bytes = group.rest;
        }
        // Only the last commit can be torn, or one that failed: those before it were synced.
        let may_end = after.allows_end(end) && !later_group(bytes, self.incarnation, end.seq + 1);
        if !bytes.is_empty() && !may_end {
            let message = format!("is damaged after commit {}", end.seq);
            return Err(damaged(self.dir, name, &message));
        }
        Ok(())
    }

    fn check_base(&self, name: &str, position: Position) -> Result<(), Error> {
        if position.seq == self.base.seq && position.chain != self.base.chain {
            return Err(damaged(self.dir, name, "belongs to another base, or to another time"));
        }
        Ok(())
    }
}
