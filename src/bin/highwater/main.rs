//! The command line: the demo, its plan, benches, a look into state directories, and transcripts.

mod bench;
mod bytes;
mod demo;
mod say;
mod state;
mod table;
#[cfg(feature = "testing")]
mod transcript;

use std::error::Error as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use say::complain;

/// Rows that own memory are made and dropped by the million.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(name = "highwater", version, about = "An event-time, stateful stream processor")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// On-time performance of 328,521 real flights, in event-time windows, exactly once
    Demo(demo::DemoOptions),
    /// Print the demo's plan, or compare it with a state directory or snapshot
    #[command(args_conflicts_with_subcommands = true)]
    Plan {
        #[command(flatten)]
        demo: demo::DemoOptions,
        /// As a Mermaid flowchart
        #[arg(long)]
        mermaid: bool,
        #[command(subcommand)]
        check: Option<PlanCommand>,
    },
    /// Measure latency percentiles
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Look into a state directory
    #[command(subcommand)]
    State(state::StateCommand),
    /// Play transcripts on the engine: exit code 0 if all is as expected, 1 if not, 2 if a file
    /// is no transcript. `--format` tells how to write one
    #[cfg(feature = "testing")]
    Transcript(transcript::TranscriptOptions),
}

#[derive(Subcommand)]
enum PlanCommand {
    /// Say per operator what becomes of its state: kept, migrated, new, orphaned, incompatible
    Check {
        /// A state directory or a snapshot
        snapshot: PathBuf,
        #[command(flatten)]
        demo: demo::DemoOptions,
    },
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let result = match Cli::parse().command {
        Command::Demo(options) => demo::run(&options),
        Command::Plan { check: Some(PlanCommand::Check { snapshot, demo }), .. } => {
            demo::check(&demo, &snapshot)
        }
        Command::Plan { demo, mermaid, .. } => demo::plan(&demo, mermaid),
        Command::Bench(command) => bench::run(&command),
        Command::State(command) => state::run(&command),
        #[cfg(feature = "testing")]
        Command::Transcript(options) => return transcript::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain!("highwater: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                complain!("  because: {error}");
                cause = error.source();
            }
            ExitCode::FAILURE
        }
    }
}
