//! For those who come from Spark Streaming: each operation on a `DStream`, and its equal here.
//!
//! Two things are different. Windows and state go by **event time**: what a window holds does not
//! depend on when its rows arrived, so it can be told exactly once, when it is complete. And a
//! batch is a **tick**, which cuts itself: what depends on where ticks were cut says so in the
//! plan (class Arrival), and everything else gives the same results however they were.
//!
//! | Spark Streaming | here |
//! |---|---|
//! | [`map`, `flatMap`, `filter`](#rows) | [`map`], [`flat_map`], [`filter`] |
//! | [`repartition`, `union`](#workers) | [`repartition`], [`union`] |
//! | [`count`](#numbers) | a window with [`Count`], or [`per_tick`] |
//! | [`reduce`](#numbers) | a window with [`Reduce`] |
//! | [`countByValue`](#numbers) | the row as its own key, with [`Count`] |
//! | [`reduceByKey`](#keys) | [`key_by`], a window and [`Reduce`]; or [`running`] |
//! | [`join`, `cogroup`](#two-streams) | [`join`] with [`inner`], [`left`], .. or [`cogroup`] |
//! | [`transform`](#batches) | [`per_tick`] |
//! | [`updateStateByKey`](#state) | [`update_state`] |
//! | [`mapWithState`](#state) | [`map_with_state`] |
//! | [`window`](#windows) | [`window`] with [`Hopping`] |
//! | [`countByWindow`, `countByValueAndWindow`](#windows) | [`Hopping`] and [`Count`] |
//! | [`reduceByWindow`, `reduceByKeyAndWindow`](#windows) | [`Hopping`] and [`Reduce`] |
//! | [the same with an inverse function](#windows) | not needed: windows share their parts |
//! | [`foreachRDD`](#batches) | a [sink](crate::sink), or [`per_tick`] |
//! | `print`, `saveAsTextFiles` | the sinks [`Stdout`], [`JsonLines`], [`Csv`] |
//! | `checkpoint`, `cache` | not needed: state is committed with the flow |
//!
//! [`map`]: crate::Stream::map
//! [`flat_map`]: crate::Stream::flat_map
//! [`filter`]: crate::Stream::filter
//! [`repartition`]: crate::Stream::repartition
//! [`union`]: crate::Stream::union
//! [`per_tick`]: crate::Stream::per_tick
//! [`key_by`]: crate::Stream::key_by
//! [`running`]: crate::Keyed::running
//! [`join`]: crate::Keyed::join
//! [`inner`]: crate::WindowJoin::inner
//! [`left`]: crate::WindowJoin::left
//! [`cogroup`]: crate::Join::cogroup
//! [`update_state`]: crate::Keyed::update_state
//! [`map_with_state`]: crate::Keyed::map_with_state
//! [`window`]: crate::Keyed::window
//! [`Hopping`]: crate::Hopping
//! [`Count`]: crate::Count
//! [`Reduce`]: crate::Reduce
//! [`Stdout`]: crate::sink::Stdout
//! [`JsonLines`]: crate::sink::JsonLines
//! [`Csv`]: crate::sink::Csv
//!
//! # Rows
//!
//! ```
//! # use highwater::prelude::*;
//! # let flow = Flow::new("words");
//! let lines = flow.source("lines", Memory::of(["to be or".to_owned(), "not to be".to_owned()]));
//! let words = lines
//!     .flat_map(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>())
//!     .filter(|word| word.len() == 2)
//!     .map(|word| word.to_uppercase());
//! # let (sink, out) = highwater::sink::channel();
//! words.sink("words", sink);
//! # flow.run(Settings::in_memory())?;
//! assert_eq!(out.collect::<Vec<_>>(), ["TO", "BE", "OR", "TO", "BE"]);
//! # Ok::<(), highwater::Error>(())
//! ```
//!
//! # Workers
//!
//! A source has as many partitions as it has files or topic partitions, and each is read by one
//! worker. `repartition` deals the rows out to all workers; `key_by` does so by itself.
//!
//! ```
//! # use highwater::prelude::*;
//! # let flow = Flow::new("numbers");
//! let one = flow.source("one", Memory::of(0..10u64));
//! let two = flow.source("two", Memory::of(10..20u64));
//! let all = one.union(&[&two]).repartition().map(|n| n * n);
//! # let (sink, out) = highwater::sink::channel();
//! all.sink("squares", sink);
//! # flow.run(Settings::in_memory().workers(2))?;
//! assert_eq!(out.sum::<u64>(), (0..20u64).map(|n| n * n).sum::<u64>());
//! # Ok::<(), highwater::Error>(())
//! ```
//!
//! # Numbers
//!
//! In Spark these are numbers per batch. A number that means something is one per window:
//!
//! ```
//! # use highwater::prelude::*;
//! # let flow = Flow::new("numbers");
//! let at = EventTime::from_seconds;
//! let words = [("a", at(1)), ("b", at(2)), ("a", at(3)), ("a", at(11))];
//! let words = flow
//!     .source("words", Memory::of(words.map(|(word, at)| (word.to_owned(), at))))
//!     .event_time(|w| w.1, Disorder::ascending());
//! let tens = || Tumbling::of(seconds(10));
//! let in_order = "words come in order";
//! // count: everything has the same key
//! let all = words.key_with(|_| ());
//! let counts = all.window("count", tens()).aggregate(Count).drop_late(in_order);
//! // reduce
//! let longer = |a: &(String, EventTime), b: &(String, EventTime)| a.max(b).clone();
//! let greatest = all.window("reduce", tens()).aggregate(Reduce::of(longer)).drop_late(in_order);
//! // countByValue: each word is its own key
//! let by_value = words.key_by(|w| &w.0).window("by-value", tens()).aggregate(Count);
//! let by_value = by_value.drop_late(in_order);
//! // and a number per batch, if that is what is wanted
//! let per_tick = words.per_tick("per-tick", |_tick, rows| [rows.len()]);
//! # let (sink, out) = highwater::sink::channel();
//! counts.map(|r| r.value).sink("counts", sink);
//! # let (sink, max) = highwater::sink::channel();
//! greatest.map(|r| r.value.map(|w| w.0)).sink("greatest", sink);
//! # let (sink, values) = highwater::sink::channel();
//! by_value.map(|r| (r.key, r.value)).sink("values", sink);
//! # let (sink, ticks) = highwater::sink::channel();
//! per_tick.sink("ticks", sink);
//! # flow.run(Settings::in_memory())?;
//! assert_eq!(out.collect::<Vec<_>>(), [3, 1]);
//! assert_eq!(max.flatten().collect::<Vec<_>>(), ["b", "a"]);
//! # let mut values: Vec<_> = values.collect();
//! # values.sort();
//! assert_eq!(values, [("a".to_owned(), 1), ("a".to_owned(), 2), ("b".to_owned(), 1)]);
//! assert_eq!(ticks.sum::<usize>(), 4);
//! # Ok::<(), highwater::Error>(())
//! ```
//!
//! # Keys
//!
//! Per window as above; or for ever, with a new value per key and tick:
//!
//! ```
//! # use highwater::prelude::*;
//! # let flow = Flow::new("sums");
//! let pairs = flow.source("pairs", Memory::of([("a", 1), ("b", 2), ("a", 3)]));
//! let sums = pairs.key_with(|p| p.0.to_owned()).running("sums", Sum::of(|p: &(&str, i64)| p.1));
//! # let (sink, out) = highwater::sink::channel();
//! sums.unbounded().sink("out", sink);
//! # flow.run(Settings::in_memory().workers(1))?;
//! # let mut last: Vec<(String, i64)> = out.collect();
//! # last.sort();
//! assert_eq!(last, [("a".to_owned(), 4), ("b".to_owned(), 2)]);
//! # Ok::<(), highwater::Error>(())
//! ```
//!
//! # Two streams
//!
//! Spark joins what happens to be in the same batch. Here rows meet if they share a window, or by
//! their distance in time ([`Join::interval`](crate::Join::interval)).
//!
//! ```
//! # use highwater::prelude::*;
//! # let flow = Flow::new("cogroup");
//! # let at = EventTime::from_seconds;
//! # type Name = (u32, String, EventTime);
//! # type Size = (u32, i64, EventTime);
//! let names = flow
//!     .source("names", Memory::of([(1, "one".to_owned(), at(3)), (2, "two".to_owned(), at(4))]))
//!     .event_time(|n| n.2, Disorder::ascending())
//!     .key_by(|n: &Name| &n.0);
//! let sizes = flow
//!     .source("sizes", Memory::of([(1, 10, at(4)), (1, 11, at(5))]))
//!     .event_time(|s| s.2, Disorder::ascending())
//!     .key_by(|s: &Size| &s.0);
//! // leftOuterJoin
//! let pairs = names
//!     .join(&sizes)
//!     .window("pairs", Tumbling::of(minutes(1)))
//!     .left(|name: &Name, size: Option<&Size>| (name.1.clone(), size.map(|s| s.1)));
//! // cogroup
//! let groups = names.join(&sizes).cogroup(
//!     "groups",
//!     Tumbling::of(minutes(1)),
//!     |names: &[Name], sizes: &[Size]| [(names.len(), sizes.len())],
//! );
//! # let (sink, out) = highwater::sink::channel();
//! pairs.drop_late("both come in order").map(|r| r.value).sink("pairs-out", sink);
//! # let (sink, sides) = highwater::sink::channel();
//! groups.drop_late("both come in order").map(|r| (r.key, r.value)).sink("groups-out", sink);
//! # flow.run(Settings::in_memory())?;
//! # let mut pairs: Vec<(String, Option<i64>)> = out.collect();
//! # pairs.sort();
//! let pair = |name: &str, size| (name.to_owned(), size);
//! assert_eq!(pairs, [pair("one", Some(10)), pair("one", Some(11)), pair("two", None)]);
//! # let mut groups: Vec<(u32, (usize, usize))> = sides.collect();
//! # groups.sort();
//! assert_eq!(groups, [(1, (1, 2)), (2, (1, 0))]);
//! # Ok::<(), highwater::Error>(())
//! ```
//!
//! # Batches
//!
//! `per_tick` calls any function with all rows of a tick, in one place. For output there are
//! sinks, which know what has been committed: what `per_tick` does to the outside world is done
//! again for the ticks after the last commit if the process dies.
//!
//! ```
//! # use highwater::prelude::*;
//! # let flow = Flow::new("batches");
//! let numbers = flow.source("numbers", Memory::of([3, 1, 2u32]));
//! let sorted = numbers.per_tick("sorted", |_tick, mut rows| {
//!     rows.sort_unstable();
//!     rows
//! });
//! # let (sink, out) = highwater::sink::channel();
//! sorted.sink("out", sink);
//! # flow.run(Settings::in_memory())?;
//! assert_eq!(out.collect::<Vec<_>>(), [1, 2, 3]);
//! # Ok::<(), highwater::Error>(())
//! ```
//!
//! # State
//!
//! Called once per event and in order of event time, not once per batch:
//!
//! ```
//! # use highwater::prelude::*;
//! # let flow = Flow::new("state");
//! # let at = EventTime::from_seconds;
//! let clicks = flow
//!     .source("clicks", Memory::of([(7, at(1)), (7, at(2)), (7, at(500))]))
//!     .event_time(|c| c.1, Disorder::ascending())
//!     .key_by(|c: &(u32, EventTime)| &c.0);
//! let counts = clicks.update_state("counts", |_user, count: &mut Option<u64>, _click| {
//!     *count = Some(count.unwrap_or(0) + 1);
//! });
//! let pauses = clicks.map_with_state("pauses", |user, last: &mut Option<EventTime>, click| {
//!     let before = last.replace(click.1)?;
//!     Some((*user, click.1 - before))
//! });
//! # let (sink, out) = highwater::sink::channel();
//! counts.unbounded().drop_late("clicks come in order").sink("counts-out", sink);
//! # let (sink, paused) = highwater::sink::channel();
//! // State has a time to live: the third click finds nothing.
//! let pauses = pauses.ttl(Ttl::from_write(minutes(5))).drop_late("clicks come in order");
//! pauses.sink("pauses-out", sink);
//! # flow.run(Settings::in_memory())?;
//! assert_eq!(out.collect::<Vec<_>>(), [(7, Some(1)), (7, Some(2)), (7, Some(3))]);
//! assert_eq!(paused.collect::<Vec<_>>(), [(7, seconds(1))]);
//! # Ok::<(), highwater::Error>(())
//! ```
//!
//! # Windows
//!
//! `reduceByWindow` with an inverse function exists to make overlapping windows cheap: what
//! leaves is subtracted. That is not needed here, and so any aggregate will do, also one without
//! an inverse such as a maximum: an event updates one slice, and a window is a merge of slices.
//!
//! ```
//! # use highwater::prelude::*;
//! # let flow = Flow::new("windows");
//! # let at = EventTime::from_seconds;
//! let sales = flow
//!     .source("sales", Memory::of([(1, 10, at(5)), (1, 20, at(12)), (1, 30, at(18))]))
//!     .event_time(|s| s.2, Disorder::ascending())
//!     .key_by(|s: &(u32, i64, EventTime)| &s.0);
//! // The last 20 seconds, every 10 seconds.
//! let recent = || Hopping::of(seconds(20), seconds(10));
//! let rows = sales.window("window", recent()).aggregate(Collect);
//! let counts = sales.window("count", recent()).aggregate(Count);
//! let sums = sales.window("sums", recent()).aggregate(Sum::of(|s: &(u32, i64, EventTime)| s.1));
//! # let (sink, out) = highwater::sink::channel();
//! rows.drop_late("none").map(|r| r.value.len()).sink("rows", sink);
//! # let (sink, counted) = highwater::sink::channel();
//! counts.drop_late("none").map(|r| r.value).sink("counts", sink);
//! # let (sink, summed) = highwater::sink::channel();
//! sums.drop_late("none").map(|r| r.value).sink("summed", sink);
//! # flow.run(Settings::in_memory())?;
//! assert_eq!(out.collect::<Vec<_>>(), [1, 3, 2]);
//! assert_eq!(counted.collect::<Vec<_>>(), [1, 3, 2]);
//! assert_eq!(summed.collect::<Vec<_>>(), [10, 60, 50]);
//! # Ok::<(), highwater::Error>(())
//! ```
