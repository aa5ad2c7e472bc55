//! Calls for operators.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use headpond_proto::v1;
use headpond_types::{Error, ErrorKind, Member, MountId, NsPath, Result};

use crate::{
    Client, DurabilityRule, Persistence,
    master::{Masters, Retry, administration},
};

/// Calls for operators, from [`crate::Client::admin`]. Deadlines and retries are those of metadata calls.
#[derive(Clone, Debug)]
pub struct AdminClient {
    client: Client,
}

impl AdminClient {
    pub(crate) const fn new(client: Client) -> Self {
        Self { client }
    }

    /// The mount table, in order of paths.
    ///
    /// # Errors
    /// Those of any call.
    pub async fn mounts(&self) -> Result<Vec<Mount>> {
        let call = |channel| async move { administration(channel).list_mounts(v1::ListMountsRequest {}).await };
        let answer = self.masters().call("list mounts", Retry::Yes, call).await?;
        let mut mounts: Vec<_> = answer.mounts.into_iter().map(Mount::try_from).collect::<Result<_>>()?;
        mounts.sort_by(|a, b| a.spec.path.cmp(&b.spec.path));
        Ok(mounts)
    }

    /// Binds a path to an under store, after the master has listed the store's root once.
    ///
    /// # Errors
    /// `AlreadyExists` when the path is a mount point; `InvalidArgument` for a bad URI or option; `StoreRefused`, `NotFound` or
    /// `Unavailable` when the store could not be listed. Repeated by a retry it is done once.
    pub async fn add_mount(&self, mount: NewMount) -> Result<Mount> {
        let request = v1::AddMountRequest { mount: Some(mount.into()), request_id: request_id() };
        let call = |channel| {
            let request = request.clone();
            async move { administration(channel).add_mount(request).await }
        };
        let answer = self.masters().call("add mount", Retry::Change, call).await?;
        answer.mount.ok_or_else(|| Error::new(ErrorKind::Internal, "the master answered no mount"))?.try_into()
    }

    /// Unbinds a path; the under store is not touched. Repeated by a retry it is done once.
    ///
    /// # Errors
    /// `NotFound` when the path is no mount point, `NotEmpty` when mounts lie below it.
    pub async fn remove_mount(&self, path: &NsPath) -> Result<()> {
        let request = v1::RemoveMountRequest { path: path.to_bytes().into(), request_id: request_id() };
        let call = |channel| {
            let request = request.clone();
            async move { administration(channel).remove_mount(request).await }
        };
        self.masters().call("remove mount", Retry::Change, call).await?;
        Ok(())
    }

    /// All known workers, live or not.
    ///
    /// # Errors
    /// Those of any call.
    pub async fn workers(&self) -> Result<Vec<WorkerStatus>> {
        let call = |channel| async move { administration(channel).list_workers(v1::ListWorkersRequest {}).await };
        let answer = self.masters().call("list workers", Retry::Yes, call).await?;
        answer.workers.into_iter().map(WorkerStatus::try_from).collect()
    }

    /// The cluster at a glance.
    ///
    /// # Errors
    /// Those of any call.
    pub async fn status(&self) -> Result<ClusterStatus> {
        let call = |channel| async move { administration(channel).status(v1::StatusRequest {}).await };
        Ok(self.masters().call("status", Retry::Yes, call).await?.into())
    }

    /// Answers the applied index of the journal, with `durable` after a command of its own was committed.
    ///
    /// # Errors
    /// Those of any call.
    pub async fn probe(&self, durable: bool) -> Result<u64> {
        let call = |channel| async move { administration(channel).probe(v1::ProbeRequest { durable }).await };
        Ok(self.masters().call("probe", Retry::Yes, call).await?.applied_index)
    }

    pub(crate) fn masters(&self) -> &Masters {
        &self.client.shared().masters
    }
}

/// Identifies a change over its retries.
pub(crate) fn request_id() -> Bytes {
    Bytes::copy_from_slice(uuid::Uuid::new_v4().as_bytes())
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
    /// When and in what order what is written reaches the store.
    pub persistence: Persistence,
}

