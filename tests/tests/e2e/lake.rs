//! A bucket on a MinIO of its own, and a pond over it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use headpond_tests::{Cluster, ClusterBuilder, Minio, Pond, PondBuilder, Proxy, Request, S3, Sample, eventually};
use tokio::runtime::Runtime;

/// A MinIO with a bucket, and a proxy before it that the pond goes through.
#[derive(Debug)]
pub(crate) struct Lake {
    pub(crate) minio: Minio,
    pub(crate) s3: S3,
    pub(crate) proxy: Proxy,
    runtime: Runtime,
}

impl Lake {
    /// An empty bucket.
    pub(crate) fn empty() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let minio = Minio::start()?;
        let s3 = runtime.block_on(minio.bucket("lake"))?;
        let proxy = Proxy::start(minio.port())?;
        Ok(Self { s3, proxy, runtime, minio })
    }

    /// A bucket with these objects.
    pub(crate) fn of<K: Into<String>, B: Into<bytes::Bytes>>(
        objects: impl IntoIterator<Item = (K, B)>,
    ) -> Result<Self> {
        let lake = Self::empty()?;
        let objects: Vec<_> = objects.into_iter().map(|(key, body)| (key.into(), body.into())).collect();
        lake.runtime.block_on(lake.s3.put_all(objects))?;
        Ok(lake)
    }

    /// A bucket with a sample.
    pub(crate) fn with(sample: &Sample) -> Result<Self> {
        Self::of(sample.objects.iter().cloned())
    }

    /// Stores an object behind the pond's back.
    pub(crate) fn put(&self, key: &str, body: impl Into<bytes::Bytes>) -> Result<String> {
        self.runtime.block_on(self.s3.put(key, body))
    }

    /// As [`S3::put_saying`](headpond_tests::S3::put_saying).
    pub(crate) fn put_saying(&self, key: &str, body: impl Into<bytes::Bytes>, says: [&str; 3]) -> Result<()> {
        self.runtime.block_on(self.s3.put_saying(key, body, says))
    }

    /// As [`S3::said`](headpond_tests::S3::said).
    pub(crate) fn said(&self, key: &str) -> Result<[String; 3]> {
        self.runtime.block_on(self.s3.said(key))
    }

    /// As [`S3::metadata`](headpond_tests::S3::metadata).
    pub(crate) fn metadata(&self, key: &str) -> Result<BTreeMap<String, String>> {
        self.runtime.block_on(self.s3.metadata(key))
    }

    /// Deletes an object behind the pond's back.
    pub(crate) fn delete(&self, key: &str) -> Result<()> {
        self.runtime.block_on(self.s3.delete(key))
    }

    /// Begins a multipart upload behind the pond's back; gives its id.
    pub(crate) fn begin_upload(&self, key: &str) -> Result<String> {
        self.runtime.block_on(self.s3.begin_upload(key))
    }

    /// Every key with its size and ETag.
    pub(crate) fn list(&self) -> Result<Vec<(String, u64, String)>> {
        self.runtime.block_on(self.s3.list(""))
    }

    /// The bytes of an object.
    pub(crate) fn get(&self, key: &str) -> Result<Bytes> {
        self.runtime.block_on(self.s3.get(key))
    }

    /// The bytes of objects, 16 at a time; `None` for those that are not there.
    pub(crate) fn bodies(&self, keys: &[String]) -> Vec<Option<Bytes>> {
        let each = keys.iter().map(|key| async move { self.s3.get(key).await.ok() });
        self.runtime.block_on(stream::iter(each).buffered(16).collect())
    }

    /// Every object with its bytes.
    pub(crate) fn objects(&self) -> Result<BTreeMap<String, Bytes>> {
        self.runtime.block_on(self.s3.objects(""))
    }

    /// Waits until no multipart upload is left that nobody ended.
    pub(crate) fn must_have_no_uploads(&self) -> Result<()> {
        let ended = eventually("no multipart upload is left", || Ok(self.minio.uploads()? == 0));
        ended.with_context(|| {
            let requests = self.proxy.requests();
            let uploading = requests.iter().filter(|request| {
                request.target.contains("uploads") || (request.target.contains("uploadId=") && request.method != "PUT")
            });
            let said: Vec<_> = uploading.map(|request| format!("{} {}", request.method, request.target)).collect();
            format!("left are those of {:?} after {said:#?}", self.runtime.block_on(self.s3.uploads()))
        })
    }

    /// Waits until no multipart upload is left that takes room. One that a process did not hear of before it was killed is left without parts.
    pub(crate) fn must_have_no_parts(&self) -> Result<()> {
        eventually("no multipart upload with parts is left", || Ok(self.minio.uploads_with_parts()? == 0))
    }

    /// Waits until the bucket holds these objects and no others, and no half of an upload.
    pub(crate) fn must_become(&self, expected: &BTreeMap<String, Bytes>) -> Result<()> {
        self.must_become_but(expected, &BTreeSet::new())
    }

    /// As [`Lake::must_become`], with or without the objects of `either`.
    pub(crate) fn must_become_but(&self, expected: &BTreeMap<String, Bytes>, either: &BTreeSet<String>) -> Result<()> {
        self.must_hold(expected, either)?;
        self.must_have_no_uploads()
    }

    /// Fails unless the bucket holds these objects right now, with or without those of `either`, and soon no half of an upload.
    pub(crate) fn must_be(&self, expected: &BTreeMap<String, Bytes>, either: &BTreeSet<String>) -> Result<()> {
        self.must_have(expected, either)?;
        self.must_have_no_uploads()
    }

    /// As [`Lake::must_be`], whatever uploads there are.
    pub(crate) fn must_have(&self, expected: &BTreeMap<String, Bytes>, either: &BTreeSet<String>) -> Result<()> {
        let mut found = self.objects()?;
        found.retain(|key, _| !either.contains(key));
        let differ = |(key, body): &(&String, &Bytes), other: &BTreeMap<String, Bytes>| other.get(*key) != Some(*body);
        let missing: Vec<_> = expected.iter().filter(|object| differ(object, &found)).map(|(key, _)| key).collect();
        let more: Vec<_> = found.iter().filter(|object| differ(object, expected)).map(|(key, _)| key).collect();
        ensure!(
            missing.is_empty() && more.is_empty(),
            "missing or other bytes: {missing:?}\ntoo much, or other: {more:?}"
        );
        Ok(())
    }

    /// As [`Lake::must_become_but`], whatever uploads there are.
    pub(crate) fn must_hold(&self, expected: &BTreeMap<String, Bytes>, either: &BTreeSet<String>) -> Result<()> {
        let keys: Vec<_> = expected.iter().map(|(key, body)| (key.clone(), body.len() as u64)).collect();
        let list = || -> Result<Vec<_>> {
            let listed = self.list()?.into_iter().filter(|(key, ..)| !either.contains(key));
            Ok(listed.map(|(key, size, _)| (key, size)).collect())
        };
        let (names, bodies): (Vec<_>, Vec<_>) = expected.iter().map(|(key, body)| (key.clone(), body)).unzip();
        let differ = || {
            let found = self.bodies(&names).into_iter().zip(&bodies);
            found.zip(&names).find(|((found, body), _)| found.as_ref() != Some(**body)).map(|(_, key)| key)
        };
        let holds = || Ok(list()? == keys && differ().is_none());
        if let Err(error) = eventually("the bucket holds what the namespace says", holds) {
            let (found, keys) = (BTreeSet::from_iter(list()?), BTreeSet::from_iter(keys));
            let (missing, more) = (keys.difference(&found), found.difference(&keys));
            return Err(error.context(format!(
                "missing: {:?}\ntoo much: {:?}\nother bytes: {:?}",
                missing.collect::<Vec<_>>(),
                more.collect::<Vec<_>>(),
                differ()
            )));
        }
        Ok(())
    }

    /// A pond over the whole bucket, through the proxy.
    pub(crate) fn pond(&self) -> PondBuilder {
        Pond::over("s3://lake", Some(&self.proxy.endpoint()))
    }

    /// A cluster of processes over the whole bucket, through the proxy.
    pub(crate) fn cluster(&self) -> ClusterBuilder {
        Cluster::over("s3://lake", &self.proxy.endpoint())
    }

    /// Requests that would change the bucket, and requests that name no key where one must be.
    pub(crate) fn offences(&self) -> Vec<String> {
        let requests = self.proxy.requests();
        let bad = requests.iter().filter(|request| {
            let reads = request.method == "GET" || request.method == "HEAD";
            let path = request.target.split('?').next().unwrap_or_default();
            // The path of a request for the key `/` ends in two slashes, or in an encoded one.
            !reads || path == "/lake//" || path.eq_ignore_ascii_case("/lake/%2F")
        });
        bad.map(|request| format!("{} {}", request.method, request.target)).collect()
    }

    /// Targets of requests that made an object, or were to.
    pub(crate) fn puts(&self) -> Vec<String> {
        let requests = self.proxy.requests();
        requests.into_iter().filter(Request::puts).map(|request| request.target).collect()
    }

    /// Targets of requests that copied an object, or a part of one.
    pub(crate) fn copies(&self) -> Vec<String> {
        let requests = self.proxy.requests();
        requests.iter().filter(|request| request.copies.is_some()).map(|request| request.target.clone()).collect()
    }

    /// GETs of objects that passed, with their ranges.
    pub(crate) fn object_gets(&self) -> Vec<String> {
        let requests = self.proxy.requests();
        let gets = requests.iter().filter(|request| {
            request.method == "GET" && !request.target.contains("list-type=") && !request.target.ends_with("/lake")
        });
        gets.map(|request| format!("{} {}", request.target, request.range.as_deref().unwrap_or("open-ended"))).collect()
    }
}
