//! Headpond end to end: a real MinIO, real processes, a real kernel mount.

mod amplification;
mod crashes;
mod faults;
mod free;
mod freshness;
mod keys;
mod lake;
mod lookups;
mod mount;
mod programs;
