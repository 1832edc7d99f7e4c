//! Rows become lines on the worker's thread.

use std::sync::Arc;

use serde::Serialize;

use super::letter::Refused;
use super::{Target, lock};
use crate::error::{BoxError, Error};
use crate::postgres::{Layout, Line, without_nul};
use crate::sink::{Chunk, Encoder};
use crate::time::EventTime;

/// How much of a row an error shows, in characters.
const SHOWN: usize = 300;

/// Rows of one worker and tick.
#[derive(Debug)]
pub(super) struct Encoded {
    pub(super) layout: Arc<Layout>,
    pub(super) lines: Vec<u8>,
    pub(super) refused: Vec<Refused>,
}

pub(super) struct Rows {
    target: Arc<Target>,
    layout: Option<Arc<Layout>>,
    /// Otherwise a row that cannot be written stops the flow.
    keeps_refused: bool,
    line: Line,
    lines: Vec<u8>,
    refused: Vec<Refused>,
}

impl Rows {
    pub(super) fn new(target: Arc<Target>, keeps_refused: bool) -> Self {
        let (layout, line) = (None, Line::default());
        Rows { target, layout, keeps_refused, line, lines: Vec::new(), refused: Vec::new() }
    }

    /// What all workers agree on: it is known at the start, or found by whoever has a row first.
    fn layout<T: Serialize>(&mut self, row: &T) -> Result<Arc<Layout>, Error> {
        if let Some(layout) = &self.layout {
            return Ok(layout.clone());
        }
        let mut agreed = lock(&self.target.layout);
        if let Some(layout) = &*agreed {
            return Ok(layout.clone());
        }
        let table = lock(&self.target.table).clone();
        let table = table.ok_or_else(|| Error::bug("rows came before the table was opened"))?;
        Ok(agreed.insert(Arc::new(Layout::of_row(row, &table)?)).clone())
    }
}

impl<T: Serialize> Encoder<T> for Rows {
    fn encode(&mut self, rows: Vec<T>, _: &[EventTime]) -> Result<(), BoxError> {
        for row in &rows {
            let layout = self.layout(row)?;
            if let Err(error) = self.line.append(&layout, row, &mut self.lines) {
                let row = serde_json::to_string(row).unwrap_or_else(|e| format!("\"{e}\""));
                if !self.keeps_refused {
                    let shown: String = row.chars().take(SHOWN).collect();
                    return Err(format!("a row cannot be stored: {error}: {shown}").into());
                }
                let row = without_nul(row);
                self.refused.push(Refused { row, error: error.to_string() });
            }
            self.layout = Some(layout);
        }
        Ok(())
    }

    fn take(&mut self) -> Option<Chunk> {
        if self.lines.is_empty() && self.refused.is_empty() {
            return None;
        }
        let (lines, refused) = (std::mem::take(&mut self.lines), std::mem::take(&mut self.refused));
        Some(Box::new(Encoded { layout: self.layout.clone()?, lines, refused }))
    }
}
