//! `headpond fs find`.

use clap::{Args, ValueEnum};
use headpond_client::ListOptions;
use headpond_types::{Attr, Error, ErrorKind, FileKind, NsPath, Timestamp};

use crate::{
    args::parse_size,
    failure::Result,
    output::{EntryJson, Output, below, escape, parse_moment},
    session::Session,
};

/// Find files by name, type, size and age.
///
/// Every condition given must hold; without any, everything below is printed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  headpond fs find /data --name '*.parquet' --size +100M
  headpond fs find /data --type f --newer 2h
  headpond fs find /data --type f --older 2026-01-31")]
pub(super) struct FindArgs {
    /// Directories or files to search.
    #[arg(value_name = "PATH", default_value = "/")]
    paths: Vec<NsPath>,
    /// The name (the last part of the path) matches this pattern of *, ? and […].
    #[arg(long, value_name = "PATTERN")]
    name: Option<glob::Pattern>,
    /// It is of this type.
    #[arg(long = "type", value_name = "TYPE", value_enum)]
    kind: Option<Kind>,
    /// It has at least (+10M), at most (-10M) or exactly (10M) this size; directories never match.
    #[arg(long, value_name = "[+-]SIZE", value_parser = SizeRule::parse, allow_hyphen_values = true)]
    size: Option<SizeRule>,
    /// It changed after this time: how long ago (2h), a date (2026-01-31) or RFC 3339.
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    newer: Option<Timestamp>,
    /// It changed before this time, written likewise.
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    older: Option<Timestamp>,
    /// Print the bytes of the paths as they are, each followed by a NUL, for `xargs -0`.
    #[arg(short = '0', long)]
    null: bool,
}

/// Kinds as `find` calls them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Files.
    #[value(name = "file", alias = "f")]
    File,
    /// Directories.
    #[value(name = "directory", alias = "d")]
    Directory,
    /// Symbolic links.
    #[value(name = "symlink", alias = "l")]
    Symlink,
    /// Named pipes, sockets and devices.
    #[value(name = "special")]
    Special,
}

impl From<FileKind> for Kind {
    fn from(kind: FileKind) -> Self {
        match kind {
            FileKind::File => Self::File,
            FileKind::Directory => Self::Directory,
            FileKind::Symlink => Self::Symlink,
            FileKind::Fifo | FileKind::Socket | FileKind::CharDevice(_) | FileKind::BlockDevice(_) => Self::Special,
        }
    }
}

/// Which sizes match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SizeRule {
    AtLeast(u64),
    AtMost(u64),
    Exactly(u64),
}

impl SizeRule {
    fn parse(text: &str) -> Result<Self, Error> {
        if let Some(rest) = text.strip_prefix('+') {
            return parse_size(rest).map(Self::AtLeast);
        }
        match text.strip_prefix('-') {
            Some(rest) => parse_size(rest).map(Self::AtMost),
            None => parse_size(text).map(Self::Exactly),
        }
    }

    const fn matches(self, size: u64) -> bool {
        match self {
            Self::AtLeast(least) => size >= least,
            Self::AtMost(most) => size <= most,
            Self::Exactly(exactly) => size == exactly,
        }
    }
}

pub(super) async fn run(session: &mut Session, args: &FindArgs) -> Result<()> {
    if args.null && session.out.is_json() {
        let message = "--null and -o json exclude each other: choose one";
        return Err(Error::new(ErrorKind::InvalidArgument, message).into());
    }
    super::for_each_path(session, &args.paths, async |session, path| {
        let attr = session.stat(path).await?;
        print(&mut session.out, args, &path.to_bytes(), &attr)?;
        if attr.kind != FileKind::Directory {
            return Ok(());
        }
        let options = ListOptions { recursive: true, ..ListOptions::default() };
        session.list(path, options, |out, entry| print(out, args, &below(path, &entry.name), &entry.attr)).await
    })
    .await
}

fn print(out: &mut Output, args: &FindArgs, path: &[u8], attr: &Attr) -> Result<()> {
    if !matches(args, path, attr) {
        return Ok(());
    }
    if out.is_json() {
        out.json(&EntryJson::new(path, attr))
    } else if args.null {
        out.bytes(path)?;
        out.bytes(b"\0")
    } else {
        out.line(&escape(path))
    }
}

fn matches(args: &FindArgs, path: &[u8], attr: &Attr) -> bool {
    let name = || String::from_utf8_lossy(path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()).into_owned();
    args.kind.is_none_or(|kind| kind == attr.kind.into())
        && args.size.is_none_or(|rule| attr.kind == FileKind::File && rule.matches(attr.size))
        && args.newer.is_none_or(|time| attr.mtime > time)
        && args.older.is_none_or(|time| attr.mtime < time)
        && args.name.as_ref().is_none_or(|pattern| pattern.matches(&name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_bounds_or_exact() {
        let rule = |text| SizeRule::parse(text).expect("valid");
        assert_eq!(rule("+1K"), SizeRule::AtLeast(1024));
        assert!(rule("+1K").matches(1024) && !rule("+1K").matches(1023));
        assert!(rule("-1K").matches(1024) && !rule("-1K").matches(1025));
        assert!(rule("5").matches(5) && !rule("5").matches(6));
        assert!(SizeRule::parse("+").is_err());
    }
}
