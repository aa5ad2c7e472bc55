//! How a mount persists what is written.

use serde::{Deserialize, Serialize};

/// What close and fsync of a file in a mount promise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Durability {
    /// The under store has the object.
    #[default]
    Through,
    /// Workers have the bytes on disk, and the journal that they are to be persisted.
    Async,
    /// The same; but what has a temporary name is persisted only when it has another.
    Deferred,
    /// Workers have the bytes on disk; the under store does not get them.
    Scratch,
}

/// How a mount persists what is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Persistence {
    /// What close and fsync promise.
    pub durability: Durability,
    /// Paths for which they promise something else; the first pattern that matches counts.
    pub rules: Vec<(String, Durability)>,
    /// Names of files that are barriers.
    pub commit_patterns: Vec<String>,
    /// Names that are temporary.
    pub temporary_patterns: Vec<String>,
    /// Workers that have dirty bytes on disk before they are acknowledged, as far as so many are live.
    pub copies: u32,
    /// Fewer will not do.
    pub strict_copies: bool,
}
