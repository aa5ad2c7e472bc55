//! Attributes of warm files and of names that do not exist.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use headpond_tests::noise;

use crate::{
    report::Report,
    small::Bare,
    world::{Scale, World, float},
};

pub(crate) fn run(scale: Scale, report: &mut Report) -> Result<()> {
    let world = World::new()?;
    let count = 10_000 / scale.divisor;
    let files: Vec<_> = (0..count).map(|n| (format!("d/{n:05}"), noise(n, 10))).collect();
    for (name, body) in &files {
        world.native(&format!("native/{name}"), body)?;
    }
    world.put(files.clone())?;
    let native = world.folder.path().join("native");
    let bare = Bare::start(&world, &native)?;
    let pond = world.pond().start()?;
    let paths = |root: &Path, stem: &str| -> Vec<PathBuf> {
        (0..count).map(|n| root.join(format!("d/{n:05}{stem}"))).collect()
    };
    for (what, stem, exists) in [("stat of files", "", true), ("stat of missing names", "-none", false)] {
        let [base, bare, ours] = [&native, bare.mounted.path(), &pond.path("")].map(|root| paths(root, stem));
        if exists {
            // Attributes come with the listing, as programs that walk a tree ask for them.
            ensure!(std::fs::read_dir(pond.path("d"))?.count() == files.len(), "files are missing");
        }
        let started = std::time::Instant::now();
        stat(&ours, exists)?;
        let first = float(count) / started.elapsed().as_secs_f64();
        report.compare(
            scale,
            &format!("{what}, warm"),
            "/s",
            "≥ 0.9 ×",
            || stat(&base, exists),
            || stat(&ours, exists),
        )?;
        // What the kernel itself takes for a name on a FUSE mount, however little is behind it.
        report.compare(
            scale,
            &format!("{what}, warm, against a bare file system"),
            "/s",
            "–",
            || stat(&bare, exists),
            || stat(&ours, exists),
        )?;
        report.fact(&format!("{what}, first time"), "–", &format!("{first:.0} /s"), "–", "said");
    }
    Ok(())
}

fn stat(paths: &[PathBuf], exist: bool) -> Result<f64> {
    for path in paths {
        ensure!(rustix::fs::stat(path).is_ok() == exist, "{}", path.display());
    }
    Ok(float(paths.len() as u64))
}
