//! Bytes that are in the under store and still staged here: who reads a file that was just written gets them from there.
//!
//! The writer may go on writing, so each page is compared with the checksum of what was stored; one that differs is asked for elsewhere.

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

/// Files by the content that their bytes were stored as. A leaf lock, held for a few instructions.
#[derive(Debug, Default)]
pub(crate) struct Stored(Mutex<HashMap<ContentId, Arc<Copy>>>);

#[derive(Debug)]
struct Copy {
    file: File,
    length: u64,
    checksums: Arc<[u32]>,
}

impl Stored {
    /// The pages that `range` touches, each as a whole. Fails behind the first that is no longer as it was stored.
    pub(crate) fn body(&self, content: ContentId, range: ByteRange) -> Option<BoxStream<'static, Result<Bytes>>> {
        let copy = self.copies().get(&content).cloned()?;
        let pages = futures::stream::iter(pages_of(&range));
        Some(pages.then(move |page| Arc::clone(&copy).page(page)).boxed())
    }

    pub(super) fn remove(&self, content: ContentId) {
        self.copies().remove(&content);
    }

    fn copies(&self) -> MutexGuard<'_, HashMap<ContentId, Arc<Copy>>> {
        self.0.lock().expect("no panic while held")
    }
}

impl Copy {
    async fn page(self: Arc<Self>, page: u64) -> Result<Bytes> {
        let read = spawn_blocking(move || {
            let range = page_range(page, self.length);
            let mut bytes = vec![0; usize::try_from(range.end - range.start).ok()?];
            self.file.read_exact_at(&mut bytes, range.start).ok()?;
            let expected = self.checksums.get(usize::try_from(page).ok()?)?;
            (checksums(&bytes) == [*expected]).then(|| Bytes::from(bytes))
        });
        let bytes = read.await.expect("reading a staged file does not panic");
        let message = || format!("page {page} of a staged file was written since it was stored");
        bytes.ok_or_else(|| Error::new(ErrorKind::Corrupt, message()))
    }
}

/// Shows readers the bytes that were just stored, in place of those before. That it cannot be done costs them a request.
pub(super) async fn show(stager: &Stager, staged: &Arc<Staged>, content: ContentId, length: u64) {
    let stored = stager.cache.stored();
    let Some(checksums) = staged.with_sent(|sent| sent.stored_as(content)) else { return };
    let Ok(file) = staged.on_file(headpond_store::Staging::reader).await else { return };
    stored.copies().insert(content, Arc::new(Copy { file, length, checksums }));
    if let Some(before) = staged.set_stored(Some(content)).filter(|before| *before != content) {
        stored.remove(before);
    }
}
