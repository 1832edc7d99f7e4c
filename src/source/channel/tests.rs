use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::*;

fn resume(position: u64) -> Resume {
    Resume { position, check: String::new() }
}

fn read(reader: &mut dyn Reader<u32>, limit: usize) -> (Vec<(u64, u32)>, ReadState) {
    let mut fetched = Fetched::default();
    let state = reader.read(limit, &mut fetched).unwrap();
    let (rows, positions, _) = fetched.into_parts();
    (rows.into_iter().enumerate().map(|(i, row)| (positions.at(i), row)).collect(), state)
}

fn counting_waker() -> (Waker, Arc<AtomicUsize>) {
    let wakes = Arc::new(AtomicUsize::new(0));
    let counter = wakes.clone();
    let waker = Waker::new(move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    (waker, wakes)
}

/// Whether a receipt is settled by now, and how.
fn now(receipt: Receipt) -> Option<Result<(), Error>> {
    let mut context = Context::from_waker(TaskWaker::noop());
    match pin!(receipt.durable()).poll(&mut context) {
        Poll::Ready(settled) => Some(settled),
        Poll::Pending => None,
    }
}

#[test]
fn positions_go_on_from_the_last_commit() {
    let (sender, source) = channel(10);
    for event in 0..3 {
        drop(sender.try_send(event).unwrap());
    }
    let mut reader = source.open(PARTITION, &resume(100)).unwrap();
    assert_eq!(read(&mut *reader, 2), (vec![(100, 0), (101, 1)], ReadState::More));
    assert_eq!(read(&mut *reader, 2), (vec![(102, 2)], ReadState::Pending));
    drop(sender.try_send(3).unwrap());
    drop(sender);
    assert_eq!(read(&mut *reader, 2), (vec![(103, 3)], ReadState::End));
    assert_eq!(reader.position(), 104);
    assert_eq!((source.replay(), source.is_complete()), (Replay::Lost, true));
}

#[test]
fn a_full_channel_holds_senders_back() {
    let (sender, source) = channel(1);
    let mut reader = source.open(PARTITION, &resume(0)).unwrap();
    drop(sender.try_send(1).unwrap());
    let error = sender.try_send(2).unwrap_err();
    assert_eq!((error.to_string(), error.into_event()), ("the channel is full".to_owned(), 2));
    let other = sender.clone();
    let blocked = thread::spawn(move || drop(other.blocking_send(3).unwrap()));
    let mut rows = Vec::new();
    while rows.len() < 2 {
        rows.extend(read(&mut *reader, 10).0);
        thread::yield_now();
    }
    blocked.join().unwrap();
    assert_eq!(rows, [(0, 1), (1, 3)]);
}

#[test]
fn many_senders_and_each_receipt_is_of_its_own_event() {
    let (sender, source) = channel(4);
    let mut reader = source.open(PARTITION, &resume(7)).unwrap();
    let threads: Vec<_> = (0..4_u32)
        .map(|of| {
            let sender = sender.clone();
            let send = move |n| (of * 1_000 + n, sender.blocking_send(of * 1_000 + n).unwrap());
            thread::spawn(move || (0..500).map(send).collect::<Vec<_>>())
        })
        .collect();
    drop(sender);
    let mut rows = Vec::new();
    loop {
        let (new, state) = read(&mut *reader, 100);
        rows.extend(new);
        if state == ReadState::End {
            break;
        }
        thread::yield_now();
    }
    let index: std::collections::BTreeMap<_, _> =
        rows.iter().map(|&(position, event)| (event, position - 7)).collect();
    for (event, receipt) in threads.into_iter().flat_map(|t| t.join().unwrap()) {
        assert_eq!(index[&event], receipt.index);
    }
    assert_eq!(rows.len(), 2_000);
}

#[test]
fn a_receipt_is_settled_by_the_commit_that_holds_its_event() {
    let (sender, source) = channel(10);
    let send = |event| sender.try_send(event).unwrap();
    let receipts = [send(0), send(1), send(2)];
    let late = send(3);
    let mut reader = source.open(PARTITION, &resume(50)).unwrap();
    read(&mut *reader, 10);
    source.committed(PARTITION, 50);
    let [first, second, third] = receipts;
    assert!(now(first).is_none());
    source.committed(PARTITION, 52);
    assert!(now(second).unwrap().is_ok());
    assert!(now(third).is_none());
    source.committed(PARTITION, 51);
    let waiting = thread::spawn(move || block_on(late.durable()));
    source.committed(PARTITION, 54);
    waiting.join().unwrap().unwrap();
}

#[test]
fn a_receipt_fails_when_the_flow_stops_first() {
    for how in ["detach", "drop", "never opened", "not read"] {
        let (sender, source) = channel(10);
        let [read_event, unread] = [sender.try_send(0).unwrap(), sender.try_send(1).unwrap()];
        if how == "never opened" {
            drop(source);
        } else {
            let mut reader = source.open(PARTITION, &resume(9)).unwrap();
            assert_eq!(read(&mut *reader, 1).0, [(9, 0)]);
            drop(reader);
            assert!(now(unread).unwrap().is_err());
            match how {
                "detach" => source.detach(),
                "drop" => drop(source),
                _ => {
                    source.committed(PARTITION, 10);
                    assert!(now(read_event).unwrap().is_ok());
                    continue;
                }
            }
        }
        let error = now(read_event).unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().contains("stopped before"), "{error}");
        assert_eq!(sender.try_send(5).unwrap_err(), SendError::Stopped(5));
        assert_eq!(sender.blocking_send(5).unwrap_err(), SendError::Stopped(5));
    }
}

#[test]
fn a_burst_wakes_the_flow_once() {
    let (sender, source) = channel(100);
    let send = |count: u32| (0..count).for_each(|event| drop(sender.try_send(event).unwrap()));
    let (waker, wakes) = counting_waker();
    let wakes = || wakes.load(Ordering::SeqCst);
    send(3);
    source.attach(waker).unwrap();
    assert!(wakes() >= 1, "what was sent before the start is not forgotten");
    let mut reader = source.open(PARTITION, &resume(0)).unwrap();
    assert_eq!(read(&mut *reader, 10).0.len(), 3);
    let before = wakes();
    send(10);
    assert_eq!(wakes(), before + 1);
    assert_eq!(read(&mut *reader, 20).0.len(), 10);
    send(1);
    assert_eq!(wakes(), before + 2);
    read(&mut *reader, 20);
    drop(sender);
    assert_eq!(wakes(), before + 3);
    assert_eq!(read(&mut *reader, 20), (vec![], ReadState::End));
}

#[test]
fn a_channel_serves_one_run() {
    let (_sender, source) = channel::<u32>(1);
    assert!(source.open("other", &resume(0)).err().unwrap().to_string().contains("`other`"));
    drop(source.open(PARTITION, &resume(0)).unwrap());
    let error = source.open(PARTITION, &resume(0)).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Plan);
    assert!(error.to_string().contains("was opened before"), "{error}");
}
