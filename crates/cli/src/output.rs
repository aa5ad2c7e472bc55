//! What commands print.

mod entry;
mod name;
mod table;
mod time;

use std::io::{self, BufWriter, Stdout, Write};

use clap::ValueEnum;
use serde::Serialize;

pub(crate) use entry::{EntryJson, kind_name, long_line};
pub(crate) use name::{PathJson, below, escape};
pub(crate) use table::Table;
pub(crate) use time::{moment, parse_moment};

use crate::failure::Result;

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs: one JSON object per line.
    Json,
}

/// Standard output, buffered.
#[derive(Debug)]
pub(crate) struct Output {
    format: Format,
    writer: BufWriter<Stdout>,
}

impl Output {
    pub(crate) fn new(format: Format) -> Self {
        Self { format, writer: BufWriter::with_capacity(64 << 10, io::stdout()) }
    }

    /// Whether JSON is wanted.
    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Writes a line of text.
    pub(crate) fn line(&mut self, text: &str) -> Result<()> {
        Ok(writeln!(self.writer, "{text}")?)
    }

    /// Writes a JSON object on a line.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string(value).map_err(io::Error::other)?;
        self.line(&text)
    }

    /// Writes bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.writer.write_all(bytes)?)
    }

    /// Hands everything to the system.
    pub(crate) fn flush(&mut self) -> Result<()> {
        Ok(self.writer.flush()?)
    }
}

/// A size as it is, or for people with a unit.
pub(crate) fn size(bytes: u64, human: bool) -> String {
    if human { indicatif::BinaryBytes(bytes).to_string() } else { bytes.to_string() }
}
