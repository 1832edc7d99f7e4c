//! The flow as users build it: typed streams over an untyped plan.

mod as_of;
mod compat;
mod connect;
mod erased;
mod join;
mod join_window;
mod keyed;
mod keyed_broadcast;
mod keyed_count;
mod keyed_dedup;
mod keyed_global;
mod keyed_over;
mod keyed_process;
mod keyed_state;
mod keyed_two;
mod lookup;
mod plan;
mod ports;
mod stream;
mod stream_split;
mod windowed;

use std::panic::Location;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use as_of::{AsOf, AsOfJoin};
pub(crate) use compat::{Signature, Types};
pub use compat::{StateCheck, Verdict};
pub(crate) use erased::{AnyReader, AnySource};
pub use join::{IntervalJoin, Join, Joined};
pub use join_window::WindowJoin;
pub use keyed::{Keyed, RunningStream, Undeclared};
pub use keyed_broadcast::{BroadcastResults, WithBroadcast};
pub use keyed_count::{CountResults, CountWindowed};
pub use keyed_global::GlobalWindowed;
pub use keyed_over::Overed;
pub use keyed_state::StateStream;
pub use lookup::LookupJoin;
#[cfg(feature = "testing")]
pub(crate) use plan::Factory;
pub(crate) use plan::{Body, BuildCx, Node, OutPort, Plan, PortRef, Rewrite};
pub use ports::{SourceStream, TimedStream, WithLate};
#[cfg(feature = "testing")]
pub(crate) use stream::Spec;
pub use stream::{Facts, Raw, Stream, Timed, Untimed, Updates};
pub use windowed::{WindowKind, Windowed, WindowedPanes};

use crate::engine;
use crate::error::Error;
use crate::handle::Handle;
use crate::operator::Class;
use crate::settings::Settings;
use crate::source::{Source, Undecodable};

/// A dataflow from sources to sinks, built once and run by any number of workers.
///
/// ```
/// use highwater::prelude::*;
///
/// #[derive(Clone)]
/// struct Click { user: u32, at: EventTime }
///
/// let flow = Flow::new("clicks");
/// let clicks = flow.source("clicks", Memory::of([Click { user: 7, at: EventTime::MIN }]));
/// let per_minute = clicks
///     .event_time(|c| c.at, Disorder::at_most(seconds(5)))
///     .key_by(|c| &c.user)
///     .window("per-minute", Tumbling::of(minutes(1)))
///     .aggregate(Count);
/// per_minute.drop_late("a late click changes nothing").sink("out", Stdout::json());
/// println!("{}", flow.plan()?);
/// # Ok::<(), highwater::Error>(())
/// ```
pub struct Flow {
    plan: SharedPlan,
}

/// The plan under construction: streams hold it to add operators behind themselves.
#[derive(Clone)]
pub(crate) struct SharedPlan(Arc<Mutex<Plan>>);

impl SharedPlan {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Plan> {
        // Adding a node cannot panic halfway.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a node and returns its index.
    pub(crate) fn add(&self, node: Node) -> usize {
        let mut plan = self.lock();
        plan.nodes.push(node);
        plan.nodes.len() - 1
    }
}

impl Flow {
    /// An empty flow. The name is stored with the state, so that the state of another flow is
    /// not taken for this one's.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let plan = Plan { name: name.to_owned(), ..Plan::default() };
        Flow { plan: SharedPlan(Arc::new(Mutex::new(plan))) }
    }

    /// Adds a source. `id` names it in errors, metrics and state, and must stay the same.
    #[track_caller]
    pub fn source<S: Source>(&self, id: &str, source: S) -> SourceStream<S::Item> {
        let dead = match source.undecodable() {
            Undecodable::DeadLetter => OutPort::heard("dead_letters"),
            Undecodable::Fail | Undecodable::Skip => {
                OutPort { name: "dead_letters", ..OutPort::default() }
            }
        };
        let node = self.plan.add(Node {
            id: id.into(),
            kind: "source",
            params: source.describe(),
            class: Class::Input,
            stateful: false,
            needs_order: false,
            inputs: Vec::new(),
            outputs: vec![OutPort::main(), dead],
            body: Body::Source(Arc::new(source)),
            location: Location::caller(),
            types: Types::default(),
            fault: None,
            ttl: None,
            ttl_fault: None,
            rewrite: None,
        });
        SourceStream::new(
            Stream::new(self.plan.clone(), PortRef { node, port: 0 }),
            Stream::new(self.plan.clone(), PortRef { node, port: 1 }),
        )
    }

