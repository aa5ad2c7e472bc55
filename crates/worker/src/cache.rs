//! The page store behind async calls, and what is done about its faults.
//!
//! Every call that does IO runs where blocking is allowed. A fault of the store is no error of a read: it is counted,
//! logged (each kind once in ten minutes), and the read goes on through memory.

use std::{
    collections::HashSet,
    io::IoSlice,
    ops::Range,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use headpond_store::{Content, Loan, PageStore, Staging, StoreError};
use headpond_types::{ByteRange, ContentId, page_count};
use tokio::task::spawn_blocking;

use crate::{faults::Faults, grants::Grant, metrics::Metrics, staging::Stored};

/// Bytes that the scrubber reads between two pauses.
const SCRUB_STEP: u64 = 4 << 20;

/// A file that nobody writes any more, and what becomes of it.
#[derive(Debug)]
pub(crate) enum Adoption {
    /// A content of the under store whose pages have these checksums.
    Stored(Staging, ContentId, Arc<[u32]>),
    /// A content that is nowhere else: the one that is given, or what it was made durable as.
    Dirty(Staging, Option<ContentId>),
}

/// The page store of this worker.
#[derive(Debug)]
pub(crate) struct Cache {
    store: Arc<PageStore>,
    metrics: Metrics,
    faults: Faults,
    stored: Stored,
    /// Contents that are being verified as a whole.
    verifying: Mutex<HashSet<ContentId>>,
}

impl Cache {
    pub(crate) fn new(store: Arc<PageStore>, metrics: Metrics) -> Self {
        Self { store, metrics, faults: Faults::default(), stored: Stored::default(), verifying: Mutex::default() }
    }

    /// The store itself, for what does no IO.
    pub(crate) const fn store(&self) -> &Arc<PageStore> {
        &self.store
    }

    /// The content of `id`, if all of it is present. No IO.
    pub(crate) fn complete(&self, id: ContentId) -> Option<Arc<Content>> {
        self.store.find(id).filter(|content| content.is_complete())
    }

    /// Contents of files that were written here, until the store has them.
    pub(crate) const fn stored(&self) -> &Stored {
        &self.stored
    }

    /// Where the pages of a granted content are kept; `None` when the store cannot keep them.
    pub(crate) fn content(&self, grant: &Grant) -> Option<Arc<Content>> {
        self.store.content(grant.content, grant.length).inspect_err(|error| self.fault(error)).ok()
    }

    /// Bytes of pages that are present.
    ///
    /// # Errors
    /// [`StoreError`]; counted and logged unless it only says that a page is absent.
    pub(crate) async fn read(&self, content: &Arc<Content>, range: ByteRange) -> Result<Bytes, StoreError> {
        let content = Arc::clone(content);
        blocking(move || content.read(range)).await.inspect_err(|error| self.fault(error))
    }

    /// Keeps a whole page, given in parts. A page that is there already is left as it is.
    ///
    /// # Errors
    /// [`StoreError`], counted and logged; nothing was kept.
    pub(crate) async fn keep(&self, grant: &Grant, page: u64, parts: Vec<Bytes>) -> Result<(), StoreError> {
        let (store, id, length) = (Arc::clone(&self.store), grant.content, grant.length);
        let write = move || {
            let content = store.content(id, length)?;
            let mut writer = match content.page_writer(page) {
                Err(StoreError::AlreadyPresent { .. }) => return Ok(()),
                writer => writer?,
            };
            let parts: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
            writer.write_vectored(&parts)?;
            match writer.commit() {
                Err(StoreError::AlreadyPresent { .. }) => Ok(()),
                done => done,
            }
        };
        blocking(write).await.inspect_err(|error| self.fault(error))
    }

    /// Lends the cache file of `content` out.
    ///
    /// # Errors
    /// [`StoreError`], counted and logged.
    pub(crate) async fn lend(&self, content: &Arc<Content>) -> Result<Loan, StoreError> {
        let content = Arc::clone(content);
        blocking(move || content.lend()).await.inspect_err(|error| self.fault(error))
    }

    /// Compares what is present of `pages` with its checksums, unless that was done before.
    ///
    /// # Errors
    /// [`StoreError`], counted and logged; corrupt pages were dropped.
    pub(crate) async fn verify(&self, content: &Arc<Content>, pages: Range<u64>) -> Result<(), StoreError> {
        if content.is_verified() {
            return Ok(());
        }
        let content = Arc::clone(content);
        blocking(move || content.verify_pages(pages)).await.inspect_err(|error| self.fault(error))
    }

    /// Compares all of `content` with its checksums; nothing to do when somebody is at it already. Page by page, so that
    /// shutdown can end it; corrupt pages leave the store and are fetched when they are wanted.
    pub(crate) async fn verify_all(&self, content: Arc<Content>) {
        if !self.verifying.lock().expect("no panic while held").insert(content.id()) {
            return;
        }
        for page in 0..page_count(content.length()) {
            let _ = self.verify(&content, page..page + 1).await;
        }
        self.verifying.lock().expect("no panic while held").remove(&content.id());
    }

    /// An empty file for bytes that are written.
    ///
    /// # Errors
    /// [`StoreError`], counted and logged.
    pub(crate) async fn stage(&self) -> Result<Staging, StoreError> {
        let store = Arc::clone(&self.store);
        blocking(move || store.stage()).await.inspect_err(|error| self.fault(error))
    }

    /// Keeps what `take` gives; where the under store has the bytes, that is only a favour.
    pub(crate) async fn adopt(&self, take: impl FnOnce() -> Option<Adoption> + Send + 'static) {
        let store = Arc::clone(&self.store);
        let adopted = blocking(move || match take() {
            None => Ok(()),
            Some(Adoption::Stored(file, content, checksums)) => store.adopt(file, content, &checksums),
            Some(Adoption::Dirty(file, content)) => store.adopt_dirty(file, content),
        });
        match adopted.await {
            Ok(()) => {}
            Err(StoreError::Corrupt { content, .. }) => {
                tracing::debug!(%content, "a file was written after it was stored, it is not cached");
            }
            Err(error) => self.fault(&error),
        }
    }

    /// These contents are as any other from now on.
    pub(crate) async fn set_clean(&self, contents: Vec<ContentId>) {
        let store = Arc::clone(&self.store);
        blocking(move || contents.into_iter().for_each(|content| store.set_clean(content))).await;
    }

    /// Drops what is cached of `content`; the bytes that it had.
    pub(crate) async fn free(&self, content: ContentId) -> u64 {
        let store = Arc::clone(&self.store);
        blocking(move || store.free(content)).await
    }

    /// Drops loans, or what holds them: the last one of a content may remove its file.
    pub(crate) async fn take_back(&self, loans: impl Send + 'static) {
        blocking(move || drop(loans)).await;
    }

    /// Compares pages with their checksums, one round over all contents, at `rate` bytes per second.
    pub(crate) async fn scrub(&self, rate: u64) {
        loop {
            let store = Arc::clone(&self.store);
            let done = blocking(move || store.scrub_step(SCRUB_STEP)).await;
            if done.corrupt > 0 {
                tracing::warn!(pages = done.corrupt, "corrupt pages were found in the cache and dropped");
            }
            if done.round_done {
                return;
            }
            let nanos = u128::from(done.bytes) * 1_000_000_000 / u128::from(rate);
            tokio::time::sleep(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))).await;
        }
    }

    /// Puts directories that were repaired back into use.
    pub(crate) async fn probe_failed(&self) {
        let store = Arc::clone(&self.store);
        let back = blocking(move || store.probe_failed()).await;
        if back > 0 {
            tracing::info!(directories = back, "cache directories are back in use");
        }
    }

    fn fault(&self, error: &StoreError) {
        if matches!(error, StoreError::Absent { .. }) {
            return;
        }
        self.metrics.store_fault(error);
        // Of a directory that goes out of use the store has told.
        if !matches!(error, StoreError::DirFailed { .. }) && self.faults.is_news(error) {
            let error: &dyn std::error::Error = error;
            tracing::warn!(error, "the cache failed, reads go on from the under store");
        }
    }
}

/// Runs `work` where it may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    spawn_blocking(work).await.expect("work on the cache does not panic")
}
