//! The Headpond SDK: resolve, list, open, read, write, load and free.
//!
//! A [`Client`] keeps one session with the masters, answers metadata from memory while it is valid, and reads bytes from
//! the nearest worker: through a descriptor of the cache file when a worker runs on the same node, over gRPC otherwise.
//! Nothing here waits without a deadline, and dropping any future leaves no work behind that others wait for.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use headpond_client::{Client, ClientConfig};
//! use headpond_runtime::{Shutdown, Tasks};
//!
//! let config = ClientConfig { masters: vec!["127.0.0.1:7100".to_owned()], ..ClientConfig::default() };
//! let client = Client::connect(config, Tasks::new(Shutdown::new()))?;
//! let found = client.resolve(&"/data/part-0.parquet".parse()?).await?;
//! if let Some(attr) = found.attr {
//!     let file = client.open(attr.inode).await?;
//!     let footer = file.read_at(file.length().saturating_sub(8), 8).await?;
//!     println!("{footer:?}");
//! }
//! # Ok(())
//! # }
//! ```

mod admin;
mod backoff;
mod batching;
mod cache;
mod cached;
mod caller;
mod check;
mod client;
mod config;
mod event;
mod files;
mod grant;
mod listing;
mod load;
mod local;
mod lookup;
mod master;
mod metadata;
mod open_file;
mod open_files;
mod opening;
mod persistence;
mod problems;
mod ranges;
mod reach;
mod readahead;
mod remote;
mod session;
mod session_name;
mod shared;
mod source;
mod word;
mod workers;
mod writing;

pub use admin::{AdminClient, ClusterStatus, Mount, NewMount, WorkerStatus};
pub use cached::{Freed, Presence, StatFs};
pub use check::{CheckSums, Finding, FindingKind};
pub use client::Client;
pub use config::ClientConfig;
pub use event::{Awaited, Event};
pub use headpond_transport::{Neighbours, TlsConfig};
pub use listing::{ListEntry, ListOptions, ListPage, ListTarget};
pub use load::{LoadFailure, LoadOptions, LoadProgress};
pub use local::LocalFile;
pub use lookup::Lookup;
pub use master::is_refusal;
pub use open_file::OpenFile;
pub use persistence::{Durability, DurabilityRule, Persistence};
pub use problems::{Problem, Resolution};
pub use writing::{
    Amount, AttrChange, FileWriter, Moving, NewFile, Owner, Pending, PersistState, Stretch, Unpersisted,
};
