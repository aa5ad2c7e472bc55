//! Mutations.

use aws_sdk_s3::{
    operation::create_multipart_upload::CreateMultipartUploadOutput,
    primitives::ByteStream,
    types::{ChecksumAlgorithm, CompletedMultipartUpload},
};
use bytes::Bytes;
use headpond_runtime::{Clock, SystemClock};
use headpond_types::ByteRange;

use super::{S3, checksum, keys, metadata::metadata};
use crate::{Key, Label, ObjectMeta, Precondition, UfsError, UfsErrorKind};

/// `If-Match` and `If-None-Match` of a condition.
fn headers(condition: &Precondition) -> (Option<String>, Option<String>) {
    match condition {
        Precondition::None => (None, None),
        Precondition::Matches(version) => (Some(keys::quoted(version)), None),
        Precondition::Absent => (None, Some("*".to_owned())),
    }
}

impl S3 {
    pub(super) async fn put_object(
        &self,
        key: &Key,
        body: Bytes,
        condition: &Precondition,
        label: Label,
    ) -> Result<ObjectMeta, UfsError> {
        let (if_match, if_none_match) = self.put_condition(key, condition)?;
        let size = body.len() as u64;
        let checksum = (!self.signed_payload).then(|| checksum::of(&body));
        let call = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(self.text(key)?)
            .set_if_match(if_match)
            .set_if_none_match(if_none_match)
            .set_metadata(Some(metadata(label)))
            .set_checksum_crc32_c(checksum.clone())
            .body(ByteStream::from(body))
            .customize();
        let call = if checksum.is_none() { call } else { call.disable_payload_signing() }.send();
        let answer = self.settled(key, condition, self.send("write", key, call).await)?;
        let version = self.version(key, answer.e_tag())?;
        // The answer has no time, and asking for it would be a second request for each object.
        Ok(ObjectMeta { key: key.clone(), size, mtime: SystemClock.now(), version, content: label.content })
    }

    pub(super) async fn create_upload(
        &self,
        key: &Key,
        label: Label,
        checksums: Option<ChecksumAlgorithm>,
    ) -> Result<String, UfsError> {
        let call = self
            .client
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(self.text(key)?)
            .set_metadata(Some(metadata(label)))
            .set_checksum_algorithm(checksums)
            .send();
        let answer = self.send("begin an upload of", key, call).await?;
        self.begun(key, &answer)
    }

    /// The id of an upload.
    pub(super) fn begun(&self, key: &Key, answer: &CreateMultipartUploadOutput) -> Result<String, UfsError> {
        match answer.upload_id() {
            Some(id) if !id.is_empty() => Ok(id.to_owned()),
            _ => Err(self.protocol(key, "was answered without an upload id")),
        }
    }

    pub(super) async fn upload_part(
        &self,
        key: &Key,
        upload: &str,
        number: u32,
        body: Bytes,
    ) -> Result<String, UfsError> {
        let is_signed = self.signed_payload || self.unchecked().contains(upload);
        let checksum = (!is_signed).then(|| checksum::of(&body));
        let call = self
            .client
            .upload_part()
            .bucket(&self.bucket)
            .key(self.text(key)?)
            .upload_id(upload)
            .part_number(self.part_number(key, number)?)
            .set_checksum_crc32_c(checksum.clone())
            .body(ByteStream::from(body))
            .customize();
        let call = if is_signed { call } else { call.disable_payload_signing() }.send();
        let answer = self.send("write a part of", key, call).await?;
        Ok(checksum::tag(self.version(key, answer.e_tag())?, checksum.as_deref()))
    }

    pub(super) async fn upload_part_copy(
        &self,
        key: &Key,
        upload: &str,
        number: u32,
        source: &Key,
        range: ByteRange,
        version: &str,
    ) -> Result<String, UfsError> {
        if range.start >= range.end {
            return Err(self.invalid(source, "cannot be copied from in an empty range"));
        }
        let call = self
            .client
            .upload_part_copy()
            .bucket(&self.bucket)
            .key(self.text(key)?)
            .upload_id(upload)
            .part_number(self.part_number(key, number)?)
            .copy_source(keys::copy_source(&self.bucket, self.text(source)?))
            .copy_source_range(format!("bytes={}-{}", range.start, range.end - 1))
            .copy_source_if_match(keys::quoted(version))
            .send();
        let answer = match self.send("copy a part from", source, call).await {
            Err(error) if error.kind() == UfsErrorKind::Precondition => return Err(self.changed(source)),
            // MinIO looks at the range before it looks at the condition: a source that is shorter by now has no such range.
            Err(error) if error.kind() == UfsErrorKind::Invalid => {
                let is_same = self.describe(source, None).await?.version == version;
                return Err(if is_same { error } else { self.changed(source) });
            }
            other => other?,
        };
        self.version(key, answer.copy_part_result().and_then(|result| result.e_tag()))
    }

