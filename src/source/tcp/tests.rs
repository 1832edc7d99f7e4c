use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener as StdListener, TcpStream as StdStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::*;
use crate::error::ErrorKind;
use crate::source::{DeadLetter, Fetched, ReadState};

const DEADLINE: Duration = Duration::from_secs(20);

/// A started source, and what tells that it woke the flow.
struct Started {
    source: TcpLines,
    wakes: mpsc::Receiver<()>,
}

fn start(source: &TcpLines) -> Started {
    let (sender, wakes) = mpsc::channel();
    let waker = Waker::new(move |_| {
        let _ = sender.send(());
    });
    source.attach(waker).unwrap();
    Started { source: source.clone(), wakes }
}

impl Started {
    fn client(&self) -> StdStream {
        StdStream::connect(self.source.local_addr().unwrap()).unwrap()
    }

    /// Waits for wakes only: a lost one would make this run into the deadline.
    fn until<R>(&self, mut found: impl FnMut() -> Option<R>) -> R {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(found) = found() {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            self.wakes.recv_timeout(left).expect("the flow was not woken");
        }
    }

    fn partitions(&self, count: usize) -> Vec<String> {
        self.until(|| Some(self.source.partitions().unwrap()).filter(|all| all.len() >= count))
    }

    fn open(&self, partition: &str, position: u64) -> Box<dyn Reader<String>> {
        self.source.open(partition, &Resume { position, check: String::new() }).unwrap()
    }

    /// Reads to the end of the partition, a few lines at a time.
    fn drain(&self, reader: &mut dyn Reader<String>) -> Result<Vec<String>, Error> {
        let mut lines = Vec::new();
        self.until(|| {
            loop {
                let mut fetched = Fetched::default();
                let state = match reader.read(3, &mut fetched) {
                    Ok(state) => state,
                    Err(error) => return Some(Err(error)),
                };
                assert!(fetched.len() <= 3);
                lines.append(&mut fetched.rows);
                match state {
                    ReadState::More => {}
                    ReadState::Pending | ReadState::Unknown => return None,
                    ReadState::End => return Some(Ok(std::mem::take(&mut lines))),
                }
            }
        })
    }
}

fn listen() -> TcpLines {
    TcpLines::listen("127.0.0.1:0")
}

#[test]
fn each_accepted_connection_is_a_partition() {
    let started = start(&listen());
    assert_eq!(started.source.partitions().unwrap(), Vec::<String>::new());
    let mut clients = [started.client(), started.client()];
    for (index, client) in clients.iter_mut().enumerate() {
        write!(client, "hello {index}\r\n\nlast").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
    }
    let partitions = started.partitions(2);
    for (index, (partition, client)) in partitions.iter().zip(&clients).enumerate() {
        let peer = client.local_addr().unwrap().to_string();
        assert_eq!(partition.split_once('#').unwrap().0, peer);
        let mut reader = started.open(partition, 0);
        let again = started.source.open(partition, &Resume::default()).err().unwrap();
        assert_eq!(again.kind(), ErrorKind::Bug);
        assert!(started.source.partitions().unwrap().contains(partition));
        let lines = started.drain(&mut *reader).unwrap();
        assert!(!started.source.partitions().unwrap().contains(partition), "it has ended");
        assert_eq!(lines, [format!("hello {index}"), String::new(), "last".to_owned()]);
        assert_eq!(reader.position(), 3);
    }
    assert!(!started.source.is_complete());
    assert_eq!(started.source.replay(), Replay::Lost);
    let mut old = started.open("127.0.0.1:9#1", 17);
    assert_eq!(started.drain(&mut *old).unwrap(), Vec::<String>::new());
    assert_eq!(old.position(), 17);
}

#[test]
fn a_slow_flow_slows_its_peer_down() {
    let started = start(&listen());
    let mut client = started.client();
    client.set_nonblocking(true).unwrap();
    let line = [b'x'; 1_000];
    let line = [&line[..999], b"\n"].concat();
    let (mut sent, mut blocked_since) = (0_usize, None::<Instant>);
    // With nobody reading, the peer can fill the queue and the sockets' buffers, and no more.
    while blocked_since.is_none_or(|since| since.elapsed() < Duration::from_millis(200)) {
        match client.write(&line[sent % line.len()..]) {
            Ok(count) => (sent, blocked_since) = (sent + count, None),
            Err(_) => drop(blocked_since.get_or_insert_with(Instant::now)),
        }
        assert!(sent < 200_000_000, "nothing holds the peer back");
    }
    drop(client);
    let partition = started.partitions(1).remove(0);
    let lines = started.drain(&mut *started.open(&partition, 0)).unwrap();
    assert_eq!(lines.len(), sent.div_ceil(line.len()));
    assert_eq!(lines.iter().map(String::len).sum::<usize>(), sent - sent / line.len());
}

