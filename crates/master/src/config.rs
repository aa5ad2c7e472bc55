//! Settings of the master.

use std::{path::PathBuf, time::Duration};

use headpond_runtime::units;
use headpond_transport::{Neighbours, TlsConfig};
use serde::{Deserialize, Serialize};

/// Settings of the master. All take effect at its next start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MasterConfig {
    /// `host:port` of the gRPC services. Default: `127.0.0.1:7100`, reachable from this machine only; port 0 takes a free one.
    pub bind: String,
    /// Directory of the journal, the namespace and the grant key; made if missing. Default: `./.headpond/master`. One master
    /// at a time; on a disk that keeps what it acknowledges.
    pub state_dir: PathBuf,
    /// Memory for the namespace's tables, in bytes. Default: 64 MiB. More keeps lookups fast in larger namespaces (about
    /// 300 bytes an inode), less saves memory.
    #[serde(with = "units::bytes")]
    pub cache_bytes: u64,
    /// Bytes of journal after which the namespace's tables are made durable so that older journal goes. Default: 64 MiB; at least 64 KiB. More:
    /// less writing and a longer start after a crash; less: less disk.
    #[serde(with = "units::bytes")]
    pub checkpoint_bytes: u64,
    /// How long clients may use an answer without asking again, at most. Default: 30 s. Longer spares calls, shorter bounds
    /// what a client that lost its session goes on believing, and how long one that is dead delays a change.
    #[serde(with = "units::duration")]
    pub client_lease: Duration,
    /// How long a grant is accepted. Default: 12 h. Longer lets reads go on further without a master; shorter takes the
    /// right to read away sooner.
    #[serde(with = "units::duration")]
    pub grant_ttl: Duration,
    /// How often workers report. Default: 1 s. Shorter notices lost workers sooner, at more calls.
    #[serde(with = "units::duration")]
    pub heartbeat: Duration,
    /// A worker that was silent for so long leaves the ring. Default: 5 s; several heartbeats. Longer rides out stalls,
    /// shorter turns clients to the other workers sooner.
    #[serde(with = "units::duration")]
    pub worker_lost_after: Duration,
    /// Deadline of one request to an under store (a page of a listing, a check of a name), retries included. Default: 8 s.
    /// Keep it below the clients' deadline (10 s), so that they get the store's error, or what is known, instead.
    #[serde(with = "units::duration")]
    pub store_deadline: Duration,
    /// Deadline of a call until its answer begins. Default: 60 s. It ends calls that hang; ordinary ones end by
    /// `store_deadline`.
    #[serde(with = "units::duration")]
    pub call_deadline: Duration,
    /// How long a write lease lasts when its holder is silent. Default: 30 s; clients renew it several times within. Longer rides out stalls of
    /// clients, shorter frees the files of clients that are gone sooner.
    #[serde(with = "units::duration")]
    pub write_lease: Duration,
    /// `sync_interval` of mounts that do not say their own: how long a change behind our back may stay unseen, or `never`.
    /// Default: 30 s. Longer spares requests to the under store; 0 asks it at every use. Applies to mounts made later.
    #[serde(with = "units::duration_or_never")]
    pub sync_interval: Option<Duration>,
    /// How long a file that was changed is left alone before it is persisted, on mounts that persist after close; one that is changed again and again at
    /// most ten times as long. Default: 1 s. Longer spares the store what is soon written again, renamed or removed; shorter has it there sooner. Who waits
    /// (`fs sync`, a commit file) has no delay.
    #[serde(with = "units::duration")]
    pub persist_delay: Duration,
    /// How the gRPC services are protected; a section of its own. Default: not at all.
    #[serde(skip)]
    pub tls: TlsConfig,
    /// Servers of this process, which are called without a connection; set by programs that run several parts in one process. Default: none.
    #[serde(skip)]
    pub neighbours: Neighbours,
}

impl Default for MasterConfig {
    fn default() -> Self {
        Self {
            bind: "127.0.0.1:7100".to_owned(),
            state_dir: PathBuf::from("./.headpond/master"),
            cache_bytes: 64 << 20,
            checkpoint_bytes: 64 << 20,
            client_lease: Duration::from_secs(30),
            grant_ttl: Duration::from_secs(12 * 3600),
            heartbeat: Duration::from_secs(1),
            worker_lost_after: Duration::from_secs(5),
            store_deadline: Duration::from_secs(8),
            call_deadline: Duration::from_secs(60),
            write_lease: Duration::from_secs(30),
            sync_interval: Some(Duration::from_secs(30)),
            persist_delay: Duration::from_secs(1),
            tls: TlsConfig::default(),
            neighbours: Neighbours::default(),
        }
    }
}
