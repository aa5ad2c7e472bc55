//! The trait that every driver and wrapper implements.

use std::fmt;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::{TryStreamExt as _, stream::BoxStream};
use headpond_types::{ByteRange, ContentId};

use crate::{
    Capabilities, Key, Label, ListPage, ListRequest, ObjectMeta, Precondition, UfsError, UfsErrorKind, UploadMark,
    UploadPage,
};

/// Bytes of an object as they arrive. An error ends the stream; a stream that ends early without one is a defect of the
/// driver: drivers compare with the length promised.
pub type BodyStream = BoxStream<'static, Result<Bytes, UfsError>>;

/// A store of objects under raw keys.
///
/// Implementations are cheap to share behind an `Arc`, never retry by themselves (the retry wrapper does), and name the
/// store and the key in every error. Dropping a future abandons the request; whether a mutation took place is then unknown.
#[async_trait]
pub trait UnderStore: fmt::Debug + Send + Sync + 'static {
    /// What identifies the store in content ids: scheme, endpoint and bucket, or directory. No credentials, no options.
    fn identity(&self) -> &str;

    /// What the store can do.
    fn capabilities(&self) -> &Capabilities;

    /// One page of a listing.
    async fn list(&self, request: &ListRequest) -> Result<ListPage, UfsError>;

    /// Describes the object under `key`.
    ///
    /// # Errors
    /// `NotFound` only when the store said so.
    async fn head(&self, key: &Key) -> Result<ObjectMeta, UfsError>;

    /// Bytes `range` of the version `version` of `key`; exactly that many, the range is never open-ended.
    ///
    /// # Errors
    /// `Changed` when the object has another version by now, `NotFound` when it is gone.
    async fn get(&self, key: &Key, range: ByteRange, version: &str) -> Result<BodyStream, UfsError>;

    /// Stores `body` under `key` as one object; durable when it returns. Answers the new version; its time may be that of the answer by our
    /// clock, where the store's would cost another request.
    ///
    /// # Errors
    /// `Precondition` when `condition` does not hold; nothing is changed then.
    async fn put(&self, key: &Key, body: Bytes, condition: &Precondition) -> Result<ObjectMeta, UfsError> {
        self.put_as(key, body, condition, Label::default()).await
    }

    /// The same for an object that says so much of itself. What it says of a file's mode and modification time is for other programs: nothing here
    /// reads it.
    ///
    /// # Errors
    /// As [`UnderStore::put`].
    async fn put_as(
        &self,
        key: &Key,
        body: Bytes,
        condition: &Precondition,
        label: Label,
    ) -> Result<ObjectMeta, UfsError>;

    /// Begins a multipart upload of which all parts are sent, and answers its id.
    async fn create_multipart(&self, key: &Key) -> Result<String, UfsError> {
        self.create_multipart_as(key, Label::default()).await
    }

    /// The same for an object that says so much of itself, as [`UnderStore::put_as`].
    async fn create_multipart_as(&self, key: &Key, label: Label) -> Result<String, UfsError>;

    /// The same for one of which parts are to be copied within the store, too ([`UnderStore::copy_part`]): some stores do not copy into uploads whose
    /// parts have checksums.
    async fn create_multipart_mixed(&self, key: &Key, label: Label) -> Result<String, UfsError> {
        self.create_multipart_as(key, label).await
    }

    /// The same for what is to become a copy of the version `version` of `source`, in parts: it says of itself what that says, as its type and the
    /// metadata of users, besides `content`.
    ///
    /// # Errors
    /// As [`UnderStore::copy`].
    async fn create_multipart_copy(
        &self,
        source: &Key,
        version: &str,
        key: &Key,
        content: Option<ContentId>,
    ) -> Result<String, UfsError> {
        let _ = (source, version);
        self.create_multipart_as(key, content.into()).await
    }

    /// Uploads part `number` (from 1) and answers its tag.
    async fn put_part(&self, key: &Key, upload: &str, number: u32, body: Bytes) -> Result<String, UfsError>;

    /// Makes `range` of the version `version` of `source` part `number` of an upload that was begun for it, within the store.
    async fn copy_part(
        &self,
        key: &Key,
        upload: &str,
        number: u32,
        source: &Key,
        range: ByteRange,
        version: &str,
    ) -> Result<String, UfsError>;

    /// Makes the parts (number, tag), in ascending order, one object; durable when it returns.
    async fn complete_multipart(
        &self,
        key: &Key,
        upload: &str,
        parts: &[(u32, String)],
        condition: &Precondition,
    ) -> Result<ObjectMeta, UfsError>;

    /// Gives an upload up and frees its parts. An unknown upload is not an error.
    async fn abort_multipart(&self, key: &Key, upload: &str) -> Result<(), UfsError>;

    /// One page of the multipart uploads that were begun and neither completed nor aborted, all over the store, from the first after `after` on.
    /// Some stores do not know all of them, as those that were begun before they were started.
    ///
    /// # Errors
    /// `Unsupported` where uploads cannot be listed.
    async fn uploads(&self, after: Option<&UploadMark>) -> Result<UploadPage, UfsError> {
        let _ = after;
        let message = format!("{} does not list uploads", self.identity());
        Err(UfsError::new(UfsErrorKind::Unsupported, message))
    }

    /// Copies the version `version` of `source` to `key` within the store.
    ///
    /// # Errors
    /// `Changed` when the source has another version by now; `Unsupported` for a `condition` that the store cannot honour.
    async fn copy(
        &self,
        source: &Key,
        version: &str,
        key: &Key,
        condition: &Precondition,
    ) -> Result<ObjectMeta, UfsError> {
        self.copy_as(source, version, key, condition, None).await
    }

    /// The same for a copy that says which content it is; `None`: what the source says. All else it says as that.
    ///
    /// # Errors
    /// As [`UnderStore::copy`].
    async fn copy_as(
        &self,
        source: &Key,
        version: &str,
        key: &Key,
        condition: &Precondition,
        content: Option<ContentId>,
    ) -> Result<ObjectMeta, UfsError>;

    /// The same, of the version `version` with `size` bytes of `source`, by reading it here and putting it: a store that takes a condition on `put` but not
    /// on `copy` need not be asked for an upload in parts then.
    ///
    /// # Errors
    /// As [`UnderStore::put`]; `Changed` when the source has another version by now, `NotFound` when it is gone.
    async fn copy_through(
        &self,
        (source, version, size): (&Key, &str, u64),
        key: &Key,
        condition: &Precondition,
        content: Option<ContentId>,
    ) -> Result<ObjectMeta, UfsError> {
        let content = match content {
            None => self.head(source).await?.content,
            said => said,
        };
        let body = self.get(source, 0..size, version).await?;
        let body = body.try_fold(BytesMut::new(), async |mut whole, chunk| {
            whole.extend_from_slice(&chunk);
            Ok(whole)
        });
        self.put_as(key, body.await?.freeze(), condition, content.into()).await
    }

    /// Deletes the object under `key`; one that does not exist is not an error.
    ///
    /// # Errors
    /// `Unsupported` for a `condition` that the store cannot honour.
    async fn delete(&self, key: &Key, condition: &Precondition) -> Result<(), UfsError>;

    /// Deletes the objects under `keys`, each whatever its version, and answers for each in their order. At most [`Capabilities::max_deletes`] of them
    /// are one request; no two are the same.
    ///
    /// # Errors
    /// Those of the request as a whole: which of them were deleted is then not known, unless it is `Unsupported` or `Invalid`, and none was.
    async fn delete_all(&self, keys: &[Key]) -> Result<Vec<Result<(), UfsError>>, UfsError> {
        let mut answers = Vec::with_capacity(keys.len());
        for key in keys {
            answers.push(self.delete(key, &Precondition::None).await);
        }
        Ok(answers)
    }
}
