//! Bytes of files on stdout: as they are, or in JSON.

use headpond_types::NsPath;
use serde::Serialize;

use crate::{
    failure::Result,
    output::{Output, PathJson},
};

/// Longest encoding of one character in UTF-8, less the byte that ends it.
const INCOMPLETE: usize = 3;

/// Prints consecutive bytes of one file. In JSON each piece is an object; a character is never cut by the end of a piece.
#[derive(Debug)]
pub(super) struct Pieces {
    path: PathJson,
    /// Where in the file the next object begins.
    offset: u64,
    /// Received and not yet printed: the beginning of a character, or nothing.
    held: Vec<u8>,
}

/// A piece of a file in JSON: `text`, or `hex` where the bytes are not UTF-8.
#[derive(Debug, Serialize)]
struct PieceJson<'a> {
    #[serde(flatten)]
    path: &'a PathJson,
    offset: u64,
    bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hex: Option<String>,
}

impl Pieces {
    /// Begins at `offset` of the file at `path`.
    pub(super) fn new(path: &NsPath, offset: u64) -> Self {
        Self { path: path.into(), offset, held: Vec::new() }
    }

    /// Prints the next bytes.
    pub(super) fn print(&mut self, out: &mut Output, bytes: &[u8]) -> Result<()> {
        if !out.is_json() {
            return out.bytes(bytes);
        }
        self.held.extend_from_slice(bytes);
        let whole = self.held.len() - incomplete(&self.held);
        self.object(out, whole)
    }

    /// Prints what is left and hands everything to the system.
    pub(super) fn end(mut self, out: &mut Output) -> Result<()> {
        self.object(out, self.held.len())?;
        out.flush()
    }

    fn object(&mut self, out: &mut Output, length: usize) -> Result<()> {
        if length == 0 {
            return Ok(());
        }
        let bytes = &self.held[..length];
        let text = std::str::from_utf8(bytes).ok();
        let hex = text.is_none().then(|| hex::encode(bytes));
        out.json(&PieceJson { path: &self.path, offset: self.offset, bytes: length, text, hex })?;
        self.held.drain(..length);
        self.offset += length as u64;
        Ok(())
    }
}

/// How many bytes at the end of `bytes` begin a character that they do not end. None where the rest is not UTF-8 anyway.
fn incomplete(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => (bytes.len() - error.valid_up_to()).min(INCOMPLETE),
        Ok(_) | Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_character_that_has_begun_is_held_back() {
        assert_eq!(incomplete("häh".as_bytes()), 0);
        assert_eq!(incomplete(&"hä".as_bytes()[..2]), 1);
        assert_eq!(incomplete(&"h€".as_bytes()[..3]), 2);
        assert_eq!(incomplete(b"\xff\xc3"), 0);
        assert_eq!(incomplete(b""), 0);
    }
}
