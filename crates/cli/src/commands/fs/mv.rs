//! `headpond fs mv`.

use clap::Args;
use headpond_types::{FileKind, NsPath};

use super::writing::place;
use crate::{failure::Result, session::Session};

/// Rename a file or directory, in one step.
///
/// Nobody sees both names, neither, or a part of a directory. On an object store the objects are moved to their new keys
/// afterwards, in the background.
#[derive(Debug, Args)]
pub(super) struct MvArgs {
    /// What to rename.
    #[arg(value_name = "FROM")]
    from: NsPath,
    /// Its new path, or a directory to move it into.
    #[arg(value_name = "TO")]
    to: NsPath,
    /// Fail when something has the new path already.
    #[arg(short, long)]
    no_replace: bool,
}

pub(super) async fn run(session: &mut Session, args: &MvArgs) -> Result<()> {
    let from = place(session, &args.from).await?;
    let found = session.client.resolve(&args.to).await?.attr;
    let into = found.is_some_and(|found| found.kind == FileKind::Directory);
    let to = if into { args.to.join(from.name.clone()) } else { args.to.clone() };
    let to = place(session, &to).await?;
    session.client.rename((from.dir, &from.name), (to.dir, &to.name), args.no_replace).await?;
    Ok(())
}
