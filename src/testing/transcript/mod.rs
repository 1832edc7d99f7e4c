//! Transcripts: text files that say what goes into a flow and what comes out, played on the real
//! engine. The format is described in `docs/TRANSCRIPTS.md`.

mod aggregate;
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

use format::{Step, Text};

use crate::operator::Class;

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

    /// Refuses what can be seen to make no sense without playing it.
    fn check(&self) -> Result<(), Malformed> {
        let Text { header, header_line, steps } = &self.text;
        let expects_error = matches!(steps.first(), Some((_, Step::ExpectError(_))));
        match flow::build(header) {
            Err(error) if !expects_error => return Err(self.malformed(*header_line, error)),
            Ok(built) if header.vary && built.class != Class::Input => {
                let message = format!("a flow of class {} cannot vary", built.class);
                return Err(self.malformed(*header_line, message));
            }
            _ => {}
        }
        if header.workers == 0 || header.workers > 16 {
            return Err(self.malformed(*header_line, "between 1 and 16 workers are possible"));
        }
        for (line, step) in steps {
            if header.vary && !step.may_vary() {
                let message = "a transcript that varies has no clock, no idle partitions and no \
                               errors: what they do depends on the ticks";
                return Err(self.malformed(*line, message));
            }
            if let Err(message) = self.check_places(step) {
                return Err(self.malformed(*line, message));
            }
        }
        Ok(())
    }

    /// Steps name only partitions and sides that there are.
    fn check_places(&self, step: &Step) -> Result<(), String> {
        let places: Vec<(format::Side, usize)> = match step {
            Step::In(events) => events.iter().map(|e| (e.side, e.partition)).collect(),
            Step::Watermark(mark) => vec![(mark.side, mark.partition)],
            Step::Idle(place) | Step::Pause(place) | Step::Resume(place) => {
                let Some(partition) = place.partition else {
                    return Err("say which partition".to_owned());
                };
                vec![(place.side.unwrap_or_default(), partition)]
            }
            Step::Finish(place) => {
                vec![(place.side.unwrap_or_default(), place.partition.unwrap_or_default())]
            }
            _ => Vec::new(),
        };
        for (side, partition) in places {
            let source = self.text.header.source(side).ok_or("the flow has no right side")?;
            let partitions = source.partitions + source.later;
            if partition >= partitions {
                return Err(format!(
                    "there is no partition {partition}: there are {partitions}, from 0 on"
                ));
            }
            if self.text.header.vary && source.later > 0 {
                return Err("partitions that are found later cannot vary".to_owned());
            }
            if matches!(step, Step::Watermark(_)) && !source.watermark.is_manual() {
                return Err(
                    "a `watermark` step needs the source's watermark to be \"manual\"".to_owned()
                );
            }
            if matches!(step, Step::Idle(_)) && source.idle_after.is_none() {
                return Err("an `idle` step needs the source's `idle_after`".to_owned());
            }
        }
        Ok(())
    }
}
