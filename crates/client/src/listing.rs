//! Listings of directories.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{
    FutureExt as _,
    stream::{self, BoxStream},
};
use headpond_proto::{status, v1};
use headpond_types::{Attr, Error, ErrorKind, InodeId, Name, NsPath, Result};
use tokio::time::{Instant, timeout};
use tonic::Streaming;

use crate::{
    cache::Ticket,
    master::{self, Retry},
    metadata::attr_of,
    shared::Shared,
};

/// A directory or file, by identity or by path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListTarget {
    /// The inode.
    Inode(InodeId),
    /// What is at the path when the call reaches the master.
    Path(NsPath),
}

impl From<InodeId> for ListTarget {
    fn from(inode: InodeId) -> Self {
        Self::Inode(inode)
    }
}

impl From<NsPath> for ListTarget {
    fn from(path: NsPath) -> Self {
        Self::Path(path)
    }
}

/// Which entries to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListOptions {
    /// Only names after this one in byte order. Not with `recursive`.
    pub start_after: Option<Name>,
    /// The whole subtree; entry names are then paths relative to the directory, parents before their children.
    pub recursive: bool,
    /// Most entries wanted; 0 for all.
    pub limit: u64,
    /// Ask the under store even if the listing that the master has is still fresh.
    pub refresh: bool,
}

/// One part of a listing, as it arrives.
#[derive(Clone, Debug)]
pub struct ListPage {
    /// The directory itself; in the first page only.
    pub directory: Option<Arc<Attr>>,
    /// Entries in byte order of their names.
    pub entries: Vec<ListEntry>,
    /// Until when these entries may be believed without asking again.
    pub valid_until: Instant,
    /// Keys of the under store that no path can express and that were left out; in the last page only.
    pub skipped: u64,
}

/// One entry of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListEntry {
    /// Its name, or its path relative to the directory in a recursive listing.
    pub name: Bytes,
    /// Its attributes.
    pub attr: Arc<Attr>,
}

/// A listing under way.
struct Listing {
    shared: Arc<Shared>,
    pages: Streaming<v1::ListResponse>,
    ticket: Ticket,
    /// Its inode, as soon as it is known; not for recursive listings, whose entries are not kept.
    keep_in: Option<InodeId>,
    recursive: bool,
}

pub(crate) fn list(
    shared: Arc<Shared>,
    target: ListTarget,
    options: ListOptions,
) -> BoxStream<'static, Result<ListPage>> {
    let begun = stream::once(Listing::begin(shared, target, options));
    let pages = futures::TryStreamExt::map_ok(begun, |listing| {
        stream::try_unfold(listing, |mut listing| async move { Ok(listing.page().await?.map(|page| (page, listing))) })
    });
    Box::pin(futures::TryStreamExt::try_flatten(pages))
}

impl Listing {
    async fn begin(shared: Arc<Shared>, target: ListTarget, options: ListOptions) -> Result<Self> {
        let recursive = options.recursive;
        let ticket = shared.cache.ticket();
        let keep_in = match &target {
            ListTarget::Inode(inode) if !recursive => Some(*inode),
            ListTarget::Inode(_) | ListTarget::Path(_) => None,
        };
        let (inode, path) = match target {
            ListTarget::Inode(inode) => (inode.0, Bytes::new()),
            ListTarget::Path(path) => (0, path.to_bytes().into()),
        };
        let start_after = options.start_after.map(|name| Bytes::copy_from_slice(name.as_bytes())).unwrap_or_default();
        let ListOptions { limit, refresh, .. } = options;
        let request =
            v1::ListRequest { inode, path, start_after, recursive, limit, refresh, caller: shared.caller.clone() };
        let call = |channel| {
            let request = request.clone();
            async move { master::namespace(channel).list(request).await }
        };
        let pages = shared.masters.call("list", Retry::Yes, call).await?;
        Ok(Self { shared, pages, ticket, keep_in, recursive })
    }

    async fn page(&mut self) -> Result<Option<ListPage>> {
        let patience = self.shared.config.metadata_timeout;
        let page = match self.pages.message().now_or_never() {
            // It was sent some time after the one before was waited for.
            Some(page) => page,
            None => {
                self.ticket = self.ticket.again();
                timeout(patience, self.pages.message()).await.map_err(|_| {
                    let message = format!("the listing made no progress within {} ms", patience.as_millis());
                    Error::new(ErrorKind::DeadlineExceeded, message)
                })?
            }
        };
        let Some(page) = page.map_err(|status| status::to_error(&status, "list"))? else { return Ok(None) };
        let answered = self.ticket.answered(page.as_of, Duration::from_millis(page.valid_ms));
        let mut valid_until = answered.valid_until();
        let directory = attr_of(page.directory)?;
        if let Some(directory) = &directory {
            let kept = self.shared.cache.put_attr(&answered, Arc::clone(directory));
            valid_until = valid_until.min(kept.valid_until);
            if !self.recursive {
                self.keep_in = Some(directory.inode);
            }
        }
        let mut entries = Vec::with_capacity(page.entries.len());
        for entry in page.entries {
            let attr = attr_of(entry.attr)?
                .ok_or_else(|| Error::new(ErrorKind::Internal, "the master listed an entry without attributes"))?;
            if let Some(directory) = self.keep_in {
                let kept = self.shared.cache.put_name(&answered, directory, &entry.name, Some(Arc::clone(&attr)));
                valid_until = valid_until.min(kept.valid_until);
            }
            entries.push(ListEntry { name: entry.name, attr });
        }
        Ok(Some(ListPage { directory, entries, valid_until, skipped: page.skipped }))
    }
}
