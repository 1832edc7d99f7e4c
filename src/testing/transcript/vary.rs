//! Plays a transcript in every variation that a flow of class Input must not notice: the order
//! in which partitions are read, ticks, workers and crashes.

use std::collections::VecDeque;

use super::format::{Side, Step, Text};
use super::play::{Player, Results, event};
use super::value::Input;
use crate::engine::dice::Dice;
use crate::error::Error;

/// What one partition brings, in its order.
struct Queue {
    side: Side,
    partition: usize,
    left: VecDeque<Input>,
}

/// How a transcript is played.
#[derive(Clone, Copy, Debug)]
struct Variation {
    order: Order,
    ticks: Ticks,
    workers: usize,
    crashes: Crashes,
}

/// In which order partitions bring their next event.
#[derive(Clone, Copy, Debug)]
enum Order {
    /// As it is written.
    Written,
    /// One partition after the other, the last one first.
    Backwards,
    Random(u64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Ticks {
    EachEvent,
    OneForAll,
    Random,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Crashes {
    None,
    /// After each event, and so from the beginning.
    AfterEach,
    /// After each event, which is committed before.
    AfterEachCommit,
    Random,
}

fn variations() -> Vec<Variation> {
    let mut all = Vec::new();
    for workers in [1, 2, 4] {
        let order = Order::Written;
        for (ticks, crashes) in [
            (Ticks::EachEvent, Crashes::None),
            (Ticks::OneForAll, Crashes::None),
            (Ticks::EachEvent, Crashes::AfterEachCommit),
        ] {
            all.push(Variation { order, ticks, workers, crashes });
        }
    }
    let (order, ticks) = (Order::Written, Ticks::EachEvent);
    all.push(Variation { order, ticks, workers: 1, crashes: Crashes::AfterEach });
    let (order, crashes) = (Order::Backwards, Crashes::None);
    for ticks in [Ticks::EachEvent, Ticks::OneForAll] {
        all.push(Variation { order, ticks, workers: 1, crashes });
    }
    for seed in 1..=6 {
        let (order, ticks) = (Order::Random(seed), Ticks::Random);
        let workers = [1, 2, 4][seed as usize % 3];
        all.push(Variation { order, ticks, workers, crashes: Crashes::Random });
    }
    all
}

/// Plays all variations; each must give what the transcript gave as it is written.
pub(super) fn play_all(text: &Text, written: &Option<Results>) -> Result<usize, String> {
    let Some(written) = written else { return Ok(0) };
    let all = variations();
    for variation in &all {
        let found = play(text, *variation).map_err(|e| format!("{variation:?}: {e}"))?;
        compare(text, variation, written, &found)?;
    }
    Ok(all.len())
}

/// The order in which partitions bring something, as it is written.
fn read(text: &Text) -> (Vec<Queue>, Vec<usize>) {
    let unit = text.header.unit;
    let mut queues = Vec::new();
    for side in text.header.sides() {
        let partitions = text.header.source(side).map_or(0, |source| source.partitions);
        queues.extend((0..partitions).map(|partition| Queue {
            side,
            partition,
            left: VecDeque::new(),
        }));
    }
    let mut order = Vec::new();
    let mut bring = |side: Side, partition: usize, input: Input| {
        let found = queues.iter().position(|q| q.side == side && q.partition == partition);
        if let Some(index) = found {
            queues[index].left.push_back(input);
            order.push(index);
        }
    };
    for (_, step) in &text.steps {
        match step {
            Step::In(events) => {
                events.iter().for_each(|e| bring(e.side, e.partition, event(e, unit)));
            }
            Step::Watermark(mark) => {
                bring(mark.side, mark.partition, Input::Mark(unit.time(mark.time)));
            }
            _ => {}
        }
    }
    (queues, order)
}

/// The order in which a variation takes from the partitions.
fn reorder(order: Order, queues: &[Queue], written: Vec<usize>) -> Vec<usize> {
    match order {
        Order::Written => written,
        Order::Backwards => {
            let indexes = (0..queues.len()).rev();
            indexes.flat_map(|q| std::iter::repeat_n(q, queues[q].left.len())).collect()
        }
        Order::Random(seed) => {
            let mut dice = Dice::new(seed);
            let mut shuffled = written;
            for at in (1..shuffled.len()).rev() {
                shuffled.swap(at, dice.below(at + 1));
            }
            shuffled
        }
    }
}

fn play(text: &Text, variation: Variation) -> Result<Results, String> {
    let (mut queues, written) = read(text);
    let order = reorder(variation.order, &queues, written);
    let seed = if let Order::Random(seed) = variation.order { seed } else { 0 };
    let mut dice = Dice::new(seed ^ 0x5EED);
    let mut player = Player::start(text, variation.workers, seed)?;
    let told = |e: Error| e.to_string();
    for queue in order {
        let Queue { side, partition, left } = &mut queues[queue];
        let Some(input) = left.pop_front() else { continue };
        player.push(*side, *partition, input).map_err(told)?;
        between(&mut player, variation, &mut dice).map_err(told)?;
        balanced(&player)?;
    }
    let results = player.finish().map_err(told)?;
    balanced(&player)?;
    Ok(results)
}

fn between(player: &mut Player, variation: Variation, dice: &mut Dice) -> Result<(), Error> {
    let driver = &mut player.driver;
    match (variation.ticks, variation.crashes) {
        (Ticks::OneForAll, _) => return Ok(()),
        (Ticks::EachEvent, Crashes::AfterEachCommit) => driver.commit()?,
        (Ticks::EachEvent, _) => driver.tick()?,
        (Ticks::Random, _) => match dice.below(4) {
            0 => driver.commit()?,
            1 | 2 => driver.tick()?,
            _ => {}
        },
    }
    match variation.crashes {
        Crashes::None => Ok(()),
        Crashes::AfterEach | Crashes::AfterEachCommit => driver.crash_and_restart(),
        Crashes::Random => match dice.below(8) {
            0 => driver.crash_and_restart(),
            1 => driver.rescale([1, 2, 4][dice.below(3)]),
            2 => {
                let (commit, steps) = (dice.below(2) == 0, dice.below(30));
                driver.crash_in_tick(commit, steps)?;
                driver.restart()
            }
            _ => Ok(()),
        },
    }
}

fn balanced(player: &Player) -> Result<(), String> {
    let metrics = player.driver.metrics();
    match metrics.operators.iter().find(|o| !o.counters.balanced()) {
        Some(o) => Err(format!("`{}` cannot account for its input: {:?}", o.id, o.counters)),
        None => Ok(()),
    }
}

fn compare(
    text: &Text,
    variation: &Variation,
    written: &Results,
    found: &Results,
) -> Result<(), String> {
    if written == found {
        return Ok(());
    }
    let unit = text.header.unit;
    let mut message = format!("a variation gives other results: {variation:?}");
    let mut list = |what: &str, rows: Vec<String>| {
        for row in rows {
            message.push_str(&format!("\n  {what}: {row}"));
        }
    };
    let shown = |rows: Vec<super::value::Row>| -> Vec<String> {
        rows.iter().map(|row| unit.show_row(row, true).to_string()).collect()
    };
    list("row only as written", shown(without(&written.rows, &found.rows)));
    list("row only in the variation", shown(without(&found.rows, &written.rows)));
    let shown = |late: Vec<(String, super::value::Row)>| -> Vec<String> {
        late.iter().map(|(op, row)| format!("{op}: {}", unit.show_row(row, true))).collect()
    };
    list("late only as written", shown(without(&written.late, &found.late)));
    list("late only in the variation", shown(without(&found.late, &written.late)));
    Err(message)
}

/// What a bag has and another one has not.
fn without<T: Clone + PartialEq>(bag: &[T], other: &[T]) -> Vec<T> {
    let mut other: Vec<&T> = other.iter().collect();
    let mut rest = Vec::new();
    for row in bag {
        match other.iter().position(|o| *o == row) {
            Some(at) => drop(other.swap_remove(at)),
            None => rest.push(row.clone()),
        }
    }
    rest
}
