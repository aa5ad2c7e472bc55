//! Open, read and close of warm small files.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow};
use headpond_tests::{Command, Mounted, Process, noise};

use crate::{
    report::Report,
    world::{Scale, World, float},
};

pub(crate) fn run(scale: Scale, report: &mut Report) -> Result<()> {
    let world = World::new()?;
    let count = 10_000 / scale.divisor;
    let files: Vec<_> = (0..count).map(|n| (format!("small/{n:05}"), noise(n, 4096))).collect();
    let larger: Vec<_> = (0..2_000 / scale.divisor).map(|n| (format!("larger/{n:05}"), noise(n, 100 << 10))).collect();
    for (name, body) in files.iter().chain(&larger) {
        world.native(&format!("native/{name}"), body)?;
    }
    let names: Vec<_> = files.iter().map(|(name, _)| name.clone()).collect();
    let larger_names: Vec<_> = larger.iter().map(|(name, _)| name.clone()).collect();
    world.put(files.into_iter().chain(larger))?;
    let native = world.folder.path().join("native");

    let bare = Bare::start(&world, &native)?;
    let pond = world.pond().start()?;
    let root = pond.path("");
    for folder in [bare.mounted.path(), &root] {
        visit(folder, &names, 4096, 2)?;
    }
    for threads in [1, 2] {
        let title = format!("open + read 4 KiB + close, {threads} threads, against a bare passthrough file system");
        report.compare(
            scale,
            &title,
            "/s",
            "≥ 0.8 ×",
            || visit(bare.mounted.path(), &names, 4096, threads),
            || visit(&root, &names, 4096, threads),
        )?;
        let title = format!("open + read 4 KiB + close, {threads} threads, against native files");
        report.compare(
            scale,
            &title,
            "/s",
            "–",
            || visit(&native, &names, 4096, threads),
            || visit(&root, &names, 4096, threads),
        )?;
    }
    visit(&root, &larger_names, 100 << 10, 4)?;
    report.compare(
        scale,
        "read of 100 KiB files, 4 threads",
        "/s",
        "≥ 40 k/s",
        || visit(&native, &larger_names, 100 << 10, 4),
        || visit(&root, &larger_names, 100 << 10, 4),
    )?;
    drop(pond);

    let pond = world.pond().arg("-o").arg("dataset").start()?;
    let root = pond.path("");
    visit(&root, &names, 4096, 2)?;
    visit(&root, &larger_names, 100 << 10, 2)?;
    for threads in [1, 2] {
        let title = format!("dataset mount: open + read 4 KiB + close, {threads} threads");
        report.compare(
            scale,
            &title,
            "/s",
            "≥ 0.6 ×",
            || visit(&native, &names, 4096, threads),
            || visit(&root, &names, 4096, threads),
        )?;
    }
    report.compare(
        scale,
        "dataset mount: read of 100 KiB files, 4 threads",
        "/s",
        "≥ 0.6 ×",
        || visit(&native, &larger_names, 100 << 10, 4),
        || visit(&root, &larger_names, 100 << 10, 4),
    )?;
    Ok(())
}

/// Opens, reads up to `length` bytes of, and closes each file, shared out among threads.
fn visit(root: &Path, names: &[String], length: usize, threads: usize) -> Result<f64> {
    std::thread::scope(|scope| {
        let running: Vec<_> = names
            .chunks(names.len().div_ceil(threads))
            .map(|share| {
                scope.spawn(move || {
                    let mut buffer = vec![0; length];
                    for name in share {
                        let path = root.join(name);
                        let file = File::open(&path).with_context(|| path.display().to_string())?;
                        file.read_exact_at(&mut buffer, 0)?;
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        for thread in running {
            thread.join().map_err(|_| anyhow!("a reader panicked"))??;
        }
        Ok(float(names.len() as u64))
    })
}

/// The bare passthrough file system, which the `fuse` crate has as an example.
pub(crate) struct Bare {
    // Ended before it is unmounted.
    _process: Process,
    pub(crate) mounted: Mounted,
}

impl Bare {
    pub(crate) fn start(world: &World, source: &Path) -> Result<Self> {
        let mounted = Mounted::at(world.folder.path().canonicalize()?.join("bare"))?;
        let mut command = Command::new(binary()?);
        command.arg(source).arg(mounted.path());
        let mut process = Process::start("bare_passthrough", &command, &world.folder.path().join("bare.log"))?;
        mounted.wait(&mut process)?;
        Ok(Self { _process: process, mounted })
    }
}

fn binary() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let path = own.parent().context("a program lies in a folder")?.join("examples/bare_passthrough");
    anyhow::ensure!(path.is_file(), "no {}: build it with `cargo build --release --examples`", path.display());
    Ok(path)
}
