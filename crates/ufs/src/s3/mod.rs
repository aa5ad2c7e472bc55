//! The driver for S3 and what speaks its protocol.
//!
//! * No request for the empty key or `/`; every GET has a closed range and `If-Match`, and the answer's ETag and length are compared.
//! * Keys travel url-encoded in listings, so any byte that XML cannot carry survives.
//! * What vouches for a body is its SHA-256 in the signature, or, where a mount's options say so, its CRC32C beside it ([`checksum`]).
//! * The SDK's retries, deadlines for answers and stalled-stream checks are off: the retry wrapper does all three, with one clock.

mod checksum;
mod client;
mod copies;
mod deletions;
mod failure;
mod get;
mod keys;
mod list;
mod metadata;
mod uploads;
mod write;

use std::{
    collections::HashSet,
    fmt,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use aws_sdk_s3::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    operation::head_object::HeadObjectOutput,
    types::ChecksumAlgorithm,
};
use aws_smithy_runtime_api::http::Response;
use bytes::Bytes;
use headpond_types::{ByteRange, ContentId, Timestamp};

pub(crate) use client::OPTIONS;

use crate::{
    BodyStream, Capabilities, CredentialSource, Key, Label, ListPage, ListRequest, ObjectMeta, Precondition, UfsError,
    UfsErrorKind, UnderStore, UploadMark, UploadPage, options::Options,
};

/// A bucket.
#[derive(Clone)]
pub(crate) struct S3 {
    client: Client,
    bucket: String,
    identity: String,
    /// The endpoint for messages; "AWS" without one.
    endpoint: String,
    capabilities: Capabilities,
    /// Whether the SHA-256 of a body is part of its signature; otherwise its CRC32C is.
    signed_payload: bool,
    /// Uploads of which parts have no checksums, where others' have. A leaf lock.
    unchecked: Arc<Mutex<HashSet<String>>>,
}

impl S3 {
    /// The driver for `bucket`; asks nothing of the store yet.
    pub(crate) async fn connect(
        bucket: &str,
        options: &Options<'_>,
        credentials: &dyn CredentialSource,
    ) -> Result<Self, UfsError> {
        let target = client::Target::resolve(options, credentials).await?;
        let identity = match &target.endpoint {
            Some(endpoint) => format!("s3:{endpoint}/{bucket}"),
            None => format!("s3:aws/{bucket}"),
        };
        Ok(Self {
            client: target.client,
            bucket: bucket.to_owned(),
            identity,
            endpoint: target.endpoint.unwrap_or_else(|| "AWS".to_owned()),
            capabilities: target.capabilities,
            signed_payload: target.signed_payload,
            unchecked: Arc::default(),
        })
    }

    /// The key as the SDK takes it.
    fn text<'k>(&self, key: &'k Key) -> Result<&'k str, UfsError> {
        match std::str::from_utf8(key.as_bytes()) {
            Ok("" | "/") => Err(self.invalid(key, "is no key: an object needs a name")),
            // A HEAD that is refused for it does not say so.
            Ok(text) if text.len() > self.capabilities.max_key => {
                Err(self.error(UfsErrorKind::TooLong, key, "is longer than the 1024 bytes that S3 takes"))
            }
            Ok(text) => Ok(text),
            Err(_) => Err(self.invalid(key, "is not UTF-8, which S3 keys must be")),
        }
    }

    fn error(&self, kind: UfsErrorKind, key: &Key, why: &str) -> UfsError {
        UfsError::new(kind, format!("s3://{}/{key} {why}", self.bucket))
    }

    fn invalid(&self, key: &Key, why: &str) -> UfsError {
        self.error(UfsErrorKind::Invalid, key, why)
    }

    fn protocol(&self, key: &Key, why: &str) -> UfsError {
        self.error(UfsErrorKind::Protocol, key, why)
    }

    fn unchecked(&self) -> MutexGuard<'_, HashSet<String>> {
        self.unchecked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a request on `key` and classifies its failure.
    async fn send<T, E>(
        &self,
        doing: &'static str,
        key: &Key,
        request: impl Future<Output = Result<T, SdkError<E, Response>>> + Send,
    ) -> Result<T, UfsError>
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        // Boxed, for the SDK's futures take several KiB and would be part of every caller's.
        Box::pin(request).await.map_err(|error| self.failure(doing, key, error))
    }

    fn version(&self, key: &Key, etag: Option<&str>) -> Result<String, UfsError> {
        match etag.map(keys::unquoted) {
            None | Some("") => {
                Err(self.protocol(key, "was answered without an ETag, so its versions cannot be told apart"))
            }
            Some(version) => Ok(version.to_owned()),
        }
    }

    async fn describe(&self, key: &Key, version: Option<&str>) -> Result<ObjectMeta, UfsError> {
        self.describe_all(key, version).await.map(|(meta, _)| meta)
    }

    /// With all that the object says of itself.
    async fn describe_all(&self, key: &Key, version: Option<&str>) -> Result<(ObjectMeta, HeadObjectOutput), UfsError> {
        let request = self
            .client
            .head_object()
            .bucket(&self.bucket)
            .key(self.text(key)?)
            .set_if_match(version.map(keys::quoted))
            .send();
        let answer = match self.send("describe", key, request).await {
            Err(error) if error.kind() == UfsErrorKind::NotFound => return Err(self.confirm_missing(key, error).await),
            Err(error) if error.kind() == UfsErrorKind::Precondition => return Err(self.changed(key)),
            other => other?,
        };
        let size = answer.content_length().and_then(|length| u64::try_from(length).ok());
        let meta = ObjectMeta {
            key: key.clone(),
            size: size.ok_or_else(|| self.protocol(key, "was described without a length"))?,
            mtime: answer.last_modified().map_or_else(Timestamp::default, keys::timestamp),
            version: self.version(key, answer.e_tag())?,
            content: answer.metadata().and_then(|said| said.get(metadata::CONTENT)?.parse().ok()),
        };
        match version {
            Some(expected) if expected != meta.version => Err(self.changed(key)),
            _ => Ok((meta, answer)),
        }
    }

    /// A 404 to HEAD has no body that tells a missing key from a missing bucket, so the bucket is asked for.
    async fn confirm_missing(&self, key: &Key, missing: UfsError) -> UfsError {
        let request = self.client.head_bucket().bucket(&self.bucket).send();
        match self.send("find the bucket of", key, request).await {
            Ok(_) => missing,
            Err(error) => match error.kind() {
                UfsErrorKind::NotFound | UfsErrorKind::NoSuchStore => self.no_such_bucket(),
                // Whoever may read keys need not be allowed to see the bucket.
                UfsErrorKind::Refused => missing,
                _ => error,
            },
        }
    }

    fn changed(&self, key: &Key) -> UfsError {
        self.error(UfsErrorKind::Changed, key, "has changed since it was listed")
    }
}

impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3").field("identity", &self.identity).finish_non_exhaustive()
    }
}

#[async_trait]
impl UnderStore for S3 {
    fn identity(&self) -> &str {
        &self.identity
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage, UfsError> {
        self.list_page(request).await
    }

    async fn head(&self, key: &Key) -> Result<ObjectMeta, UfsError> {
        self.describe(key, None).await
    }

    async fn get(&self, key: &Key, range: ByteRange, version: &str) -> Result<BodyStream, UfsError> {
        self.get_range(key, range, version).await
    }

    async fn put_as(
        &self,
        key: &Key,
        body: Bytes,
        condition: &Precondition,
        label: Label,
    ) -> Result<ObjectMeta, UfsError> {
        self.put_object(key, body, condition, label).await
    }

    async fn create_multipart_as(&self, key: &Key, label: Label) -> Result<String, UfsError> {
        let checksums = (!self.signed_payload).then_some(ChecksumAlgorithm::Crc32C);
        self.create_upload(key, label, checksums).await
    }

    async fn create_multipart_mixed(&self, key: &Key, label: Label) -> Result<String, UfsError> {
        let upload = self.create_upload(key, label, None).await?;
        if !self.signed_payload {
            self.unchecked().insert(upload.clone());
        }
        Ok(upload)
    }

    async fn create_multipart_copy(
        &self,
        source: &Key,
        version: &str,
        key: &Key,
        content: Option<ContentId>,
    ) -> Result<String, UfsError> {
        self.create_upload_copy(source, version, key, content).await
    }

    async fn put_part(&self, key: &Key, upload: &str, number: u32, body: Bytes) -> Result<String, UfsError> {
        self.upload_part(key, upload, number, body).await
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
        self.upload_part_copy(key, upload, number, source, range, version).await
    }

    async fn complete_multipart(
        &self,
        key: &Key,
        upload: &str,
        parts: &[(u32, String)],
        condition: &Precondition,
    ) -> Result<ObjectMeta, UfsError> {
        self.complete_upload(key, upload, parts, condition).await
    }

    async fn abort_multipart(&self, key: &Key, upload: &str) -> Result<(), UfsError> {
        self.abort_upload(key, upload).await
    }

    async fn uploads(&self, after: Option<&UploadMark>) -> Result<UploadPage, UfsError> {
        self.uploads_page(after).await
    }

    async fn copy_as(
        &self,
        source: &Key,
        version: &str,
        key: &Key,
        condition: &Precondition,
        content: Option<ContentId>,
    ) -> Result<ObjectMeta, UfsError> {
        self.copy_object(source, version, key, condition, content).await
    }

    async fn copy_through(
        &self,
        source: (&Key, &str, u64),
        key: &Key,
        condition: &Precondition,
        content: Option<ContentId>,
    ) -> Result<ObjectMeta, UfsError> {
        self.copy_here(source, key, condition, content).await
    }

    async fn delete(&self, key: &Key, condition: &Precondition) -> Result<(), UfsError> {
        self.delete_object(key, condition).await
    }

    async fn delete_all(&self, keys: &[Key]) -> Result<Vec<Result<(), UfsError>>, UfsError> {
        self.delete_objects(keys).await
    }
}
