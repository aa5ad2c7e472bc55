//! Options that say when, and in what order, a mount has what is written in its store.

use clap::{Args, ValueEnum};
use headpond_client::{Durability, DurabilityRule, Persistence};

/// What empties a list of patterns.
const NONE: &str = "none";

/// Options of a mount that is made.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Durability")]
pub(crate) struct DurabilityArgs {
    /// What close and fsync promise. Default: through.
    #[arg(long, value_name = "MODE", value_enum)]
    durability: Option<DurabilityArg>,
    /// Another durability for what matches a pattern, or lies in a directory that does, such as '*.tmp=scratch'; the first that matches counts.
    #[arg(long = "durability-rule", value_name = "PATTERN=MODE")]
    rules: Vec<DurabilityRule>,
    /// Files that reach the store only after all that was acknowledged before, such as '_delta_log/*'; `none` for no file. Default: the commit files
    /// of Hadoop, Spark, Delta Lake, Iceberg, Hudi and Parquet.
    #[arg(long = "commit-pattern", value_name = "PATTERN")]
    commit_patterns: Vec<String>,
    /// Names of files or directories that a deferred mount persists only once they are renamed; `none` for no name. Default: _temporary,
    /// .spark-staging-*, .hive-staging*, *.inprogress*.
    #[arg(long = "temporary-pattern", value_name = "PATTERN")]
    temporary_patterns: Vec<String>,
    /// Workers that have bytes on disk before they are acknowledged, where the store has them later; fewer if fewer are live. Default: 2.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    copies: Option<u32>,
    /// Acknowledge nothing as long as fewer workers are live.
    #[arg(long)]
    strict_copies: bool,
}

/// What close and fsync promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DurabilityArg {
    /// The store has the object.
    Through,
    /// Workers have the bytes on disk; they reach the store soon, in order.
    Async,
    /// The same, but not before a temporary name is given up.
    Deferred,
    /// Workers have the bytes on disk; they never reach the store unless `fs persist` says so.
    Scratch,
}

impl From<DurabilityArg> for Durability {
    fn from(arg: DurabilityArg) -> Self {
        match arg {
            DurabilityArg::Through => Self::Through,
            DurabilityArg::Async => Self::Async,
            DurabilityArg::Deferred => Self::Deferred,
            DurabilityArg::Scratch => Self::Scratch,
        }
    }
}

impl From<DurabilityArgs> for Persistence {
    fn from(args: DurabilityArgs) -> Self {
        let defaults = Self::default();
        Self {
            durability: args.durability.map_or(defaults.durability, Into::into),
            rules: args.rules,
            commit_patterns: patterns(args.commit_patterns, defaults.commit_patterns),
            temporary_patterns: patterns(args.temporary_patterns, defaults.temporary_patterns),
            copies: args.copies.unwrap_or(defaults.copies),
            strict_copies: args.strict_copies,
        }
    }
}

fn patterns(given: Vec<String>, defaults: Vec<String>) -> Vec<String> {
    if given.is_empty() {
        return defaults;
    }
    given.into_iter().filter(|pattern| pattern != NONE).collect()
}

/// How a mount persists, in a few words: what is as always is left out.
pub(crate) fn describe(persistence: &Persistence) -> String {
    let defaults = Persistence::default();
    let list = |patterns: &[String]| if patterns.is_empty() { NONE.to_owned() } else { patterns.join(" ") };
    let mut words = vec![persistence.durability.to_string()];
    words.extend(persistence.rules.iter().map(ToString::to_string));
    if persistence.copies != defaults.copies || persistence.strict_copies {
        let strict = if persistence.strict_copies { " strictly" } else { "" };
        words.push(format!("{} copies{strict}", persistence.copies));
    }
    if persistence.commit_patterns != defaults.commit_patterns {
        words.push(format!("commit {}", list(&persistence.commit_patterns)));
    }
    if persistence.temporary_patterns != defaults.temporary_patterns {
        words.push(format!("temporary {}", list(&persistence.temporary_patterns)));
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        durability: DurabilityArgs,
    }

    fn parsed(arguments: &[&str]) -> Persistence {
        Line::try_parse_from([&["x"], arguments].concat()).expect("valid").durability.into()
    }

    #[test]
    fn what_is_not_said_is_as_the_client_has_it() {
        assert_eq!(parsed(&[]), Persistence::default());
        assert_eq!(describe(&parsed(&[])), "through");
    }

    #[test]
    fn patterns_take_the_place_of_the_defaults() {
        let said = ["--durability=async", "--durability-rule=*.tmp=scratch", "--commit-pattern=none"];
        let said = parsed(&[&said[..], &["--temporary-pattern=a", "--temporary-pattern=b/*", "--copies=3"]].concat());
        assert!(said.commit_patterns.is_empty() && said.temporary_patterns == ["a", "b/*"]);
        assert_eq!(describe(&said), "async, *.tmp=scratch, 3 copies, commit none, temporary a b/*");
        assert_eq!(describe(&parsed(&["--strict-copies"])), "through, 2 copies strictly");
    }
}
