//! What a worker can be told.

use std::{path::PathBuf, time::Duration};

use headpond_runtime::units::Share;
use headpond_transport::{Neighbours, TlsConfig};
use headpond_types::{BLOCK_SIZE, Error, ErrorKind, PAGE_SIZE, Result};
use serde::{Deserialize, Serialize};

/// Configuration of a [`crate::Worker`]. Every field needs a restart to change. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorkerConfig {
    /// `host:port` that gRPC listens on; port 0 takes a free one. Default: `127.0.0.1:7200`.
    pub bind: String,
    /// `host:port` under which clients and other workers reach this one. Default: the bound address, which is only right
    /// when it is not a wildcard.
    pub advertise: Option<String>,
    /// Unix socket for clients on this node; the directory must exist. Only its owner may connect. Default: none, which
    /// sends local clients over TCP.
    pub socket: Option<PathBuf>,
    /// Node (machine) this worker runs on; clients with the same name use the unix socket. Default: the host name.
    pub node: String,
    /// Zone of the node, empty if unknown. Default: empty.
    pub zone: String,
    /// Cache directories; the first also keeps the worker's identity. Default: none, at least one is required.
    pub dirs: Vec<CacheDir>,
    /// Masters as `host:port`; tried in turn. Default: `127.0.0.1:7100`.
    pub masters: Vec<String>,
    /// Deadlines of everything that a worker waits for.
    pub deadlines: Deadlines,
    /// Largest range asked of an under store or a peer at once: a power of two from one page (1 MiB) to one block
    /// (64 MiB). More costs fewer requests, less spreads a read over more connections. Default: 8 MiB.
    #[serde(with = "headpond_runtime::units::bytes")]
    pub max_request: u64,
    /// Most that one reader's wish for readahead fetches. More hides longer delays of the store, and fetches more in vain.
    /// Default: 256 MiB.
    #[serde(with = "headpond_runtime::units::bytes")]
    pub max_readahead: u64,
    /// Bytes under way from under stores at most, over all readers, and as many from other workers; readahead uses at most three
    /// quarters of it. More keeps fatter pipes full, and costs memory (up to two pages of each request) and disk bandwidth at once. Default: 512 MiB.
    #[serde(with = "headpond_runtime::units::bytes")]
    pub max_in_flight: u64,
    /// Bytes that no under store has at most, of mounts that persist later: those being written, and those to be persisted. A writer beyond it waits until
    /// some of them are persisted ([`Deadlines::room`]); copies of what is written at other workers count, and wait for nothing. Half of it is divided
    /// evenly among the mounts that persist later, as what no other of them fills. More takes up longer outages of a store, less leaves more of the cache to
    /// what is read. Takes effect at the next start. A size, or a part of the capacity of all directories. Default: 50 %.
    #[serde(with = "headpond_runtime::units::share")]
    pub dirty_limit: Share,
    /// Pause between two passes of the scrubber over the cache; 0 turns it off. Shorter finds bad disks earlier, and reads
    /// more. Default: 7 d.
    #[serde(with = "headpond_runtime::units::duration")]
    pub scrub_interval: Duration,
    /// Speed at which the scrubber reads, in bytes per second. Default: 16 MiB.
    #[serde(with = "headpond_runtime::units::bytes")]
    pub scrub_rate: u64,
    /// How gRPC is protected, towards masters, clients and other workers; a section of its own. Default: not at all.
    #[serde(skip)]
    pub tls: TlsConfig,
    /// Servers of this process, which are called without a connection; set by programs that run several parts in one process. Default: none.
    #[serde(skip)]
    pub neighbours: Neighbours,
}

/// One cache directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheDir {
    /// Made if it does not exist. No default.
    pub path: PathBuf,
    /// Bytes of cached pages at most. More keeps more, up to what the file system has. No default.
    #[serde(with = "headpond_runtime::units::bytes")]
    pub capacity: u64,
}

