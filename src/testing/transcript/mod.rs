//! Transcripts: text files that say what goes into a flow and what comes out, played on the real
//! engine. The format is described in `docs/TRANSCRIPTS.md`.

mod aggregate;
mod check;
mod compare;
mod flow;
mod format;
mod logic;
mod ops;
mod play;
mod stamp;
mod value;
mod vary;

use std::fmt;

use format::Text;

/// A transcript that was read and whose flow builds.
///
/// ```
/// use highwater::testing::Transcript;
///
/// let text = r#"
/// {"about": "a window closes at its end", "vary": true, "flow": [{"tumbling": {"size": 10}}]}
/// {"in": [{"time": 3}, {"time": 9}]}
/// {"watermark": 9}
/// "tick"
/// {"expect": []}
/// {"watermark": 10}
/// "tick"
/// {"expect": [{"key": "k", "start": 0, "end": 10, "value": 2}]}
/// "#;
/// let played = Transcript::parse("closes.jsonl", text)?.play()?;
/// assert!(played.variations() > 10);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Transcript {
    name: String,
    text: Text,
}

/// A transcript that cannot be played: a line that cannot be read, or a flow that does not build.
#[derive(Debug)]
pub struct Malformed {
    name: String,
    line: usize,
    message: String,
}

/// What a transcript expects and what came do not agree.
#[derive(Debug)]
pub struct Difference {
    name: String,
    line: usize,
    message: String,
}

/// A transcript that was played, and in which all was as expected.
#[derive(Clone, Copy, Debug)]
pub struct Played {
    variations: usize,
}

impl Played {
    /// In how many variations, beside the one that is written down.
    #[must_use]
    pub fn variations(&self) -> usize {
        self.variations
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.name, self.line, self.message)
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.name, self.line, self.message)
    }
}

impl std::error::Error for Malformed {}
impl std::error::Error for Difference {}

impl Transcript {
    /// Reads a transcript. `name` is named in errors.
    ///
    /// # Errors
    /// A line that is no JSON, an unknown step or field, a step that makes no sense in this flow,
    /// or a flow that does not build (unless the first step expects that).
    pub fn parse(name: &str, text: &str) -> Result<Self, Malformed> {
        let text = format::parse(name, text)?;
        let transcript = Transcript { name: name.to_owned(), text };
        transcript.check()?;
        Ok(transcript)
    }

    /// What the transcript is about.
    #[must_use]
    pub fn about(&self) -> &str {
        &self.text.header.about
    }

    /// Plays the transcript, and if its header says `"vary": true`, every variation of it.
    ///
    /// # Errors
    /// The first difference between what is expected and what came.
    pub fn play(&self) -> Result<Played, Difference> {
        let at = |(line, message): (usize, String)| Difference {
            name: self.name.clone(),
            line,
            message,
        };
        let written = play::play(&self.text).map_err(at)?;
        let variations = match self.text.header.vary {
            true => {
                let vary = vary::play_all(&self.text, &written);
                vary.map_err(|message| at((self.text.header_line, message)))?
            }
            false => 0,
        };
        Ok(Played { variations })
    }

    fn malformed(&self, line: usize, message: impl Into<String>) -> Malformed {
        Malformed { name: self.name.clone(), line, message: message.into() }
    }
}
