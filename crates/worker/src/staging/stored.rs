//! Bytes that are acknowledged and still staged here: who reads a file that was just written gets them from there.
//!
//! The writer may go on writing. What the store has is compared, page by page, with the checksum of what was stored; a page that differs is asked for
//! there. What nobody else has is given as it was when it was made durable. A file that ends meanwhile is a content of the page store then, if somebody needs it.

use std::{
    collections::HashMap,
    fs::File,
    os::unix::fs::FileExt as _,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use futures::{StreamExt as _, stream::BoxStream};
use headpond_store::checksums;
use headpond_types::{ByteRange, ContentId, Error, ErrorKind, Result, page_range, pages_of};
use tokio::task::spawn_blocking;

use super::{Stager, table::Staged};
use crate::cache::Cache;

/// Acknowledged contents beside the latest that readers of a staged file find, which is as many as the file stands for.
const OTHERS: usize = 3;

/// Files by the content that their bytes were acknowledged as. A leaf lock, held for a few instructions.
#[derive(Debug, Default)]
pub(crate) struct Stored(Mutex<HashMap<ContentId, Arc<Copy>>>);

#[derive(Debug)]
struct Copy {
    staged: Arc<Staged>,
    length: u64,
    /// The file, and the checksums of what the store has of it; `None` when it has nothing.
    stored: Option<(File, Arc<[u32]>)>,
}

impl Stored {
    /// The staged file that has `content`, which no store needs to have, and its length.
    pub(super) fn staged(&self, content: ContentId) -> Option<(Arc<Staged>, u64)> {
        let copies = self.copies();
        let copy = copies.get(&content)?;
        Some((Arc::clone(&copy.staged), copy.length))
    }

    pub(super) fn remove(&self, contents: &[ContentId]) {
        let removed: Vec<_> = {
            let mut copies = self.copies();
            contents.iter().filter_map(|content| copies.remove(content)).collect()
        };
        drop(removed);
    }

    fn copies(&self) -> MutexGuard<'_, HashMap<ContentId, Arc<Copy>>> {
        self.0.lock().expect("no panic while held")
    }
}

/// The pages that `range` of what was written here touches, each as a whole; `None` when it is not here. Fails behind the first that is no longer
/// as it was stored.
pub(crate) fn body(
    cache: &Arc<Cache>,
    content: ContentId,
    range: &ByteRange,
) -> Option<BoxStream<'static, Result<Bytes>>> {
    let copy = cache.stored().copies().get(&content).cloned();
    if copy.is_none() {
        // It may have come there since the caller looked.
        cache.complete(content)?;
    }
    let cache = Arc::clone(cache);
    let page = move |page| page_of(Arc::clone(&cache), content, copy.clone(), page);
    Some(futures::stream::iter(pages_of(range)).then(page).boxed())
}

async fn page_of(cache: Arc<Cache>, content: ContentId, copy: Option<Arc<Copy>>, page: u64) -> Result<Bytes> {
    if let Some(copy) = copy {
        if copy.stored.is_some() {
            return copy.stored_page(page).await;
        }
        if let Some(bytes) = copy.dirty_page(content, page).await? {
            return Ok(bytes);
        }
        copy.staged.finished().await;
    }
    let kept = cache
        .complete(content)
        .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("content {content} is not on this worker any more")))?;
    let range = page_range(page, kept.length());
    Ok(cache.read(&kept, range).await?)
}

impl Copy {
    /// A page of what the store has, also when the file has ended.
    async fn stored_page(self: Arc<Self>, page: u64) -> Result<Bytes> {
        let read = spawn_blocking(move || {
            let (file, checksums_of) = self.stored.as_ref()?;
            let range = page_range(page, self.length);
            let mut bytes = vec![0; usize::try_from(range.end - range.start).ok()?];
            file.read_exact_at(&mut bytes, range.start).ok()?;
            let expected = usize::try_from(page).ok().and_then(|page| checksums_of.get(page))?;
            (checksums(&bytes) == [*expected]).then(|| Bytes::from(bytes))
        });
        let bytes = read.await.expect("reading a staged file does not panic");
        let message = || format!("page {page} of a staged file was written since it was stored");
        bytes.ok_or_else(|| Error::new(ErrorKind::Corrupt, message()))
    }

    /// A page of what the file was when it was made durable; `None` when it has ended.
    async fn dirty_page(&self, content: ContentId, page: u64) -> Result<Option<Bytes>> {
        let range = page_range(page, self.length);
        let length = usize::try_from(range.end - range.start).expect("a page fits in memory");
        let read = move |file: &headpond_store::Staging| file.read_version(content, range.start, length, Vec::new());
        match self.staged.on_file(read).await {
            Ok(Some(bytes)) => Ok(Some(bytes.into())),
            Ok(None) => Err(Error::new(ErrorKind::NotFound, format!("content {content} was replaced meanwhile"))),
            Err(error) if error.kind() == ErrorKind::Stale => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Shows readers the bytes that were just stored, in place of those before. That it cannot be done costs them a request.
pub(super) async fn show_stored(stager: &Stager, staged: &Arc<Staged>, content: ContentId, length: u64) {
    let Some(checksums) = staged.with_sent(|sent| sent.stored_as(content)) else { return };
    let Ok(file) = staged.on_file(headpond_store::Staging::reader).await else { return };
    let copy = Copy { staged: Arc::clone(staged), length, stored: Some((file, checksums)) };
    show(stager, content, copy, 0);
}

/// Shows readers the bytes that were just made durable, beside those before: which are committed is not known here.
pub(super) fn show_dirty(stager: &Stager, staged: &Arc<Staged>, content: ContentId, length: u64) {
    let copy = Copy { staged: Arc::clone(staged), length, stored: None };
    show(stager, content, copy, OTHERS);
}

fn show(stager: &Stager, content: ContentId, copy: Copy, others: usize) {
    let stored = stager.cache.stored();
    let hidden = copy.staged.show(Some(content), others);
    stored.copies().insert(content, Arc::new(copy));
    stored.remove(&hidden);
}
