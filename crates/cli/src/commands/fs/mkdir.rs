//! `headpond fs mkdir`.

use clap::Args;
use headpond_types::{Error, ErrorKind, FileKind, NsPath};

use super::writing::{owner, place};
use crate::{failure::Result, session::Session};

/// Permission bits of a new directory before the umask.
const MODE: u32 = 0o777;

/// Make directories.
#[derive(Debug, Args)]
pub(super) struct MkdirArgs {
    /// Directories to be.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<NsPath>,
    /// Make those above, too; what exists already is no error.
    #[arg(short, long)]
    parents: bool,
}

pub(super) async fn run(session: &mut Session, args: &MkdirArgs) -> Result<()> {
    super::for_each_path(session, &args.paths, async |session, path| {
        if !args.parents {
            return Ok(make(session, path).await?);
        }
        let mut above = NsPath::root();
        for name in path.names() {
            above = above.join(name.clone());
            match session.client.resolve(&above).await?.attr {
                Some(attr) if attr.kind == FileKind::Directory => {}
                Some(_) => {
                    return Err(Error::new(ErrorKind::NotADirectory, format!("{above} is not a directory")).into());
                }
                None => match make(session, &above).await {
                    // Somebody else made it meanwhile.
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                    made => made?,
                },
            }
        }
        Ok(())
    })
    .await
}

async fn make(session: &Session, path: &NsPath) -> Result<(), Error> {
    let at = place(session, path).await?;
    session.client.make_directory(at.dir, &at.name, owner(session, MODE)).await?;
    Ok(())
}
