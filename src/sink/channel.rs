//! Rows for the program that runs the flow.

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{Chunk, Encoder, Guarantee, Opening, Sink, SinkWriter};
use crate::error::{BoxError, Error};
use crate::event::Data;
use crate::time::{EventTime, Tick};

/// A sink whose rows arrive in this program, as soon as their tick is sealed: at least once,
/// since ticks after the last commit run again after a crash.
///
/// The channel is unbounded, so that a slow receiver never holds up the flow; what nobody
/// receives stays in memory, unless the receiver is dropped.
///
/// ```
/// use highwater::Tick;
/// use highwater::sink::{Opening, Sink, channel};
///
/// let (sink, mut received) = channel::<u32>();
/// // What the flow does with the sink:
/// let mut encoder = sink.encoder();
/// let mut writer = sink.open(&Opening::default())?;
/// encoder.encode(vec![1, 2], &[]).unwrap();
/// writer.write(Tick(0), encoder.take().unwrap())?;
/// assert_eq!(received.try_recv(), Some(1));
/// drop(writer); // the flow ends
/// assert_eq!(received.collect::<Vec<_>>(), [2]);
/// # Ok::<(), highwater::Error>(())
/// ```
#[must_use]
pub fn channel<T: Data>() -> (impl Sink<T>, Received<T>) {
    let (sender, receiver) = unbounded_channel();
    (ChannelSink { sender }, Received { receiver, rows: Vec::new().into_iter(), ended: false })
}

enum Message<T> {
    Rows(Vec<T>),
    /// The flow has ended, but may be run again.
    End,
}

/// The receiving end of [`channel`].
///
/// Receiving gives `None` when the flow has ended, however it ended, and all its rows have been
/// received. If the same flow is run again, its rows arrive here too.
///
/// As an iterator it blocks until there is a row.
///
/// # Panics
/// The iterator panics within an async runtime, where blocking would stop other tasks: use
/// [`recv`](Received::recv) there.
///
/// ```
/// use highwater::sink::{Opening, Sink, channel};
///
/// let (sink, received) = channel::<u32>();
/// drop(sink.open(&Opening::default())?); // a flow without output
/// assert_eq!(received.count(), 0);
/// # Ok::<(), highwater::Error>(())
/// ```
#[derive(Debug)]
pub struct Received<T> {
    receiver: UnboundedReceiver<Message<T>>,
    rows: std::vec::IntoIter<T>,
    ended: bool,
}

impl<T> std::fmt::Debug for Message<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Message::Rows(_) => "Rows",
            Message::End => "End",
        })
    }
}

impl<T> Received<T> {
    /// The next row, or `None` when the flow has ended. Cancel safe: no row is lost.
    ///
    /// ```
    /// use highwater::sink::channel;
    ///
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let (sink, mut received) = channel::<u32>();
    /// drop(sink); // nothing will ever come
    /// assert_eq!(received.recv().await, None);
    /// # });
    /// ```
    pub async fn recv(&mut self) -> Option<T> {
        loop {
            if let Some(row) = self.try_recv() {
                return Some(row);
            }
            if self.ended {
                return None;
            }
            let message = self.receiver.recv().await;
            self.accept(message);
        }
    }

    /// The next row, if one has arrived.
    ///
    /// ```
    /// let (_sink, mut received) = highwater::sink::channel::<u32>();
    /// assert_eq!(received.try_recv(), None);
    /// ```
    pub fn try_recv(&mut self) -> Option<T> {
        loop {
            if let Some(row) = self.rows.next() {
                return Some(row);
            }
            let message = self.receiver.try_recv().ok()?;
            self.accept(Some(message));
        }
    }

    fn accept(&mut self, message: Option<Message<T>>) {
        match message {
            Some(Message::Rows(rows)) => {
                self.rows = rows.into_iter();
                self.ended = false;
            }
            Some(Message::End) | None => self.ended = true,
        }
    }
}