    pub(super) async fn complete_upload(
        &self,
        key: &Key,
        upload: &str,
        parts: &[(u32, String)],
        condition: &Precondition,
    ) -> Result<ObjectMeta, UfsError> {
        let (if_match, if_none_match) = self.put_condition(key, condition)?;
        let mut list = CompletedMultipartUpload::builder();
        for (number, tag) in parts {
            list = list.parts(checksum::completed(self.part_number(key, *number)?, tag));
        }
        let call = self
            .client
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(self.text(key)?)
            .upload_id(upload)
            .multipart_upload(list.build())
            .set_if_match(if_match)
            .set_if_none_match(if_none_match)
            .send();
        let answer = match self.send("complete", key, call).await {
            // Either the upload or the object that the condition names does not exist.
            Err(missing) if missing.kind() == UfsErrorKind::NotFound => {
                let unmet = matches!(condition, Precondition::Matches(_))
                    && self.describe(key, None).await.is_err_and(|error| error.kind() == UfsErrorKind::NotFound);
                return if unmet { self.settled(key, condition, Err(missing)) } else { Err(missing) };
            }
            other => other?,
        };
        self.unchecked().remove(upload);
        let version = self.version(key, answer.e_tag())?;
        self.describe(key, Some(&version)).await
    }

    pub(super) async fn abort_upload(&self, key: &Key, upload: &str) -> Result<(), UfsError> {
        let call =
            self.client.abort_multipart_upload().bucket(&self.bucket).key(self.text(key)?).upload_id(upload).send();
        self.unchecked().remove(upload);
        match self.send("abort an upload of", key, call).await {
            Err(error) if error.kind() == UfsErrorKind::NotFound => Ok(()),
            other => other.map(|_| ()),
        }
    }

    pub(super) async fn delete_object(&self, key: &Key, condition: &Precondition) -> Result<(), UfsError> {
        let if_match = match condition {
            Precondition::None => None,
            Precondition::Matches(version) if self.capabilities.conditional_delete => Some(keys::quoted(version)),
            _ => {
                let why = "cannot be deleted on a condition here: check its version just before, or set the option \
                           conditional_delete if the store honours If-Match on DELETE";
                return Err(self.error(UfsErrorKind::Unsupported, key, why));
            }
        };
        let call = self.client.delete_object().bucket(&self.bucket).key(self.text(key)?).set_if_match(if_match).send();
        match self.send("delete", key, call).await {
            Err(error) if error.kind() == UfsErrorKind::NotFound && *condition == Precondition::None => Ok(()),
            other => self.settled(key, condition, other).map(|_| ()),
        }
    }

    pub(super) fn put_condition(
        &self,
        key: &Key,
        condition: &Precondition,
    ) -> Result<(Option<String>, Option<String>), UfsError> {
        if *condition == Precondition::None || self.capabilities.conditional_put {
            Ok(headers(condition))
        } else {
            Err(self.error(
                UfsErrorKind::Unsupported,
                key,
                "cannot be written on a condition: the option conditional_put is false",
            ))
        }
    }

    /// A 404 to a request that demands a version says that the condition does not hold.
    pub(super) fn settled<T>(
        &self,
        key: &Key,
        condition: &Precondition,
        result: Result<T, UfsError>,
    ) -> Result<T, UfsError> {
        match (result, condition) {
            (Err(error), Precondition::Matches(_)) if error.kind() == UfsErrorKind::NotFound => {
                Err(self.error(UfsErrorKind::Precondition, key, "does not exist").with_source(error))
            }
            (other, _) => other,
        }
    }

    fn part_number(&self, key: &Key, number: u32) -> Result<i32, UfsError> {
        match i32::try_from(number) {
            Ok(number @ 1..=10_000) => Ok(number),
            _ => Err(self.invalid(key, &format!("cannot have a part {number}: parts go from 1 to 10000"))),
        }
    }
}
