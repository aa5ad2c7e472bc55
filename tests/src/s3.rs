//! A plain S3 client: the second opinion on what a bucket holds, and the hand that changes it behind Headpond's back.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use aws_sdk_s3::{
    Client,
    config::{BehaviorVersion, Credentials, Region},
    error::DisplayErrorContext,
    primitives::ByteStream,
    types::{CompletedMultipartUpload, CompletedPart},
};
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};

use crate::Minio;

/// A client for one bucket.
#[derive(Clone, Debug)]
pub struct S3 {
    client: Arc<Client>,
    bucket: String,
    endpoint: String,
}

impl S3 {
    /// A client for `bucket` at `endpoint` with the test server's keys.
    #[must_use]
    pub fn new(endpoint: &str, bucket: &str) -> Self {
        let http =
            aws_smithy_http_client::Builder::new().tls_provider(tls::Provider::Rustls(CryptoMode::Ring)).build_https();
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(http)
            .region(Region::new("us-east-1"))
            .endpoint_url(endpoint)
            .force_path_style(true)
            .credentials_provider(Credentials::new(Minio::ACCESS_KEY, Minio::SECRET_KEY, None, None, "test"))
            .build();
        Self { client: Arc::new(Client::from_conf(config)), bucket: bucket.to_owned(), endpoint: endpoint.to_owned() }
    }

