//! Reading files for the commands that print or sum them.

use std::sync::Arc;

use clap::Args;
use futures::StreamExt as _;
use headpond_client::OpenFile;
use headpond_types::{ByteRange, Error, ErrorKind, FileKind, NsPath};

use crate::{args::parse_size, failure::Result, session::Session};

/// How much of a file to print.
#[derive(Debug, Args)]
pub(super) struct Amount {
    /// This many lines.
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 10)]
    pub(super) lines: u64,
    /// This many bytes (or 4KiB, 1MiB, …) instead of lines.
    #[arg(short = 'c', long, value_name = "SIZE", value_parser = parse_size, conflicts_with = "lines")]
    pub(super) bytes: Option<u64>,
}

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
        FileKind::Fifo | FileKind::Socket | FileKind::CharDevice(_) | FileKind::BlockDevice(_) => {
            Err(Error::new(ErrorKind::InvalidArgument, format!("{path} is a special file: it has no content")).into())
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