#[test]
fn a_client_reads_all_addresses_to_the_end() {
    let servers: Vec<_> = (0..2).map(|_| StdListener::bind("127.0.0.1:0").unwrap()).collect();
    let addresses: Vec<_> = servers.iter().map(|s| s.local_addr().unwrap().to_string()).collect();
    let started = start(&TcpLines::connect(addresses.clone()));
    assert_eq!(started.source.partitions().unwrap(), addresses);
    assert!(started.source.is_complete());
    for (index, server) in servers.iter().enumerate() {
        let (mut stream, _) = server.accept().unwrap();
        let content: String = (0..10_000).map(|n| format!("{index} {n}\n")).collect();
        let writer = std::thread::spawn(move || stream.write_all(content.as_bytes()).unwrap());
        let mut reader = started.open(&addresses[index], 5);
        let lines = started.drain(&mut *reader).unwrap();
        writer.join().unwrap();
        let expected: Vec<_> = (0..10_000).map(|n| format!("{index} {n}")).collect();
        assert_eq!((lines, reader.position()), (expected, 10_005));
    }
}

#[test]
fn a_refused_connection_names_the_address() {
    let free = StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let started = start(&TcpLines::connect([free.as_str()]));
    let error = started.drain(&mut *started.open(&free, 0)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains(&format!("cannot connect to `{free}`")), "{error}");
}

#[test]
fn a_port_in_use_is_named_and_free_again_after_the_run() {
    let started = start(&listen());
    let address = started.source.local_addr().unwrap().to_string();
    let taken = TcpLines::listen(address.clone());
    let error = taken.attach(Waker::new(|_| {})).unwrap_err().to_string();
    assert!(error.contains(&format!("cannot listen on `{address}`")), "{error}");
    started.source.detach();
    assert_eq!(started.source.local_addr(), None);
    let deadline = Instant::now() + DEADLINE;
    while taken.attach(Waker::new(|_| {})).is_err() {
        assert!(Instant::now() < deadline, "the port is still in use");
        std::thread::yield_now();
    }
}

#[test]
fn the_end_of_a_run_closes_its_connections() {
    let started = start(&listen());
    let mut client = started.client();
    started.partitions(1);
    drop(started);
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    // Closed, or reset: anything but a timeout.
    match client.read(&mut [0; 1]) {
        Ok(count) => assert_eq!(count, 0),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
}

#[test]
fn a_line_over_the_limit_stops_the_flow() {
    for (content, limit, position) in [
        ("ab\nabc\nabcd\n".to_owned(), 3, 2),
        ("ab\r\nabc\r\nabcd\r\n".to_owned(), 3, 2),
        (format!("ab\n{}", "x".repeat(300_000)), 100_000, 1),
    ] {
        let started = start(&listen().line_limit(limit).undecodable(Undecodable::Skip));
        let mut client = started.client();
        // The source may hang up before all is written.
        let writer = std::thread::spawn(move || drop(client.write_all(content.as_bytes())));
        let partition = started.partitions(1).remove(0);
        let error = started.drain(&mut *started.open(&partition, 0)).unwrap_err();
        let expected = format!("a line is longer than {limit} bytes");
        assert!(error.to_string().contains(&expected), "{error}");
        assert_eq!(error.position(), Some(position));
        writer.join().unwrap();
    }
}

#[test]
fn invalid_utf8_is_treated_by_the_policy() {
    for policy in [Undecodable::Fail, Undecodable::Skip, Undecodable::DeadLetter] {
        let started = start(&listen().undecodable(policy));
        started.client().write_all(b"a\nb\xff\r\nc\n").unwrap();
        let partition = started.partitions(1).remove(0);
        let mut reader = started.open(&partition, 0);
        let mut fetched = Fetched::default();
        let ended = started.until(|| {
            loop {
                match reader.read(10, &mut fetched) {
                    Ok(ReadState::Pending | ReadState::Unknown) => return None,
                    Ok(ReadState::More) => {}
                    Ok(ReadState::End) => return Some(Ok(())),
                    Err(error) => return Some(Err(error)),
                }
            }
        });
        if policy == Undecodable::Fail {
            let error = ended.unwrap_err();
            assert_eq!((error.kind(), error.position()), (ErrorKind::Input, Some(1)));
            assert!(error.to_string().contains("invalid UTF-8"), "{error}");
            continue;
        }
        ended.unwrap();
        assert_eq!((&fetched.rows[..], fetched.len()), (&["a".to_owned(), "c".to_owned()][..], 3));
        if policy == Undecodable::DeadLetter {
            let [DeadLetter { raw, position: 1, .. }] = &fetched.dead[..] else {
                panic!("{fetched:?}");
            };
            assert_eq!(raw, b"b\xff");
        }
    }
}

#[test]
fn use_before_the_start_is_an_error() {
    assert_eq!(listen().partitions().unwrap_err().kind(), ErrorKind::Bug);
    assert!(listen().open("x", &Resume::default()).is_err());
}
