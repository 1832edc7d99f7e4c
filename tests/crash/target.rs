//! A target with transactions, as a database is one: rows and token change in one step.

use std::path::{Path, PathBuf};

use highwater::prelude::*;
use highwater::sink::{Chunk, Encoder, Guarantee, Letter, Sink, SinkWriter};
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

    fn open(&self, _: Option<&[u8]>) -> Result<Box<dyn SinkWriter>, Error> {
        Ok(Box::new(Writer { disk: self.0.clone(), rows: Vec::new() }))
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
    rows: Vec<u8>,
}

const DIR: &str = "out/table";

fn path(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

impl Writer {
    /// The token, and the rows behind it.
    fn read(&self) -> std::io::Result<((u64, u64), String)> {
        if !self.disk.list(Path::new(DIR))?.contains_key("part-table") {
            return Ok(((0, 0), String::new()));
        }
        let text = String::from_utf8(self.disk.read(&path("part-table"))?).unwrap();
        let (head, rows) = text.split_once('\n').unwrap();
        let (incarnation, tick) = head[1..].split_once(' ').unwrap();
        Ok(((incarnation.parse().unwrap(), tick.parse().unwrap()), rows.to_owned()))
    }

    /// Rows and token in one step: the rename.
    fn transaction(&self, letter: &Letter<'_>) -> std::io::Result<bool> {
        self.disk.create_dir(Path::new(DIR))?;
        let ((incarnation, tick), rows) = self.read()?;
        if letter.incarnation < incarnation {
            return Ok(false);
        }
        if letter.tick.0 <= tick {
            return Ok(true);
        }
        if self.disk.list(Path::new(DIR))?.contains_key("next") {
            self.disk.remove(&path("next"))?;
        }
        let mut file = self.disk.open(&path("next"), None)?;
        let head = format!("#{} {}\n", letter.incarnation, letter.tick.0);
        file.append(&[head.as_bytes(), rows.as_bytes(), letter.bytes].concat())?;
        file.sync()?;
        self.disk.rename(&path("next"), &path("part-table"))?;
        self.disk.sync_dir(Path::new(DIR))?;
        Ok(true)
    }
}

impl SinkWriter for Writer {
    fn write(&mut self, _: Tick, chunk: Chunk) -> Result<(), Error> {
        self.rows.extend_from_slice(&chunk.downcast::<Vec<u8>>().unwrap());
        Ok(())
    }

    fn outbox(&mut self) -> Option<Vec<u8>> {
        let rows = std::mem::take(&mut self.rows);
        if rows.is_empty() { None } else { Some(rows) }
    }

    fn send(&mut self, letter: &Letter<'_>) -> Result<(), Error> {
        match self.transaction(letter) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::input("a later start has been seen")),
            Err(error) => Err(Error::io("cannot write the table", error)),
        }
    }
}
