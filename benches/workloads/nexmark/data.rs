//! The auction site's events, and the file in which they stand.
//!
//! They are made beforehand, because the generator costs more than an engine. Of a record its tag
//! comes first, a byte; numbers are little-endian; a text is its length, a byte, and its bytes.
//!
//! | tag | fields |
//! |---|---|
//! | 0, person | id `u32`, milliseconds `u64`, name, city, state |
//! | 1, auction | id, seller, category, first bid, reserve `u32`, milliseconds, expires `u64` |
//! | 2, bid | auction, bidder, price, channel `u32`, milliseconds `u64` |
//!
//! Left out are texts that no query computes with: addresses, descriptions, and filling.

use std::path::Path;
use std::sync::Arc;

use highwater::source::{Fetched, ReadState, Reader, Replay, Resume, Source};
use highwater::{Error, EventTime};
use nexmark::config::NexmarkConfig;
use nexmark::event::Event as Made;
use serde::{Deserialize, Serialize};

use crate::clock;

/// 2015-07-15T00:00:00Z, as in other implementations.
const BEGIN: u64 = 1_436_918_400_000;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Person {
    pub(crate) id: u64,
    pub(crate) time: EventTime,
    pub(crate) name: String,
    pub(crate) city: String,
    pub(crate) state: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Auction {
    pub(crate) id: u64,
    pub(crate) seller: u64,
    pub(crate) category: u64,
    pub(crate) first_bid: u64,
    pub(crate) reserve: u64,
    pub(crate) time: EventTime,
    pub(crate) expires: EventTime,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Bid {
    pub(crate) auction: u64,
    pub(crate) bidder: u64,
    pub(crate) price: u64,
    pub(crate) channel: u64,
    pub(crate) time: EventTime,
}

/// Persons and auctions are rare, and in boxes, so that a bid is not as large as they are.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    Person(Box<Person>),
    Auction(Box<Auction>),
    Bid(Bid),
}

/// A time as a number of milliseconds, for results.
pub(crate) fn millis(time: EventTime) -> u64 {
    (time.as_micros() / 1000) as u64
}

/// A text as a number, for results.
pub(crate) fn number_of(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Writes events to a file, so many to a second of event time.
pub(crate) fn make(events: usize, per_second: usize, path: &Path) -> std::io::Result<()> {
    let config = NexmarkConfig {
        base_time: BEGIN,
        first_rate: per_second,
        next_rate: per_second,
        ..NexmarkConfig::default()
    };
    let mut channels = hashbrown::HashMap::new();
    let mut bytes = Vec::with_capacity(events * 27);
    for event in nexmark::EventGenerator::new(config).take(events) {
        let int = |bytes: &mut Vec<u8>, n: usize| bytes.extend((n as u32).to_le_bytes());
        let text = |bytes: &mut Vec<u8>, text: &str| {
            bytes.push(text.len() as u8);
            bytes.extend(text.as_bytes());
        };
        match event {
            Made::Person(p) => {
                bytes.push(0);
                int(&mut bytes, p.id);
                bytes.extend(p.date_time.to_le_bytes());
                [&p.name, &p.city, &p.state].iter().for_each(|field| text(&mut bytes, field));
            }
            Made::Auction(a) => {
                bytes.push(1);
                let numbers = [a.id, a.seller, a.category, a.initial_bid, a.reserve];
                numbers.into_iter().for_each(|n| int(&mut bytes, n));
                bytes.extend(a.date_time.to_le_bytes());
                bytes.extend(a.expires.to_le_bytes());
            }
            Made::Bid(b) => {
                let next = channels.len();
                let channel = *channels.entry(b.channel).or_insert(next);
                bytes.push(2);
                let numbers = [b.auction, b.bidder, b.price, channel];
                numbers.into_iter().for_each(|n| int(&mut bytes, n));
                bytes.extend(b.date_time.to_le_bytes());
            }
        }
    }
    std::fs::write(path, bytes)
}

/// A file's events, in memory as they stand in it. Clones share it.
#[derive(Clone)]
pub(crate) struct EventFile {
    bytes: Arc<[u8]>,
}

impl EventFile {
    pub(crate) fn read(path: &Path) -> std::io::Result<Self> {
        Ok(EventFile { bytes: std::fs::read(path)?.into() })
    }

    /// All of them, one by one.
    pub(crate) fn events(&self) -> Events {
        Events { bytes: self.bytes.clone(), at: 0 }
    }
}

/// Where in a file one is.
pub(crate) struct Events {
    bytes: Arc<[u8]>,
    at: usize,
}

/// The next bytes of a file that was written by this program.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn raw<const N: usize>(&mut self) -> [u8; N] {
        let (bytes, rest) = self.0.split_first_chunk::<N>().unwrap_or((&[0; N], &[]));
        self.0 = rest;
        *bytes
    }

    fn int(&mut self) -> u64 {
        u64::from(u32::from_le_bytes(self.raw()))
    }

    fn time(&mut self) -> EventTime {
        EventTime::from_millis(u64::from_le_bytes(self.raw()) as i64)
    }

    fn text(&mut self) -> String {
        let [length] = self.raw();
        let (bytes, rest) = self.0.split_at_checked(usize::from(length)).unwrap_or_default();
        self.0 = rest;
        String::from_utf8_lossy(bytes).into_owned()
    }

    /// A bid, all of which has the same length.
    fn bid(&mut self) -> Bid {
        let bytes = self.raw::<24>();
        let mut bytes = Bytes(&bytes);
        let [auction, bidder, price, channel] = [(); 4].map(|()| bytes.int());
        Bid { auction, bidder, price, channel, time: bytes.time() }
    }

    fn event(&mut self) -> Event {
        match self.raw() {
            [0] => {
                let (id, time) = (self.int(), self.time());
                let [name, city, state] = [(); 3].map(|()| self.text());
                Event::Person(Box::new(Person { id, time, name, city, state }))
            }
            [1] => {
                let [id, seller, category, first_bid, reserve] = [(); 5].map(|()| self.int());
                let (time, expires) = (self.time(), self.time());
                let auction = Auction { id, seller, category, first_bid, reserve, time, expires };
                Event::Auction(Box::new(auction))
            }
            _ => Event::Bid(self.bid()),
        }
    }
}

