//! The index of one directory: an append-only log of fixed-size records, each with a checksum.
//!
//! A record's checksum also covers the log's salt and the record's position, so neither a block of an older file that a
//! power loss brings back nor a record in the wrong place passes for a good one. Reading stops at the first record that
//! does not check; what follows is cut off. Losing records is harmless: a lost claim is a cache miss, and a claim whose removal
//! was lost fails the page's own checksum, which is compared before the first use after open.

mod log;
mod record;

pub(crate) use log::{IndexLog, Replay, Rewrite, open, read};
pub(crate) use record::Record;