    /// Name of the bucket.
    #[must_use]
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// Where the store answers.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Makes the bucket.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn create_bucket(&self) -> Result<()> {
        let result = self.client.create_bucket().bucket(&self.bucket).send().await;
        result.map_err(|error| anyhow::anyhow!("create bucket: {}", DisplayErrorContext(error)))?;
        Ok(())
    }

    /// Stores an object and answers its ETag without quotes.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn put(&self, key: &str, body: impl Into<Bytes>) -> Result<String> {
        let body = ByteStream::from(body.into());
        let result = self.client.put_object().bucket(&self.bucket).key(key).body(body).send().await;
        let answer = result.map_err(|error| anyhow::anyhow!("put {key}: {}", DisplayErrorContext(error)))?;
        Ok(answer.e_tag().context("no ETag")?.trim_matches('"').to_owned())
    }

    /// Stores an object that says what it is: its type, its encoding, and a note of the user.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn put_saying(&self, key: &str, body: impl Into<Bytes>, [kind, encoding, note]: [&str; 3]) -> Result<()> {
        let body = ByteStream::from(body.into());
        let request = self.client.put_object().bucket(&self.bucket).key(key).body(body);
        let request = request.content_type(kind).content_encoding(encoding).metadata("note", note);
        request.send().await.map_err(|error| anyhow::anyhow!("put {key}: {}", DisplayErrorContext(error)))?;
        Ok(())
    }

    /// What an object says, as [`S3::put_saying`] takes it.
    ///
    /// # Errors
    /// There is none.
    pub async fn said(&self, key: &str) -> Result<[String; 3]> {
        let result = self.client.head_object().bucket(&self.bucket).key(key).send().await;
        let answer = result.map_err(|error| anyhow::anyhow!("head {key}: {}", DisplayErrorContext(error)))?;
        let note = answer.metadata().and_then(|metadata| metadata.get("note").cloned());
        let text = |said: Option<&str>| said.unwrap_or_default().to_owned();
        Ok([text(answer.content_type()), text(answer.content_encoding()), note.unwrap_or_default()])
    }

    /// The metadata of users that an object has.
    ///
    /// # Errors
    /// There is none.
    pub async fn metadata(&self, key: &str) -> Result<BTreeMap<String, String>> {
        let result = self.client.head_object().bucket(&self.bucket).key(key).send().await;
        let answer = result.map_err(|error| anyhow::anyhow!("head {key}: {}", DisplayErrorContext(error)))?;
        Ok(answer.metadata().cloned().unwrap_or_default().into_iter().collect())
    }

    /// Stores many objects, 32 at a time.
    ///
    /// # Errors
    /// The store refuses one.
    pub async fn put_all(&self, objects: impl IntoIterator<Item = (String, Bytes)>) -> Result<()> {
        stream::iter(objects)
            .map(|(key, body)| async move { self.put(&key, body).await.map(drop) })
            .buffer_unordered(32)
            .try_collect()
            .await
    }

    /// Stores an object in parts of `part` bytes, `parallel` of them in flight: the good direct client.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn put_in_parts(&self, key: &str, body: Bytes, part: usize, parallel: usize) -> Result<()> {
        let failed = |error: String| anyhow::anyhow!("put {key} in parts: {error}");
        let (client, bucket) = (&self.client, &self.bucket);
        let begun = client.create_multipart_upload().bucket(bucket).key(key).send().await;
        let begun = begun.map_err(|error| failed(DisplayErrorContext(error).to_string()))?;
        let upload = begun.upload_id().context("no upload id")?;
        let pieces = (0..body.len()).step_by(part).map(|start| body.slice(start..(start + part).min(body.len())));
        let parts: Vec<_> = stream::iter(pieces.zip(1..))
            .map(|(piece, number)| async move {
                let body = ByteStream::from(piece);
                let request =
                    client.upload_part().bucket(bucket).key(key).upload_id(upload).part_number(number).body(body);
                let sent = request.send().await.map_err(|error| failed(DisplayErrorContext(error).to_string()))?;
                let tag = sent.e_tag().context("no ETag")?;
                anyhow::Ok(CompletedPart::builder().part_number(number).e_tag(tag).build())
            })
            .buffered(parallel)
            .try_collect()
            .await?;
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let request =
            client.complete_multipart_upload().bucket(bucket).key(key).upload_id(upload).multipart_upload(parts);
        request.send().await.map_err(|error| failed(DisplayErrorContext(error).to_string()))?;
        Ok(())
    }

    /// Moves an object within the store, as clients without a rename do: a copy, then a delete.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn copy_and_delete(&self, from: &str, to: &str) -> Result<()> {
        let source = format!("{}/{from}", self.bucket);
        let copied = self.client.copy_object().bucket(&self.bucket).key(to).copy_source(source).send().await;
        copied.map_err(|error| anyhow::anyhow!("copy {from}: {}", DisplayErrorContext(error)))?;
        self.delete(from).await
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn delete(&self, key: &str) -> Result<()> {
        let result = self.client.delete_object().bucket(&self.bucket).key(key).send().await;
        result.map_err(|error| anyhow::anyhow!("delete {key}: {}", DisplayErrorContext(error)))?;
        Ok(())
    }

    /// The bytes of an object.
    ///
    /// # Errors
    /// The store refuses, or there is no such object.
    pub async fn get(&self, key: &str) -> Result<Bytes> {
        let result = self.client.get_object().bucket(&self.bucket).key(key).send().await;
        let answer = result.map_err(|error| anyhow::anyhow!("get {key}: {}", DisplayErrorContext(error)))?;
        Ok(answer.body.collect().await?.into_bytes())
    }

    /// Every object with its bytes.
    ///
    /// # Errors
    /// The store refuses, or an object goes meanwhile.
    pub async fn objects(&self, prefix: &str) -> Result<BTreeMap<String, Bytes>> {
        let keys = self.list(prefix).await?.into_iter().map(|(key, ..)| key);
        let each = keys.map(|key| async move { self.get(&key).await.map(|body| (key, body)) });
        stream::iter(each).buffer_unordered(16).try_collect().await
    }

    /// Begins a multipart upload and answers its id.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn begin_upload(&self, key: &str) -> Result<String> {
        let result = self.client.create_multipart_upload().bucket(&self.bucket).key(key).send().await;
        let answer = result.map_err(|error| anyhow::anyhow!("begin an upload: {}", DisplayErrorContext(error)))?;
        answer.upload_id().map(str::to_owned).context("no upload id")
    }

    /// Keys of the multipart uploads that were begun and neither completed nor aborted.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn uploads(&self) -> Result<Vec<String>> {
        let result = self.client.list_multipart_uploads().bucket(&self.bucket).send().await;
        let answer = result.map_err(|error| anyhow::anyhow!("list uploads: {}", DisplayErrorContext(error)))?;
        Ok(answer.uploads().iter().filter_map(|upload| upload.key().map(str::to_owned)).collect())
    }

    /// Reads the bytes `start..end` of an object and answers how many there were.
    ///
    /// # Errors
    /// The store refuses, or sends fewer bytes.
    pub async fn get_range(&self, key: &str, start: u64, end: u64) -> Result<u64> {
        self.get_range_with(key, start, end, |_, _| Ok(())).await
    }

    /// As [`S3::get_range`]; `take` gets what arrives, with its offset in the object.
    ///
    /// # Errors
    /// Those of `take` as well.
    pub async fn get_range_with(
        &self,
        key: &str,
        start: u64,
        end: u64,
        take: impl Fn(u64, &[u8]) -> std::io::Result<()>,
    ) -> Result<u64> {
        let range = format!("bytes={start}-{}", end - 1);
        let result = self.client.get_object().bucket(&self.bucket).key(key).range(range).send().await;
        let mut body = result.map_err(|error| anyhow::anyhow!("get {key}: {}", DisplayErrorContext(error)))?.body;
        let mut length = 0;
        while let Some(chunk) = body.next().await {
            let chunk = chunk?;
            take(start + length, &chunk)?;
            length += chunk.len() as u64;
        }
        anyhow::ensure!(length == end - start, "get {key}: {length} bytes instead of {}", end - start);
        Ok(length)
    }

    /// Every key with its size and ETag, in the store's order.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn list(&self, prefix: &str) -> Result<Vec<(String, u64, String)>> {
        let mut pages = self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix).into_paginator().send();
        let mut keys = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| anyhow::anyhow!("list {prefix}: {}", DisplayErrorContext(error)))?;
            for object in page.contents() {
                let size = u64::try_from(object.size().unwrap_or(0))?;
                let etag = object.e_tag().unwrap_or_default().trim_matches('"').to_owned();
                keys.push((object.key().context("no key")?.to_owned(), size, etag));
            }
        }
        Ok(keys)
    }

    /// Whether there is nothing below `prefix`.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn is_bare(&self, prefix: &str) -> Result<bool> {
        let listed = self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix).max_keys(1).send().await;
        let page = listed.map_err(|error| anyhow::anyhow!("list {prefix}: {}", DisplayErrorContext(error)))?;
        Ok(page.contents().is_empty())
    }

    /// Lists everything below `prefix` page by page, as fast as the store answers, and says how long that took.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn list_timed(&self, prefix: &str) -> Result<TimedListing> {
        let started = Instant::now();
        let mut pages = self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix).into_paginator().send();
        let (mut keys, mut first) = (0, None);
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| anyhow::anyhow!("list {prefix}: {}", DisplayErrorContext(error)))?;
            keys += page.contents().len() as u64;
            first.get_or_insert_with(|| started.elapsed());
        }
        let all = started.elapsed();
        Ok(TimedListing { keys, first: first.unwrap_or(all), all })
    }
}

/// How long a listing took.
#[derive(Clone, Copy, Debug)]
pub struct TimedListing {
    /// Keys listed.
    pub keys: u64,
    /// Until the first page had come.
    pub first: Duration,
    /// Until the last had.
    pub all: Duration,
}
