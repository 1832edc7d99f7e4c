//! What happens before the first tick: the state is opened and checked, sources are listed, and
//! the start positions are committed.

use std::collections::BTreeMap;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use highwater_state::{Commit, DurableStore, RecordOnly, Store};

use super::shared::Event;
use super::sources::SourceState;
use crate::error::{Error, ErrorKind};
use crate::event::Partition;
use crate::flow::{AnySource, Body, Plan};
use crate::settings::Settings;
use crate::sink::{Letter, Opening, SinkWriter};
use crate::source::{ReadState, Replay, Waker};
use crate::tick::outbox::{Outbox, pending};
use crate::tick::{PartitionRecord, TickRecord, delete_all, guarded};

/// The store of a flow, and what it is if it is on disk.
pub(super) struct Opened {
    pub(super) store: Arc<dyn Store>,
    pub(super) durable: Option<Arc<DurableStore>>,
}

/// Opens the store of a flow.
pub(super) fn open_store(settings: &Settings) -> Result<Opened, Error> {
    let Some(path) = &settings.state else {
        return Ok(Opened { store: Arc::new(RecordOnly::default()), durable: None });
    };
    let (limit, memory) = (settings.tail_limit(), settings.base_memory());
    let store = Arc::new(DurableStore::open_dir(path, limit, memory)?);
    Ok(Opened { store: store.clone(), durable: Some(store) })
}

/// The record to go on from, and whether there was one.
pub(super) fn read_record(store: &dyn Store, plan: &Plan) -> Result<(TickRecord, bool), Error> {
    let signatures = plan.signatures();
    match store.record()? {
        Some(bytes) => {
            let mut record = TickRecord::decode(&bytes)?;
            record.check(&plan.name, &signatures, &plan.forgotten)?;
            record.signatures = signatures;
            record.operators.retain(|id, _| !plan.forgotten.contains(id));
            record.sinks.retain(|id, _| !plan.forgotten.contains(id));
            Ok((record, true))
        }
        None => {
            let flow = plan.name.clone();
            Ok((TickRecord { flow, signatures, ..TickRecord::default() }, false))
        }
    }
}

/// Tells the coordinator that a source has something.
fn waker(source: usize, events: &Sender<Event>) -> Waker {
    let events = Mutex::new(events.clone());
    Waker::new(move |partition| {
        let partition = partition.map(str::to_owned);
        let events = events.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = events.send(Event::Woken { source, partition });
    })
}

/// Lists the partitions of every source, those of the record first.
pub(super) fn list_sources(
    plan: &Plan,
    record: &TickRecord,
    found: bool,
    events: &Sender<Event>,
) -> Result<Vec<SourceState>, Error> {
    let mut sources = Vec::new();
    for n in &plan.nodes {
        let Body::Source(source) = &n.body else { continue };
        let index = sources.len();
        let in_source = |error: Error| error.in_operator(&n.id);
        let known: Vec<_> = record.sources.get(&*n.id).into_iter().flatten().collect();
        source.resume(&known.iter().map(|known| (&*known.name, known.ended)).collect::<Vec<_>>());
        source.attach(waker(index, events)).map_err(in_source)?;
        let mut state = SourceState::new(n.id.clone(), source.clone(), index);
        let listed = state.list()?.unwrap_or_default();
        let names: hashbrown::HashSet<String> = listed.iter().cloned().collect();
        for known in known {
            // A source that cannot be read again starts with partitions of its own each time.
            let gone = !names.contains(&known.name);
            let expected = !known.ended && !known.removed;
            if gone && expected && source.replay() == crate::source::Replay::Exact {
                let message = format!(
                    "the partition `{}` was read up to position {} and is no longer there",
                    known.name, known.resume.position
                );
                return Err(Error::new(ErrorKind::Input, message).in_operator(&n.id));
            }
            // A source that cannot be read again brings a new stream under an old name.
            let lost = source.replay() == crate::source::Replay::Lost;
            let removed = gone && known.removed;
            let ended = (gone && !removed) || (known.ended && !lost);
            state.add(PartitionRecord { ended, removed, ..known.clone() });
        }
        let first = !record.sources.contains_key(&*n.id);
        for name in listed {
            state.discover(name, found, first)?;
        }
        sources.push(state);
    }
    Ok(sources)
}

