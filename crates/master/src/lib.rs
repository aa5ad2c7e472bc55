//! The master: the namespace of a cluster, kept fresh from under stores and changed through them, and the ring of its workers.
//!
//! [`Master::start`] opens journal and namespace, begins a term and serves three gRPC services: the namespace for clients,
//! registration for workers, administration. Inside, from the bottom up:
//!
//! * `catalog`: the namespace behind its journal; the only way to change it.
//! * `mount`, `mounts`, `health`: stores of the mount table, each asked under a deadline and with book kept of how it is doing.
//! * `sync`: asks stores and brings their answers into the namespace.
//! * `lookup`, `walk`: answers as fresh as a mount asks for, or the stated exception from it.
//! * `write`, `relocate`: what clients change, and the objects that follow renames.
//! * `persist`: what workers hold, on its way to the stores.
//! * `workers`, `sessions`, `grants`: the ring, what clients are told, and the right to read.
//! * `sweeper`: clears away what lies below directories that are gone.
//! * `service`: messages in and out.
//!
//! Invariants: a failed question to a store changes nothing; what a store was not seen to hold is forgotten only after a
//! listing that reached its end; what a client was told is done is not undone by what a store showed before; no secret leaves the process.

mod access;
mod blocking;
mod catalog;
mod check;
mod config;
mod connect;
mod core;
mod denials;
mod grant_key;
mod grants;
mod health;
mod lookup;
mod master;
mod metrics;
mod mount;
mod mounting;
mod mounts;
mod notices;
mod pause;
mod persist;
mod persistence;
mod relocate;
mod running;
mod service;
mod sessions;
mod sweeper;
mod sync;
mod walk;
mod workers;
mod write;

#[cfg(test)]
mod tests;

pub use config::MasterConfig;
pub use master::Master;
pub use running::RunningMaster;
