//! Reading files for the commands that print or sum them.

use std::sync::Arc;

use futures::StreamExt as _;
use headpond_client::OpenFile;
use headpond_types::{ByteRange, Error, ErrorKind, FileKind, NsPath};

use crate::{failure::Result, session::Session};

/// Opens the file at `path` as it is now.
///
/// # Errors
/// `NotFound`, `IsADirectory`, or those of opening.
pub(super) async fn open(session: &Session, path: &NsPath) -> Result<Arc<OpenFile>> {
    let attr = session.stat(path).await?;
    match attr.kind {
        FileKind::File => Ok(session.client.open(attr.inode).await?),
        FileKind::Directory => {
            Err(Error::new(ErrorKind::IsADirectory, format!("{path} is a directory: name a file")).into())
        }
        FileKind::Symlink => {
            Err(Error::new(ErrorKind::NotSupported, format!("{path} is a symbolic link: name its target")).into())
        }
    }
}

/// Hands the bytes of `range` to `each` as they arrive, until it says `false`.
pub(super) async fn stream(
    file: &Arc<OpenFile>,
    range: ByteRange,
    mut each: impl FnMut(&[u8]) -> Result<bool>,
) -> Result<()> {
    let mut chunks = file.read_stream(range);
    while let Some(chunk) = chunks.next().await {
        if !each(&chunk?)? {
            break;
        }
    }
    Ok(())
}

/// The line that announces one of several files, as `head` and `tail` print it.
pub(super) fn title(path: &NsPath, first: bool) -> String {
    let gap = if first { "" } else { "\n" };
    format!("{gap}==> {} <==", crate::output::escape(&path.to_bytes()))
}
