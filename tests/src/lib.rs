//! What end-to-end tests and benchmarks stand on: real servers, processes and mounts that end with the test that
//! started them, an S3 client of their own, and a proxy that counts, limits and breaks what passes.

mod authority;
mod cluster;
mod descriptor;
mod disk;
#[cfg(test)]
mod documented;
pub mod launcher;
mod minio;
mod part;
mod pond;
mod port;
mod process;
mod proxy;
mod rights;
mod s3;
mod sample;
mod tool;

pub use authority::{Authority, Issued};
pub use cluster::{Cluster, ClusterBuilder};
pub use descriptor::{append_and_close, close, truncate, write_and_close};
pub use disk::Disk;
pub use launcher::Command;
pub use minio::Minio;
pub use part::Part;
pub use pond::{Mounted, Pond, PondBuilder, can_passthrough, headpond_binary};
pub use port::free_port;
pub use process::{Process, eventually, eventually_within, http_get, metric, new_folder, wait_ready, within};
pub use proxy::{Behaviour, Proxy, Request};
pub use rights::{can_guard, is_root, run_as};
pub use s3::{S3, TimedListing};
pub use sample::{Sample, noise};
pub use tool::tool;