impl Iterator for Events {
    type Item = Event;

    #[inline]
    fn next(&mut self) -> Option<Event> {
        let mut bytes = Bytes(self.bytes.get(self.at..).filter(|bytes| !bytes.is_empty())?);
        let event = bytes.event();
        self.at = self.bytes.len() - bytes.0.len();
        Some(event)
    }
}

impl Source for EventFile {
    type Item = Event;

    fn describe(&self) -> String {
        "Nexmark".to_owned()
    }

    fn replay(&self) -> Replay {
        Replay::Exact
    }

    fn partitions(&self) -> Result<Vec<String>, Error> {
        Ok(vec!["0".to_owned()])
    }

    fn is_complete(&self) -> bool {
        true
    }

    fn open(&self, _partition: &str, resume: &Resume) -> Result<Box<dyn Reader<Event>>, Error> {
        clock::open();
        let mut events = self.events();
        let skipped = events.by_ref().take(resume.position as usize).count();
        Ok(Box::new(FileReader { events, position: skipped as u64 }))
    }
}

struct FileReader {
    events: Events,
    position: u64,
}

impl Reader<Event> for FileReader {
    fn read(&mut self, limit: usize, fetched: &mut Fetched<Event>) -> Result<ReadState, Error> {
        let before = fetched.len();
        fetched.extend(self.position, self.events.by_ref().take(limit));
        let read = fetched.len() - before;
        self.position += read as u64;
        Ok(if read < limit { ReadState::End } else { ReadState::More })
    }

    fn position(&self) -> u64 {
        self.position
    }
}
