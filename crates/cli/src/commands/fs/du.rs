//! `headpond fs du`.

use std::collections::BTreeMap;

use clap::{ArgAction, Args};
use headpond_client::ListOptions;
use headpond_types::{FileKind, NsPath};
use serde::Serialize;

use crate::{
    failure::Result,
    output::{PathJson, below, escape, size},
    session::Session,
};

/// Sum up the sizes of files below directories.
///
/// Sizes are those of the files, not of what the cache holds of them: `headpond fs location` shows that.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(super) struct DuArgs {
    /// Directories or files.
    #[arg(value_name = "PATH", default_value = "/")]
    paths: Vec<NsPath>,
    /// One line for each path given, none for the directories below.
    #[arg(short, long)]
    summary: bool,
    /// Sizes with units.
    #[arg(short = 'h', long)]
    human: bool,
    /// Print help.
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

/// What lies in and below a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Sum {
    bytes: u64,
    files: u64,
    directories: u64,
}

#[derive(Debug, Serialize)]
struct SumJson {
    #[serde(flatten)]
    path: PathJson,
    #[serde(flatten)]
    sum: Sum,
}

pub(super) async fn run(session: &mut Session, args: &DuArgs) -> Result<()> {
    super::for_each_path(session, &args.paths, async |session, path| {
        let attr = session.stat(path).await?;
        let mut sums = BTreeMap::from([(Vec::new(), Sum::default())]);
        if attr.kind == FileKind::Directory {
            let options = ListOptions { recursive: true, ..ListOptions::default() };
            let list = session.list(path, options, |_, entry| {
                let directory = entry.attr.kind == FileKind::Directory;
                add(&mut sums, &entry.name, directory, entry.attr.size, args.summary);
                Ok(())
            });
            list.await?;
        } else {
            sums.insert(Vec::new(), Sum { bytes: attr.size, files: 1, directories: 0 });
        }
        for (name, sum) in sums.iter().rev() {
            let path = if name.is_empty() { path.to_bytes() } else { below(path, name) };
            if session.out.is_json() {
                session.out.json(&SumJson { path: PathJson::new(&path), sum: *sum })?;
            } else {
                let size = size(sum.bytes, args.human);
                session.out.line(&format!("{size:<12} {}", escape(&path)))?;
            }
        }
        Ok(())
    })
    .await
}

/// Counts an entry in all directories that hold it; with `summary` in the topmost alone.
fn add(sums: &mut BTreeMap<Vec<u8>, Sum>, name: &[u8], directory: bool, bytes: u64, summary: bool) {
    let mut count = |holder: &[u8]| {
        let sum = sums.entry(holder.to_vec()).or_default();
        sum.directories += u64::from(directory);
        sum.files += u64::from(!directory);
        sum.bytes += if directory { 0 } else { bytes };
    };
    count(b"");
    if summary {
        return;
    }
    for (at, _) in name.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
        count(&name[..at]);
    }
    if directory {
        sums.entry(name.to_vec()).or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_directory_sums_what_is_below_it() {
        let entries: [(&[u8], bool, u64); 4] =
            [(b"a", true, 0), (b"a/b", true, 0), (b"a/b/f", false, 5), (b"g", false, 2)];
        let mut sums = BTreeMap::new();
        for (name, directory, bytes) in entries {
            add(&mut sums, name, directory, bytes, false);
        }
        assert_eq!(sums[&b""[..]], Sum { bytes: 7, files: 2, directories: 2 });
        assert_eq!(sums[&b"a"[..]], Sum { bytes: 5, files: 1, directories: 1 });
        assert_eq!(sums[&b"a/b"[..]], Sum { bytes: 5, files: 1, directories: 0 });
        assert_eq!(sums.len(), 3);
    }
}
