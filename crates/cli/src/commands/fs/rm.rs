//! `headpond fs rm`.

use clap::Args;
use headpond_types::{Error, ErrorKind, FileKind, NsPath};

use super::writing::place;
use crate::{failure::Result, session::Session};

/// Remove files, from the namespace and from the store.
#[derive(Debug, Args)]
pub(super) struct RmArgs {
    /// Files, or directories with --recursive.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<NsPath>,
    /// Directories with all that is below, each in one step. The store follows in the background: `headpond fs sync` waits for it.
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
        Ok(session.client.remove_tree(at.dir, &at.name).await?)
    })
    .await
}
