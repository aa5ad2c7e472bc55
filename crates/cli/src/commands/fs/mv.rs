//! `headpond fs mv`.

use clap::Args;
use headpond_types::{FileKind, NsPath, RenameMode};

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
    /// Have FROM and TO change names: both must exist.
    #[arg(long, conflicts_with = "no_replace")]
    exchange: bool,
}

pub(super) async fn run(session: &mut Session, args: &MvArgs) -> Result<()> {
    let from = place(session, &args.from).await?;
    let found = session.client.resolve(&args.to).await?.attr;
    let into = !args.exchange && found.is_some_and(|found| found.kind == FileKind::Directory);
    let to = if into { args.to.join(from.name.clone()) } else { args.to.clone() };
    let to = place(session, &to).await?;
    let mode = match (args.no_replace, args.exchange) {
        (_, true) => RenameMode::Exchange,
        (true, false) => RenameMode::NoReplace,
        (false, false) => RenameMode::Replace,
    };
    session.client.rename((from.dir, &from.name), (to.dir, &to.name), mode).await?;
    Ok(())
}
