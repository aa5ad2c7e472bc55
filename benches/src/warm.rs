//! Warm reads of one large file through the mount, against the same bytes in a native file on the same disk.

use std::{fs::File, os::unix::fs::FileExt as _, path::Path};

use anyhow::{Result, anyhow};
use headpond_tests::noise;
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};

use crate::{
    report::Report,
    world::{MIB, Scale, World, drop_page_cache, float, read_through},
};

pub(crate) fn run(scale: Scale, report: &mut Report) -> Result<()> {
    let world = World::new()?;
    let length = 1024 * MIB / scale.divisor;
    let body = noise(1, usize::try_from(length)?);
    world.put([("big.bin".to_owned(), body.clone())])?;
    let native = world.native("big.bin", &body)?;
    drop(body);
    let pond = world.pond().start()?;
    let ours = pond.path("big.bin");
    read_through(&ours)?;
    rustix::fs::sync();

    let sequential = |path: &Path, cold: bool| {
        if cold {
            drop_page_cache()?;
        }
        Ok(float(read_through(path)?) / 1e6)
    };
    // The read of 1 GiB outlasts the dropping of the caches by far, and both sides pay for it alike.
    for (what, cold) in [("page cache warm", false), ("page cache dropped, disk cache warm", true)] {
        let title = format!("sequential read, {what}");
        report.compare(scale, &title, "MB/s", "≥ 0.95 ×", || sequential(&native, cold), || sequential(&ours, cold))?;
    }
    for (threads, cold) in [(1, false), (4, false), (1, true), (4, true)] {
        let reads = if cold { 4_000 } else { 200_000 } / scale.divisor;
        let title = format!(
            "4 KiB random reads, {threads} thread{}, page cache {}",
            if threads == 1 { "" } else { "s" },
            if cold { "dropped" } else { "warm" }
        );
        let random = |path: &Path| {
            if cold {
                drop_page_cache()?;
            }
            random_reads(path, length, threads, reads)
        };
        report.compare(scale, &title, "/s", "≥ 0.95 ×", || random(&native), || random(&ours))?;
    }
    Ok(())
}

/// `reads` aligned reads of 4 KiB in each of `threads`.
fn random_reads(path: &Path, length: u64, threads: u64, reads: u64) -> Result<f64> {
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|seed| {
                scope.spawn(move || {
                    let file = File::open(path)?;
                    let mut random = SmallRng::seed_from_u64(seed);
                    let mut buffer = [0; 4096];
                    for _ in 0..reads {
                        file.read_exact_at(&mut buffer, random.random_range(0..length / 4096) * 4096)?;
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        for thread in running {
            thread.join().map_err(|_| anyhow!("a reader panicked"))??;
        }
        Ok(float(threads * reads))
    })
}
