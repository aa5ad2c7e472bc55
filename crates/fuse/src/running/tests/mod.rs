//! Real mounts of the kernel over a namespace in memory.

mod changes;
mod lifecycle;
mod listing;
mod nodes;
mod ranges;
mod reading;
mod refusing;
mod versions;
mod writing;
mod xattrs;

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use headpond_runtime::{Shutdown, Tasks};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::*;
use crate::testing::FakePond;

/// A mount in a temporary directory, taken down when dropped.
struct Pond {
    running: Option<RunningMount>,
    runtime: Option<Runtime>,
    dir: TempDir,
    tasks: Tasks,
    // Dropped last: it is unmounted then.
    _turn: Turn,
}

/// Who starts a program is alone: every file that is open in this process is closed in passing then, also those that other tests write on
/// their mounts, which store them at each close.
static TURNS: RwLock<()> = RwLock::new(());

/// A test's right to have a mount.
#[expect(dead_code, reason = "held, not looked at")]
enum Turn {
    Shared(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

impl Turn {
    fn shared() -> Self {
        Self::Shared(TURNS.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Of a test that starts a program: a guard, or what mounts for an ordinary user.
    fn alone() -> Self {
        Self::Alone(TURNS.write().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Pond {
    fn mount(pond: &FakePond) -> Self {
        Self::mount_with(pond, |_| {})
    }

    fn mount_with(pond: &FakePond, change: impl FnOnce(&mut FuseConfig)) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut config = FuseConfig { label: "test".to_owned(), ..FuseConfig::new(dir.path()) };
        change(&mut config);
        let turn = if is_root() && config.guard.is_none() { Turn::shared() } else { Turn::alone() };
        let runtime = Runtime::new().expect("a runtime");
        let tasks = Tasks::new(Shutdown::new());
        let started = runtime.block_on(start(config, pond.clone(), tasks.clone()));
        let running = match started {
            Ok(running) => running,
            Err(error) => panic!("cannot mount: these tests need /dev/fuse and, unless root, fuse3: {error}"),
        };
        Self { running: Some(running), runtime: Some(runtime), dir, tasks, _turn: turn }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    fn running(&self) -> &RunningMount {
        self.running.as_ref().expect("it runs")
    }

    fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.as_ref().expect("it runs").block_on(future)
    }

    /// How many opens were answered with passthrough, and with the page cache.
    fn opens(&self) -> (u64, u64) {
        let metrics = &self.running().metrics;
        (metrics.passthrough_opens.get(), metrics.cached_opens.get())
    }

    /// Bytes that came through the daemon.
    fn bytes_read(&self) -> u64 {
        self.running().metrics.bytes_read.get()
    }

    /// Waits until as many invalidations were sent to the kernel.
    fn wait_for_invalidations(&self, count: u64) {
        self.wait_until(|metrics| metrics.invalidations.get() >= count);
    }

    fn wait_until(&self, condition: impl Fn(&Metrics) -> bool) {
        let waiting = async {
            while !condition(&self.running().metrics) {
                tokio::task::yield_now().await;
            }
        };
        self.block_on(async { tokio::time::timeout(Duration::from_secs(30), waiting).await }).expect("it happens soon");
    }
}

impl Drop for Pond {
    fn drop(&mut self) {
        drop(self.running.take());
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Whether this user may register backing files.
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn is_mounted(path: &Path) -> bool {
    let table = std::fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
    let path = path.to_str().expect("a temporary path is text");
    table.lines().any(|line| line.split(' ').nth(4) == Some(path))
}

fn errno(result: std::io::Result<impl Sized>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

/// A file `f` of "old bytes" that is whole on the local disk, and open: passed through, where that is to be had.
fn read_from_disk() -> (FakePond, Pond, File) {
    let source = FakePond::new();
    let inode = source.file(InodeId::ROOT, "f", b"old bytes");
    source.complete(inode);
    let pond = Pond::mount(&source);
    let reader = File::open(pond.path("f")).expect("opened");
    (source, pond, reader)
}
