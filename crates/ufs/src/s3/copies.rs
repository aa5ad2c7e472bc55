//! Copies within the store. They say of themselves what their sources say, and which content they are: S3 takes over either all or nothing of the
//! former, and nothing where an object is copied in parts.

use std::collections::HashMap;

use aws_sdk_s3::{operation::head_object::HeadObjectOutput, types::MetadataDirective};
use headpond_runtime::{Clock, SystemClock};
use headpond_types::ContentId;

use super::{S3, keys, metadata::metadata};
use crate::{Key, ObjectMeta, Precondition, UfsError, UfsErrorKind};

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
        let call = self
            .client
            .copy_object()
            .bucket(&self.bucket)
            .key(self.text(key)?)
            .copy_source(keys::copy_source(&self.bucket, self.text(source)?))
            .copy_source_if_match(keys::quoted(version))
            .set_metadata_directive(content.map(|_| MetadataDirective::Replace))
            .set_metadata(said_by_copy(&source_says, content))
            .set_content_type(source_says.content_type)
            .set_content_encoding(source_says.content_encoding)
            .set_content_language(source_says.content_language)
            .set_content_disposition(source_says.content_disposition)
            .set_cache_control(source_says.cache_control)
            .send();
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
        let call = self
            .client
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(self.text(key)?)
            .set_metadata(said_by_copy(&source_says, content))
            .set_content_type(source_says.content_type)
            .set_content_encoding(source_says.content_encoding)
            .set_content_language(source_says.content_language)
            .set_content_disposition(source_says.content_disposition)
            .set_cache_control(source_says.cache_control)
            .send();
        let answer = self.send("begin an upload of", key, call).await?;
        self.begun(key, &answer)
    }
}

/// User metadata of a copy.
fn said_by_copy(source: &HeadObjectOutput, content: Option<ContentId>) -> Option<HashMap<String, String>> {
    let mut said = source.metadata().cloned().unwrap_or_default();
    said.extend(metadata(content.into()));
    Some(said)
}
