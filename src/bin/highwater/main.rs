//! The command line: the demo, its plan, and a look into state directories.

mod demo;
mod state;
mod table;

use std::error::Error as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
    /// Print the demo's plan
    Plan {
        #[command(flatten)]
        demo: demo::DemoOptions,
        /// As a Mermaid flowchart
        #[arg(long)]
        mermaid: bool,
    },
    /// Look into a state directory
    #[command(subcommand)]
    State(StateCommand),
}

#[derive(Subcommand)]
enum StateCommand {
    /// Show the last commit: tick, positions, watermarks, operators and their entries
    Ls {
        /// The state directory
        dir: std::path::PathBuf,
    },
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let result = match Cli::parse().command {
        Command::Demo(options) => demo::run(&options),
        Command::Plan { demo, mermaid } => demo::plan(&demo, mermaid),
        Command::State(StateCommand::Ls { dir }) => state::ls(&dir),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("highwater: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprintln!("  because: {error}");
                cause = error.source();
            }
            ExitCode::FAILURE
        }
    }
}
