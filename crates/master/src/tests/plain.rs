//! A store that can do less than the one behind it, and one that answers late.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use headpond_types::{ByteRange, ContentId};
use headpond_ufs::{
    BodyStream, Capabilities, Key, Label, ListPage, ListRequest, ObjectMeta, Precondition, UfsError, UfsErrorKind,
    UnderStore,
};
use tokio::sync::Notify;

/// Says that it has `capabilities`, and refuses conditions that it says it does not honour.
#[derive(Debug)]
pub(super) struct Plain {
    pub(super) inner: Arc<dyn UnderStore>,
    pub(super) capabilities: Capabilities,
    pub(super) late: Arc<Late>,
}

/// Holds the answer to a listing back: what it shows is of before. Or those to copies, which are made. Or takes what is put under a key, and does not do it
/// yet.
#[derive(Debug, Default)]
pub(super) struct Late {
    armed: AtomicBool,
    copies_armed: AtomicBool,
    copies: Mutex<Vec<Key>>,
    answered: Notify,
    released: Notify,
    /// The key under which what is put next is held.
    holds: Mutex<Option<Key>>,
    held: Mutex<Option<(Key, Bytes, Precondition, Label)>>,
}

impl Late {
    /// The next listing is held back.
    pub(super) fn arm(&self) {
        self.armed.store(true, Ordering::SeqCst);
    }

    /// The next copy is made, and its answer held back.
    pub(super) fn arm_copies(&self) {
        self.copies_armed.store(true, Ordering::SeqCst);
    }

    /// How many copies were made to `key`.
    pub(super) fn copies_to(&self, key: &str) -> usize {
        self.copies.lock().expect("whole").iter().filter(|copy| copy.as_bytes() == key.as_bytes()).count()
    }

    /// Waits until the store has answered.
    pub(super) async fn answered(&self) {
        self.answered.notified().await;
    }

    /// Gives the answer.
    pub(super) fn release(&self) {
        self.released.notify_one();
    }

    /// What is put next under `key` is held, and never answered.
    pub(super) fn hold(&self, key: &str) {
        *self.holds.lock().expect("whole") = Some(Key::from(key.to_owned()));
    }

    /// Whether something is held.
    pub(super) fn holds(&self) -> bool {
        self.held.lock().expect("whole").is_some()
    }

    /// Has what is held done in `store`.
    pub(super) async fn do_held(&self, store: &dyn UnderStore) -> Result<ObjectMeta, UfsError> {
        let held = self.held.lock().expect("whole").take();
        let (key, body, condition, label) = held.expect("something is held");
        store.put_as(&key, body, &condition, label).await
    }
}

impl Plain {
    /// All that `inner` can do, but late.
    pub(super) fn late(inner: Arc<dyn UnderStore>, late: &Arc<Late>) -> Arc<dyn UnderStore> {
        let capabilities = inner.capabilities().clone();
        Arc::new(Self { inner, capabilities, late: late.clone() })
    }

    /// As S3: honours conditions at the end of an upload, and not on a copy. What was copied so has another version than its source.
    pub(super) fn in_parts(inner: Arc<dyn UnderStore>) -> Arc<dyn UnderStore> {
        let capabilities = Capabilities { conditional_copy: false, ..inner.capabilities().clone() };
        Arc::new(Self { inner, capabilities, late: Arc::default() })
    }

    /// Takes no more than ten bytes in a PUT, a copy or a part, as S3 takes 5 GiB.
    pub(super) fn of_ten(inner: Arc<dyn UnderStore>) -> Arc<dyn UnderStore> {
        let capabilities = Capabilities { max_put_size: 10, min_part_size: 4, ..inner.capabilities().clone() };
        Arc::new(Self { inner, capabilities, late: Arc::default() })
    }

    fn has_room(&self, size: u64) -> Result<(), UfsError> {
        if size <= self.capabilities.max_put_size {
            return Ok(());
        }
        Err(UfsError::new(UfsErrorKind::Unsupported, format!("{size} bytes are too many")))
    }

