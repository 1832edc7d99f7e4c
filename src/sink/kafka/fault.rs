//! Places at which a test ends the sink as a crash would, or leaves its client behind.

/// Where a sink is, on its way to exactly once.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KafkaPoint {
    /// At a start: nothing has been asked of the broker.
    Start,
    /// Older producers are shut out.
    Fenced,
    /// The mark has been read.
    Read,
    /// The transaction of the claim has begun.
    Claiming,
    /// The claim has been sent, in a transaction that is open.
    ClaimSent,
    /// The claim's commit has been asked for; the answer is lost.
    ClaimUnanswered,
    /// The claim is committed.
    Claimed,
    /// A letter is to be sent.
    Letter,
    /// Its transaction has begun.
    Begun,
    /// So many of its records have been given to the client.
    Produced(usize),
    /// The mark has been sent; the client never says so. It is left behind, and the sink goes on.
    MarkUnanswered,
    /// The mark has been sent.
    Marked,
    /// All records have arrived.
    Flushed,
    /// The commit has been asked for; the answer is lost.
    Unanswered,
    /// The commit has been answered.
    Committed,
}

/// What decides where the sink ends.
pub(super) type Strikes = std::sync::Arc<dyn Fn(KafkaPoint) -> bool + Send + Sync>;
