//! At least once: records go as they come, and a commit waits until they have arrived.

use super::checks::check;
use super::failure::Failure;
use super::output::Output;
use super::target::{Target, Waiting};
use crate::error::Error;
use crate::sink::{Chunk, CommitInfo, Letter, Opening, SinkWriter};
use crate::time::Tick;

pub(super) struct Plain {
    target: Target,
    output: Output,
}

pub(super) fn open(target: &Target, opening: &Opening<'_>) -> Result<Plain, Error> {
    check(target, &Waiting::new(target.patience))?;
    let output = Output::start(target, &target.id(opening)).map_err(Failure::error)?;
    Ok(Plain { target: target.clone(), output })
}

impl SinkWriter for Plain {
    fn write(&mut self, _: Tick, chunk: Chunk) -> Result<(), Error> {
        let chunk = chunk.downcast::<Vec<u8>>();
        let letter = chunk.map_err(|_| Error::bug("a chunk of another sink"))?;
        let waiting = Waiting::new(self.target.patience);
        self.output.produce(&letter, &waiting, |_| Ok(())).map_err(Failure::error)
    }

    /// What a run left that promised more.
    fn send(&mut self, letter: &Letter<'_>) -> Result<(), Error> {
        let waiting = Waiting::new(self.target.patience);
        let sent = self.output.produce(letter.bytes, &waiting, |_| Ok(()));
        sent.and_then(|()| self.output.arrived(&waiting)).map_err(Failure::error)
    }

    fn stage(&mut self, _: &CommitInfo) -> Result<Vec<u8>, Error> {
        let waiting = Waiting::new(self.target.patience);
        self.output.arrived(&waiting).map_err(Failure::error)?;
        Ok(Vec::new())
    }
}