    /// As MinIO: honours no condition on a copy, nor on a deletion. Short objects are read and put.
    pub(super) fn through(inner: Arc<dyn UnderStore>, late: &Arc<Late>) -> Arc<dyn UnderStore> {
        let capabilities = Capabilities {
            conditional_copy: false,
            copy_through: Some(1 << 20),
            conditional_delete: false,
            max_deletes: 7,
            ..inner.capabilities().clone()
        };
        Arc::new(Self { inner, capabilities, late: late.clone() })
    }
}

fn allowed(condition: &Precondition, can: bool) -> Result<(), UfsError> {
    if can || *condition == Precondition::None {
        return Ok(());
    }
    Err(UfsError::new(UfsErrorKind::Unsupported, "no such condition"))
}

#[async_trait]
impl UnderStore for Plain {
    fn identity(&self) -> &str {
        self.inner.identity()
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage, UfsError> {
        let answer = self.inner.list(request).await;
        if self.late.armed.swap(false, Ordering::SeqCst) {
            self.late.answered.notify_one();
            self.late.released.notified().await;
        }
        answer
    }

    async fn head(&self, key: &Key) -> Result<ObjectMeta, UfsError> {
        self.inner.head(key).await
    }

    async fn get(&self, key: &Key, range: ByteRange, version: &str) -> Result<BodyStream, UfsError> {
        self.inner.get(key, range, version).await
    }

    async fn put_as(
        &self,
        key: &Key,
        body: Bytes,
        condition: &Precondition,
        label: Label,
    ) -> Result<ObjectMeta, UfsError> {
        allowed(condition, self.capabilities.conditional_put)?;
        if self.late.holds.lock().expect("whole").take_if(|held| held == key).is_some() {
            *self.late.held.lock().expect("whole") = Some((key.clone(), body, condition.clone(), label));
            return std::future::pending().await;
        }
        self.inner.put_as(key, body, condition, label).await
    }

    async fn create_multipart_as(&self, key: &Key, label: Label) -> Result<String, UfsError> {
        self.inner.create_multipart_as(key, label).await
    }

    async fn create_multipart_mixed(&self, key: &Key, label: Label) -> Result<String, UfsError> {
        self.inner.create_multipart_mixed(key, label).await
    }

    async fn put_part(&self, key: &Key, upload: &str, number: u32, body: Bytes) -> Result<String, UfsError> {
        self.inner.put_part(key, upload, number, body).await
    }

    async fn copy_part(
        &self,
        key: &Key,
        upload: &str,
        number: u32,
        source: &Key,
        range: ByteRange,
        version: &str,
    ) -> Result<String, UfsError> {
        self.has_room(range.end - range.start)?;
        self.inner.copy_part(key, upload, number, source, range, version).await
    }

    async fn complete_multipart(
        &self,
        key: &Key,
        upload: &str,
        parts: &[(u32, String)],
        condition: &Precondition,
    ) -> Result<ObjectMeta, UfsError> {
        allowed(condition, self.capabilities.conditional_put)?;
        self.inner.complete_multipart(key, upload, parts, condition).await
    }

    async fn abort_multipart(&self, key: &Key, upload: &str) -> Result<(), UfsError> {
        self.inner.abort_multipart(key, upload).await
    }

    async fn copy_as(
        &self,
        source: &Key,
        version: &str,
        key: &Key,
        condition: &Precondition,
        content: Option<ContentId>,
    ) -> Result<ObjectMeta, UfsError> {
        allowed(condition, self.capabilities.conditional_copy)?;
        self.has_room(self.inner.head(source).await?.size)?;
        let answer = self.inner.copy_as(source, version, key, condition, content).await;
        if answer.is_ok() {
            self.late.copies.lock().expect("whole").push(key.clone());
        }
        if self.late.copies_armed.swap(false, Ordering::SeqCst) {
            self.late.answered.notify_one();
            self.late.released.notified().await;
        }
        answer
    }

    async fn delete(&self, key: &Key, condition: &Precondition) -> Result<(), UfsError> {
        allowed(condition, self.capabilities.conditional_delete)?;
        self.inner.delete(key, condition).await
    }
}
