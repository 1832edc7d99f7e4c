//! What the programs that are written on timely by hand share: where their events come from.

use highwater::EventTime;
use timely::container::NoopBuilder;
use timely::dataflow::operators::generic::operator::source;
use timely::dataflow::{Scope, Stream};

use crate::events::{BOUND, Event};

/// Events to a container: those tried from 512 to 16,384 differ little, and this is the best.
const BATCH: u64 = 4096;

/// Events in order, whole containers at a time. The time of the dataflow is the watermark.
pub(crate) fn batches<'scope>(
    scope: Scope<'scope, u64>,
    events: u64,
    event: impl Fn(u64) -> Event + 'static,
) -> Stream<'scope, u64, Vec<Event>> {
    source::<_, NoopBuilder<Vec<Event>>, _, _>(scope, "events", |capability, info| {
        let activator = scope.activator_for(info.address);
        let (mut capability, mut next) = (Some(capability), 0);
        let mut latest = EventTime::MIN;
        move |output| {
            let Some(time) = &mut capability else { return };
            let end = events.min(next + BATCH);
            let mut batch = Vec::with_capacity((end - next) as usize);
            for index in next..end {
                let event = event(index);
                latest = latest.max(event.time);
                batch.push(event);
            }
            next = end;
            output.session_with_builder(&*time).give_container(&mut batch);
            if next == events {
                capability = None;
            } else {
                time.downgrade(&((latest - BOUND).as_micros().max(0) as u64));
                activator.activate();
            }
        }
    })
}