impl<T> Iterator for Received<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        loop {
            if let Some(row) = self.try_recv() {
                return Some(row);
            }
            if self.ended {
                return None;
            }
            let message = self.receiver.blocking_recv();
            self.accept(message);
        }
    }
}

struct ChannelSink<T> {
    sender: UnboundedSender<Message<T>>,
}

impl<T: Data> Sink<T> for ChannelSink<T> {
    fn describe(&self) -> String {
        "channel".to_owned()
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    fn encoder(&self) -> Box<dyn Encoder<T>> {
        Box::new(RowEncoder { rows: Vec::new() })
    }

    fn open(&self, _: &Opening<'_>) -> Result<Box<dyn SinkWriter>, Error> {
        Ok(Box::new(ChannelWriter { sender: self.sender.clone() }))
    }
}

struct RowEncoder<T> {
    rows: Vec<T>,
}

impl<T: Data> Encoder<T> for RowEncoder<T> {
    fn encode(&mut self, mut rows: Vec<T>, _times: &[EventTime]) -> Result<(), BoxError> {
        if self.rows.is_empty() {
            self.rows = rows;
        } else {
            self.rows.append(&mut rows);
        }
        Ok(())
    }

    fn take(&mut self) -> Option<Chunk> {
        if self.rows.is_empty() {
            return None;
        }
        Some(Box::new(std::mem::take(&mut self.rows)))
    }
}

struct ChannelWriter<T> {
    sender: UnboundedSender<Message<T>>,
}

impl<T: Data> SinkWriter for ChannelWriter<T> {
    fn write(&mut self, _tick: Tick, chunk: Chunk) -> Result<(), Error> {
        let Ok(rows) = chunk.downcast::<Vec<T>>() else {
            return Err(Error::bug("a channel was given a chunk of another sink"));
        };
        // A receiver that was dropped wants no rows; the flow may have other sinks.
        let _ = self.sender.send(Message::Rows(*rows));
        Ok(())
    }
}

/// The writer lives as long as the flow runs, also where that ends with an error.
impl<T> Drop for ChannelWriter<T> {
    fn drop(&mut self) {
        let _ = self.sender.send(Message::End);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(sink: &impl Sink<u32>, writer: &mut dyn SinkWriter, rows: Vec<u32>) {
        let mut encoder = sink.encoder();
        encoder.encode(rows, &[]).unwrap();
        writer.write(Tick(0), encoder.take().unwrap()).unwrap();
    }

    #[test]
    fn a_flow_that_is_run_again_is_received_again() {
        let (sink, mut received) = channel::<u32>();
        let mut writer = sink.open(&Opening::with(None)).unwrap();
        send(&sink, &mut *writer, vec![1, 2]);
        assert_eq!(received.next(), Some(1));
        drop(writer);
        assert_eq!(received.next(), Some(2));
        assert_eq!(received.next(), None);
        assert_eq!(received.next(), None, "no waiting for a flow that does not run");

        let mut writer = sink.open(&Opening::with(None)).unwrap();
        send(&sink, &mut *writer, vec![3]);
        assert_eq!(received.try_recv(), Some(3));
        assert_eq!(received.try_recv(), None);
        drop((writer, sink));
        assert_eq!(received.next(), None);
    }

    #[test]
    fn rows_wake_a_task_that_waits() {
        let (sink, mut received) = channel::<u32>();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build();
        let waiting = runtime.as_ref().unwrap().spawn(async move {
            let mut rows = Vec::new();
            while let Some(row) = received.recv().await {
                rows.push(row);
            }
            rows
        });
        let mut writer = sink.open(&Opening::with(None)).unwrap();
        send(&sink, &mut *writer, vec![1]);
        send(&sink, &mut *writer, vec![2, 3]);
        drop(writer);
        assert_eq!(runtime.unwrap().block_on(waiting).unwrap(), [1, 2, 3]);
    }

    #[test]
    fn a_dropped_receiver_stops_nothing() {
        let (sink, received) = channel::<u32>();
        drop(received);
        let mut writer = sink.open(&Opening::with(None)).unwrap();
        send(&sink, &mut *writer, vec![1]);
    }
}
