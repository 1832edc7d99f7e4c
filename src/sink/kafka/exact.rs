//! Exactly once: the records of a commit and the mark that says so, in one transaction.
//!
//! A session shuts out every producer before it, and then reads the mark. So between reading and
//! committing nobody else can write; and whatever went wrong, also where it is not known whether
//! a transaction was committed, is settled by a new session.

use std::time::Duration;

use super::checks::{Limits, check};
use super::failure::{Failure, strike};
use super::fault::KafkaPoint;
use super::letter::join;
use super::marks::Marks;
use super::session::Session;
use super::target::{Target, Waiting};
use crate::error::Error;
use crate::sink::{Chunk, Claim, CommitInfo, Letter, Mark, Opening, SinkWriter};
use crate::time::Tick;

pub(super) struct Exact {
    target: Target,
    id: String,
    claim: Claim,
    /// `None` after a failure.
    session: Option<Session>,
    /// In the target, as far as is known.
    mark: Mark,
    /// Output of the next commit.
    letter: Vec<u8>,
    limits: Limits,
    /// The tick clock at the last commit, and when the mark was written last.
    now_micros: i64,
    marked_micros: Option<i64>,
}

/// Claims the topic for this start of the flow.
pub(super) fn open(target: &Target, opening: &Opening<'_>) -> Result<Exact, Error> {
    let mut waiting = Waiting::new(target.patience);
    let id = target.id(opening);
    let limits = check(target, &waiting)?;
    loop {
        let failure = match claim(target, &id, opening, &mut waiting) {
            Ok((claim, session)) => {
                return Ok(Exact {
                    target: target.clone(),
                    id,
                    claim,
                    session: Some(session),
                    mark: claim.mark(),
                    letter: Vec::new(),
                    limits,
                    now_micros: 0,
                    marked_micros: None,
                });
            }
            Err(failure) => failure,
        };
        match failure {
            Failure::Passing(error) if !waiting.is_over() => again(&error, &mut waiting),
            failure => return Err(failure.error()),
        }
    }
}

fn claim(
    target: &Target,
    id: &str,
    opening: &Opening<'_>,
    waiting: &mut Waiting,
) -> Result<(Claim, Session), Failure> {
    let (session, mark) = Session::open(target, id, waiting)?;
    let claim = Claim::raise(opening, mark.as_ref(), target.adopt)?;
    session.transact(target, None, &claim.mark(), waiting)?;
    Ok((claim, session))
}

fn again(error: &Error, waiting: &mut Waiting) {
    tracing::warn!("a Kafka sink tries again: {error:?}");
    waiting.pause();
}

impl Exact {
    /// Brings a letter, or the mark alone, to the topic.
    fn deliver(&mut self, letter: Option<&Letter<'_>>) -> Result<(), Error> {
        let mut waiting = Waiting::new(self.target.patience);
        loop {
            let Err(failure) = self.attempt(letter, &mut waiting) else { return Ok(()) };
            let session = self.session.take();
            match failure {
                Failure::Passing(error) if !waiting.is_over() => {
                    drop(session);
                    again(&error, &mut waiting);
                }
                Failure::Passing(error) => return Err(self.gave_up(error)),
                Failure::Final(error) => {
                    if let Some(session) = session {
                        session.abort();
                    }
                    return Err(error);
                }
                Failure::Struck(error) => return Err(error),
            }
        }
    }

    fn attempt(
        &mut self,
        letter: Option<&Letter<'_>>,
        waiting: &mut Waiting,
    ) -> Result<(), Failure> {
        let session = match self.session.take() {
            Some(session) => session,
            None => self.reopen(waiting)?,
        };
        let session = self.session.insert(session);
        let mut mark = self.mark;
        if let Some(letter) = letter {
            if !self.claim.takes(&mark, letter.tick)? {
                return Ok(());
            }
            mark.sent = Some(self.claim.stamp(letter.tick));
        }
        session.transact(&self.target, letter.map(|letter| letter.bytes), &mark, waiting)?;
        self.mark = mark;
        self.marked_micros = Some(self.now_micros);
        Ok(())
    }

    /// A new session on the same claim, unless somebody else has claimed the topic since.
    fn reopen(&mut self, waiting: &mut Waiting) -> Result<Session, Failure> {
        // Whoever has claimed it is not to be shut out. Our own transaction may still be open, and
        // only a new session ends it.
        let mark = Marks::look(&self.target, &self.id)?.read(waiting)?;
        self.still_ours(mark)?;
        let (session, mark) = Session::open(&self.target, &self.id, waiting)?;
        self.mark = self.still_ours(mark)?;
        Ok(session)
    }

    fn still_ours(&self, mark: Option<Mark>) -> Result<Mark, Error> {
        let forgotten = || {
            Error::state(format!(
                "the group `{}` has forgotten its offset, which it had when this flow started: \
                 the topic or the group was deleted",
                self.id
            ))
        };
        let mark = mark.ok_or_else(forgotten)?;
        self.claim.takes(&mark, Tick(0))?;
        Ok(mark)
    }

    fn gave_up(&self, error: Error) -> Error {
        let Target { topic, patience, .. } = &self.target;
        let what = format!(
            "the output of a commit could not be brought to the topic `{topic}` within \
             {patience:?}. Nothing is lost: start the flow again when the cluster can be reached"
        );
        Error::io(what, error)
    }

    fn renew_at(&self) -> Option<i64> {
        let after = micros(self.limits.renew_after);
        self.marked_micros.map(|marked| marked.saturating_add(after))
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

impl SinkWriter for Exact {
    fn write(&mut self, _: Tick, chunk: Chunk) -> Result<(), Error> {
        let chunk = chunk.downcast::<Vec<u8>>();
        join(&mut self.letter, *chunk.map_err(|_| Error::bug("a chunk of another sink"))?);
        Ok(())
    }

    fn stage(&mut self, commit: &CommitInfo) -> Result<Vec<u8>, Error> {
        self.now_micros = commit.clock_micros;
        // The claim was written at the start, after which a commit is due at once.
        self.marked_micros.get_or_insert(commit.clock_micros);
        Ok(self.claim.token())
    }

    /// A claim that is in no commit is not this flow's at the next start, and a mark that is not
    /// renewed would be forgotten: commits are made for their sake.
    fn due_micros(&self) -> Option<i64> {
        Some(self.renew_at().unwrap_or(i64::MIN))
    }

    fn outbox(&mut self) -> Option<Vec<u8>> {
        let letter = std::mem::take(&mut self.letter);
        if letter.is_empty() { None } else { Some(letter) }
    }

    fn send(&mut self, letter: &Letter<'_>) -> Result<(), Error> {
        strike(&self.target, KafkaPoint::Letter).map_err(Failure::error)?;
        self.deliver(Some(letter))
    }

    fn publish(&mut self) -> Result<(), Error> {
        if self.renew_at().is_some_and(|at| self.now_micros >= at) {
            self.deliver(None)?;
        }
        Ok(())
    }
}
