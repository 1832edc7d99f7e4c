//! Which start of a flow may write to a target with transactions, and which letters it has.
//!
//! The target keeps a [`Mark`] beside the rows. A start raises its incarnation there, which
//! shuts out every start before it (a *fencing token*), and each transaction writes the stamp of
//! its letter. The sink keeps its incarnation in the token of each commit; so it knows its own
//! letters again, and notices when a target has been written to by a run that its state knows
//! nothing of.

use super::Opening;
use crate::error::Error;
use crate::time::Tick;

/// What a target knows of a sink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The incarnation of the latest start.
    pub incarnation: u64,
    /// The last letter that the target has taken.
    pub sent: Option<Stamp>,
}

/// By what a letter is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Of the start that sent the letter.
    pub sent_by: u64,
    /// Of the start that made it, in a commit of its own.
    pub made_by: u64,
    /// The last tick of that commit.
    pub tick: Tick,
}

/// A start's right to write to a target.
///
/// ```
/// use highwater::sink::{Claim, Mark, Opening};
/// use highwater::Tick;
///
/// // The first start finds an empty target, and raises the incarnation there to 1.
/// let opening = Opening { flow: "f", sink: "s", token: None, committed: Tick(0), letters: 0 };
/// let claim = Claim::raise(&opening, None, false)?;
/// let mut mark = claim.mark();
///
/// // It sends a letter, twice, since it does not know whether the first one arrived.
/// assert!(claim.takes(&mark, Tick(4))?);
/// mark.sent = Some(claim.stamp(Tick(4)));
/// assert!(!claim.takes(&mark, Tick(4))?);
///
/// // A second copy of the flow shuts it out.
/// let token = claim.token();
/// let opening = Opening { token: Some(&token), committed: Tick(4), ..opening };
/// mark = Claim::raise(&opening, Some(&mark), false)?.mark();
/// assert!(claim.takes(&mark, Tick(5)).is_err());
/// # Ok::<(), highwater::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    incarnation: u64,
    /// The start that made the letters of commits up to `committed`.
    before: u64,
    committed: Tick,
    sent: Option<Stamp>,
}

impl Claim {
    /// The claim of a start that found `mark` in the target, to be written there, as
    /// [`mark`](Self::mark), in one transaction with having read it.
    ///
    /// With `adopt` the state is right whatever the target holds: what the state has no commit of
    /// will be in the target a second time. It is for one start, after a restore.
    ///
    /// # Errors
    /// Where the target holds output of a run that the state knows nothing of: the state is an
    /// older copy, or has been restored from a snapshot. Where the target has forgotten what the
    /// state knows to be there; one that knows nothing at all is let pass if nothing is to be sent
    /// that it may have.
    pub fn raise(opening: &Opening<'_>, mark: Option<&Mark>, adopt: bool) -> Result<Self, Error> {
        // Sinks of other kinds, or that promise less, leave none.
        let token = opening.token.filter(|token| !token.is_empty());
        let own = match token.map(incarnation_of).transpose() {
            Ok(own) => own.unwrap_or(0),
            Err(_) if adopt => 0,
            Err(error) => return Err(error),
        };
        let sent = mark.and_then(|mark| mark.sent);
        let incarnation = mark.map_or(0, |mark| mark.incarnation).max(own) + 1;
        let committed = opening.committed;
        if adopt {
            return Ok(Claim { incarnation, before: incarnation, committed, sent });
        }
        if mark.map_or(opening.letters > 0 && own > 0, |mark| mark.incarnation < own) {
            return Err(Error::state(
                "the target has forgotten what it has: it was made anew, restored from an older \
                 backup, or idle for too long. Let the sink adopt the target: output of the last \
                 commit is then sent again, and what the target has lost is not",
            ));
        }
        match sent {
            Some(sent) if sent.made_by == own && sent.tick > committed => {
                return Err(unknown(sent, "commits that this state does not have"));
            }
            // What was made by our last start may have been sent by one that made no commit.
            Some(sent) if sent.made_by != own && sent.sent_by > own => {
                if own == 0 {
                    return Err(without_state(sent));
                }
                return Err(unknown(sent, "a run that this state knows nothing of"));
            }
            _ => {}
        }
        Ok(Claim { incarnation, before: own, committed, sent })
    }

    /// What the target is to know of this start.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark { incarnation: self.incarnation, sent: self.sent }
    }

    /// What [`SinkWriter::stage`](super::SinkWriter::stage) returns, or begins with. Until that is
    /// in a commit the next start does not know of this claim:
    /// [`SinkWriter::due_micros`](super::SinkWriter::due_micros) asks for one.
    #[must_use]
    pub fn token(&self) -> Vec<u8> {
        self.incarnation.to_le_bytes().to_vec()
    }

    /// The stamp of the letter of a commit.
    #[must_use]
    pub fn stamp(&self, tick: Tick) -> Stamp {
        let made_by = if tick <= self.committed { self.before } else { self.incarnation };
        Stamp { sent_by: self.incarnation, made_by, tick }
    }

    /// Whether a target with this mark takes the letter of a commit; if not, it has it already.
    /// To be asked in the transaction that would take it.
    ///
    /// # Errors
    /// Where a later start has claimed the target: this one must end.
    pub fn takes(&self, mark: &Mark, tick: Tick) -> Result<bool, Error> {
        if mark.incarnation != self.incarnation {
            return Err(Error::state(format!(
                "another start of the flow has taken over the target (incarnation {}, this one \
                 is {}): only one may run",
                mark.incarnation, self.incarnation
            )));
        }
        let stamp = self.stamp(tick);
        Ok(mark.sent.is_none_or(|sent| (sent.made_by, sent.tick) < (stamp.made_by, stamp.tick)))
    }
}

fn incarnation_of(token: &[u8]) -> Result<u64, Error> {
    let bytes = token.first_chunk();
    let bytes = bytes.ok_or_else(|| Error::state("the sink's token is not one of its own"))?;
    Ok(u64::from_le_bytes(*bytes))
}

/// Nothing was sent from this state, and the target has something.
fn without_state(sent: Stamp) -> Error {
    Error::state(format!(
        "the target holds output of an earlier run of the flow (incarnation {}, tick {}), and this \
         state is new: it is in memory, in another directory than before, or that was deleted. \
         Start with the state of that run; to process everything again, empty the target and \
         let the sink adopt it, for output that is left there will be there twice",
        sent.made_by, sent.tick.0
    ))
}

fn unknown(sent: Stamp, of: &str) -> Error {
    Error::state(format!(
        "the target holds output of {of} (incarnation {}, tick {}): the state is an older copy or \
         was restored from a snapshot. Start with the newest state, or let the sink adopt the \
         target: what came after this state's last commit will then be there twice",
        sent.made_by, sent.tick.0
    ))
}

#[cfg(test)]
mod tests;
