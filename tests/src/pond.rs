//! Headpond's own processes and mounts.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use rustix::mount::UnmountFlags;
use tempfile::TempDir;

use crate::{Command, Minio, Process, eventually, free_port, is_root, metric, new_folder, wait_ready};

/// The binary under test: `HEADPOND_TEST_BINARY`, or the one beside the test that runs.
///
/// # Errors
/// It has not been built.
pub fn headpond_binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("HEADPOND_TEST_BINARY") {
        return Ok(path.into());
    }
    let own = std::env::current_exe()?;
    let folder = own.ancestors().find(|folder| folder.join("headpond").is_file());
    Ok(folder.context("no headpond binary: `cargo build -p headpond-cli` builds it")?.join("headpond"))
}

/// Whether this user may register passthrough files: needs CAP_SYS_ADMIN, which root has here.
#[must_use]
pub fn can_passthrough() -> bool {
    is_root()
}

/// A mount point in a temporary folder, unmounted when dropped.
#[derive(Debug)]
pub struct Mounted {
    path: PathBuf,
}

impl Mounted {
    /// A mount point that is made now.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn at(path: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&path)?;
        Ok(Self { path })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the kernel shows a mount there, dead or alive.
    ///
    /// # Errors
    /// The mount table cannot be read.
    pub fn is_mounted(&self) -> Result<bool> {
        let table = std::fs::read_to_string("/proc/self/mountinfo")?;
        let path = self.path.to_string_lossy();
        Ok(table.lines().any(|line| line.split(' ').nth(4) == Some(&path)))
    }

    /// Ends the kernel's conversation with the mount's process: whatever hangs in it fails.
    ///
    /// # Errors
    /// It is not mounted, or (as an ordinary user) /sys/fs/fuse/connections is not.
    pub fn abort(&self) -> Result<()> {
        if is_root() {
            // The conversation ends also where the mount is in use and stays.
            let _busy = rustix::mount::unmount(&self.path, UnmountFlags::FORCE);
            return Ok(());
        }
        let table = std::fs::read_to_string("/proc/self/mountinfo")?;
        let path = self.path.to_string_lossy();
        let entry = table.lines().find(|line| line.split(' ').nth(4) == Some(&path));
        let device = entry.and_then(|line| line.split(' ').nth(2)).and_then(|device| device.split(':').nth(1));
        let number = device.context("it is not mounted")?;
        Ok(std::fs::write(format!("/sys/fs/fuse/connections/{number}/abort"), "1")?)
    }

    /// Waits until the kernel shows the mount.
    ///
    /// # Errors
    /// It does not within a minute.
    pub fn wait(&self, process: &mut Process) -> Result<()> {
        eventually(&format!("{} is mounted", self.path.display()), || {
            process.check_running()?;
            self.is_mounted()
        })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        while self.is_mounted().unwrap_or(false) {
            let unmounted = if can_passthrough() {
                rustix::mount::unmount(&self.path, UnmountFlags::DETACH).is_ok()
            } else {
                let status = Command::new("fusermount3").args(["-uz".as_ref(), self.path.as_os_str()]).status();
                status.is_ok_and(|status| status.success())
            };
            if !unmounted {
                return;
            }
        }
    }
}

/// How to start a [`Pond`].
#[derive(Debug)]
pub struct PondBuilder {
    uri: String,
    endpoint: Option<String>,
    mount: bool,
    arguments: Vec<OsString>,
    environment: Vec<(String, String)>,
}

impl PondBuilder {
    /// Adds an argument of `headpond up`.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.environment.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Serves without a FUSE mount.
    #[must_use]
    pub const fn without_mount(mut self) -> Self {
        self.mount = false;
        self
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// It ends, or is not ready within a minute.
    pub fn start(self) -> Result<Pond> {
        let folder = new_folder()?;
        let mounted = Mounted { path: folder.path().canonicalize()?.join("pond") };
        let mut pond = Pond {
            process: None,
            mounted,
            master_port: free_port()?,
            worker_port: free_port()?,
            http_port: free_port()?,
            builder: self,
            folder,
        };
        pond.launch()?;
        Ok(pond)
    }
}

/// `headpond up` on free ports, with its state in a temporary folder.
#[derive(Debug)]
pub struct Pond {
    // Dropped in this order: the process, then what is left of its mount, then the folder.
    process: Option<Process>,
    mounted: Mounted,
    master_port: u16,
    worker_port: u16,
    http_port: u16,
    builder: PondBuilder,
    folder: TempDir,
}

impl Pond {
    /// A pond over `uri`; for S3 at `endpoint`, with the test server's keys.
    #[must_use]
    pub fn over(uri: &str, endpoint: Option<&str>) -> PondBuilder {
        PondBuilder {
            uri: uri.to_owned(),
            endpoint: endpoint.map(str::to_owned),
            mount: true,
            arguments: Vec::new(),
            environment: Vec::new(),
        }
    }

