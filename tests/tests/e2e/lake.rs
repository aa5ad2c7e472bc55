//! A bucket on a MinIO of its own, and a pond over it.

use anyhow::Result;
use headpond_tests::{Cluster, ClusterBuilder, Minio, Pond, PondBuilder, Proxy, S3, Sample};
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

    /// Deletes an object behind the pond's back.
    pub(crate) fn delete(&self, key: &str) -> Result<()> {
        self.runtime.block_on(self.s3.delete(key))
    }

    /// Every key with its size and ETag.
    pub(crate) fn list(&self) -> Result<Vec<(String, u64, String)>> {
        self.runtime.block_on(self.s3.list(""))
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

    /// GETs of objects that passed, with their ranges.
    pub(crate) fn object_gets(&self) -> Vec<String> {
        let requests = self.proxy.requests();
        let gets = requests.iter().filter(|request| {
            request.method == "GET" && !request.target.contains("list-type=") && !request.target.ends_with("/lake")
        });
        gets.map(|request| format!("{} {}", request.target, request.range.as_deref().unwrap_or("open-ended"))).collect()
    }
}
