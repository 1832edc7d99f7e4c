//! Lines of text from TCP connections.

mod connection;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use connection::{Connection, Ended, LineReader};

use super::signal::lock;
use super::{Fetched, ReadState, Reader, Replay, Resume, Source, Undecodable, Waker};
use crate::error::Error;
use crate::time::clock::{Clock, SystemClock};

/// How long to wait when the machine has no file descriptor left for another connection.
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

/// Lines of UTF-8 text from TCP connections, without their line ends.
///
/// A line that was read but not committed is gone with the process. The position of a line is
/// its index in its partition. A connection that is closed ends its partition; a last line
/// without a line end counts.
///
/// [`listen`](TcpLines::listen) makes each connection that is accepted a partition of its own,
/// and never ends by itself. [`connect`](TcpLines::connect) makes each address a partition.
/// Sockets are open from the start of the flow to its end; a slow flow slows its peers down.
///
/// ```
/// use highwater::source::{Source, TcpLines};
/// let source = TcpLines::listen("127.0.0.1:0").line_limit(1_000);
/// assert_eq!(source.local_addr(), None); // the port is bound when the flow starts
/// assert_eq!(source.describe(), "TcpLines(listening on 127.0.0.1:0)");
/// assert!(!source.is_complete());
/// ```
#[derive(Clone, Debug)]
pub struct TcpLines {
    role: Role,
    line_limit_bytes: usize,
    undecodable: Undecodable,
    /// Of the current run; shared by the clones.
    running: Arc<Mutex<Option<Running>>>,
}

#[derive(Clone, Debug)]
enum Role {
    Listen(String),
    Connect(Vec<String>),
}

/// The sockets of one run, and the thread that serves them.
struct Running {
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
    local_addr: Option<SocketAddr>,
    peers: Arc<Mutex<Peers>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // The plain drop of a runtime waits for its thread, and panics in async code.
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("local_addr", &self.local_addr).finish_non_exhaustive()
    }
}

/// The partitions of one run.
#[derive(Default)]
struct Peers {
    names: Vec<String>,
    /// Connections that no reader has taken over yet.
    unopened: BTreeMap<String, Connection>,
}

impl Peers {
    fn add(&mut self, name: String, connection: Connection) {
        self.names.push(name.clone());
        self.unopened.insert(name, connection);
    }
}

impl TcpLines {
    /// A server: listens on an address such as `0.0.0.0:7000`; port 0 takes any free port. Each
    /// connection becomes a partition named `peer#n`, where `n` rises with every connection, over
    /// restarts too.
    #[must_use]
    pub fn listen(address: impl Into<String>) -> Self {
        Self::new(Role::Listen(address.into()))
    }

    /// A client: connects to each address, and reads what it sends. A connection that is refused
    /// or breaks stops the flow.
    #[must_use]
    pub fn connect<A: Into<String>>(addresses: impl IntoIterator<Item = A>) -> Self {
        Self::new(Role::Connect(addresses.into_iter().map(Into::into).collect()))
    }

    fn new(role: Role) -> Self {
        TcpLines {
            role,
            line_limit_bytes: 1024 * 1024,
            undecodable: Undecodable::Fail,
            running: Arc::default(),
        }
    }

    /// What to do with lines that are not valid UTF-8; by default the flow stops.
    #[must_use]
    pub fn undecodable(mut self, policy: Undecodable) -> Self {
        self.undecodable = policy;
        self
    }

    /// The longest line in bytes, 1 MiB by default. A longer one always stops the flow, for its
    /// end may never come.
    #[must_use]
    pub fn line_limit(mut self, bytes: usize) -> Self {
        self.line_limit_bytes = bytes;
        self
    }

    /// The address that is listened on; `None` before the flow has started, and for
    /// [`connect`](TcpLines::connect). Ask a clone: the source itself moves into the flow.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        lock(&self.running).as_ref().and_then(|running| running.local_addr)
    }

    fn start_listening(&self, address: &str, waker: Waker) -> Result<Running, Error> {
        let failed = |e| Error::io(format!("cannot listen on `{address}`"), e);
        let runtime = runtime()?;
        let listener = std::net::TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let local_addr = Some(listener.local_addr().map_err(failed)?);
        let listener = {
            let _entered = runtime.enter();
            TcpListener::from_std(listener).map_err(failed)?
        };
        let peers = Arc::default();
        runtime.spawn(accept(listener, Arc::clone(&peers), waker, self.line_limit_bytes));
        Ok(Running { runtime: Some(runtime), local_addr, peers })
    }

    fn start_connecting(&self, addresses: &[String], waker: &Waker) -> Result<Running, Error> {
        let runtime = runtime()?;
        let mut peers = Peers::default();
        let limit = self.line_limit_bytes;
        for address in addresses {
            let (connection, writer) = connection::open(waker.for_partition(address));
            peers.add(address.clone(), connection);
            let address = address.clone();
            runtime.spawn(async move {
                match TcpStream::connect(&address).await {
                    Ok(stream) => {
                        if let Err(error) = writer.pump(stream, limit).await {
                            let what = format!("the connection to `{address}` broke");
                            writer.fail(Error::io(what, error)).await;
                        }
                    }
                    Err(e) => {
                        let what = format!("cannot connect to `{address}`");
                        writer.fail(Error::io(what, e)).await;
                    }
                }
            });
        }
        let peers = Arc::new(Mutex::new(peers));
        Ok(Running { runtime: Some(runtime), local_addr: None, peers })
    }

    fn peers(&self) -> Result<Arc<Mutex<Peers>>, Error> {
        match lock(&self.running).as_ref() {
            Some(running) => Ok(running.peers.clone()),
            None => Err(Error::bug("a TCP source was used before it was attached")),
        }
    }
}

