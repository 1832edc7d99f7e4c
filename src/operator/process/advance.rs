//! How time passes in the process operator: timers, broadcast rows and events in their order.

use highwater_state::planted::planted;

use super::{Now, ProcessKeyed};
use crate::error::Error;
use crate::event::Stored;
use crate::keyed::{Call, ClockTimer, KeyOf, Rules, Timer};
use crate::operator::Cx;
use crate::time::{ClockTime, EventTime, Watermark};

/// What is to be done next.
enum Next {
    Timer(EventTime),
    Signal(EventTime),
    Event(EventTime),
}

impl<T: Stored, K: KeyOf<T>, R: Rules<K::Key, T>> ProcessKeyed<T, K, R> {
    /// Fires what is due of one key at one time, in order of name.
    fn fire(
        &mut self,
        hash: u64,
        key: K::Key,
        time: EventTime,
        watermark: Watermark,
        ended: bool,
    ) -> Result<(), Error> {
        let now = Now { time, order: None, watermark, call: Call::Timer, ended };
        // A timer may delete its neighbours, so each is looked for when its turn comes.
        let mut after: Option<Timer> = None;
        loop {
            let Some(key_state) = self.table.get_mut(hash, &key) else { return Ok(()) };
            let timers = &mut key_state.head.timers;
            let is_next =
                |t: &&Timer| t.time == time && after.as_ref().is_none_or(|last| t.name > last.name);
            let Some(timer) = timers.iter().find(is_next).cloned() else { break };
            timers.remove(&timer);
            self.call(hash, &key, now, |rules, cx, shared| rules.timer(cx, shared, &key, &timer));
            after = Some(timer);
        }
        self.settle(hash, key)
    }

    /// The same of the tick clock: what is due at one reading of it.
    fn fire_clock(&mut self, hash: u64, key: K::Key, at: ClockTime, now: Now) -> Result<(), Error> {
        let now = Now { call: Call::ClockTimer(at), ..now };
        let mut after: Option<ClockTimer> = None;
        loop {
            let Some(key_state) = self.table.get_mut(hash, &key) else { return Ok(()) };
            let timers = &mut key_state.head.clock_timers;
            let is_next = |t: &&ClockTimer| {
                t.time == at && after.as_ref().is_none_or(|last| t.name > last.name)
            };
            let Some(timer) = timers.iter().find(is_next).cloned() else { break };
            timers.remove(&timer);
            self.call(hash, &key, now, |rules, cx, shared| {
                rules.clock_timer(cx, shared, &key, &timer);
            });
            after = Some(timer);
        }
        self.settle(hash, key)
    }

    /// Reads the state of every key that has something due.
    pub(super) fn read_back_due(&mut self, watermark: Watermark) -> Result<(), Error> {
        if self.table.is_complete() {
            return Ok(());
        }
        let timers = self.due.iter().take_while(|((time, _), _)| watermark.has_passed(*time));
        let mut keys: Vec<_> = timers.map(|(_, key)| key.clone()).collect();
        for (hash, row) in self.waiting.passed(watermark) {
            keys.push((hash, self.key_of.with_key(row, Clone::clone)));
        }
        let ended = watermark == Watermark::End;
        let timers = self.clock_due.iter();
        let timers = timers.take_while(|((time, _), _)| ended || *time <= self.clock);
        keys.extend(timers.map(|(_, key)| key.clone()));
        self.read_back(keys)
    }

    /// The first of what the watermark has passed: at equal times a timer, then a broadcast row,
    /// then an event. Timers beyond `limit` are left.
    fn next(&self, watermark: Watermark, limit: EventTime) -> Option<Next> {
        let timer = self.due.keys().next().map(|(time, _)| *time);
        let timer = timer.filter(|t| watermark.has_passed(*t) && *t <= limit);
        let signal = self.shared.waiting.first_passed(watermark);
        let event = self.waiting.first_passed(watermark);
        let before = |time: EventTime, other: Option<EventTime>| other.is_none_or(|o| time <= o);
        match (timer, signal, event) {
            (Some(t), None, Some(e)) if planted("timers-after-events") && t == e => {
                Some(Next::Event(e))
            }
            (Some(t), s, e) if before(t, s) && before(t, e) => Some(Next::Timer(t)),
            (_, Some(s), e) if before(s, e) => Some(Next::Signal(s)),
            (_, _, Some(e)) => Some(Next::Event(e)),
            _ => None,
        }
    }

