//! Accepted events that wait until the watermark has passed them.

use std::sync::Arc;

use highwater_state::{Changes, Error, KEY_GROUPS, KeyGroup, decode, encode_into, group_of};
use serde::{Deserialize, Serialize};

use super::runs::Runs;
use crate::event::{EventOrder, Stored};
use crate::keyed::Backing;
use crate::time::{EventTime, Watermark};

/// The place of a waiting event: by time, then by (source, partition, position); `sequence`
/// keeps the outputs of one input event apart, and `hash` those of different keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) time: EventTime,
    pub(crate) order: EventOrder,
    pub(crate) sequence: u64,
    pub(crate) hash: u64,
}

struct Waiting<T> {
    row: T,
    /// A commit holds it, or the capture under way has written it out.
    saved: bool,
    /// In which epoch it came: earlier ones belong to the capture under way.
    epoch: u64,
}

/// Where in the store waiting events are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    /// With the key group of each event.
    ByKey,
    /// Behind all key groups: events that every worker has.
    Shared,
    /// Nowhere: another worker stores them, or the store keeps nothing.
    Nowhere,
}

impl Home {
    fn group(self, place: &Place) -> KeyGroup {
        match self {
            Home::ByKey => group_of(place.hash),
            Home::Shared | Home::Nowhere => KEY_GROUPS,
        }
    }
}

/// Waiting events in order. They are written out in steps, as tables are.
pub(crate) struct WaitingEvents<T> {
    /// What their stored keys begin with.
    prefix: u8,
    home: Home,
    events: Runs<Place, Waiting<T>>,
    next_sequence: u64,
    epoch: u64,
    /// Events that came since the last capture, and may have left.
    unsaved: Vec<Place>,
    /// The same, on their way into a commit.
    pending: Vec<Place>,
    /// Written out before their turn, because they left.
    early: Option<Changes>,
    tombstones: Vec<(KeyGroup, Vec<u8>)>,
    burying: Vec<(KeyGroup, Vec<u8>)>,
    restored: usize,
    id: Arc<str>,
}

impl<T: Stored> WaitingEvents<T> {
    pub(crate) fn new(prefix: u8, backing: &Backing) -> Self {
        WaitingEvents::at(Home::ByKey, prefix, backing)
    }

    pub(crate) fn at(home: Home, prefix: u8, backing: &Backing) -> Self {
        WaitingEvents {
            prefix,
            home: if backing.store.keeps_entries() { home } else { Home::Nowhere },
            events: Runs::new(),
            next_sequence: 0,
            epoch: 0,
            unsaved: Vec::new(),
            pending: Vec::new(),
            early: None,
            tombstones: Vec::new(),
            burying: Vec::new(),
            restored: 0,
            id: backing.id.clone(),
        }
    }

    /// Puts back an event that the last commit holds.
    pub(crate) fn restore(&mut self, place: &[u8], row: &[u8]) -> Result<(), Error> {
        let place: Place = decode(place)?;
        self.next_sequence = self.next_sequence.max(place.sequence + 1);
        self.events.insert(place, Waiting { row: decode(row)?, saved: true, epoch: 0 });
        self.restored += 1;
        Ok(())
    }

    #[inline]
    pub(crate) fn push(&mut self, time: EventTime, order: EventOrder, hash: u64, row: T) {
        let place = Place { time, order, sequence: self.next_sequence, hash };
        self.next_sequence += 1;
        if self.home != Home::Nowhere {
            self.unsaved.push(place.clone());
        }
        self.events.insert(place, Waiting { row, saved: false, epoch: self.epoch });
    }

    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    /// Events that wait now, less those that waited at the start.
    pub(crate) fn net(&self) -> i64 {
        self.events.len() as i64 - self.restored as i64
    }

    /// The time of the first event, if the watermark has passed it.
    pub(crate) fn first_passed(&self, watermark: Watermark) -> Option<EventTime> {
        let first = self.events.first().map(|place| place.time);
        first.filter(|time| watermark.has_passed(*time))
    }

    /// The events that the watermark has passed, in any order.
    pub(crate) fn passed(&self, watermark: Watermark) -> impl Iterator<Item = (u64, &T)> {
        self.events
            .up_to(move |place| watermark.has_passed(place.time))
            .map(|(place, waiting)| (place.hash, &waiting.row))
    }

    /// Lets the first event go.
    pub(crate) fn pop(&mut self) -> Result<Option<(Place, T)>, Error> {
        let Some((place, waiting)) = self.events.pop_first() else { return Ok(None) };
        if self.home == Home::Nowhere {
            return Ok(Some((place, waiting.row)));
        }
        let group = self.home.group(&place);
        let pending = !waiting.saved && waiting.epoch < self.epoch;
        if pending && let Some(early) = &mut self.early {
            put(early, group, self.prefix, &place, &waiting.row)?;
        }
        if waiting.saved || pending {
            self.tombstones.push((group, stored_key(self.prefix, &place)?));
        }
        Ok(Some((place, waiting.row)))
    }

    pub(crate) fn begin_capture(&mut self) {
        self.epoch += 1;
        self.pending = std::mem::take(&mut self.unsaved);
        self.burying = std::mem::take(&mut self.tombstones);
        self.early = Some(Changes::new(self.id.clone()));
    }

    /// As [`Logic::capture`](super::Logic::capture).
    pub(crate) fn capture(
        &mut self,
        budget: &mut usize,
        into: &mut Vec<Changes>,
    ) -> Result<bool, Error> {
        let Some(changes) = &mut self.early else { return Ok(true) };
        while let Some((group, key)) = self.burying.pop() {
            if *budget == 0 {
                self.burying.push((group, key));
                return Ok(false);
            }
            *budget -= 1;
            changes.delete(group, |bytes| {
                bytes.extend_from_slice(&key);
                Ok(())
            })?;
        }
        while let Some(place) = self.pending.pop() {
            if *budget == 0 {
                self.pending.push(place);
                return Ok(false);
            }
            *budget -= 1;
            if let Some(waiting) = self.events.get_mut(&place) {
                let group = self.home.group(&place);
                put(changes, group, self.prefix, &place, &waiting.row)?;
                waiting.saved = true;
            }
        }
        into.extend(self.early.take().filter(|changes| !changes.is_empty()));
        Ok(true)
    }

    /// Bytes in memory, roughly: what rows point to is not known.
    pub(crate) fn memory(&self) -> usize {
        self.events.room() * (size_of::<Place>() + size_of::<Waiting<T>>() + 16)
    }
}

fn put<T: Stored>(
    changes: &mut Changes,
    group: KeyGroup,
    prefix: u8,
    place: &Place,
    row: &T,
) -> Result<(), Error> {
    changes.put(
        group,
        |bytes| {
            bytes.push(prefix);
            encode_into(place, bytes)
        },
        |bytes| encode_into(row, bytes),
    )
}

fn stored_key(prefix: u8, place: &Place) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![prefix];
    encode_into(place, &mut bytes)?;
    Ok(bytes)
}
