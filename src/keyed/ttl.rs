//! How long state is kept after it was last used.

use std::collections::BTreeMap;
use std::fmt;

use crate::time::{EventTime, Span, Watermark};

/// How long, in event time, the state of a key is kept after its last write, or its last write
/// or read. An event at or after that time finds no state; the state itself goes when the
/// watermark has passed that time.
///
/// ```
/// use highwater::{hours, Ttl};
/// assert_eq!(Ttl::from_write(hours(1)).to_string(), "ttl 1h from the last write");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ttl {
    pub(crate) span: Span,
    pub(crate) on_read: bool,
}

impl Ttl {
    /// Kept for `span` after the last write.
    #[must_use]
    pub fn from_write(span: Span) -> Self {
        Ttl { span, on_read: false }
    }

    /// Kept for `span` after the last write or read.
    #[must_use]
    pub fn from_read(span: Span) -> Self {
        Ttl { span, on_read: true }
    }

    /// The first time at which state that was touched at `touched` is no longer there.
    pub(crate) fn end(&self, touched: EventTime) -> EventTime {
        touched + self.span
    }

    pub(crate) fn fault(&self) -> Option<String> {
        (self.span <= Span::ZERO).then(|| format!("{self}: it must be longer than nothing"))
    }
}

impl fmt::Display for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.on_read { "write or read" } else { "write" };
        write!(f, "ttl {} from the last {what}", self.span)
    }
}

/// Which keys to look at when: an entry is made when a key gets state, and made anew at the
/// state's real end if it was used meanwhile. So using state costs nothing here.
pub(crate) struct Expiries<K> {
    /// By time, then in the order in which they were listed.
    due: BTreeMap<(EventTime, u64), (u64, K)>,
    listed: u64,
}

impl<K> Default for Expiries<K> {
    fn default() -> Self {
        Expiries { due: BTreeMap::new(), listed: 0 }
    }
}

impl<K> Expiries<K> {
    pub(crate) fn push(&mut self, end: EventTime, hash: u64, key: K) {
        self.listed += 1;
        self.due.insert((end, self.listed), (hash, key));
    }

    /// The keys whose time the watermark has reached.
    pub(crate) fn pop(&mut self, watermark: Watermark) -> Vec<(u64, K)> {
        let mut keys = Vec::new();
        while let Some(entry) = self.due.first_entry() {
            if !is_over(entry.key().0, watermark) {
                break;
            }
            keys.push(entry.remove());
        }
        keys
    }
}

/// Whether no event can come any more that would find state with this end.
pub(crate) fn is_over(end: EventTime, watermark: Watermark) -> bool {
    match watermark {
        Watermark::Unknown => false,
        Watermark::At(time) => end <= time,
        Watermark::End => true,
    }
}
