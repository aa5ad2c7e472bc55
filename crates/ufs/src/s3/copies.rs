//! Copies within the store, and short ones through this process. They say of themselves what their sources say, and which content they are: S3 takes over
//! either all or nothing of the former, and nothing where an object is copied in parts.

use std::collections::HashMap;

use aws_sdk_s3::{primitives::ByteStream, types::MetadataDirective};
use headpond_runtime::{Clock, SystemClock};
use headpond_types::ContentId;

use super::{
    S3, checksum, keys,
    metadata::{CONTENT, metadata},
};
use crate::{Key, ObjectMeta, Precondition, UfsError, UfsErrorKind};

/// Larger objects are copied within the store. Below, reading and putting one costs no more than the four requests of a copy in parts: two requests fewer,
/// and for MinIO one file fewer.
pub(super) const THROUGH: u64 = 1 << 20;

/// Has a request make an object that says of itself what `$source` does, an answer that describes another.
macro_rules! saying {
    ($request:expr, $source:expr, $content:expr) => {
        $request
            .set_metadata(Some(metadata_of_copy($source.metadata, $content)))
            .set_content_type($source.content_type)
            .set_content_encoding($source.content_encoding)
            .set_content_language($source.content_language)
            .set_content_disposition($source.content_disposition)
            .set_cache_control($source.cache_control)
    };
}

impl S3 {
    pub(super) async fn copy_object(
        &self,
        source: &Key,
        version: &str,
        key: &Key,
        condition: &Precondition,
        content: Option<ContentId>,
    ) -> Result<ObjectMeta, UfsError> {
        if *condition != Precondition::None {
            let why =
                "cannot be the conditional target of a copy: complete a multipart upload with the condition instead";
            return Err(self.error(UfsErrorKind::Unsupported, key, why));
        }
        // The answer to a copy has no length.
        let (ObjectMeta { size, content: said, .. }, source_says) = self.describe_all(source, Some(version)).await?;
        let request = self
            .client
            .copy_object()
            .bucket(&self.bucket)
            .key(self.text(key)?)
            .copy_source(keys::copy_source(&self.bucket, self.text(source)?))
            .copy_source_if_match(keys::quoted(version))
            .set_metadata_directive(content.map(|_| MetadataDirective::Replace));
        let call = saying!(request, source_says, content).send();
        let answer = match self.send("copy", source, call).await {
            Err(error) if error.kind() == UfsErrorKind::Precondition => return Err(self.changed(source)),
            other => other?,
        };
        let result = answer.copy_object_result();
        Ok(ObjectMeta {
            key: key.clone(),
            size,
            mtime: result.and_then(|result| result.last_modified()).map_or_else(|| SystemClock.now(), keys::timestamp),
            version: self.version(key, result.and_then(|result| result.e_tag()))?,
            content: content.or(said),
        })
    }

    pub(super) async fn create_upload_copy(
        &self,
        source: &Key,
        version: &str,
        key: &Key,
        content: Option<ContentId>,
    ) -> Result<String, UfsError> {
        let (_, source_says) = self.describe_all(source, Some(version)).await?;
        let request = self.client.create_multipart_upload().bucket(&self.bucket).key(self.text(key)?);
        let call = saying!(request, source_says, content).send();
        let answer = self.send("begin an upload of", key, call).await?;
        self.begun(key, &answer)
    }

    pub(super) async fn copy_here(
        &self,
        (source, version, size): (&Key, &str, u64),
        key: &Key,
        condition: &Precondition,
        content: Option<ContentId>,
    ) -> Result<ObjectMeta, UfsError> {
        let (if_match, if_none_match) = self.put_condition(key, condition)?;
        // An empty object has no range. Another of this version than one of `size` bytes is not read.
        let call = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(self.text(source)?)
            .if_match(keys::quoted(version))
            .set_range(size.checked_sub(1).map(|last| format!("bytes=0-{last}")))
            .send();
        let found = match self.send("read", source, call).await {
            Err(error) if error.kind() == UfsErrorKind::Precondition => return Err(self.changed(source)),
            other => other?,
        };
        let whole = match found.content_range() {
            Some(range) => range.rsplit('/').next().and_then(|whole| whole.parse().ok()),
            None => found.content_length().and_then(|length| u64::try_from(length).ok()),
        };
        if self.version(source, found.e_tag())? != version || whole != Some(size) {
            return Err(self.changed(source));
        }
        let said = found.metadata().and_then(|metadata| metadata.get(CONTENT)?.parse().ok());
        let body = found.body.collect().await.map_err(|error| {
            let broken = self.error(UfsErrorKind::Transient, source, "broke off while it was read");
            broken.with_source(error.to_string())
        })?;
        let body = body.into_bytes();
        if body.len() as u64 != size {
            return Err(self.protocol(source, &format!("ended after {} of {size} bytes", body.len())));
        }
        let checksum = (!self.signed_payload).then(|| checksum::of(&body));
        let request = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(self.text(key)?)
            .set_if_match(if_match)
            .set_if_none_match(if_none_match)
            .set_checksum_crc32_c(checksum.clone())
            .body(ByteStream::from(body));
        let call = saying!(request, found, content).customize();
        let call = if checksum.is_none() { call } else { call.disable_payload_signing() }.send();
        let answer = self.settled(key, condition, self.send("write", key, call).await)?;
        let version = self.version(key, answer.e_tag())?;
        Ok(ObjectMeta { key: key.clone(), size, mtime: SystemClock.now(), version, content: content.or(said) })
    }
}

/// User metadata of a copy.
fn metadata_of_copy(source: Option<HashMap<String, String>>, content: Option<ContentId>) -> HashMap<String, String> {
    let mut said = source.unwrap_or_default();
    said.extend(metadata(content.into()));
    said
}