/// How long a worker waits before it gives up with an error. Longer survives slower parts, shorter fails over sooner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Deadlines {
    /// For a connection to a master or peer. Default: 2 s.
    #[serde(with = "headpond_runtime::units::duration")]
    pub connect: Duration,
    /// For a call to a master. Default: 10 s.
    #[serde(with = "headpond_runtime::units::duration")]
    pub master: Duration,
    /// For the next bytes from a peer; then the under store is asked instead. Default: 10 s.
    #[serde(with = "headpond_runtime::units::duration")]
    pub peer: Duration,
    /// For the first and for each further part of an answer of an under store. Default: 20 s.
    #[serde(with = "headpond_runtime::units::duration")]
    pub under_store: Duration,
    /// For the next page that a reader needs, whatever it takes. Default: 30 s.
    #[serde(with = "headpond_runtime::units::duration")]
    pub read: Duration,
    /// For a writer to get room below `dirty_limit` when none comes free meanwhile; then it is told that there is no space. Where nothing is to be persisted
    /// that could make room, that is told after 30 s. Default: 10 m.
    #[serde(with = "headpond_runtime::units::duration")]
    pub room: Duration,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            bind: "127.0.0.1:7200".to_owned(),
            advertise: None,
            socket: None,
            node: host_name(),
            zone: String::new(),
            dirs: Vec::new(),
            masters: vec!["127.0.0.1:7100".to_owned()],
            deadlines: Deadlines::default(),
            max_request: 8 << 20,
            max_readahead: 256 << 20,
            max_in_flight: 512 << 20,
            dirty_limit: Share::Percent(50),
            scrub_interval: Duration::from_hours(7 * 24),
            scrub_rate: 16 << 20,
            tls: TlsConfig::default(),
            neighbours: Neighbours::default(),
        }
    }
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            master: Duration::from_secs(10),
            peer: Duration::from_secs(10),
            under_store: Duration::from_secs(20),
            read: Duration::from_secs(30),
            room: Duration::from_mins(10),
        }
    }
}

impl WorkerConfig {
    /// Bytes that all directories may hold.
    fn capacity(&self) -> u64 {
        self.dirs.iter().map(|dir| dir.capacity).fold(0, u64::saturating_add)
    }

    /// The bound on dirty bytes.
    pub(crate) fn dirty_limit(&self) -> u64 {
        self.dirty_limit.of(self.capacity())
    }

    /// Checks what the types do not.
    ///
    /// # Errors
    /// `InvalidArgument`, naming the field and what it may be.
    pub fn check(&self) -> Result<()> {
        let invalid = |message: &str| Err(Error::new(ErrorKind::InvalidArgument, message));
        if self.dirs.is_empty() {
            return invalid("a worker needs at least one cache directory: set dirs");
        }
        if self.masters.is_empty() {
            return invalid("a worker needs the address of a master: set masters");
        }
        if let Some(master) = self.masters.iter().find(|master| !is_address(master)) {
            return invalid(&format!("{master:?} in masters is not an address: write it as host:port"));
        }
        if !self.max_request.is_power_of_two() || !(PAGE_SIZE..=BLOCK_SIZE).contains(&self.max_request) {
            return invalid("max_request must be a power of two from 1 MiB to 64 MiB");
        }
        if self.max_in_flight < 4 * self.max_request || self.max_in_flight > 1 << 40 {
            return invalid("max_in_flight must be at least four times max_request and at most 1 TiB");
        }
        if !(PAGE_SIZE.min(self.capacity())..=self.capacity()).contains(&self.dirty_limit()) {
            return invalid("dirty_limit must be at least 1 MiB and at most the capacity of all dirs");
        }
        if self.scrub_rate < PAGE_SIZE {
            return invalid("scrub_rate must be at least 1 MiB; set scrub_interval to 0 to turn the scrubber off");
        }
        Ok(())
    }
}

/// Whether somebody could listen there.
fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        let dir = CacheDir { path: "/cache".into(), capacity: 1 << 30 };
        let good = WorkerConfig { dirs: vec![dir], ..WorkerConfig::default() };
        good.check().expect("the defaults are good");
        for (bad, named) in [
            (WorkerConfig { dirs: Vec::new(), ..good.clone() }, "dirs"),
            (WorkerConfig { masters: Vec::new(), ..good.clone() }, "masters"),
            (
                WorkerConfig { masters: vec!["[::1]:7100".into(), "nowhere".into()], ..good.clone() },
                "\"nowhere\" in masters",
            ),
            (WorkerConfig { masters: vec!["nowhere:much".into()], ..good.clone() }, "masters"),
            (WorkerConfig { max_request: 3 << 20, ..good.clone() }, "max_request"),
            (WorkerConfig { max_request: 128 << 20, ..good.clone() }, "max_request"),
            (WorkerConfig { max_in_flight: 8 << 20, ..good.clone() }, "max_in_flight"),
            (WorkerConfig { dirty_limit: Share::Bytes(1000), ..good.clone() }, "dirty_limit"),
            (WorkerConfig { dirty_limit: Share::Bytes(2 << 30), ..good.clone() }, "dirty_limit"),
            (WorkerConfig { scrub_rate: 0, ..good.clone() }, "scrub_rate"),
        ] {
            let error = bad.check().expect_err(named);
            assert!(error.to_string().contains(named), "{error}");
        }
    }
}
