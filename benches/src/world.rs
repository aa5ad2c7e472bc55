//! What the benchmarks run on: a bucket, a pond over it, and the same bytes in native files.

use std::{
    fs::File,
    hint::black_box,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use headpond_tests::{Minio, Pond, PondBuilder, Proxy, S3};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Bytes in a mebibyte.
pub(crate) const MIB: u64 = 1 << 20;

/// How much work a run does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// Data sizes are divided by this.
    pub(crate) divisor: u64,
    /// Measured rounds of a row.
    pub(crate) rounds: usize,
}

/// A MinIO with a bucket, a proxy before it, and a folder for native files on the disk that holds the cache.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) s3: S3,
    pub(crate) proxy: Proxy,
    pub(crate) folder: TempDir,
    pub(crate) runtime: Runtime,
    pub(crate) minio: Minio,
}

impl World {
    pub(crate) fn new() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let minio = Minio::start()?;
        let s3 = runtime.block_on(minio.bucket("lake"))?;
        let proxy = Proxy::start(minio.port())?;
        Ok(Self { s3, proxy, folder: tempfile::tempdir()?, runtime, minio })
    }

    /// Puts objects into the bucket.
    pub(crate) fn put(&self, objects: impl IntoIterator<Item = (String, Bytes)>) -> Result<()> {
        self.runtime.block_on(self.s3.put_all(objects))
    }

    /// A pond that goes straight to the store, with a sync interval long enough not to matter.
    pub(crate) fn pond(&self) -> PondBuilder {
        Pond::over("s3://lake", Some(&self.minio.endpoint())).arg("--sync-interval").arg("1h")
    }

    /// A pond that goes through the proxy.
    pub(crate) fn pond_through_proxy(&self) -> PondBuilder {
        Pond::over("s3://lake", Some(&self.proxy.endpoint())).arg("--sync-interval").arg("1h")
    }

    /// Checks that the store has `objects` under `prefix`, of `bytes` in all; markers of directories do not count.
    pub(crate) fn check(&self, prefix: &str, objects: u64, bytes: u64) -> Result<()> {
        let listed = self.runtime.block_on(self.s3.list(prefix))?;
        let found = listed.iter().filter(|(key, ..)| !key.ends_with('/'));
        let (count, sum) = found.fold((0, 0), |(count, sum), (_, size, _)| (count + 1, sum + size));
        ensure!((count, sum) == (objects, bytes), "the store has {count} objects of {sum} bytes under {prefix}");
        Ok(())
    }

    /// A native copy of an object.
    pub(crate) fn native(&self, name: &str, body: &[u8]) -> Result<PathBuf> {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().context("a file has a folder")?)?;
        std::fs::write(&path, body)?;
        Ok(path)
    }

    /// Reads an object with `parallel` ranged GETs of 8 MiB in flight and answers its bytes: the good direct client.
    pub(crate) fn direct_read(&self, s3: &S3, key: &str, length: u64, parallel: usize) -> Result<u64> {
        self.direct_read_with(s3, key, length, parallel, |_, _| Ok(()))
    }

    /// The same, with all that it reads written into a new file.
    pub(crate) fn direct_copy(&self, s3: &S3, key: &str, length: u64, parallel: usize) -> Result<u64> {
        let file = tempfile::tempfile_in(&self.folder)?;
        file.set_len(length)?;
        self.direct_read_with(s3, key, length, parallel, |offset, bytes| file.write_all_at(bytes, offset))
    }

    fn direct_read_with(
        &self,
        s3: &S3,
        key: &str,
        length: u64,
        parallel: usize,
        take: impl Fn(u64, &[u8]) -> std::io::Result<()>,
    ) -> Result<u64> {
        let ranges = (0..length).step_by(8 << 20).map(|start| (start, (start + (8 << 20)).min(length)));
        self.runtime.block_on(
            stream::iter(ranges)
                .map(|(start, end)| s3.get_range_with(key, start, end, &take))
                .buffer_unordered(parallel)
                .try_fold(0, |sum, bytes| async move { Ok(sum + bytes) }),
        )
    }
}

/// Leaves `bytes` of memory free that this machine really has, as one that is not a virtual one always does: the host of a virtual machine takes back what is
/// free for some seconds, and who writes to it first waits for the host, ten times longer than for the writing. What is written to here and given up is used
/// first by what comes next.
pub(crate) fn have_memory(bytes: u64) -> Result<()> {
    rustix::fs::sync();
    drop(black_box(vec![1u8; usize::try_from(bytes)?]));
    Ok(())
}

/// Drops clean pages from the page cache; needs root.
pub(crate) fn drop_page_cache() -> Result<()> {
    rustix::fs::sync();
    std::fs::write("/proc/sys/vm/drop_caches", "1").context("dropping the page cache needs root")
}

/// Reads a file to its end in steps of 1 MiB and answers its bytes.
pub(crate) fn read_through(path: &Path) -> Result<u64> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let mut buffer = vec![0; 1 << 20];
    let mut offset = 0;
    loop {
        match file.read_at(&mut buffer, offset)? {
            0 => return Ok(offset),
            got => offset += got as u64,
        }
    }
}

/// A count or size as a figure.
#[expect(clippy::cast_precision_loss, reason = "figures are shown with three digits")]
pub(crate) const fn float(value: u64) -> f64 {
    value as f64
}
