//! A client that has forgotten its brokers.
//!
//! librdkafka, since 2.10, forgets each broker that an answer of the cluster does not name. Where
//! no broker is alive for a moment, as when the only one stood still for longer than its controller
//! waits, the answer names none. The client then forgets all, those that it was given at first too,
//! and never asks anybody again. (confluentinc/librdkafka#5301, open with 2.15.)

use std::ffi::CString;

use rdkafka::bindings::rd_kafka_brokers_add;
use rdkafka::client::{Client, ClientContext};

/// Gives a client its first brokers again, by which it finds the others. One that knows brokers
/// connects to these once more, until the next answer names the others: not to be called often.
pub(crate) fn reach_again<C: ClientContext>(client: &Client<C>, servers: &str) {
    // Names that the client took when it was made have no zero in them.
    let Ok(list) = CString::new(servers) else { return };
    // SAFETY: the client lives for as long as it is borrowed, may be used by many threads at once,
    // and copies the list.
    let found = unsafe { rd_kafka_brokers_add(client.native_ptr(), list.as_ptr()) };
    tracing::debug!(servers, found, "a Kafka client asks its first brokers again");
}
