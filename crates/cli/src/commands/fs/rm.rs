//! `headpond fs rm`.

use clap::Args;
use futures::StreamExt as _;
use headpond_client::ListOptions;
use headpond_types::{Error, ErrorKind, FileKind, InodeId, Name, NsPath};

use super::writing::place;
use crate::{
    failure::{Failure, Result},
    session::Session,
};

/// Remove files, from the namespace and from the store.
#[derive(Debug, Args)]
pub(super) struct RmArgs {
    /// Files, or directories with --recursive.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<NsPath>,
    /// Directories with all that is below.
    #[arg(short, long)]
    recursive: bool,
    /// What does not exist is no error.
    #[arg(short, long)]
    force: bool,
}

pub(super) async fn run(session: &mut Session, args: &RmArgs) -> Result<()> {
    super::for_each_path(session, &args.paths, async |session, path| {
        let Some(attr) = session.client.resolve(path).await?.attr else {
            let missing = Error::new(ErrorKind::NotFound, format!("{path} does not exist"));
            return if args.force { Ok(()) } else { Err(missing.into()) };
        };
        let at = place(session, path).await?;
        if attr.kind != FileKind::Directory {
            return Ok(session.client.remove(at.dir, &at.name, false).await?);
        }
        if !args.recursive {
            let message = format!("{path} is a directory: remove it with all that is below by --recursive");
            return Err(Error::new(ErrorKind::IsADirectory, message).into());
        }
        empty(session, attr.inode).await?;
        Ok(session.client.remove(at.dir, &at.name, true).await?)
    })
    .await
}

/// Removes all that is below a directory, deepest first.
async fn empty(session: &Session, top: InodeId) -> Result<()> {
    let mut doomed = Vec::new();
    let options = ListOptions { recursive: true, ..ListOptions::default() };
    let mut pages = session.client.list(top, options);
    while let Some(page) = pages.next().await {
        for entry in page.map_err(Failure::from)?.entries {
            let name = entry.name.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            doomed.push((entry.attr.parent, Name::new(name)?, entry.attr.kind == FileKind::Directory));
        }
    }
    // Parents come before their children.
    for (dir, name, is_directory) in doomed.into_iter().rev() {
        match session.client.remove(dir, &name, is_directory).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            removed => removed?,
        }
    }
    Ok(())
}