/// A finished flow is finished: new input for it is refused by name.
pub(super) fn check_finished(record: &TickRecord, sources: &[SourceState]) -> Result<(), Error> {
    for source in sources {
        for (index, partition) in source.partitions.iter().enumerate() {
            let known = record.sources.get(&*source.id).and_then(|list| list.get(index));
            let refuse = |position: u64| {
                let message = "the flow has finished on this state, and here is new input: use a \
                               new state directory to process everything again";
                Err(Error::new(ErrorKind::State, message)
                    .in_operator(&source.id)
                    .in_partition(&partition.partition)
                    .at_position(position))
            };
            let Some(known) = known else { return refuse(0) };
            if known.removed && partition.record.removed {
                continue;
            }
            if has_more(&*source.source, &partition.partition, known)? {
                return refuse(known.resume.position);
            }
        }
    }
    Ok(())
}

/// How often, and how long after each other, a finished partition is asked for new input: five
/// seconds in all.
const LOOKS: usize = 500;
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(10);

fn has_more(
    source: &dyn AnySource,
    partition: &Arc<Partition>,
    known: &PartitionRecord,
) -> Result<bool, Error> {
    // A partition that has been taken away since cannot bring anything.
    if !source.partitions()?.contains(&known.name) {
        return Ok(false);
    }
    let mut reader = source.open(&known.name, &known.resume)?;
    // Of what has ended once a reader says so again, or brings more; but one that asks a server
    // may need a moment for it. What cannot be read again has nothing to say.
    let looks = if source.replay() == Replay::Exact { LOOKS } else { 2 };
    let mut state = ReadState::More;
    for look in 1..=looks {
        let fetch = reader.read(1, partition)?;
        state = fetch.state;
        match state {
            _ if fetch.total > 0 => return Ok(true),
            ReadState::End => return Ok(false),
            ReadState::More => {}
            ReadState::Pending | ReadState::Unknown if look < looks => {
                std::thread::sleep(LOOK_AGAIN_AFTER);
            }
            ReadState::Pending | ReadState::Unknown => {}
        }
    }
    if state == ReadState::Unknown {
        let cause = "there was no answer in time";
        return Err(Error::io("it cannot be told whether a finished flow has new input", cause)
            .in_partition(partition));
    }
    Ok(false)
}

/// Opens the sinks' writers, which finish or remove what a crash left, and sends the letters
/// that an earlier run may not have sent. The next commit lets these go.
pub(super) fn open_sinks(
    store: &dyn Store,
    plan: &Plan,
    record: &TickRecord,
    outbox: &mut Outbox,
) -> Result<BTreeMap<String, Box<dyn SinkWriter>>, Error> {
    let mut sinks = BTreeMap::new();
    for node in &plan.nodes {
        if let Body::Sink(sink) = &node.body {
            let letters = pending(store, &node.id)?;
            let opening = Opening {
                flow: &plan.name,
                sink: &node.id,
                token: record.sinks.get(&*node.id).map(Vec::as_slice),
                committed: record.tick,
                letters: letters.len(),
            };
            let mut writer = guarded(&node.id, || sink.open(&opening))?;
            for (tick, bytes) in letters {
                let letter = Letter { tick, bytes: &bytes };
                guarded(&node.id, || writer.send(&letter))?;
                outbox.sent(&node.id, tick);
            }
            sinks.insert(node.id.to_string(), writer);
        }
    }
    Ok(sinks)
}

/// Commits the start positions, before the first event is processed, and lets go of what the
/// flow has forgotten.
pub(super) fn commit_start(
    store: &dyn Store,
    plan: &Plan,
    record: &mut TickRecord,
    sources: &[SourceState],
    outbox: &mut Outbox,
) -> Result<(), Error> {
    let mut changes = outbox.take_sent()?;
    for id in &plan.forgotten {
        changes.push(delete_all(store, id)?);
    }
    record.incarnation += 1;
    record.sources = sources.iter().map(SourceState::record).collect();
    store.commit(Commit { record: record.encode()?, changes })?;
    Ok(())
}
