//! Where the commands that change the namespace work: a directory and a name in it.

use headpond_types::{Error, ErrorKind, FileKind, InodeId, Name, NsPath, Result};
use rustix::{fs::Mode, process};

use crate::session::Session;

/// A name in a directory that exists.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) dir: InodeId,
    pub(super) name: Name,
}

/// Where `path` is, or would be.
///
/// # Errors
/// `InvalidArgument` for the root, `NotFound` or `NotADirectory` for what is above.
pub(super) async fn place(session: &Session, path: &NsPath) -> Result<Place> {
    let Some((above, name)) = path.split_last() else {
        return Err(Error::new(ErrorKind::InvalidArgument, "/ itself cannot be changed: name something in it"));
    };
    let dir = session.stat(&above).await?;
    if dir.kind != FileKind::Directory {
        return Err(Error::new(ErrorKind::NotADirectory, format!("{above} is not a directory")));
    }
    Ok(Place { dir: dir.inode, name: name.clone() })
}

/// The user of the session and, of the permission bits `mode`, those that the umask leaves.
pub(super) fn owner(session: &Session, mode: u32) -> headpond_client::Owner {
    let mask = process::umask(Mode::empty());
    process::umask(mask);
    let (uid, gid) = session.client.user();
    headpond_client::Owner { mode: mode & !mask.bits(), uid, gid }
}
