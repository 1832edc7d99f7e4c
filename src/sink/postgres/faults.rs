//! Points on the way to the database at which a test lets something break.

use std::fmt;
use std::sync::Arc;

use crate::error::Error;
use crate::postgres::Trouble;

/// What breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// The flow stops here.
    Crash,
    /// The connection is lost here.
    Cut,
}

type Decide = dyn Fn(&'static str) -> Fault + Send + Sync;

#[derive(Clone, Default)]
pub(super) struct Faults(Option<Arc<Decide>>);

impl Faults {
    #[cfg(feature = "testing")]
    pub(super) fn new(decide: impl Fn(&'static str) -> Fault + Send + Sync + 'static) -> Self {
        Faults(Some(Arc::new(decide)))
    }

    pub(super) fn ask(&self, point: &'static str) -> Fault {
        self.0.as_ref().map_or(Fault::None, |decide| decide(point))
    }

    pub(super) fn at(&self, point: &'static str) -> Result<(), Trouble> {
        broken(self.ask(point), point)
    }

    /// Where there is no connection that could be lost.
    pub(super) fn outside(&self, point: &'static str) -> Result<(), Error> {
        match self.ask(point) {
            Fault::Crash => Err(crash(point)),
            Fault::None | Fault::Cut => Ok(()),
        }
    }
}

pub(super) fn broken(fault: Fault, point: &'static str) -> Result<(), Trouble> {
    match fault {
        Fault::None => Ok(()),
        Fault::Crash => Err(Trouble::Final(crash(point))),
        Fault::Cut => Err(Trouble::Away(format!("the connection was cut at `{point}`").into())),
    }
}

fn crash(point: &'static str) -> Error {
    Error::io("a fault was put in", format!("at `{point}`"))
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Faults" } else { "no faults" })
    }
}
