//! A real MinIO.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::{Command, Process, S3, free_port, new_folder, tool, wait_ready};

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
        let data = new_folder()?;
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

    /// How many multipart uploads were begun and neither completed nor aborted: those that the server has on its disk. It lists only those
    /// that were begun since it was started.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn uploads(&self) -> Result<usize> {
        Ok(self.open_uploads()?.len())
    }

    /// How many of [`Minio::uploads`] have parts, which take room.
    ///
    /// # Errors
    /// As [`Minio::uploads`].
    pub fn uploads_with_parts(&self) -> Result<usize> {
        // Below an upload is a folder of parts for each of its versions, which is one.
        let has_parts = |upload: &PathBuf| {
            let Ok(entries) = std::fs::read_dir(upload) else { return false };
            entries.flatten().any(|entry| std::fs::read_dir(entry.path()).is_ok_and(|parts| parts.count() > 0))
        };
        Ok(self.open_uploads()?.iter().filter(|upload| has_parts(upload)).count())
    }

    /// The folders of uploads.
    fn open_uploads(&self) -> Result<Vec<PathBuf>> {
        let folder = self.data.path().join("objects/.minio.sys/multipart");
        let mut open = Vec::new();
        for key in std::fs::read_dir(folder)? {
            // Folders of uploads go maybe right now. Empty ones may stay; what makes an upload is its description.
            let Ok(uploads) = std::fs::read_dir(key?.path()) else { continue };
            let uploads = uploads.flatten().map(|upload| upload.path());
            open.extend(uploads.filter(|upload| upload.join("xl.meta").is_file()));
        }
        Ok(open)
    }

    /// Leaves on the server's disk what a kill may leave that comes while an object is stored or deleted: the folder of the object, and in it one with
    /// bytes, but not what makes it an object.
    ///
    /// # Errors
    /// The disk's.
    pub fn leave_folder(&self, bucket: &str, key: &str) -> Result<()> {
        let bytes =
            self.data.path().join("objects").join(bucket).join(key).join("6f4c9f0e-4f1c-4c0b-9d53-0c8a8f3d2b10");
        std::fs::create_dir_all(&bytes)?;
        Ok(std::fs::write(bytes.join("part.1"), "bytes")?)
    }

    /// Id of the server's process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Whether the server's process has ended.
    pub fn has_ended(&mut self) -> bool {
        self.process.check_running().is_err()
    }

    /// Kills the server; its data stay.
    ///
    /// # Errors
    /// The process cannot be waited for.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Sends a signal to the server: stopped, it takes requests and answers none.
    ///
    /// # Errors
    /// The process has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
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
    Process::start("minio", &command, &data.join("minio.log"))
}

/// The binary that `HEADPOND_TEST_MINIO` names, or the one that `make minio` built.
fn binary() -> Result<PathBuf> {
    let Some(path) = std::env::var_os("HEADPOND_TEST_MINIO").map(PathBuf::from) else { return tool("minio") };
    ensure!(path.is_file(), "HEADPOND_TEST_MINIO={} is not a file: `make minio` builds one", path.display());
    Ok(path)
}
