//! The files of a target.

use std::sync::Arc;

use futures::{TryStreamExt, stream, stream::BoxStream};
use headpond_types::{Attr, Error, ErrorKind, FileKind, Result};

use crate::{ListOptions, ListTarget, listing, metadata::Question, shared::Shared};

/// A file to be loaded or freed: its path relative to the target, and its attributes.
pub(crate) type Found = (String, Arc<Attr>);

/// The files of a target, as the listing finds them.
pub(crate) async fn files(
    shared: &Arc<Shared>,
    target: ListTarget,
    recursive: bool,
) -> Result<BoxStream<'static, Result<Found>>> {
    let (found, what) = match &target {
        ListTarget::Path(path) => (shared.ask(Question::Path(path)).await?, path.to_string()),
        ListTarget::Inode(inode) => (shared.ask(Question::Inode(*inode)).await?, format!("inode {inode}")),
    };
    let Some(attr) = found.attr else {
        return Err(Error::new(ErrorKind::NotFound, format!("{what} does not exist")));
    };
    match attr.kind {
        FileKind::Directory if recursive => {
            let options = ListOptions { recursive, ..ListOptions::default() };
            let pages = listing::list(Arc::clone(shared), ListTarget::Inode(attr.inode), options);
            let entries = pages.map_ok(|page| {
                let files = page.entries.into_iter().filter(|entry| entry.attr.kind == FileKind::File);
                stream::iter(files.map(|entry| Ok((String::from_utf8_lossy(&entry.name).into_owned(), entry.attr))))
            });
            Ok(Box::pin(entries.try_flatten()))
        }
        FileKind::Directory => {
            let message = format!("{what} is a directory: ask for all below it (recursive) or for a file");
            Err(Error::new(ErrorKind::IsADirectory, message))
        }
        FileKind::File => Ok(Box::pin(stream::iter([Ok((String::new(), attr))]))),
        FileKind::Fifo | FileKind::Socket | FileKind::CharDevice(_) | FileKind::BlockDevice(_) => {
            Err(Error::new(ErrorKind::InvalidArgument, format!("{what} is a special file: it has no content")))
        }
        FileKind::Symlink => {
            Err(Error::new(ErrorKind::InvalidArgument, format!("{what} is a symbolic link: ask for its target")))
        }
    }
}
