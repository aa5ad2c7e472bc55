//! Processes that end with their owner, and waiting for conditions.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::ExitStatus,
    sync::mpsc::RecvTimeoutError,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{Command, launcher::Child};

/// How long servers may take to become ready, and conditions to come true, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a test's folder may take, in bytes.
const ROOM: u64 = 1 << 30;

/// A process. It is killed when dropped, and by the kernel when the tests end.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; what it prints goes to the file `log`.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(name: &str, command: impl Into<Command>, log: &Path) -> Result<Self> {
        let command = command.into();
        let child = command.start(log, log).with_context(|| format!("cannot start {name}: {command:?}"))?;
        Ok(Self { child, name: name.to_owned(), log: log.to_owned() })
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its resident memory in bytes.
    ///
    /// # Errors
    /// It has ended.
    pub fn resident_bytes(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
        let kib: u64 = line.split_whitespace().nth(1).context("no figure")?.parse()?;
        Ok(kib << 10)
    }

    /// What the process has printed so far.
    #[must_use]
    pub fn output(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Sends SIGKILL and waits for the end.
    ///
    /// # Errors
    /// The process cannot be waited for.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Sends `signal`.
    ///
    /// # Errors
    /// The process has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?).context("pid 0")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Sends SIGINT and waits for the end.
    ///
    /// # Errors
    /// The process does not end in time.
    pub fn interrupt(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::INT)?;
        self.wait()
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// The process does not end in time.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let mut status = None;
        eventually(&format!("{} ends", self.name), || {
            status = self.child.try_wait()?;
            Ok(status.is_some())
        })?;
        status.context("just seen")
    }

    /// Fails with what the process printed if it has ended.
    ///
    /// # Errors
    /// It has ended.
    pub fn check_running(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended with {status}; it printed:\n{}", self.name, self.output());
        }
        Ok(())
    }
}

impl Drop for Process {
    #[expect(clippy::print_stderr, reason = "a failing test shows what its processes said")]
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
        if std::thread::panicking() {
            let output = self.output();
            let tail: Vec<_> = output.lines().rev().take(40).collect();
            eprintln!("--- {} printed last:", self.name);
            for line in tail.iter().rev() {
                eprintln!("{line}");
            }
        }
    }
}

/// Asks `condition` until it holds.
///
/// # Errors
/// It fails, or does not hold within a minute: the message says `what` was waited for.
pub fn eventually(what: &str, condition: impl FnMut() -> Result<bool>) -> Result<()> {
    eventually_within(PATIENCE, what, condition)
}

/// As [`eventually`], for what may take longer.
///
/// # Errors
/// The condition fails, or does not hold in time.
pub fn eventually_within(limit: Duration, what: &str, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    let started = Instant::now();
    while !condition()? {
        ensure!(started.elapsed() < limit, "waited {limit:?} in vain until {what}");
        #[expect(clippy::disallowed_methods, reason = "the pause between two looks at a condition")]
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Status and body of a plain HTTP GET.
///
/// # Errors
/// No answer.
pub fn http_get(port: u16, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).context("not an HTTP answer")?.parse()?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    Ok((status, body))
}

/// Waits until `path` on `port` answers 200.
///
/// # Errors
/// The process ends before, or it takes longer than a minute.
pub fn wait_ready(process: &mut Process, port: u16, path: &str) -> Result<()> {
    let what = format!("{} answers {path} on port {port}", process.name);
    eventually(&what, || {
        process.check_running()?;
        Ok(http_get(port, path).is_ok_and(|(status, _)| status == 200))
    })
}

/// The sum of those series of a metric that a process shows on `port` whose labels contain `label`; 0 when there is none.
///
/// # Errors
/// It does not answer.
pub fn metric(port: u16, name: &str, label: &str) -> Result<f64> {
    let (status, text) = http_get(port, "/metrics")?;
    ensure!(status == 200, "/metrics on port {port} answers {status}");
    let mut sum = 0.0;
    for line in text.lines() {
        let Some(rest) = line.strip_prefix(name) else { continue };
        let Some((labels, value)) = rest.rsplit_once(' ') else { continue };
        if (labels.is_empty() || labels.starts_with('{')) && labels.contains(label) {
            sum += value.parse::<f64>()?;
        }
    }
    Ok(sum)
}

/// Does `work` on a thread of its own and answers what comes of it.
///
/// # Errors
/// It takes longer than `limit`, or panics. The thread is left behind.
pub fn within<T: Send + 'static>(limit: Duration, what: &str, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let (done, wait) = std::sync::mpsc::sync_channel(1);
    let started = Instant::now();
    std::thread::Builder::new().spawn(move || done.send(work()))?;
    match wait.recv_timeout(limit) {
        Ok(result) => Ok(result),
        Err(RecvTimeoutError::Timeout) => bail!("{what} hangs: nothing after {limit:?}"),
        Err(RecvTimeoutError::Disconnected) => bail!("{what} panicked after {:?}", started.elapsed()),
    }
}

/// A temporary folder; kept for a look at it when `HEADPOND_TEST_KEEP` is set.
///
/// # Errors
/// It cannot be made, or its disk is about to be full.
pub fn new_folder() -> Result<TempDir> {
    let keep = std::env::var_os("HEADPOND_TEST_KEEP").is_some();
    let folder = tempfile::Builder::new().prefix("headpond-test-").disable_cleanup(keep).tempdir()?;
    let space = rustix::fs::statvfs(folder.path())?;
    // MinIO stores nothing in the last hundredth of a disk.
    let (free, needed) = (space.f_bavail * space.f_frsize, space.f_blocks * space.f_frsize / 100 + ROOM);
    ensure!(
        free >= needed,
        "the disk of {:?} has {} MiB left, and tests need {}: free some, or set TMPDIR to another",
        std::env::temp_dir(),
        free >> 20,
        needed >> 20,
    );
    Ok(folder)
}
