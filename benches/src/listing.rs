//! A prefix of a hundred thousand keys.

use std::time::Instant;

use anyhow::{Result, ensure};
use bytes::Bytes;

use crate::{
    report::Report,
    world::{Scale, World, float},
};

pub(crate) fn run(scale: Scale, report: &mut Report) -> Result<()> {
    let world = World::new()?;
    let count = 100_000 / scale.divisor;
    let name = |n: u64| format!("part-{n:06}-3f2a9c61.snappy.parquet");
    world.put((0..count).map(|n| (format!("d/{}", name(n)), Bytes::from_static(b"x"))))?;
    let native = world.folder.path().join("native");
    std::fs::create_dir(&native)?;
    for n in 0..count {
        std::fs::write(native.join(name(n)), "x")?;
    }

    let (mut raw, mut all, mut first) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..scale.rounds {
        let started = Instant::now();
        let listed = world.runtime.block_on(world.s3.list("d/"))?.len() as u64;
        ensure!(listed == count, "{listed} keys");
        raw.push(started.elapsed().as_secs_f64());
        let pond = world.pond().start()?;
        let started = Instant::now();
        let mut entries = std::fs::read_dir(pond.path("d"))?;
        ensure!(entries.next().is_some(), "no entry");
        first.push(started.elapsed().as_secs_f64());
        ensure!(entries.count() as u64 + 1 == count, "entries are missing");
        all.push(started.elapsed().as_secs_f64());
    }
    let [raw, all, first] = [raw, all, first].map(|mut figures| {
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    });
    report.fact("cold listing of 100,000 keys: first entry", "–", &format!("{first:.3} s"), "–", "< 0.1 s");
    report.fact(
        "the same: all, against raw paged listing",
        &format!("{raw:.2} s"),
        &format!("{all:.2} s"),
        &format!("{:.2} × the time", all / raw),
        "≤ 1.1 × the time",
    );

    let pond = world.pond().start()?;
    let ours = pond.path("d");
    let list = |folder: &std::path::Path| -> Result<f64> {
        let seen = std::fs::read_dir(folder)?.count() as u64;
        ensure!(seen == count, "{seen} entries");
        Ok(float(seen))
    };
    list(&ours)?;
    report.compare(
        scale,
        "the same again, against a native directory",
        "entries/s",
        "≥ 0.5 ×",
        || list(&native),
        || list(&ours),
    )
}