impl NewMount {
    /// A mount of `uri` at `path` with the defaults: writable, synchronised every minute, owned by root, files 0644,
    /// directories 0755, persisted as [`Persistence::default`] says.
    #[must_use]
    pub fn new(path: NsPath, uri: impl Into<String>) -> Self {
        Self {
            path,
            uri: uri.into(),
            options: BTreeMap::new(),
            read_only: false,
            sync_interval: Some(Duration::from_mins(1)),
            uid: 0,
            gid: 0,
            file_mode: 0o644,
            dir_mode: 0o755,
            persistence: Persistence::default(),
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
    /// Keys that no path can express, left out of the directories that the master has listed or shown since it started.
    pub skipped_keys: u64,
    /// What is wrong, each naming the thing and the cause.
    pub problems: Vec<String>,
}

impl From<NewMount> for v1::Mount {
    fn from(mount: NewMount) -> Self {
        let Persistence { durability, rules, commit_patterns, temporary_patterns, copies, strict_copies } =
            mount.persistence;
        Self {
            id: 0,
            path: mount.path.to_bytes().into(),
            uri: mount.uri,
            options: mount.options.into_iter().collect(),
            read_only: mount.read_only,
            sync_interval_ms: mount.sync_interval.map(|interval| {
                // Half a billion years and "never" are the same to a mount.
                u64::try_from(interval.as_millis()).unwrap_or(u64::MAX)
            }),
            uid: mount.uid,
            gid: mount.gid,
            file_mode: mount.file_mode,
            dir_mode: mount.dir_mode,
            durability: v1::Durability::from(durability).into(),
            rules: rules.into_iter().map(v1::DurabilityRule::from).collect(),
            commit_patterns,
            temporary_patterns,
            copies,
            strict_copies,
        }
    }
}

impl TryFrom<v1::Mount> for Mount {
    type Error = Error;

    fn try_from(mount: v1::Mount) -> Result<Self> {
        let path = NsPath::parse(&mount.path).map_err(|error| {
            Error::new(ErrorKind::Internal, "the master answered a mount at no path").with_source(error)
        })?;
        let persistence = Persistence {
            durability: mount.durability().into(),
            rules: mount.rules.into_iter().map(DurabilityRule::from).collect(),
            commit_patterns: mount.commit_patterns,
            temporary_patterns: mount.temporary_patterns,
            copies: mount.copies,
            strict_copies: mount.strict_copies,
        };
        let spec = NewMount {
            path,
            uri: mount.uri,
            options: mount.options.into_iter().collect(),
            read_only: mount.read_only,
            sync_interval: mount.sync_interval_ms.map(Duration::from_millis),
            uid: mount.uid,
            gid: mount.gid,
            file_mode: mount.file_mode,
            dir_mode: mount.dir_mode,
            persistence,
        };
        Ok(Self { id: MountId(mount.id), spec })
    }
}

impl TryFrom<v1::WorkerStatus> for WorkerStatus {
    type Error = Error;

    fn try_from(status: v1::WorkerStatus) -> Result<Self> {
        let member = status.member;
        let member = member.ok_or_else(|| Error::new(ErrorKind::Internal, "the master answered a nameless worker"))?;
        Ok(Self {
            member: member.into(),
            capacity: status.capacity,
            used: status.used,
            pages: status.pages,
            contents: status.contents,
            live: status.live,
            silent: Duration::from_millis(status.silent_ms),
            problems: status.problems,
        })
    }
}

impl From<v1::StatusResponse> for ClusterStatus {
    fn from(status: v1::StatusResponse) -> Self {
        Self {
            cluster: status.cluster,
            version: status.version,
            uptime: Duration::from_millis(status.uptime_ms),
            inodes: status.inodes,
            mounts: status.mounts,
            workers: status.workers,
            clients: status.clients,
            applied_index: status.applied_index,
            journal_bytes: status.journal_bytes,
            skipped_keys: status.skipped_keys,
            problems: status.problems,
        }
    }
}
