//! Protocol Buffers.

use super::formats::{Format, stateless, value};
use crate::event::Data;

pub(super) fn protobuf<M: prost::Message + Default + Data>() -> Format<M> {
    stateless(|record| Ok(M::decode(value(record)?)?))
}
