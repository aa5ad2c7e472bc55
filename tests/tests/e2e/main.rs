//! Headpond end to end: a real MinIO, real processes, a real kernel mount.

#![expect(clippy::print_stdout, reason = "what a failing test shows besides its error")]

mod amplification;
mod check;
mod cluster;
mod coherence;
mod copied;
mod crashes;
mod disks;
mod durability;
mod examples;
mod faults;
mod fio;
mod free;
mod freshness;
mod keys;
mod kills;
mod lake;
mod links;
mod lookups;
mod memory;
mod model;
mod mount;
mod nodes;
mod outage;
mod posix;
mod programs;
mod ranges;
mod secrets;
mod stores;
mod tls;
mod write_kills;
mod writing;
