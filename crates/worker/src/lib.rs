//! The worker: serves contents from its page store and fills what is missing from the owner of the block or from the under
//! store.
//!
//! * [`Worker::start`] opens the store, listens on gRPC and on the unix socket, and joins the cluster in the background.
//! * `grpc` and `socket` answer; both read through `reader`, which hides every fault of the cache from them.
//! * `staging` holds files that are being written, and stores them.
//! * `fill` brings missing pages, each once; its invariants stand there.
//! * `cluster` is what is known of the others (ring and earlier rings, mounts, key of grants), kept current by `registration` and across
//!   restarts by `identity`.

mod cache;
mod cluster;
mod config;
mod connector;
mod faults;
mod fill;
mod grants;
mod grpc;
mod heir;
mod identity;
mod metrics;
mod mounts;
mod peers;
mod ranges;
mod reader;
mod registration;
mod rings;
mod running;
mod shared_error;
mod socket;
mod staging;
mod worker;

#[cfg(test)]
mod tests;

pub use config::{CacheDir, Deadlines, WorkerConfig};
pub use running::{RunningWorker, WorkerStatus};
pub use worker::Worker;