    /// Starts it (again) on the same state and ports, and waits until it is ready.
    ///
    /// # Errors
    /// It ends, or is not ready within a minute.
    pub fn launch(&mut self) -> Result<()> {
        self.process = None;
        let mut command = Command::new(headpond_binary()?);
        command.current_dir(self.folder.path()).arg("up").arg(&self.builder.uri);
        if self.builder.mount {
            command.arg(self.mounted.path());
        } else {
            command.arg("--no-mount");
        }
        command
            .arg("--state-dir")
            .arg(self.state_dir())
            .args(["--master-bind", &format!("127.0.0.1:{}", self.master_port)])
            .args(["--worker-bind", &format!("127.0.0.1:{}", self.worker_port)])
            .args(["--http-bind", &format!("127.0.0.1:{}", self.http_port)])
            .env("AWS_ACCESS_KEY_ID", Minio::ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", Minio::SECRET_KEY)
            .env("AWS_REGION", "us-east-1")
            .env("AWS_EC2_METADATA_DISABLED", "true");
        if let Some(endpoint) = &self.builder.endpoint {
            command.args(["--endpoint", endpoint]);
        }
        command.args(&self.builder.arguments).envs(self.builder.environment.iter().cloned());
        let mut process = Process::start("headpond up", &command, &self.log())?;
        wait_ready(&mut process, self.http_port, "/readyz")?;
        if self.builder.mount {
            self.mounted.wait(&mut process)?;
        }
        self.process = Some(process);
        Ok(())
    }

    /// The running process.
    ///
    /// # Errors
    /// It was stopped.
    pub fn process(&mut self) -> Result<&mut Process> {
        self.process.as_mut().context("the pond was stopped")
    }

    /// Kills it with SIGKILL.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn kill(&mut self) -> Result<()> {
        self.process()?.kill()
    }

    /// Ends it with SIGINT and checks that it ends cleanly and unmounts.
    ///
    /// # Errors
    /// It does not.
    pub fn stop(&mut self) -> Result<()> {
        let status = self.process()?.interrupt()?;
        let output = self.process()?.output();
        ensure!(status.success(), "headpond up ended with {status}:\n{output}");
        ensure!(!self.mounted.is_mounted()?, "headpond up left its mount behind:\n{output}");
        self.process = None;
        Ok(())
    }

    /// A path below the mount.
    #[must_use]
    pub fn path(&self, below: &str) -> PathBuf {
        self.mounted.path().join(below)
    }

    /// The mount.
    #[must_use]
    pub const fn mounted(&self) -> &Mounted {
        &self.mounted
    }

    /// Folder of its state.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Everything it has printed.
    #[must_use]
    pub fn output(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("headpond.log")
    }

    /// `host:port` of the master.
    #[must_use]
    pub fn master(&self) -> String {
        format!("127.0.0.1:{}", self.master_port)
    }

    /// HTTP port of metrics and health.
    #[must_use]
    pub const fn http_port(&self) -> u16 {
        self.http_port
    }

    /// The sum of a metric over all its labels; 0 when there is none of that name.
    ///
    /// # Errors
    /// The metrics cannot be had.
    pub fn metric(&self, name: &str) -> Result<f64> {
        metric(self.http_port, name, "")
    }

    /// Runs another command of the binary against this pond.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn run(&self, arguments: &[&str]) -> Result<std::process::Output> {
        let mut command = Command::new(headpond_binary()?);
        command.args(arguments).env("HEADPOND_MASTER", self.master()).current_dir(self.folder.path());
        command.output().with_context(|| format!("cannot run headpond {arguments:?}"))
    }

    /// Runs another command of the binary, which must succeed, and answers what it prints.
    ///
    /// # Errors
    /// It fails; the message holds what it said.
    pub fn run_ok(&self, arguments: &[&str]) -> Result<String> {
        let output = self.run(arguments)?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "headpond {arguments:?} ended with {}: {errors}", output.status);
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The resident memory of the process in bytes.
    ///
    /// # Errors
    /// It has ended.
    pub fn resident_bytes(&mut self) -> Result<u64> {
        self.process()?.resident_bytes()
    }

    /// How long a test waits at most for what must not hang.
    pub const DEADLINE: Duration = Duration::from_secs(60);
}
