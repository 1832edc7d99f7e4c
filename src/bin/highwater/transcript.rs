//! Plays transcripts.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use highwater::testing::Transcript;

use crate::say::{say, sayln};

/// How transcripts are written.
const FORMAT: &str = include_str!("../../../docs/TRANSCRIPTS.md");

#[derive(Args)]
pub struct TranscriptOptions {
    /// Transcripts
    #[arg(required_unless_present = "format")]
    files: Vec<PathBuf>,
    /// Print only what failed, and the count
    #[arg(long)]
    quiet: bool,
    /// Print how a transcript is written: header, operators, steps
    #[arg(long, conflicts_with_all = ["files", "quiet"])]
    format: bool,
}

/// Something came that was not expected, or did not come.
const DIFFERENT: u8 = 1;
/// A file that cannot be read, or is no transcript.
const MALFORMED: u8 = 2;

/// Plays every file, whatever the others say, and returns the worst exit code.
pub fn run(options: &TranscriptOptions) -> ExitCode {
    if options.format {
        say!("{FORMAT}");
        return ExitCode::SUCCESS;
    }
    let (mut worst, mut passed) = (0, 0);
    for file in &options.files {
        let name = file.display().to_string();
        let code = match std::fs::read_to_string(file) {
            Err(error) => {
                sayln!("unreadable  {name}: {error}");
                MALFORMED
            }
            Ok(text) => play(&name, &text, options.quiet),
        };
        passed += usize::from(code == 0);
        worst = worst.max(code);
    }
    sayln!("{passed} of {} transcripts pass", options.files.len());
    ExitCode::from(worst)
}

fn play(name: &str, text: &str, quiet: bool) -> u8 {
    let transcript = match Transcript::parse(name, text) {
        Ok(transcript) => transcript,
        Err(malformed) => {
            sayln!("malformed   {malformed}");
            return MALFORMED;
        }
    };
    match transcript.play() {
        Err(difference) => {
            sayln!("different   {difference}");
            DIFFERENT
        }
        Ok(played) => {
            if !quiet {
                let variations = match played.variations() {
                    0 => String::new(),
                    count => format!(", in {count} variations too"),
                };
                sayln!("pass        {name}: {}{variations}", transcript.about());
            }
            0
        }
    }
}
