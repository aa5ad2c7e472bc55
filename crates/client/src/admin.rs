//! Calls for operators.

use std::{collections::BTreeMap, time::Duration};

use headpond_types::{Error, ErrorKind, Member, MountId, NsPath, Result};

/// Calls for operators, from [`crate::Client::admin`]. Deadlines and retries are those of metadata calls.
#[derive(Clone, Debug)]
pub struct AdminClient {}

impl AdminClient {
    /// The mount table, in order of paths.
    ///
    /// # Errors
    /// Those of any call.
    pub async fn mounts(&self) -> Result<Vec<Mount>> {
        Err(pending())
    }

    /// Binds a path to an under store, after the master has listed the store's root once.
    ///
    /// # Errors
    /// `AlreadyExists` when the path is a mount point; `InvalidArgument` for a bad URI or option; `StoreRefused`, `NotFound` or
    /// `Unavailable` when the store could not be listed. Repeated by a retry it is done once.
    pub async fn add_mount(&self, _mount: NewMount) -> Result<Mount> {
        Err(pending())
    }

    /// Unbinds a path; the under store is not touched.
    ///
    /// # Errors
    /// `NotFound` when the path is no mount point, `NotEmpty` when mounts lie below it.
    pub async fn remove_mount(&self, _path: &NsPath) -> Result<()> {
        Err(pending())
    }

    /// All known workers, live or not.
    ///
    /// # Errors
    /// Those of any call.
    pub async fn workers(&self) -> Result<Vec<WorkerStatus>> {
        Err(pending())
    }

    /// The cluster at a glance.
    ///
    /// # Errors
    /// Those of any call.
    pub async fn status(&self) -> Result<ClusterStatus> {
        Err(pending())
    }

    /// Answers the applied index of the journal, with `durable` after a command of its own was committed.
    ///
    /// # Errors
    /// Those of any call.
    pub async fn probe(&self, _durable: bool) -> Result<u64> {
        Err(pending())
    }
}

/// A mount to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMount {
    /// Where it shall appear.
    pub path: NsPath,
    /// `s3://bucket/prefix`, `file:///dir` or `memory://name`; without credentials.
    pub uri: String,
    /// Options of the driver; credentials by name only.
    pub options: BTreeMap<String, String>,
    /// Refuse changes.
    pub read_only: bool,
    /// Bound on how long a change behind our back stays unseen; zero checks at every use, `None` never.
    pub sync_interval: Option<Duration>,
    /// Owner that entries of a store without owners show.
    pub uid: u32,
    /// Group likewise.
    pub gid: u32,
    /// Permission bits of files likewise.
    pub file_mode: u32,
    /// Permission bits of directories likewise.
    pub dir_mode: u32,
}

impl NewMount {
    /// A mount of `uri` at `path` with the defaults: read only, synchronised every minute, owned by root, files 0644,
    /// directories 0755.
    #[must_use]
    pub fn new(path: NsPath, uri: impl Into<String>) -> Self {
        Self {
            path,
            uri: uri.into(),
            options: BTreeMap::new(),
            read_only: true,
            sync_interval: Some(Duration::from_mins(1)),
            uid: 0,
            gid: 0,
            file_mode: 0o644,
            dir_mode: 0o755,
        }
    }
}

/// A mount as the master has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Its id.
    pub id: MountId,
    /// What it binds to what, and how.
    pub spec: NewMount,
}

/// A worker as the master sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerStatus {
    /// Identity and addresses.
    pub member: Member,
    /// Bytes that it can cache.
    pub capacity: u64,
    /// Bytes that it has cached.
    pub used: u64,
    /// Pages that it has cached.
    pub pages: u64,
    /// Contents of which it has something.
    pub contents: u64,
    /// Whether it is in the ring now.
    pub live: bool,
    /// Time since its last heartbeat.
    pub silent: Duration,
    /// What is wrong with its cache directories.
    pub problems: Vec<String>,
}

/// The cluster at a glance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterStatus {
    /// Id of the cluster.
    pub cluster: u64,
    /// Version of the master that answered.
    pub version: String,
    /// Since it started.
    pub uptime: Duration,
    /// Known inodes.
    pub inodes: u64,
    /// Mounts.
    pub mounts: u64,
    /// Live workers.
    pub workers: u64,
    /// Sessions of clients.
    pub clients: u64,
    /// Index of the last journal entry that was applied.
    pub applied_index: u64,
    /// Bytes of the journal on disk.
    pub journal_bytes: u64,
    /// Keys of under stores that no path can express, met since the start.
    pub skipped_keys: u64,
    /// What is wrong, each naming the thing and the cause.
    pub problems: Vec<String>,
}

fn pending() -> Error {
    Error::new(ErrorKind::NotSupported, "this call is not there yet")
}