    /// The plan as text: operators with ids, classes and parameters, and the guarantee from
    /// source to sink.
    ///
    /// # Errors
    /// [`ErrorKind::Plan`](crate::ErrorKind::Plan) where the flow does not build; the message
    /// names the operator and the line that added it.
    pub fn plan(&self) -> Result<String, Error> {
        let plan = self.plan.lock();
        plan.check()?;
        Ok(plan.text())
    }

    /// The plan as a Mermaid flowchart.
    ///
    /// # Errors
    /// As [`plan`](Self::plan).
    pub fn mermaid(&self) -> Result<String, Error> {
        let plan = self.plan.lock();
        plan.check()?;
        Ok(plan.mermaid())
    }

    /// Runs the flow until its input ends, Ctrl-C is pressed or an error stops it. Ctrl-C stops
    /// it cleanly: the open tick is finished and committed, and a later run goes on from there.
    ///
    /// # Errors
    /// Whatever stopped the flow.
    pub fn run(self, settings: Settings) -> Result<(), Error> {
        let handle = self.spawn(settings)?;
        handle.stop_on_ctrl_c()?;
        handle.wait()?;
        Ok(())
    }

    /// Lets the state of an operator, source or sink go that the flow no longer has; of a sink,
    /// that is output that was committed and is not yet visible. Without this word a flow does not
    /// start on state that it has no operator for. To forget what the flow has is a plan error.
    pub fn forget(&self, id: &str) {
        self.plan.lock().forgotten.push(id.to_owned());
    }

    /// Compares the flow with the state in a directory, or in a snapshot, without starting it.
    ///
    /// # Errors
    /// Where there is no readable state, or it belongs to a flow of another name.
    pub fn check_state(&self, dir: impl AsRef<Path>) -> Result<StateCheck, Error> {
        let plan = self.plan.lock();
        crate::tick::check_state(dir.as_ref(), &plan)
    }

    /// Migrates every stored state that an older version wrote, at once, in a directory that no
    /// flow uses; returns how many there were. Without it a state is migrated when its key comes.
    /// The program of the older version is refused from then on.
    ///
    /// # Errors
    /// A state that this flow cannot go on from, a state that cannot be migrated, and a directory
    /// that cannot be written. What was migrated before stays so.
    pub fn migrate_state(&self, dir: impl AsRef<Path>) -> Result<u64, Error> {
        let plan = self.plan.lock();
        plan.check()?;
        crate::tick::migrate_state(dir.as_ref(), &plan)
    }

    /// Starts the flow on threads of its own, from any context, and returns at once.
    ///
    /// # Errors
    /// A flow that does not build, or threads that cannot be started. Everything else, an
    /// unusable state directory for example, is reported by the handle.
    pub fn spawn(self, settings: Settings) -> Result<Handle, Error> {
        engine::spawn(self.into_plan()?, settings)
    }

    /// The weakest class from the sources to the operator or sink with this id, and the operator
    /// that it comes from.
    #[cfg(feature = "testing")]
    pub(crate) fn weakest_of(&self, id: &str) -> Option<(Class, String)> {
        let plan = self.plan.lock();
        let node = plan.nodes.iter().position(|n| &*n.id == id)?;
        Some((plan.class_at(node), plan.nodes[plan.weakest_at(node)].id.to_string()))
    }

    /// What makes no sense in the plan, by operator, without its place in the program.
    #[cfg(feature = "testing")]
    pub(crate) fn fault(&self) -> Option<String> {
        self.plan.lock().fault().map(|fault| fault.without_location())
    }

    /// The ids of all operators, sources and sinks, and whether each keeps state.
    #[cfg(feature = "testing")]
    pub(crate) fn ids(&self) -> Vec<(String, bool)> {
        self.plan.lock().nodes.iter().map(|n| (n.id.to_string(), n.stateful)).collect()
    }

    /// The plan, checked. Streams of this flow that are still around can add nothing any more.
    pub(crate) fn into_plan(self) -> Result<Plan, Error> {
        let mut plan = self.plan.lock();
        plan.check()?;
        Ok(std::mem::take(&mut *plan))
    }
}
