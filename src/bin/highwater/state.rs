//! Looks at state directories and snapshots, and works on them.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use highwater::state::{self, Difference, StateDir};
use highwater::{Error, LastCommit};

use crate::bytes;
use crate::say::{complain, sayln};

#[derive(Subcommand)]
pub enum StateCommand {
    /// Show the last commit: tick, positions, watermarks, operators and their entries
    Ls {
        /// A state directory or a snapshot
        dir: PathBuf,
    },
    /// Show the entries of an operator
    Show {
        /// A state directory or a snapshot
        dir: PathBuf,
        /// The operator's id
        operator: String,
        /// Only entries whose key holds this: text, or bytes as `0x..`
        key: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Read everything and verify every checksum
    Verify {
        /// A state directory or a snapshot
        dir: PathBuf,
    },
    /// Compare two states, operator by operator
    Diff {
        /// A state directory or a snapshot
        before: PathBuf,
        /// Another
        after: PathBuf,
    },
    /// Take a snapshot, of a running flow too, or list those there are
    Snapshot {
        /// The state directory
        dir: PathBuf,
        /// Only list them
        #[arg(long)]
        list: bool,
        /// How many are kept: by default what a running flow keeps, or three
        #[arg(long)]
        keep: Option<usize>,
    },
    /// Make a state directory of a snapshot, or of the last whole one of a state directory
    Restore {
        /// A snapshot, or a state directory with snapshots
        from: PathBuf,
        /// A directory that is empty, or not there yet
        to: PathBuf,
    },
    /// Remove an operator's state
    Rm {
        /// The state directory; no flow may be using it
        dir: PathBuf,
        /// The operator's id
        operator: String,
    },
    /// Give back the disk space of state that is gone
    Compact {
        /// The state directory; no flow may be using it
        dir: PathBuf,
    },
}

pub fn run(command: &StateCommand) -> Result<(), Error> {
    match command {
        StateCommand::Ls { dir } => ls(dir),
        StateCommand::Show { dir, operator, key, limit } => {
            show(dir, operator, key.as_deref(), *limit)
        }
        StateCommand::Verify { dir } => verify(dir),
        StateCommand::Diff { before, after } => diff(before, after),
        StateCommand::Snapshot { dir, list: true, .. } => list_snapshots(dir),
        StateCommand::Snapshot { dir, keep, .. } => {
            sayln!("{}", state::take_snapshot(dir, *keep)?.display());
            Ok(())
        }
        StateCommand::Restore { from, to } => restore(from, to),
        StateCommand::Rm { dir, operator } => {
            let count = state::remove_operator(dir, operator)?;
            sayln!("removed {count} entries of `{operator}`");
            Ok(())
        }
        StateCommand::Compact { dir } => state::compact(dir),
    }
}

/// Prints the last commit.
fn ls(dir: &Path) -> Result<(), Error> {
    let commit = LastCommit::read(dir)?;
    let state = if commit.finished { ", finished" } else { "" };
    sayln!("flow `{}`, last commit at tick {}{state}", commit.flow, commit.tick);
    sayln!("  commits {}, starts {}, clock {}", commit.commits, commit.starts, commit.clock);
    sayln!("\n  partition                                position   state");
    for partition in &commit.partitions {
        let state = if partition.ended { "ended" } else { "open" };
        let name = format!("{}: {}", partition.source, partition.name);
        sayln!("  {name:<40} {:>8}   {state}", partition.position);
    }
    sayln!("\n  operator                        entries  watermark");
    for operator in &commit.operators {
        sayln!("  {:<30} {:>8}  {}", operator.id, operator.entries, operator.watermark);
        for (partition, promise) in &operator.promises {
            sayln!("      {partition:<36} promises {promise}");
        }
    }
    Ok(())
}

fn show(dir: &Path, operator: &str, key: Option<&str>, limit: usize) -> Result<(), Error> {
    let dir = StateDir::open(dir)?;
    let Some((_, kind)) = dir.operators().find(|(id, _)| *id == operator) else {
        let known: Vec<_> = dir.operators().map(|(id, _)| id).collect();
        return Err(Error::input(format!(
            "there is no state of `{operator}`: there is {}",
            known.join(", ")
        )));
    };
    let kind = kind.to_owned();
    let wanted = key.map(bytes::parse);
    let (mut shown, mut left_out) = (0, 0);
    dir.entries(operator, |entry| {
        if wanted.as_ref().is_some_and(|wanted| !bytes::contains(&entry.key, wanted)) {
            return;
        }
        if shown == limit {
            left_out += 1;
            return;
        }
        shown += 1;
        sayln!(
            "{:>4}  {}  = {}",
            entry.group,
            bytes::key(&kind, entry.group, &entry.key),
            bytes::value(&entry.value)
        );
    })?;
    if left_out > 0 {
        sayln!("and {left_out} more");
    }
    Ok(())
}

fn verify(dir: &Path) -> Result<(), Error> {
    for (operator, count) in StateDir::open(dir)?.verify()? {
        sayln!("{operator}: {count} entries");
    }
    sayln!("{} is whole", dir.display());
    Ok(())
}

fn diff(before: &Path, after: &Path) -> Result<(), Error> {
    let (a, b) = (StateDir::open(before)?, StateDir::open(after)?);
    for difference in a.diff(&b)? {
        let Difference { operator, removed, added, changed } = &difference;
        let counts = [removed.len(), added.len(), changed.len()];
        sayln!("{operator}: {} removed, {} added, {} changed", counts[0], counts[1], counts[2]);
        let kinds = [("-", removed), ("+", added), ("~", changed)];
        let kind = a.operators().chain(b.operators()).find(|(id, _)| id == operator);
        let kind = kind.map_or("", |(_, kind)| kind);
        for (sign, keys) in kinds {
            for (group, key) in keys.iter().take(10) {
                sayln!("  {sign} {}", bytes::key(kind, *group, key));
            }
        }
    }
    Ok(())
}

fn list_snapshots(dir: &Path) -> Result<(), Error> {
    for path in state::list_snapshots(dir)? {
        let commit = LastCommit::read(&path)?;
        sayln!("{}  tick {}", path.display(), commit.tick);
    }
    Ok(())
}

fn restore(from: &Path, to: &Path) -> Result<(), Error> {
    let (tick, damaged) = state::restore_snapshot(from, to)?;
    for error in damaged {
        complain!("highwater: passed over a damaged snapshot: {error}");
    }
    sayln!("{} is the state as of tick {tick}", to.display());
    Ok(())
}
