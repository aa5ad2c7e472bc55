//! When, and in what order, a mount has what is written in its under store.

use std::{fmt, str::FromStr};

use headpond_proto::v1;
use headpond_types::{Error, ErrorKind, Result};

/// What committers of Spark, Delta Lake, Iceberg, Hudi, Parquet and Databricks write last, to say that the rest is whole.
const COMMIT_PATTERNS: [&str; 9] = [
    "_SUCCESS",
    "_delta_log/*",
    "*.metadata.json",
    "version-hint.text",
    ".hoodie/*",
    "_metadata",
    "_common_metadata",
    "manifest-*",
    "_committed_*",
];

/// Where Hadoop, Spark, Hive and Flink write what is renamed when it is whole.
const TEMPORARY_PATTERNS: [&str; 4] = ["_temporary", ".spark-staging-*", ".hive-staging*", "*.inprogress*"];

/// What close and fsync promise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// The under store has the object.
    #[default]
    Through,
    /// Workers have the bytes on disk, and the journal that they are to be persisted, which happens in order.
    Async,
    /// The same; but what has a temporary name is persisted only when it is renamed to another.
    Deferred,
    /// Workers have the bytes on disk; they are never persisted unless that is asked for.
    Scratch,
}

impl Durability {
    /// All there are, the strongest first.
    pub const ALL: [Self; 4] = [Self::Through, Self::Async, Self::Deferred, Self::Scratch];

    /// As it is written in options.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Through => "through",
            Self::Async => "async",
            Self::Deferred => "deferred",
            Self::Scratch => "scratch",
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Durability {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|durability| durability.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Error::new(ErrorKind::InvalidArgument, format!("{text:?} is no durability: write one of {names}"))
        })
    }
}

/// Another durability for some paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DurabilityRule {
    /// A glob over the last components of a path, matching a file or a directory above it.
    pub pattern: String,
    /// What holds for them.
    pub durability: Durability,
}

impl fmt::Display for DurabilityRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.pattern, self.durability)
    }
}

impl FromStr for DurabilityRule {
    type Err = Error;

    /// `PATTERN=DURABILITY`.
    fn from_str(text: &str) -> Result<Self> {
        match text.rsplit_once('=') {
            Some((pattern, durability)) if !pattern.is_empty() => {
                Ok(Self { pattern: pattern.to_owned(), durability: durability.parse()? })
            }
            _ => {
                let message = format!("{text:?} is no rule: write PATTERN=DURABILITY, as *.tmp=scratch");
                Err(Error::new(ErrorKind::InvalidArgument, message))
            }
        }
    }
}

/// How a mount persists what is written.
///
/// Patterns are globs by components of a path: `_delta_log/*` matches what lies directly in a directory of that name, wherever that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persistence {
    /// What close and fsync promise.
    pub durability: Durability,
    /// Paths for which they promise something else; the first that matches counts.
    pub rules: Vec<DurabilityRule>,
    /// Files that reach the under store only when all that was acknowledged before them is there. Empty: none.
    pub commit_patterns: Vec<String>,
    /// Names, of files or of directories above them, under which a mount that defers persists nothing. Empty: none.
    pub temporary_patterns: Vec<String>,
    /// Workers that have dirty bytes on disk before they are acknowledged, as far as so many are live. At least 1.
    pub copies: u32,
    /// With fewer live workers nothing is acknowledged.
    pub strict_copies: bool,
}

impl Default for Persistence {
    /// `through` without rules, two copies, and the patterns of the table formats and committers that are in wide use.
    fn default() -> Self {
        let owned = |patterns: &[&str]| patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        Self {
            durability: Durability::default(),
            rules: Vec::new(),
            commit_patterns: owned(&COMMIT_PATTERNS),
            temporary_patterns: owned(&TEMPORARY_PATTERNS),
            copies: 2,
            strict_copies: false,
        }
    }
}

impl From<Durability> for v1::Durability {
    fn from(durability: Durability) -> Self {
        match durability {
            Durability::Through => Self::Through,
            Durability::Async => Self::Async,
            Durability::Deferred => Self::Deferred,
            Durability::Scratch => Self::Scratch,
        }
    }
}

impl From<v1::Durability> for Durability {
    fn from(durability: v1::Durability) -> Self {
        match durability {
            v1::Durability::Through => Self::Through,
            v1::Durability::Async => Self::Async,
            v1::Durability::Deferred => Self::Deferred,
            v1::Durability::Scratch => Self::Scratch,
        }
    }
}

impl From<DurabilityRule> for v1::DurabilityRule {
    fn from(DurabilityRule { pattern, durability }: DurabilityRule) -> Self {
        Self { pattern, durability: v1::Durability::from(durability).into() }
    }
}

impl From<v1::DurabilityRule> for DurabilityRule {
    fn from(rule: v1::DurabilityRule) -> Self {
        Self { durability: rule.durability().into(), pattern: rule.pattern }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_as_they_are_written() {
        let rule: DurabilityRule = "a=b/*.tmp=scratch".parse().expect("a rule");
        assert_eq!((rule.pattern.as_str(), rule.durability), ("a=b/*.tmp", Durability::Scratch));
        assert_eq!(rule.to_string(), "a=b/*.tmp=scratch");
        for wrong in ["", "=async", "x", "x=", "x=sometimes"] {
            let error = wrong.parse::<DurabilityRule>().expect_err("no rule");
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{wrong}");
        }
    }
}