/// One thread is enough: lines are cut on the workers, so that it only moves bytes.
fn runtime() -> Result<Runtime, Error> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("highwater-tcp")
        .enable_all()
        .build()
        .map_err(|e| Error::io("cannot start the thread of a TCP source", e))
}

/// A peer that breaks its connection ends its partition: it must not be able to stop the flow.
async fn accept(listener: TcpListener, peers: Arc<Mutex<Peers>>, waker: Waker, limit: usize) {
    // The clock makes names of this run differ from those of earlier ones, which have ended.
    let mut number = SystemClock::new().now_micros();
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let name = format!("{peer}#{number}");
        let (connection, writer) = connection::open(waker.for_partition(&name));
        lock(&peers).add(name, connection);
        number += 1;
        waker.wake();
        tokio::spawn(async move {
            if let Err(error) = writer.pump(stream, limit).await {
                tracing::warn!(%peer, %error, "a connection broke: its partition ends here");
            }
        });
    }
}

/// Reads a connection, and forgets its name at its end: a server that runs for years would
/// otherwise list all connections that it ever had.
struct Forgotten {
    reader: LineReader,
    name: String,
    peers: Arc<Mutex<Peers>>,
}

impl Reader<String> for Forgotten {
    fn read(&mut self, limit: usize, fetched: &mut Fetched<String>) -> Result<ReadState, Error> {
        let state = self.reader.read(limit, fetched)?;
        if state == ReadState::End {
            lock(&self.peers).names.retain(|name| *name != self.name);
        }
        Ok(state)
    }

    fn position(&self) -> u64 {
        self.reader.position()
    }
}

impl Source for TcpLines {
    type Item = String;

    fn describe(&self) -> String {
        match &self.role {
            Role::Listen(address) => format!("TcpLines(listening on {address})"),
            Role::Connect(addresses) => format!("TcpLines({})", addresses.join(", ")),
        }
    }

    fn replay(&self) -> Replay {
        Replay::Lost
    }

    fn partitions(&self) -> Result<Vec<String>, Error> {
        match &self.role {
            Role::Listen(_) => Ok(lock(&*self.peers()?).names.clone()),
            Role::Connect(addresses) => Ok(addresses.clone()),
        }
    }

    fn is_complete(&self) -> bool {
        matches!(self.role, Role::Connect(_))
    }

    fn open(&self, partition: &str, resume: &Resume) -> Result<Box<dyn Reader<String>>, Error> {
        let all = self.peers()?;
        let mut peers = lock(&all);
        let position = resume.position;
        match peers.unopened.remove(partition) {
            Some(connection) => {
                let (policy, limit) = (self.undecodable, self.line_limit_bytes);
                let reader = LineReader::new(connection, partition, position, policy, limit);
                Ok(Box::new(Forgotten { reader, name: partition.to_owned(), peers: all.clone() }))
            }
            None if peers.names.iter().any(|name| name == partition) => {
                Err(Error::bug(format!("connection `{partition}` was opened twice")))
            }
            // A connection of an earlier run: it is closed by now.
            None => Ok(Box::new(Ended { position })),
        }
    }

    fn attach(&self, waker: Waker) -> Result<(), Error> {
        // What is left of an earlier run goes first: it may hold the port.
        self.detach();
        let running = match &self.role {
            Role::Listen(address) => self.start_listening(address, waker)?,
            Role::Connect(addresses) => self.start_connecting(addresses, &waker)?,
        };
        *lock(&self.running) = Some(running);
        Ok(())
    }

    fn detach(&self) {
        lock(&self.running).take();
    }

    fn undecodable(&self) -> Undecodable {
        self.undecodable
    }
}

#[cfg(test)]
mod tests;
