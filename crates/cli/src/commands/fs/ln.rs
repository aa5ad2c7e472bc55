//! `headpond fs ln`.

use clap::Args;
use headpond_types::{FileKind, NsPath};

use super::writing::place;
use crate::{failure::Result, session::Session};

/// Give a file a further name: a hard link.
///
/// Both names are the same file: what is written under one is read under the other. An object store holds an object under each, and gets the
/// new one afterwards, in the background.
#[derive(Debug, Args)]
pub(super) struct LnArgs {
    /// What gets the name.
    #[arg(value_name = "TARGET")]
    target: NsPath,
    /// The new name, or a directory to make it in.
    #[arg(value_name = "NAME")]
    name: NsPath,
}

pub(super) async fn run(session: &mut Session, args: &LnArgs) -> Result<()> {
    let target = place(session, &args.target).await?;
    let found = session.stat(&args.target).await?;
    let into = session.client.resolve(&args.name).await?.attr;
    let into = into.is_some_and(|into| into.kind == FileKind::Directory);
    let name = if into { args.name.join(target.name.clone()) } else { args.name.clone() };
    let name = place(session, &name).await?;
    session.client.link(found.inode, name.dir, &name.name).await?;
    Ok(())
}
