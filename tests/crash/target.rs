//! A target with transactions, as a database is one: rows and token change in one step.

use std::path::{Path, PathBuf};

use highwater::prelude::*;
use highwater::sink::{
    Chunk, Claim, CommitInfo, Encoder, Guarantee, Letter, Mark, Opening, Sink, SinkWriter, Stamp,
};
use highwater::testing::SimDisk;
use highwater::{BoxError, WindowResult};
use highwater_state::files::Files;

use crate::pipelines::{Ground, Kind, Pipeline};

type Row = WindowResult<u8, u64>;

pub const TRANSACTIONS: Pipeline = Pipeline {
    name: "windows to a target with transactions",
    flow,
    finish: false,
    operators: &[("counts", Kind::Counts)],
};

fn flow(ground: &Ground) -> Flow {
    let flow = Flow::new("transactions");
    let counts = ground
        .events(&flow)
        .key_by(|e| &e.key)
        .window("counts", Tumbling::of(seconds(10)))
        .aggregate(Count);
    counts.late().sink("late", ground.lines("late"));
    counts.sink("out", Target(ground.target.clone().expect("a disk for the target")));
    flow
}

struct Target(SimDisk);

impl Sink<Row> for Target {
    fn describe(&self) -> String {
        "a table".to_owned()
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn encoder(&self) -> Box<dyn Encoder<Row>> {
        Box::new(Lines(Vec::new()))
    }

    fn open(&self, opening: &Opening<'_>) -> Result<Box<dyn SinkWriter>, Error> {
        let failed = |error| Error::io("cannot claim the table", error);
        let disk = &self.0;
        let (mark, rows) = read(disk).map_err(failed)?;
        let claim = Claim::raise(opening, Some(&mark), false)?;
        write(disk, &claim.mark(), &rows).map_err(failed)?;
        Ok(Box::new(Writer { disk: disk.clone(), claim, rows: Vec::new() }))
    }
}

struct Lines(Vec<u8>);

impl Encoder<Row> for Lines {
    fn encode(&mut self, rows: Vec<Row>, _: &[EventTime]) -> Result<(), BoxError> {
        for row in rows {
            let line = format!("{} {} {}\n", row.key, row.window.start, row.value);
            self.0.extend_from_slice(line.as_bytes());
        }
        Ok(())
    }

    fn take(&mut self) -> Option<Chunk> {
        let lines = std::mem::take(&mut self.0);
        if lines.is_empty() { None } else { Some(Box::new(lines)) }
    }
}

struct Writer {
    disk: SimDisk,
    claim: Claim,
    rows: Vec<u8>,
}

const DIR: &str = "out/table";

fn path(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

/// The mark, and the rows behind it.
fn read(disk: &SimDisk) -> std::io::Result<(Mark, String)> {
    disk.create_dir(Path::new(DIR))?;
    if !disk.list(Path::new(DIR))?.contains_key("part-table") {
        return Ok((Mark::default(), String::new()));
    }
    let text = String::from_utf8(disk.read(&path("part-table"))?).unwrap();
    let (head, rows) = text.split_once('\n').unwrap();
    let numbers: Vec<u64> = head[1..].split(' ').map(|number| number.parse().unwrap()).collect();
    let sent = match numbers[1..] {
        [sent_by, made_by, tick] => Some(Stamp { sent_by, made_by, tick: Tick(tick) }),
        _ => None,
    };
    Ok((Mark { incarnation: numbers[0], sent }, rows.to_owned()))
}

/// Rows and mark in one step: the rename.
fn write(disk: &SimDisk, mark: &Mark, rows: &str) -> std::io::Result<()> {
    if disk.list(Path::new(DIR))?.contains_key("next") {
        disk.remove(&path("next"))?;
    }
    let mut head = format!("#{}", mark.incarnation);
    if let Some(sent) = mark.sent {
        head += &format!(" {} {} {}", sent.sent_by, sent.made_by, sent.tick.0);
    }
    let mut file = disk.open(&path("next"), None)?;
    file.append(format!("{head}\n{rows}").as_bytes())?;
    file.sync()?;
    disk.rename(&path("next"), &path("part-table"))?;
    disk.sync_dir(Path::new(DIR))
}

impl SinkWriter for Writer {
    fn write(&mut self, _: Tick, chunk: Chunk) -> Result<(), Error> {
        self.rows.extend_from_slice(&chunk.downcast::<Vec<u8>>().unwrap());
        Ok(())
    }

    fn stage(&mut self, _: &CommitInfo) -> Result<Vec<u8>, Error> {
        Ok(self.claim.token())
    }

    fn outbox(&mut self) -> Option<Vec<u8>> {
        let rows = std::mem::take(&mut self.rows);
        if rows.is_empty() { None } else { Some(rows) }
    }

    fn send(&mut self, letter: &Letter<'_>) -> Result<(), Error> {
        let failed = |error| Error::io("cannot write the table", error);
        let (mut mark, rows) = read(&self.disk).map_err(failed)?;
        if self.claim.takes(&mark, letter.tick)? {
            mark.sent = Some(self.claim.stamp(letter.tick));
            let rows = rows + std::str::from_utf8(letter.bytes).unwrap();
            write(&self.disk, &mark, &rows).map_err(failed)?;
        }
        Ok(())
    }
}
