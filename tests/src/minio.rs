//! A real MinIO.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::{Process, S3, free_port, wait_ready};

/// A MinIO server of its own, with its data in a temporary folder.
#[derive(Debug)]
pub struct Minio {
    process: Process,
    port: u16,
    data: TempDir,
}

impl Minio {
    /// Access key of the server.
    pub const ACCESS_KEY: &str = "headpond-test";
    /// Secret key of the server.
    pub const SECRET_KEY: &str = "headpond-test-secret";

    /// Starts a server on a free port and waits until it is ready.
    ///
    /// # Errors
    /// There is no MinIO binary, or it does not become ready.
    pub fn start() -> Result<Self> {
        let data = tempfile::Builder::new().prefix("headpond-minio-").tempdir()?;
        let port = free_port()?;
        let process = launch(data.path(), port)?;
        let mut minio = Self { process, port, data };
        minio.wait()?;
        Ok(minio)
    }

    /// `http://127.0.0.1:port`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The port it listens on.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// A client for a bucket that is made now.
    ///
    /// # Errors
    /// The bucket cannot be made.
    pub async fn bucket(&self, name: &str) -> Result<S3> {
        let s3 = S3::new(&self.endpoint(), name);
        s3.create_bucket().await?;
        Ok(s3)
    }

    /// Kills the server; its data stay.
    ///
    /// # Errors
    /// The process cannot be waited for.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Starts the server again on the same port and data.
    ///
    /// # Errors
    /// It does not become ready.
    pub fn restart(&mut self) -> Result<()> {
        self.process = launch(self.data.path(), self.port)?;
        self.wait()
    }

    fn wait(&mut self) -> Result<()> {
        // The one called `ready` says so before the server has read its buckets and keys.
        wait_ready(&mut self.process, self.port, "/minio/health/cluster")
    }
}

fn launch(data: &Path, port: u16) -> Result<Process> {
    let mut command = Command::new(binary()?);
    command
        .arg("server")
        .arg(data.join("objects"))
        .args(["--quiet", "--address", &format!("127.0.0.1:{port}")])
        .env("MINIO_ROOT_USER", Minio::ACCESS_KEY)
        .env("MINIO_ROOT_PASSWORD", Minio::SECRET_KEY)
        .env("MINIO_BROWSER", "off")
        .env("MINIO_PROMETHEUS_AUTH_TYPE", "public");
    Process::start("minio", command, &data.join("minio.log"))
}

/// The binary that `HEADPOND_TEST_MINIO` names, or the one that `make minio` built.
fn binary() -> Result<PathBuf> {
    let path = match std::env::var_os("HEADPOND_TEST_MINIO") {
        Some(path) => PathBuf::from(path),
        None => {
            let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
            let cache = cache.or_else(|| std::env::home_dir().map(|home| home.join(".cache")));
            cache.context("neither XDG_CACHE_HOME nor HOME is set")?.join("headpond-tests/bin/minio")
        }
    };
    if !path.is_file() {
        bail!("no MinIO at {}: `make minio` builds one, or set HEADPOND_TEST_MINIO to a binary", path.display());
    }
    Ok(path)
}
