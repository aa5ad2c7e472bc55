//! `headpond fs tree`.

use clap::Args;
use headpond_client::{ListEntry, ListOptions};
use headpond_types::{FileKind, Name, NsPath};

use crate::{
    failure::Result,
    output::{EntryJson, escape},
    session::Session,
};

/// Show directories as a tree.
#[derive(Debug, Args)]
pub(super) struct TreeArgs {
    /// Directories.
    #[arg(value_name = "PATH", default_value = "/")]
    paths: Vec<NsPath>,
    /// Go down this many levels at most.
    #[arg(short = 'L', long, value_name = "LEVELS", value_parser = clap::value_parser!(u32).range(1..))]
    level: Option<u32>,
    /// Directories only.
    #[arg(short, long)]
    directories: bool,
}

/// An entry still to be printed.
struct Pending {
    path: NsPath,
    entry: ListEntry,
    /// What stands before the entries of its directory.
    indent: String,
    last: bool,
    level: u32,
}

pub(super) async fn run(session: &mut Session, args: &TreeArgs) -> Result<()> {
    super::for_each_path(session, &args.paths, async |session, path| {
        let root = session.stat(path).await?;
        let json = session.out.is_json();
        if json {
            session.out.json(&EntryJson::new(&path.to_bytes(), &root))?;
        } else {
            session.out.line(&escape(&path.to_bytes()))?;
        }
        let (mut directories, mut files) = (0u64, 0u64);
        let mut pending = Vec::new();
        if root.kind == FileKind::Directory {
            pending = children(session, args, path, "", 1).await?;
        }
        while let Some(next) = pending.pop() {
            let Pending { path, entry, indent, last, level } = next;
            if json {
                session.out.json(&EntryJson::new(&path.to_bytes(), &entry.attr))?;
            } else {
                let branch = if last { "└── " } else { "├── " };
                session.out.line(&format!("{indent}{branch}{}", escape(&entry.name)))?;
            }
            if entry.attr.kind != FileKind::Directory {
                files += 1;
                continue;
            }
            directories += 1;
            if args.level.is_none_or(|most| level < most) {
                let indent = indent + if last { "    " } else { "│   " };
                pending.extend(children(session, args, &path, &indent, level + 1).await?);
            }
        }
        if json { Ok(()) } else { session.out.line(&format!("\n{directories} directories, {files} files")) }
    })
    .await
}

/// The entries of a directory, the first one at the end.
async fn children(
    session: &mut Session,
    args: &TreeArgs,
    path: &NsPath,
    indent: &str,
    level: u32,
) -> Result<Vec<Pending>> {
    let mut found: Vec<Pending> = Vec::new();
    let list = session.list(path, ListOptions::default(), |_, entry| {
        if !args.directories || entry.attr.kind == FileKind::Directory {
            let path = path.join(Name::new(&entry.name)?);
            found.push(Pending { path, entry, indent: indent.to_owned(), last: false, level });
        }
        Ok(())
    });
    list.await?;
    found.reverse();
    if let Some(last) = found.first_mut() {
        last.last = true;
    }
    Ok(found)
}