    /// Acts on everything the watermark has passed, in order of time. At the end of input,
    /// timers beyond `limit` are left.
    pub(super) fn advance(&mut self, watermark: Watermark, limit: EventTime) -> Result<(), Error> {
        let mut last_event = EventTime::MIN;
        loop {
            let next = self.next(watermark, limit);
            let time = match &next {
                None => None,
                Some(Next::Timer(time) | Next::Signal(time) | Next::Event(time)) => Some(*time),
            };
            if !self.asked.is_empty() && time.is_none_or(|time| time > last_event) {
                self.after_events(last_event, watermark)?;
                continue;
            }
            match next {
                None => return Ok(()),
                Some(Next::Timer(time)) => {
                    if let Some((_, (hash, key))) = self.due.pop_first() {
                        self.fire(hash, key, time, watermark, false)?;
                    }
                }
                Some(Next::Signal(time)) => {
                    if let Some((_, row)) = self.shared.waiting.pop()? {
                        self.rules.signal(&mut self.shared.state, row, time);
                        self.shared.changed = true;
                        self.tally.used += u64::from(self.shared.owner);
                    }
                }
                Some(Next::Event(time)) => {
                    if let Some((place, row)) = self.waiting.pop()? {
                        last_event = time;
                        self.event(place.hash, time, &place.order, row, watermark)?;
                    }
                }
            }
        }
    }

    /// The last event of a time has acted: calls the keys that asked for it.
    fn after_events(&mut self, time: EventTime, watermark: Watermark) -> Result<(), Error> {
        let now = Now { time, order: None, watermark, call: Call::Event, ended: false };
        for (hash, key) in std::mem::take(&mut self.asked) {
            self.call(hash, &key, now, |rules, cx, _| rules.after_events(cx, &key));
            self.settle(hash, key)?;
        }
        Ok(())
    }

    /// Fires the timers that the tick clock has reached, at the watermark: a result can come no
    /// earlier, for that would be late behind this operator.
    pub(super) fn advance_clock(&mut self, watermark: Watermark) -> Result<(), Error> {
        let time = match watermark {
            Watermark::Unknown => EventTime::MIN,
            Watermark::At(time) => time,
            Watermark::End => EventTime::MAX,
        };
        let call = Call::ClockTimer(self.clock);
        let now = Now { time, order: None, watermark, call, ended: false };
        while let Some(entry) = self.clock_due.first_entry() {
            let at = entry.key().0;
            if at > self.clock {
                break;
            }
            let (hash, key) = entry.remove();
            self.fire_clock(hash, key, at, now)?;
        }
        Ok(())
    }

    /// At the end of input, timers up to the largest event time have fired as ever. Later ones
    /// fire once, then those of the tick clock, and what they register is dropped and counted:
    /// so a heartbeat ends.
    pub(super) fn finish(&mut self, cx: &Cx) -> Result<(), Error> {
        let largest = cx.largest.unwrap_or(EventTime::MIN);
        self.advance(Watermark::End, largest)?;
        let mut last = largest;
        for ((time, _), (hash, key)) in std::mem::take(&mut self.due) {
            last = last.max(time);
            self.fire(hash, key, time, Watermark::End, true)?;
        }
        if let Watermark::At(before) = cx.before {
            last = last.max(before);
        }
        let call = Call::ClockTimer(self.clock);
        let now = Now { time: last, order: None, watermark: Watermark::End, call, ended: true };
        for ((at, _), (hash, key)) in std::mem::take(&mut self.clock_due) {
            self.fire_clock(hash, key, at, now)?;
        }
        if self.effects.timers_dropped > 0 {
            let dropped = std::mem::take(&mut self.effects.timers_dropped);
            tracing::debug!(dropped, operator = &*self.backing.id, "timers set after the end");
        }
        Ok(())
    }
}
