//! The plan: what a flow is made of, before any worker runs it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::panic::Location;
use std::sync::Arc;

use crate::error::Error;
use crate::keyed::{Backing, Ttl};
use crate::operator::{Class, Logic};
use crate::sink::Guarantee;
use crate::source::Replay;
use crate::time::Span;

use super::compat::{Signature, Types};
use super::erased::{AnySink, AnySource};

/// One output of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PortRef {
    pub(crate) node: usize,
    pub(crate) port: usize,
}

/// What a worker knows when it builds its share of an operator.
pub(crate) struct BuildCx {
    pub(crate) workers: usize,
    /// The operator's place in the plan, if results must carry their order for those behind.
    pub(crate) ordered_by: Option<u32>,
    pub(crate) backing: Backing,
    pub(crate) ttl: Option<Ttl>,
}

pub(crate) type Factory = Arc<dyn Fn(&BuildCx) -> Result<Box<dyn Logic>, Error> + Send + Sync>;

/// From a stored state of any version to one of this version; `None` if it is that already.
pub(crate) type Rewrite =
    Arc<dyn Fn(&[u8]) -> Result<Option<Vec<u8>>, highwater_state::Error> + Send + Sync>;

pub(crate) enum Body {
    Source(Arc<dyn AnySource>),
    Operator(Factory),
    Sink(Arc<dyn AnySink>),
}

/// An output port.
#[derive(Default)]
pub(crate) struct OutPort {
    pub(crate) name: &'static str,
    /// Batches go to the worker that they name.
    pub(crate) exchange: bool,
    /// Silence does not build: somebody must listen, or the program must say why not.
    pub(crate) must_be_heard: bool,
    pub(crate) dropped: Option<String>,
}

impl OutPort {
    pub(crate) fn main() -> Self {
        OutPort { name: "out", ..OutPort::default() }
    }

    pub(crate) fn exchange() -> Self {
        OutPort { name: "out", exchange: true, ..OutPort::default() }
    }

    pub(crate) fn heard(name: &'static str) -> Self {
        OutPort { name, must_be_heard: true, ..OutPort::default() }
    }
}

pub(crate) struct Node {
    pub(crate) id: Arc<str>,
    pub(crate) kind: &'static str,
    /// Every semantic parameter: printed, and compared with the state's.
    pub(crate) params: String,
    pub(crate) class: Class,
    /// Keeps something from one tick to the next.
    pub(crate) stateful: bool,
    /// Needs events of equal time in a defined order.
    pub(crate) needs_order: bool,
    pub(crate) inputs: Vec<PortRef>,
    pub(crate) outputs: Vec<OutPort>,
    pub(crate) body: Body,
    pub(crate) location: &'static Location<'static>,
    /// How its state is stored, if it keeps any by key.
    pub(crate) types: Types,
    /// A parameter that makes no sense.
    pub(crate) fault: Option<String>,
    pub(crate) ttl: Option<Ttl>,
    /// Why the operator cannot have a ttl.
    pub(crate) ttl_fault: Option<&'static str>,
    /// Brings a stored state up to date, where the operator's state has versions.
    pub(crate) rewrite: Option<Rewrite>,
}

/// The operators of a flow, in the order in which they were added: inputs before outputs.
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) nodes: Vec<Node>,
    /// The `event_time` operators, with the limit on how far a partition may lead.
    pub(crate) event_times: BTreeMap<usize, Option<Span>>,
    /// Operators that the flow no longer has, and whose state may go.
    pub(crate) forgotten: Vec<String>,
}

/// Why an operator makes no sense.
pub(crate) struct Fault<'a> {
    node: &'a Node,
    text: String,
    /// Where the operator was added that has the same id.
    taken_by: Option<&'static Location<'static>>,
}

impl Fault<'_> {
    fn error(self) -> Error {
        let taken_by = self.taken_by.map(|at| format!(" by the operator added at {at}"));
        let by = taken_by.unwrap_or_default();
        let message = format!("{}{by} (added at {})", self.text, self.node.location);
        Error::plan(message).in_operator(&self.node.id)
    }

    /// For somebody who did not write the program that added the operator.
    #[cfg(feature = "testing")]
    pub(crate) fn without_location(&self) -> String {
        format!("`{}`: {}", self.node.id, self.text)
    }
}

