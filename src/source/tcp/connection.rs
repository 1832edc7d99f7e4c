//! One connection: bytes are moved on the runtime's thread, and cut into lines on a worker's.

use std::io::{self, BufRead};
use std::sync::Arc;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;

use crate::error::Error;
use crate::source::policy::{Bad, without_line_end};
use crate::source::signal::Signal;
use crate::source::{Fetched, ReadState, Reader, Undecodable, Waker};

/// How many chunks wait for the reader: with them full, the peer's TCP window fills.
const QUEUED_CHUNKS: usize = 8;

/// How much is read from a socket at once.
const CHUNK_BYTES: usize = 64 * 1024;

enum Chunk {
    /// Whole lines; only the last may lack its end: the connection was closed, or the line is
    /// over the limit.
    Lines(Vec<u8>),
    Failed(Error),
}

/// A connection before a reader has taken it over.
pub(super) struct Connection {
    chunks: mpsc::Receiver<Chunk>,
    signal: Arc<Signal>,
}

/// The runtime's end of a connection.
pub(super) struct Writer {
    // IMPORTANT: dropped before `closed`, which wakes the flow: it then finds the queue closed.
    chunks: mpsc::Sender<Chunk>,
    closed: RaiseOnDrop,
}

struct RaiseOnDrop(Arc<Signal>);

impl Drop for RaiseOnDrop {
    fn drop(&mut self) {
        self.0.raise();
    }
}

pub(super) fn open(waker: Waker) -> (Connection, Writer) {
    let (sender, receiver) = mpsc::channel(QUEUED_CHUNKS);
    let signal = Arc::new(Signal::waking(waker));
    let writer = Writer { chunks: sender, closed: RaiseOnDrop(signal.clone()) };
    (Connection { chunks: receiver, signal }, writer)
}

impl Writer {
    /// Moves bytes until the connection is closed, no reader is left, or a line is over the limit.
    pub(super) async fn pump(&self, mut stream: TcpStream, limit: usize) -> io::Result<()> {
        let mut pending = Vec::new();
        loop {
            pending.reserve(CHUNK_BYTES);
            let before = pending.len();
            let read = stream.read_buf(&mut pending).await?;
            if read == 0 {
                if !pending.is_empty() {
                    self.send(Chunk::Lines(pending)).await;
                }
                return Ok(());
            }
            match pending[before..].iter().rposition(|&byte| byte == b'\n') {
                Some(end) => {
                    let rest = pending.split_off(before + end + 1);
                    let lines = std::mem::replace(&mut pending, rest);
                    if !self.send(Chunk::Lines(lines)).await {
                        return Ok(());
                    }
                }
                None if pending.len() > limit.saturating_add(1) => {
                    self.send(Chunk::Lines(pending)).await;
                    return Ok(());
                }
                None => {}
            }
        }
    }

    pub(super) async fn fail(&self, error: Error) {
        self.send(Chunk::Failed(error)).await;
    }

    /// Says whether there still is a reader.
    async fn send(&self, chunk: Chunk) -> bool {
        let sent = self.chunks.send(chunk).await.is_ok();
        self.closed.0.raise();
        sent
    }
}

pub(super) struct LineReader {
    connection: Connection,
    partition: String,
    position: u64,
    policy: Undecodable,
    limit: usize,
    /// The lines of the current chunk, and where in it the next one begins.
    chunk: Vec<u8>,
    next: usize,
}

impl LineReader {
    pub(super) fn new(
        connection: Connection,
        partition: &str,
        position: u64,
        policy: Undecodable,
        limit: usize,
    ) -> Self {
        let partition = partition.to_owned();
        LineReader { connection, partition, position, policy, limit, chunk: Vec::new(), next: 0 }
    }

    /// Cuts one line off the current chunk.
    fn take_line(&mut self, fetched: &mut Fetched<String>) -> Result<(), Error> {
        let mut line = Vec::new();
        let mut rest = self.chunk.get(self.next..).unwrap_or_default();
        let read = rest.read_until(b'\n', &mut line);
        self.next += read.map_err(|e| Error::io("cannot read a line from memory", e))?;
        let position = self.position;
        self.position += 1;
        let length = without_line_end(&line).len();
        if length > self.limit {
            let error = format!("a line is longer than {} bytes", self.limit);
            return Err(Error::input(error).at_position(position));
        }
        line.truncate(length);
        match String::from_utf8(line) {
            Ok(text) => fetched.push(position, text),
            Err(e) => {
                let error = format!("invalid UTF-8: {e}");
                Bad { raw: e.as_bytes(), error, partition: &self.partition, position }
                    .settle(self.policy, fetched)?;
            }
        }
        Ok(())
    }
}

impl Reader<String> for LineReader {
    fn read(&mut self, limit: usize, fetched: &mut Fetched<String>) -> Result<ReadState, Error> {
        self.connection.signal.lower();
        let mut count = 0;
        while count < limit {
            if self.next < self.chunk.len() {
                self.take_line(fetched)?;
                count += 1;
                continue;
            }
            match self.connection.chunks.try_recv() {
                Ok(Chunk::Lines(lines)) => {
                    self.chunk = lines;
                    self.next = 0;
                }
                Ok(Chunk::Failed(error)) => return Err(error),
                Err(TryRecvError::Empty) => return Ok(ReadState::Pending),
                Err(TryRecvError::Disconnected) => return Ok(ReadState::End),
            }
        }
        Ok(ReadState::More)
    }

    fn position(&self) -> u64 {
        self.position
    }
}

/// A connection of an earlier run.
pub(super) struct Ended {
    pub(super) position: u64,
}

impl Reader<String> for Ended {
    fn read(&mut self, _limit: usize, _fetched: &mut Fetched<String>) -> Result<ReadState, Error> {
        Ok(ReadState::End)
    }

    fn position(&self) -> u64 {
        self.position
    }
}
