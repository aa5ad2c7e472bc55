//! A store that can do less than the one behind it.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use headpond_types::ByteRange;
use headpond_ufs::{
    BodyStream, Capabilities, Key, ListPage, ListRequest, ObjectMeta, Precondition, UfsError, UfsErrorKind, UnderStore,
};

/// Says that it has `capabilities`, and refuses conditions that it says it does not honour.
#[derive(Debug)]
pub(super) struct Plain {
    pub(super) inner: Arc<dyn UnderStore>,
    pub(super) capabilities: Capabilities,
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
        self.inner.list(request).await
    }

    async fn head(&self, key: &Key) -> Result<ObjectMeta, UfsError> {
        self.inner.head(key).await
    }

    async fn get(&self, key: &Key, range: ByteRange, version: &str) -> Result<BodyStream, UfsError> {
        self.inner.get(key, range, version).await
    }

    async fn put(&self, key: &Key, body: Bytes, condition: &Precondition) -> Result<ObjectMeta, UfsError> {
        allowed(condition, self.capabilities.conditional_put)?;
        self.inner.put(key, body, condition).await
    }

    async fn create_multipart(&self, key: &Key) -> Result<String, UfsError> {
        self.inner.create_multipart(key).await
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

    async fn copy(
        &self,
        source: &Key,
        version: &str,
        key: &Key,
        condition: &Precondition,
    ) -> Result<ObjectMeta, UfsError> {
        allowed(condition, self.capabilities.conditional_copy)?;
        self.inner.copy(source, version, key, condition).await
    }

    async fn delete(&self, key: &Key, condition: &Precondition) -> Result<(), UfsError> {
        allowed(condition, self.capabilities.conditional_delete)?;
        self.inner.delete(key, condition).await
    }
}
