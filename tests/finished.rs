//! A flow that finished is finished, but for the output that a crash after its last commit left
//! hidden: the next start shows it.

use std::path::Path;

use highwater::prelude::*;
use highwater::sink::{Chunk, CommitInfo, Encoder, Guarantee, Opening, Sink, SinkWriter};

/// JSON lines whose process dies when the last commit is durable, and before its output is shown.
struct Dying(JsonLines);

struct DyingWriter {
    inner: Box<dyn SinkWriter>,
    last: bool,
}

impl Sink<u64> for Dying {
    fn describe(&self) -> String {
        Sink::<u64>::describe(&self.0)
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn encoder(&self) -> Box<dyn Encoder<u64>> {
        Sink::<u64>::encoder(&self.0)
    }

    fn open(&self, opening: &Opening<'_>) -> Result<Box<dyn SinkWriter>, Error> {
        let inner = Sink::<u64>::open(&self.0, opening)?;
        Ok(Box::new(DyingWriter { inner, last: false }))
    }
}

impl SinkWriter for DyingWriter {
    fn write(&mut self, tick: Tick, chunk: Chunk) -> Result<(), Error> {
        self.inner.write(tick, chunk)
    }

    fn stage(&mut self, commit: &CommitInfo) -> Result<Vec<u8>, Error> {
        self.last = commit.last;
        self.inner.stage(commit)
    }

    fn publish(&mut self) -> Result<(), Error> {
        match self.last {
            true => Err(Error::io("it died", "before the output was shown")),
            false => self.inner.publish(),
        }
    }
}

const ROWS: u64 = 1_000;

fn run(dir: &Path, sink: impl Sink<u64>) -> Result<(), Error> {
    let flow = Flow::new("finished");
    flow.source("rows", Memory::of(0..ROWS)).sink("out", sink);
    flow.run(Settings::at(dir.join("state")).workers(1))
}

/// Lines of the files that are visible.
fn shown(dir: &Path) -> Vec<u64> {
    let Ok(files) = std::fs::read_dir(dir) else { return Vec::new() };
    let names = files.map(|file| file.unwrap().path());
    let visible =
        names.filter(|path| !path.file_name().unwrap().to_string_lossy().starts_with('.'));
    let texts = visible.map(|path| std::fs::read_to_string(path).unwrap());
    let mut rows: Vec<u64> = texts
        .flat_map(|text| text.lines().map(|l| l.parse().unwrap()).collect::<Vec<_>>())
        .collect();
    rows.sort_unstable();
    rows
}

#[test]
fn what_the_last_commit_left_hidden_is_shown_by_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let error = run(dir.path(), Dying(JsonLines::to(&out))).unwrap_err();
    assert_eq!(error.operator(), Some("out"), "{error:?}");
    assert!(shown(&out).len() < ROWS as usize, "there was nothing left to be shown");
    for _ in 0..2 {
        run(dir.path(), JsonLines::to(&out)).unwrap();
        assert_eq!(shown(&out), (0..ROWS).collect::<Vec<_>>());
    }
}
