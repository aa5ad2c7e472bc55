//! What wrappers have in common: each does something around every request and leaves the request itself alone.

use std::future::Future;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use headpond_types::{ByteRange, ContentId};

use crate::{
    BodyStream, Capabilities, Key, Label, ListPage, ListRequest, ObjectMeta, Op, Precondition, UfsError, UnderStore,
    UploadMark, UploadPage,
};

/// A request as wrappers see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) op: Op,
    /// What errors name: the key that is read or written, the prefix of a listing.
    pub(crate) key: &'a Key,
    /// Bytes that go to the store.
    pub(crate) sent: u64,
    /// Whether a second try after one that may have been carried out changes nothing and answers the same.
    pub(crate) repeatable: bool,
}

/// A wrapper; it is an [`UnderStore`] by the implementation below.
pub(crate) trait Around: std::fmt::Debug + Send + Sync + 'static {
    /// The store that is wrapped.
    fn inner(&self) -> &dyn UnderStore;

    /// Carries a request out; each call of `send` is one try.
    fn around<'a, T: Send + 'a>(
        &'a self,
        request: Request<'a>,
        send: impl Fn() -> BoxFuture<'a, Result<T, UfsError>> + Send + Sync + 'a,
    ) -> impl Future<Output = Result<T, UfsError>> + Send + 'a;

    /// The same for a GET, whose body outlives the call.
    fn around_get<'a>(
        &'a self,
        key: &'a Key,
        range: ByteRange,
        version: &'a str,
    ) -> impl Future<Output = Result<BodyStream, UfsError>> + Send + 'a;
}

#[async_trait]
impl<W: Around> UnderStore for W {
    fn identity(&self) -> &str {
        self.inner().identity()
    }

    fn capabilities(&self) -> &Capabilities {
        self.inner().capabilities()
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage, UfsError> {
        let what = Request { op: Op::List, key: &request.prefix, sent: 0, repeatable: true };
        self.around(what, || self.inner().list(request)).await
    }

    async fn head(&self, key: &Key) -> Result<ObjectMeta, UfsError> {
        let what = Request { op: Op::Head, key, sent: 0, repeatable: true };
        self.around(what, || self.inner().head(key)).await
    }

    async fn get(&self, key: &Key, range: ByteRange, version: &str) -> Result<BodyStream, UfsError> {
        self.around_get(key, range, version).await
    }

    async fn put_as(
        &self,
        key: &Key,
        body: Bytes,
        condition: &Precondition,
        label: Label,
    ) -> Result<ObjectMeta, UfsError> {
        let repeatable = *condition == Precondition::None;
        let what = Request { op: Op::Put, key, sent: body.len() as u64, repeatable };
        self.around(what, || self.inner().put_as(key, body.clone(), condition, label)).await
    }

    async fn create_multipart_as(&self, key: &Key, label: Label) -> Result<String, UfsError> {
        // An upload begun twice leaves one without parts, which the store's own rules clear away.
        let what = Request { op: Op::CreateMultipart, key, sent: 0, repeatable: true };
        self.around(what, || self.inner().create_multipart_as(key, label)).await
    }

    async fn create_multipart_mixed(&self, key: &Key, label: Label) -> Result<String, UfsError> {
        let what = Request { op: Op::CreateMultipart, key, sent: 0, repeatable: true };
        self.around(what, || self.inner().create_multipart_mixed(key, label)).await
    }

    async fn create_multipart_copy(
        &self,
        source: &Key,
        version: &str,
        key: &Key,
        content: Option<ContentId>,
    ) -> Result<String, UfsError> {
        let what = Request { op: Op::CreateMultipart, key, sent: 0, repeatable: true };
        self.around(what, || self.inner().create_multipart_copy(source, version, key, content)).await
    }

    async fn put_part(&self, key: &Key, upload: &str, number: u32, body: Bytes) -> Result<String, UfsError> {
        let what = Request { op: Op::PutPart, key, sent: body.len() as u64, repeatable: true };
        self.around(what, || self.inner().put_part(key, upload, number, body.clone())).await
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
        let what = Request { op: Op::CopyPart, key, sent: 0, repeatable: true };
        self.around(what, || self.inner().copy_part(key, upload, number, source, range.clone(), version)).await
    }

    async fn complete_multipart(
        &self,
        key: &Key,
        upload: &str,
        parts: &[(u32, String)],
        condition: &Precondition,
    ) -> Result<ObjectMeta, UfsError> {
        // A second try after one that was carried out finds no upload.
        let what = Request { op: Op::CompleteMultipart, key, sent: 0, repeatable: false };
        self.around(what, || self.inner().complete_multipart(key, upload, parts, condition)).await
    }

    async fn abort_multipart(&self, key: &Key, upload: &str) -> Result<(), UfsError> {
        let what = Request { op: Op::AbortMultipart, key, sent: 0, repeatable: true };
        self.around(what, || self.inner().abort_multipart(key, upload)).await
    }

    async fn uploads(&self, after: Option<&UploadMark>) -> Result<UploadPage, UfsError> {
        let nowhere = Key::default();
        let what =
            Request { op: Op::Uploads, key: after.map_or(&nowhere, |mark| &mark.key), sent: 0, repeatable: true };
        self.around(what, || self.inner().uploads(after)).await
    }

    async fn copy_as(
        &self,
        source: &Key,
        version: &str,
        key: &Key,
        condition: &Precondition,
        content: Option<ContentId>,
    ) -> Result<ObjectMeta, UfsError> {
        // A copy onto its own source gives the source a new version.
        let repeatable = *condition == Precondition::None && source != key;
        let what = Request { op: Op::Copy, key, sent: 0, repeatable };
        self.around(what, || self.inner().copy_as(source, version, key, condition, content)).await
    }

    async fn copy_through(
        &self,
        source: (&Key, &str, u64),
        key: &Key,
        condition: &Precondition,
        content: Option<ContentId>,
    ) -> Result<ObjectMeta, UfsError> {
        // The bytes go both ways.
        let what = Request { op: Op::Copy, key, sent: 2 * source.2, repeatable: false };
        self.around(what, || self.inner().copy_through(source, key, condition, content)).await
    }

    async fn delete(&self, key: &Key, condition: &Precondition) -> Result<(), UfsError> {
        let repeatable = *condition == Precondition::None;
        let what = Request { op: Op::Delete, key, sent: 0, repeatable };
        self.around(what, || self.inner().delete(key, condition)).await
    }

    async fn delete_all(&self, keys: &[Key]) -> Result<Vec<Result<(), UfsError>>, UfsError> {
        let nowhere = Key::default();
        // Whoever wants them gone has looked at them just before, which a second try is not.
        let what = Request { op: Op::DeleteAll, key: keys.first().unwrap_or(&nowhere), sent: 0, repeatable: false };
        self.around(what, || self.inner().delete_all(keys)).await
    }
}
