//! A MinIO of our own: started on a free port, killed when dropped.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use headpond_ufs::{CredentialSource, Credentials, UfsError};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// A running server with one bucket, `conformance`.
#[derive(Debug)]
pub(crate) struct Minio {
    process: Child,
    port: u16,
    _data: tempfile::TempDir,
}

pub(crate) const BUCKET: &str = "conformance";
pub(crate) const USER: &str = "conformance-user";
pub(crate) const SECRET: &str = "conformance-secret";

fn binary() -> PathBuf {
    let path = match std::env::var_os("HEADPOND_TEST_MINIO") {
        Some(path) => PathBuf::from(path),
        None => {
            let cache = std::env::var_os("XDG_CACHE_HOME")
                .map(PathBuf::from)
                .unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache"));
            cache.join("headpond-tests/bin/minio")
        }
    };
    assert!(path.is_file(), "no MinIO at {}: `make minio` gets one, or HEADPOND_TEST_MINIO names one", path.display());
    path
}

impl Minio {
    pub(crate) async fn start() -> Self {
        let data = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir(data.path().join(BUCKET)).expect("a bucket");
        let free = TcpListener::bind("127.0.0.1:0").await.and_then(|listener| listener.local_addr());
        let port = free.expect("a free port").port();
        let process = Command::new(binary())
            .arg("server")
            .arg(data.path())
            .args(["--quiet", "--address", &format!("127.0.0.1:{port}"), "--console-address", "127.0.0.1:0"])
            .env("MINIO_ROOT_USER", USER)
            .env("MINIO_ROOT_PASSWORD", SECRET)
            .env("MINIO_BROWSER", "off")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("MinIO starts");
        let mut minio = Self { process, port, _data: data };
        let deadline = Instant::now() + Duration::from_secs(30);
        while !minio.is_ready().await {
            let ended = minio.process.try_wait().expect("the state of a child");
            assert_eq!(ended, None, "MinIO ended before it was ready");
            assert!(Instant::now() < deadline, "MinIO was not ready within 30 s");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        minio
    }

    /// Whether it refuses a request without credentials; its health check is well before it has read its own state.
    async fn is_ready(&self) -> bool {
        let ask = async {
            let mut connection = TcpStream::connect(("127.0.0.1", self.port)).await?;
            connection
                .write_all(b"GET /minio/health/cluster HTTP/1.1\r\nHost: minio\r\nConnection: close\r\n\r\n")
                .await?;
            let mut answer = Vec::new();
            connection.read_to_end(&mut answer).await?;
            std::io::Result::Ok(answer.starts_with(b"HTTP/1.1 200"))
        };
        ask.await.unwrap_or(false)
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Minio {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Knows the credentials `good` and `bad` of the server.
#[derive(Debug)]
pub(crate) struct TestCredentials;

impl CredentialSource for TestCredentials {
    fn resolve(&self, name: &str) -> Result<Credentials, UfsError> {
        let secret = match name {
            "good" => SECRET,
            "bad" => "not-the-secret",
            other => return headpond_ufs::NoCredentials.resolve(other),
        };
        Ok(Credentials { access_key_id: USER.to_owned(), secret_access_key: secret.to_owned(), session_token: None })
    }
}
