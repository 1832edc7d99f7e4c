//! Asks an outside store, many times at once, on a thread of its own.

use std::future::Future;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Semaphore;

use crate::error::{BoxError, Error, ErrorKind, panic_message};
use crate::event::Stored;
use crate::keyed::Key;
use crate::operator::Wake;
use crate::operator::lookup::{Hashed, Outside, Reply};

/// An outside store that is asked for the values of keys. See
/// [`Keyed::lookup`](crate::Keyed::lookup).
///
/// Any function of keys that returns such a future is a lookup.
pub trait Lookup<K>: Send + Sync + 'static {
    /// What the store has of a key. It is kept, so that it must survive.
    type Value: Stored;

    /// The values of `keys`, one for each, in their order; `None` where the store has none.
    fn get(
        &self,
        keys: Vec<K>,
    ) -> impl Future<Output = Result<Vec<Option<Self::Value>>, BoxError>> + Send + 'static;
}

impl<K, V, F, Fut> Lookup<K> for F
where
    V: Stored,
    F: Fn(Vec<K>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Vec<Option<V>>, BoxError>> + Send + 'static,
{
    type Value = V;

    fn get(
        &self,
        keys: Vec<K>,
    ) -> impl Future<Output = Result<Vec<Option<V>>, BoxError>> + Send + 'static {
        self(keys)
    }
}

/// How the store is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asking {
    /// Keys in one request.
    pub(crate) batch: usize,
    /// Requests that may be under way at once, over all workers.
    pub(crate) in_flight: usize,
    pub(crate) timeout: Duration,
}

/// What the workers of a flow share: the store, and the thread on which it is asked.
pub(crate) struct Client<Q> {
    lookup: Arc<Q>,
    asking: Asking,
    places: Arc<Semaphore>,
    /// Made when the first worker is built.
    runtime: Mutex<Option<Runtime>>,
}

impl<Q> Client<Q> {
    pub(crate) fn new(lookup: Q, asking: Asking) -> Self {
        Client {
            lookup: Arc::new(lookup),
            asking,
            places: Arc::new(Semaphore::new(asking.in_flight)),
            runtime: Mutex::new(None),
        }
    }

    fn handle(&self) -> Result<Handle, Error> {
        let mut runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = &*runtime {
            return Ok(runtime.handle().clone());
        }
        let made = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("highwater-lookup")
            .enable_all()
            .build()
            .map_err(|e| Error::io("cannot start the thread of a lookup", e))?;
        Ok(runtime.insert(made).handle().clone())
    }
}

impl<Q> Drop for Client<Q> {
    /// Requests that are still under way belong to ticks that will not end.
    fn drop(&mut self) {
        let runtime = self.runtime.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(runtime) = runtime {
            runtime.shutdown_background();
        }
    }
}

/// One worker's way to the store.
pub(crate) struct Asker<K, Q: Lookup<K>> {
    client: Arc<Client<Q>>,
    handle: Handle,
    replies: Sender<Reply<K, Q::Value>>,
    inbox: Receiver<Reply<K, Q::Value>>,
    wake: Wake,
}

impl<K: Key, Q: Lookup<K>> Asker<K, Q> {
    pub(crate) fn new(client: Arc<Client<Q>>) -> Result<Self, Error> {
        let (replies, inbox) = mpsc::channel();
        let handle = client.handle()?;
        Ok(Asker { client, handle, replies, inbox, wake: Arc::new(|| {}) })
    }
}

impl<K: Key, Q: Lookup<K>> Outside<K, Q::Value> for Asker<K, Q> {
    fn attach(&mut self, wake: Wake) {
        self.wake = wake;
    }

    fn ask(&mut self, keys: Vec<Hashed<K>>) {
        for keys in keys.chunks(self.client.asking.batch) {
            let (keys, places) = (keys.to_vec(), self.client.places.clone());
            let (lookup, timeout) = (self.client.lookup.clone(), self.client.asking.timeout);
            let (replies, wake) = (self.replies.clone(), self.wake.clone());
            let request = async move {
                let asked = keys.iter().map(|(_, key)| key.clone()).collect();
                // Inside, so that what panics before it first waits is caught too.
                let get = async move { lookup.get(asked).await };
                let answer = tokio::time::timeout(timeout, get).await;
                match answer {
                    Ok(Ok(values)) => matched(keys, values),
                    Ok(Err(cause)) => Err(Error::io("the lookup failed", cause)),
                    Err(_) => {
                        let message = format!("the lookup took longer than {timeout:?}");
                        Err(Error::new(ErrorKind::Io, message))
                    }
                }
            };
            self.handle.spawn(async move {
                // The semaphore is never closed.
                let _place = places.acquire().await;
                let reply = tokio::spawn(request).await.unwrap_or_else(|failed| {
                    let why = match failed.try_into_panic() {
                        Ok(panic) => format!("the lookup panicked: {}", panic_message(&*panic)),
                        Err(_) => "the lookup was cancelled".to_owned(),
                    };
                    Err(Error::new(ErrorKind::UserCode, why))
                });
                // A worker that is gone asks no more.
                let _ = replies.send(reply);
                wake();
            });
        }
    }

    fn answers(&mut self) -> Reply<K, Q::Value> {
        let mut answers = Vec::new();
        while let Ok(reply) = self.inbox.try_recv() {
            answers.append(&mut reply?);
        }
        Ok(answers)
    }
}

fn matched<K, V>(keys: Vec<Hashed<K>>, values: Vec<Option<V>>) -> Reply<K, V> {
    if keys.len() == values.len() {
        return Ok(keys.into_iter().zip(values).collect());
    }
    let (asked, given) = (keys.len(), values.len());
    let message = format!("the lookup was asked for {asked} keys and gave {given} values");
    Err(Error::new(ErrorKind::UserCode, message))
}
