//! A writer that outruns the store is slowed, not failed, and what waits on a worker stays below its limit.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Result, ensure};
use headpond_tests::{Behaviour, Cluster, eventually, noise, write_and_close};

use super::{cluster, must_be_persisted, must_read, told::Status};
use crate::lake::Lake;

const MIB: usize = 1 << 20;

/// Half of the cache.
const LIMIT: usize = 32 * MIB;

/// The file that is being written may be begun below the limit.
const SLACK: usize = 4 * MIB;

const FILES: usize = 30;

/// The bound holds, by what the master says that waits.
fn must_hold(cluster: &Cluster, written: &AtomicUsize) -> Result<()> {
    let waiting = Status::of(cluster, "/")?.due_bytes();
    ensure!(waiting <= (LIMIT + SLACK) as u64, "{waiting} bytes wait after {written:?} files");
    Ok(())
}

#[test]
fn a_writer_that_outruns_the_store_is_slowed_and_the_bound_holds() -> Result<()> {
    let lake = Lake::empty()?;
    let cluster = cluster(&lake, "async").capacity("64MiB").start()?;
    lake.proxy.behave(Behaviour { answer: Some(503), method: "PUT".to_owned(), ..Behaviour::default() });
    let written = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            for n in 0..FILES {
                write_and_close(&cluster.path(0, &format!("f{n}")), &noise(n as u64, 4 * MIB))?;
                written.fetch_add(1, Ordering::SeqCst);
            }
            anyhow::Ok(())
        });
        let watched = (|| {
            eventually("the worker is almost at its limit", || {
                ensure!(!writing.is_finished(), "the writer has ended: {:?} files", written);
                Ok(written.load(Ordering::SeqCst) * 4 * MIB > LIMIT * 3 / 4)
            })?;
            // What was acknowledged is read meanwhile, and nothing of it goes.
            for _ in 0..50 {
                must_read(&cluster.path(0, "f0"), &noise(0, 4 * MIB))?;
                ensure!(!writing.is_finished(), "the writer has ended although nothing could be persisted");
                must_hold(&cluster, &written)?;
            }
            lake.proxy.behave(Behaviour::default());
            eventually("the writer is done", || {
                must_hold(&cluster, &written)?;
                Ok(writing.is_finished())
            })
        })();
        lake.proxy.behave(Behaviour::default());
        let wrote = writing.join().expect("the writer returns errors");
        watched.and(wrote)
    })?;
    must_be_persisted(&lake, &cluster)
}
