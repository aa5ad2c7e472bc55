//! What a client can be told.

use std::time::Duration;

use headpond_runtime::units;
use headpond_transport::{Neighbours, TlsConfig};
use serde::{Deserialize, Serialize};

/// Configuration of a [`crate::Client`]. Every field needs a restart to change. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientConfig {
    /// Masters as `host:port`; tried in order until one answers. Default: `127.0.0.1:7100`.
    pub masters: Vec<String>,
    /// Node (machine) this client runs on; a worker that registered with the same name is reached through its unix
    /// socket. Default: the host name. Wrong: reads go over TCP.
    pub node: String,
    /// What this client is, for `headpond admin status`. Default: `sdk`.
    pub name: String,
    /// How long connecting to one master or worker may take. More helps over slow links, less fails over sooner.
    /// Default: `2s`.
    #[serde(with = "units::duration")]
    pub connect_timeout: Duration,
    /// Deadline of a metadata call with all its retries, and of each page of a listing. Default: `10s`.
    #[serde(with = "units::duration")]
    pub metadata_timeout: Duration,
    /// How long a read may make no progress before it fails; after half of that the next worker is asked. What the worker
    /// of this node does not deliver in half of it is read over the network, with a time of its own. Default: `30s`.
    #[serde(with = "units::duration")]
    pub read_timeout: Duration,
    /// Attributes, and as many directory entries, kept in memory at most, about 400 bytes each pair. Less asks the master
    /// more often. Default: 200000.
    pub metadata_entries: u64,
    /// Open files (descriptor or grant) kept for their next open at most; each may hold a file descriptor, and all together
    /// never more than three quarters of what the process may open (`ulimit -n`). Default: 16384.
    pub open_files: usize,
    /// How long an open file that nobody uses is kept. Longer saves opens, and keeps the worker from reclaiming the space
    /// until it asks for it. Default: `1m`.
    #[serde(with = "units::duration")]
    pub open_file_idle: Duration,
    /// Furthest that readahead runs in front of a sequential reader, in bytes; 0 turns it off. More fills pipes with a long
    /// delay, and fetches more in vain when a reader stops early. Default: `256 MiB`.
    #[serde(with = "units::bytes")]
    pub readahead_max: u64,
    /// Read through the worker of this node if there is one. `false` always goes to the owner over TCP. Default: `true`.
    pub prefer_local: bool,
    /// How long after their validity the metadata and grants of known files still serve reads while no master can be
    /// reached; 0 never. Longer survives longer outages with older data. Default: `10m`.
    #[serde(with = "units::duration")]
    pub offline_reads: Duration,
    /// How masters and workers are reached, and who this client is to them; a section of its own. Default: in plaintext, as the user
    /// that the process runs as.
    #[serde(skip)]
    pub tls: TlsConfig,
    /// Servers of this process, which are called without a connection; set by programs that run several parts in one process. Default: none.
    #[serde(skip)]
    pub neighbours: Neighbours,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            masters: vec!["127.0.0.1:7100".to_owned()],
            node: host_name(),
            name: "sdk".to_owned(),
            connect_timeout: Duration::from_secs(2),
            metadata_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(30),
            metadata_entries: 200_000,
            open_files: 16 << 10,
            open_file_idle: Duration::from_mins(1),
            readahead_max: 256 << 20,
            prefer_local: true,
            offline_reads: Duration::from_mins(10),
            tls: TlsConfig::default(),
            neighbours: Neighbours::default(),
        }
    }
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