impl Plan {
    /// An id for an operator that the user did not name: by its input, so that it stays the same
    /// as long as the flow around it does.
    pub(crate) fn derived_id(&self, input: PortRef, kind: &str) -> String {
        let base = format!("{}.{kind}", self.port_name(input));
        let taken = |id: &str| self.nodes.iter().any(|n| &*n.id == id);
        let mut id = base.clone();
        let mut count = 1;
        while taken(&id) {
            count += 1;
            id = format!("{base}-{count}");
        }
        id
    }

    pub(crate) fn consumers(&self, port: PortRef) -> impl Iterator<Item = (usize, usize)> {
        self.nodes.iter().enumerate().flat_map(move |(node, n)| {
            n.inputs
                .iter()
                .enumerate()
                .filter(move |(_, input)| **input == port)
                .map(move |(index, _)| (node, index))
        })
    }

    /// Refuses a plan that cannot mean what it says.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if let Some(fault) = self.fault() {
            return Err(fault.error());
        }
        if !self.nodes.iter().any(|n| matches!(n.body, Body::Source(_))) {
            return Err(Error::plan(format!("the flow `{}` has no source", self.name)));
        }
        Ok(())
    }

    /// The first operator that makes no sense.
    pub(crate) fn fault(&self) -> Option<Fault<'_>> {
        let mut seen: BTreeMap<&str, &Node> = BTreeMap::new();
        for (index, node) in self.nodes.iter().enumerate() {
            let at = |text: String| Some(Fault { node, text, taken_by: None });
            if node.id.is_empty() || node.id.contains('\0') {
                return at(
                    "an operator id must have at least one character and no zero byte".into()
                );
            }
            if let Some(first) = seen.insert(&node.id, node) {
                let (text, taken_by) = ("the id is taken".to_owned(), Some(first.location));
                return Some(Fault { node, text, taken_by });
            }
            if let Some(fault) = &node.fault {
                return at(fault.clone());
            }
            if self.forgotten.iter().any(|id| **id == *node.id) {
                // Its state would go at every start.
                return at("the flow has it, and says `forget` of it: use another id".into());
            }
            for (port, out) in node.outputs.iter().enumerate() {
                let heard = self.consumers(PortRef { node: index, port }).next().is_some();
                if out.must_be_heard && !heard && out.dropped.is_none() {
                    return at(format!(
                        "its `{0}` port is neither consumed nor dropped: give `.{0}()` a sink, or \
                         say `.drop_{0}(\"why\")`",
                        out.name
                    ));
                }
            }
        }
        None
    }

    /// Whether an operator behind this one orders events of equal time before the next key
    /// change; then results must carry their order.
    pub(crate) fn order_needed_behind(&self, node: usize) -> bool {
        (0..self.nodes[node].outputs.len()).any(|port| {
            self.consumers(PortRef { node, port }).any(|(consumer, _)| {
                let next = &self.nodes[consumer];
                next.needs_order || (!next.stateful && self.order_needed_behind(consumer))
            })
        })
    }

    /// Sources, stateful operators and sinks: a sink's last output may be committed and not yet
    /// visible, so none may go without a word.
    pub(crate) fn signatures(&self) -> Vec<Signature> {
        let kept = self.nodes.iter().filter(|n| n.stateful || !matches!(n.body, Body::Operator(_)));
        kept.map(|n| Signature {
            id: n.id.to_string(),
            kind: n.kind.to_owned(),
            // Where a source reads from, or a sink writes to, may change: what was read is
            // known by partition, what was written by the sink's token.
            params: if n.stateful { n.params.clone() } else { String::new() },
            types: n.types,
        })
        .collect()
    }

    /// The weakest class from the sources to this node.
    pub(crate) fn class_at(&self, node: usize) -> Class {
        let inputs = self.nodes[node].inputs.iter().map(|i| self.class_at(i.node));
        inputs.chain([self.nodes[node].class]).max().unwrap_or(Class::Input)
    }

    /// The operator that gives this node its class: the first on a way from the sources.
    #[cfg(feature = "testing")]
    pub(crate) fn weakest_at(&self, node: usize) -> usize {
        let class = self.class_at(node);
        let mut inputs = self.nodes[node].inputs.iter().map(|i| i.node);
        match inputs.find(|&input| self.class_at(input) == class) {
            Some(input) => self.weakest_at(input),
            None => node,
        }
    }

    pub(crate) fn sources_of(&self, node: usize) -> Vec<usize> {
        let mut found: Vec<usize> =
            self.nodes[node].inputs.iter().flat_map(|i| self.sources_of(i.node)).collect();
        if matches!(self.nodes[node].body, Body::Source(_)) {
            found.push(node);
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The guarantee from source to sink, and the link that weakens it.
    fn guarantee_at(&self, sink: usize, guarantee: Guarantee) -> String {
        let lossy = self.sources_of(sink).into_iter().find(|&s| match &self.nodes[s].body {
            Body::Source(source) => source.replay() == Replay::Lost,
            _ => false,
        });
        match (lossy, guarantee) {
            (Some(source), Guarantee::ExactlyOnce) => format!(
                "at most once for events since the last commit: `{}` cannot be read again",
                self.nodes[source].id
            ),
            (Some(source), weaker) => format!(
                "none across a crash: `{}` cannot be read again, and `{}` is {weaker}",
                self.nodes[source].id, self.nodes[sink].id
            ),
            (None, Guarantee::ExactlyOnce) => "exactly once".to_owned(),
            (None, weaker) => format!("{weaker}: because of `{}`", self.nodes[sink].id),
        }
    }

    /// The plan as indented text: one operator a line, with class, parameters and guarantee.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("flow `{}`\n", self.name);
        for (index, node) in self.nodes.iter().enumerate() {
            let from: Vec<String> = node.inputs.iter().map(|&i| self.port_name(i)).collect();
            let arrow =
                if from.is_empty() { String::new() } else { format!(" <- {}", from.join(", ")) };
            let _ = write!(text, "  {}  {} [{}]{arrow}", node.id, node.kind, node.class);
            if !node.params.is_empty() {
                let _ = write!(text, "\n      {}", node.params);
            }
            if let Some(Some(limit)) = self.event_times.get(&index) {
                let _ = write!(text, "\n      no partition read more than {limit} ahead");
            }
            for out in &node.outputs {
                if let Some(why) = &out.dropped {
                    let _ = write!(text, "\n      {} dropped: {why}", out.name);
                }
            }
            if let Body::Sink(sink) = &node.body {
                let guarantee = self.guarantee_at(index, sink.guarantee());
                let class = self.class_at(index);
                let _ = write!(text, "\n      class {class} from its sources; {guarantee}");
            }
            text.push('\n');
        }
        text
    }

    fn port_name(&self, port: PortRef) -> String {
        let node = &self.nodes[port.node];
        match node.outputs.get(port.port) {
            Some(out) if out.name != "out" => format!("{}.{}", node.id, out.name),
            _ => node.id.to_string(),
        }
    }

    /// The plan as a Mermaid flowchart.
    pub(crate) fn mermaid(&self) -> String {
        let mut text = "flowchart LR\n".to_owned();
        for (index, node) in self.nodes.iter().enumerate() {
            let label = format!("{}<br/>{}", node.id, node.kind).replace('"', "#quot;");
            let (open, close) = match node.body {
                Body::Source(_) => ("([", "])"),
                Body::Sink(_) => ("[/", "/]"),
                Body::Operator(_) => ("[", "]"),
            };
            let _ = writeln!(text, "    n{index}{open}\"{label}\"{close}");
            for input in &node.inputs {
                let out = &self.nodes[input.node].outputs[input.port];
                let edge = match (out.name, out.exchange) {
                    ("out", false) => "-->".to_owned(),
                    ("out", true) => "==>".to_owned(),
                    (name, _) => format!("-. {name} .->"),
                };
                let _ = writeln!(text, "    n{} {edge} n{index}", input.node);
            }
        }
        text
    }
}
