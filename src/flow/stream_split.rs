//! Streams that part: two types of rows, or rows dealt out to all workers.

use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;

use super::plan::{Factory, OutPort};
use super::stream::{Raw, Spec, Stream, Timed, Untimed};
use crate::event::Data;
use crate::keyed::Either;
use crate::operator::Logic;
use crate::operator::partition_map::PartitionMap;
use crate::operator::repartition::Repartition;

impl<T: Data, M: 'static> Stream<T, M> {
    /// Two streams of different types: side outputs. Each row goes one of the two ways and keeps
    /// its time. To split without a change of type, there is [`split`](Self::split).
    ///
    /// A process function that has something to say beside its results emits an [`Either`]:
    ///
    /// ```
    /// use highwater::prelude::*;
    ///
    /// let flow = Flow::new("parse");
    /// let lines = flow.source("lines", Memory::of(["1", "x", "3"].map(str::to_owned)));
    /// let (numbers, others) = lines.partition_map(|line| match line.parse::<u32>() {
    ///     Ok(number) => Either::Left(number),
    ///     Err(_) => Either::Right(line),
    /// });
    /// let (sink, good) = highwater::sink::channel();
    /// numbers.sink("numbers", sink);
    /// let (sink, bad) = highwater::sink::channel();
    /// others.sink("others", sink);
    /// flow.run(Settings::in_memory())?;
    /// assert_eq!(good.collect::<Vec<_>>(), [1, 3]);
    /// assert_eq!(bad.collect::<Vec<_>>(), ["x"]);
    /// # Ok::<(), highwater::Error>(())
    /// ```
    #[track_caller]
    pub fn partition_map<A: Data, B: Data>(
        &self,
        f: impl Fn(T) -> Either<A, B> + Send + Sync + 'static,
    ) -> (Stream<A, M>, Stream<B, M>) {
        let f = Arc::new(f);
        let right = OutPort { name: "right", ..OutPort::default() };
        let outputs = vec![OutPort::main(), right];
        let spec = Spec { outputs, ..Spec::stateless("partition_map") };
        let make: Factory = Arc::new(move |_| {
            let logic = PartitionMap { f: f.clone(), types: PhantomData };
            Ok(Box::new(logic) as Box<dyn Logic>)
        });
        let node = self.add(None, spec, vec![self.port], Location::caller(), make);
        (self.at(node, 0), self.at(node, 1))
    }

    #[track_caller]
    fn dealt_out<N>(&self) -> Stream<T, N> {
        let spec = Spec { outputs: vec![OutPort::exchange()], ..Spec::stateless("repartition") };
        let make: Factory = Arc::new(|cx| {
            let logic = Repartition::<T> { workers: cx.workers, next: 0, types: PhantomData };
            Ok(Box::new(logic) as Box<dyn Logic>)
        });
        let node = self.add(None, spec, vec![self.port], Location::caller(), make);
        self.at(node, 0)
    }
}

impl<T: Data> Stream<T, Raw> {
    /// Deals the rows out to all workers, so that what follows is done by all of them even if
    /// there are fewer partitions than workers. The order of partitions is given up, so event
    /// time must be assigned before.
    #[track_caller]
    pub fn repartition(&self) -> Stream<T, Untimed> {
        self.dealt_out()
    }
}

impl<T: Data> Stream<T, Timed> {
    /// Deals the rows out to all workers, so that what follows is done by all of them even if
    /// there are fewer partitions than workers. Each row keeps its time and its place, so results
    /// stay the same; behind `key_by` it is not needed.
    #[track_caller]
    pub fn repartition(&self) -> Stream<T, Timed> {
        self.dealt_out()
    }
}

impl<T: Data> Stream<T, Untimed> {
    /// Deals the rows out to all workers, so that what follows is done by all of them.
    #[track_caller]
    pub fn repartition(&self) -> Stream<T, Untimed> {
        self.dealt_out()
    }
}
