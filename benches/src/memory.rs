//! Memory, and how soon a pond serves.

use std::time::Instant;

use anyhow::{Result, ensure};
use bytes::Bytes;
use headpond_tests::{Pond, noise};

use crate::{
    report::Report,
    world::{MIB, Scale, World, float, read_through},
};

pub(crate) fn run(scale: Scale, report: &mut Report) -> Result<()> {
    let lake = tempfile::tempdir()?;
    std::fs::write(lake.path().join("hello"), "hello")?;
    let started = Instant::now();
    let mut pond = Pond::over(&format!("file://{}", lake.path().display()), None).start()?;
    ensure!(std::fs::read_dir(pond.path(""))?.count() == 1, "one file");
    let first = started.elapsed().as_secs_f64();
    report.fact("start of `up` to the first `ls`", "–", &format!("{first:.2} s"), "–", "< 1 s");
    let idle = pond.resident_bytes()?;
    report.fact("idle `up`", "–", &format!("{:.0} MiB", float(idle) / float(MIB)), "–", "≤ 60 MiB");
    drop(pond);

    let world = World::new()?;
    let length = 2048 * MIB / scale.divisor;
    world.put((0..4).map(|n| (format!("big/{n}"), noise(n, usize::try_from(length / 4).unwrap_or(0)))))?;
    let mut pond = world.pond().without_mount().start()?;
    pond.run_ok(&["fs", "load", "-r", "/big"])?;
    let before = pond.resident_bytes()?;
    let pages = length / MIB;
    // Mostly what loading leaves in the allocator: what a page itself takes, the store's own test counts.
    report.fact(
        "resident `up` with that many pages cached",
        &format!("{pages} pages"),
        &format!("{:.0} MiB", float(before) / float(MIB)),
        "–",
        "–",
    );
    drop(pond);

    let count = 100_000 / scale.divisor;
    world.put(
        (0..count).map(|n| (format!("many/part-{n:06}-3f2a9c61-7b1e-4a55-9f00-aa.parquet"), Bytes::from_static(b"x"))),
    )?;
    // Without a mount, so that clients' caches are not counted; the worker knows nothing of files that nobody read.
    let mut pond = world.pond().without_mount().start()?;
    let idle = pond.resident_bytes()?;
    ensure!(pond.run_ok(&["fs", "ls", "/many"])?.lines().count() as u64 == count, "files are missing");
    let listed = pond.resident_bytes()?;
    report.fact(
        "resident master and worker after listing, a file",
        &format!("{count} files"),
        &format!("{:.0} B", float(listed.saturating_sub(idle)) / float(count)),
        "–",
        "≤ 300 B",
    );
    drop(pond);

    let mut pond = world.pond().start()?;
    ensure!(std::fs::read_dir(pond.path("many"))?.count() as u64 == count, "files are missing");
    report.fact(
        "resident `up` with its mount after listing",
        &format!("{count} files"),
        &format!("{:.0} MiB", float(pond.resident_bytes()?) / float(MIB)),
        "–",
        "–",
    );
    // Files seen and forgotten by the kernel must leave nothing in the mount.
    let mut figures = Vec::new();
    for _ in 0..3 {
        for n in 0..count.min(10_000) {
            read_through(&pond.path(&format!("many/part-{n:06}-3f2a9c61-7b1e-4a55-9f00-aa.parquet")))?;
        }
        std::fs::write("/proc/sys/vm/drop_caches", "2")?;
        figures.push(float(pond.resident_bytes()?) / float(MIB));
    }
    report.fact(
        "resident `up` after reading 10,000 files once, twice, three times",
        &format!("{:.0} MiB", figures[0]),
        &format!("{:.0}, {:.0} MiB", figures[1], figures[2]),
        &format!("{:.2} ×", figures[2] / figures[0]),
        "flat",
    );
    Ok(())
}
