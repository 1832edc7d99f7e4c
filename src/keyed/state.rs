//! What is kept of one key by a process function, and how it is stored.

use highwater_state::{Error, Value, decode, encode_into};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::process::{ClockTimer, Timer};
use super::timers::TimerSet;
use crate::error::BoxError;
use crate::time::EventTime;

/// What is kept of one key.
#[derive(Debug)]
pub(crate) struct KeyState<S> {
    /// The user's state; `None` until set, and after it was taken.
    pub(crate) value: Option<S>,
    pub(crate) head: StateHead,
    /// The version of the user's state type.
    pub(crate) version: u16,
    /// The list of expiries has an entry for this key.
    pub(crate) listed: bool,
}

/// What is stored before the user's state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct StateHead {
    /// Set and not yet fired or deleted.
    pub(crate) timers: TimerSet<Timer>,
    /// When the value was last written (or read, if that counts). Only kept with a TTL.
    pub(crate) touched: Option<EventTime>,
    /// Timers of the tick clock, set and not yet fired or deleted.
    pub(crate) clock_timers: TimerSet<ClockTimer>,
}

impl StateHead {
    /// Notes that the value was used at `time`. Events on arrival come in any order of time, so
    /// an earlier one must not take back what a later one has said.
    pub(crate) fn touch(&mut self, time: EventTime) {
        self.touched = self.touched.max(Some(time));
    }
}

/// State as an older version of the program wrote it.
#[derive(Clone, Copy, Debug)]
pub struct OldState<'a> {
    version: u16,
    bytes: &'a [u8],
}

impl OldState<'_> {
    /// The version that wrote it.
    #[must_use]
    pub fn version(&self) -> u16 {
        self.version
    }

    /// Decodes it as the type that it was then.
    ///
    /// # Errors
    /// Where it is no such type.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, BoxError> {
        Ok(decode(self.bytes)?)
    }
}

/// Brings an older version's state up to date.
pub(crate) type Migrate<'a, S> = dyn Fn(OldState<'_>) -> Result<S, BoxError> + 'a;

impl<S> KeyState<S> {
    pub(crate) fn new(version: u16) -> Self {
        KeyState { value: None, head: StateHead::default(), version, listed: false }
    }

    pub(crate) fn is_empty(&self) -> bool {
        let StateHead { timers, clock_timers, .. } = &self.head;
        self.value.is_none() && timers.is_empty() && clock_timers.is_empty()
    }
}

impl<S: Serialize> Value for KeyState<S> {
    fn encode(&self, bytes: &mut Vec<u8>) -> Result<(), Error> {
        bytes.extend_from_slice(&self.version.to_le_bytes());
        let start = bytes.len();
        bytes.extend_from_slice(&[0; 4]);
        encode_into(&self.head, bytes)?;
        let length = u32::try_from(bytes.len() - start - 4)
            .map_err(|_| Error::Encode("a key has more than 4 GiB of timers".into()))?;
        bytes[start..start + 4].copy_from_slice(&length.to_le_bytes());
        match &self.value {
            None => bytes.push(0),
            Some(value) => {
                bytes.push(1);
                encode_into(value, bytes)?;
            }
        }
        Ok(())
    }
}

/// The parts of a stored state: version, head, and the user's state if there is one.
pub(crate) fn split(bytes: &[u8]) -> Result<(u16, StateHead, Option<&[u8]>), Error> {
    let cut = || Error::Corrupt("the state of a key is cut short".into());
    let (version, rest) = bytes.split_first_chunk::<2>().ok_or_else(cut)?;
    let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
    let length = u32::from_le_bytes(*length) as usize;
    let (head, value) = rest.split_at_checked(length).ok_or_else(cut)?;
    let value = match value.split_first() {
        Some((0, [])) => None,
        Some((1, value)) => Some(value),
        _ => return Err(cut()),
    };
    Ok((u16::from_le_bytes(*version), decode(head)?, value))
}

impl<S: DeserializeOwned> KeyState<S> {
    /// Decodes a stored state, and migrates it if an older version wrote it.
    pub(crate) fn decode(
        bytes: &[u8],
        version: u16,
        migrate: &Migrate<'_, S>,
    ) -> Result<Self, Error> {
        let (written, head, value) = split(bytes)?;
        let value = match value {
            None => None,
            Some(bytes) if written == version => Some(decode(bytes)?),
            Some(bytes) => {
                let old = OldState { version: written, bytes };
                let failed = |e: BoxError| {
                    let message = format!("cannot migrate from version {written}: {e}");
                    Error::Corrupt(message)
                };
                Some(migrate(old).map_err(failed)?)
            }
        };
        Ok(KeyState { value, head, version, listed: false })
    }
}

/// A stored state, encoded anew by this version; `None` if this version wrote it.
pub(crate) fn rewrite<S: Serialize + DeserializeOwned>(
    bytes: &[u8],
    version: u16,
    migrate: &Migrate<'_, S>,
) -> Result<Option<Vec<u8>>, Error> {
    if split(bytes)?.0 == version {
        return Ok(None);
    }
    let mut state = KeyState::decode(bytes, version, migrate)?;
    state.version = version;
    let mut new = Vec::new();
    state.encode(&mut new)?;
    Ok(Some(new))
}
