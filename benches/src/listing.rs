//! A prefix of a hundred thousand keys.

use std::time::{Duration, Instant};

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

    let mut rounds = Rounds::default();
    for round in 0..=scale.rounds {
        let pages = world.runtime.block_on(world.s3.list_timed("d/"))?;
        ensure!(pages.keys == count, "{} keys", pages.keys);
        let pond = world.pond().start()?;
        let folder = pond.path("d");
        let started = Instant::now();
        let mut entries = std::fs::read_dir(&folder)?;
        ensure!(entries.next().is_some(), "no entry");
        let first = started.elapsed();
        ensure!(entries.count() as u64 + 1 == count, "entries are missing");
        let all = started.elapsed();
        let started = Instant::now();
        ensure!(std::fs::read_dir(&folder)?.count() as u64 == count, "entries are missing");
        if round > 0 {
            rounds.add([pages.first, pages.all, first, all, started.elapsed()]);
        }
    }
    // Ours includes the look-up of the directory's name, which brings the first page.
    rounds.report(report, "cold listing of 100,000 keys: first entry, against the first raw page", 0, 2, "< 0.1 s");
    rounds.report(report, "the same: all, against raw paged listing", 1, 3, "≤ 1.1 × the time");
    rounds.report(report, "the same, right after that", 1, 4, "≤ 0.06 s");

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
        "the same once the kernel has it, against a native directory",
        "entries/s",
        "≥ 0.5 ×",
        || list(&native),
        || list(&ours),
    )?;
    Ok(())
}

/// What was timed, in seconds, round by round: first and all of the store's listing, first, all and again of ours.
#[derive(Default)]
struct Rounds(Vec<[f64; 5]>);

impl Rounds {
    fn add(&mut self, times: [Duration; 5]) {
        self.0.push(times.map(|time| time.as_secs_f64()));
    }

    fn report(&self, report: &mut Report, what: &str, baseline: usize, ours: usize, reach: &str) {
        let column = |n: usize| median(self.0.iter().map(|round| round[n]));
        let ratios = || self.0.iter().map(|round| round[ours] / round[baseline]);
        let (low, high) = ratios().fold((f64::MAX, 0f64), |(low, high), r| (low.min(r), high.max(r)));
        report.fact(
            what,
            &format!("{:.3} s", column(baseline)),
            &format!("{:.3} s", column(ours)),
            &format!("{:.2} × the time ({low:.2}–{high:.2})", median(ratios())),
            reach,
        );
    }
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    crate::report::median(&figures.collect::<Vec<_>>())
}
