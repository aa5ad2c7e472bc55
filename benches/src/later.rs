//! Writing to mounts whose files are persisted after close (`async`, `deferred`), against native files that are synced, and a job's commit
//! against one that copies and deletes.

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use headpond_tests::{Pond, close, noise, write_and_close};

use crate::{
    report::{Report, figure},
    world::{MIB, Scale, World, float, have_memory},
};

/// Tasks of a job, each of which writes one file.
const TASKS: u64 = 1_000;

/// Tasks that run at once, and requests of the job that copies.
const PARALLEL: u64 = 16;

/// Files of the tree that is unpacked.
const TREE: u64 = 5_000;

pub(crate) fn run(scale: Scale, report: &mut Report) -> Result<()> {
    let world = World::new()?;
    {
        let pond = world.pond().arg("--durability").arg("async").start()?;
        large(&world, &pond, scale, report)?;
        small(&world, &pond, scale, report)?;
        in_place(&world, &pond, scale, report)?;
        tree(&world, &pond, scale, report)?;
    }
    job(&world, scale, report)
}

/// Waits until the store has everything, so that one row does not pay for another.
fn settle(pond: &Pond) -> Result<()> {
    pond.run_ok(&["fs", "sync", "/"]).map(drop)
}

/// One large file, written from front to end and synced.
fn large(world: &World, pond: &Pond, scale: Scale, report: &mut Report) -> Result<()> {
    let length = 1024 * MIB / scale.divisor;
    let body = noise(3, usize::try_from(length)?);
    let [native, ours] = [world.folder.path().join("native.bin"), pond.path("ours.bin")];
    let write = |path: &Path| {
        write_synced(path, &body)?;
        Ok(float(length) / 1e6)
    };
    report.compare_after(
        scale,
        "async: sequential write, fsync and close, against a native file with fsync",
        "MB/s",
        "≥ 0.8 ×",
        || {
            settle(pond)?;
            for path in [&native, &ours].into_iter().filter(|path| path.exists()) {
                fs::remove_file(path)?;
            }
            have_memory(4 * length)
        },
        || write(&native),
        || write(&ours),
    )?;
    settle(pond)?;
    world.check("ours.bin", 1, length)?;
    Ok(fs::remove_file(&ours)?)
}

/// Files of 1 KiB.
fn small(world: &World, pond: &Pond, scale: Scale, report: &mut Report) -> Result<()> {
    let body = noise(4, 1024);
    let round = AtomicU64::new(0);
    for threads in [1, 16] {
        let files = 4_000 / scale.divisor / if threads == 1 { 4 } else { 1 };
        let each = |root: PathBuf, write: fn(&Path, &[u8]) -> Result<()>| {
            let dir = root.join(format!("small-{}", round.fetch_add(1, Ordering::Relaxed)));
            fs::create_dir(&dir)?;
            beside(threads, files, |n| write(&dir.join(n.to_string()), &body))?;
            Ok(float(files))
        };
        report.compare_after(
            scale,
            &format!("async: create, 1 KiB and close, {threads} at a time, against native files with fsync"),
            "/s",
            "≥ 0.4 ×",
            || settle(pond),
            || each(world.folder.path().to_owned(), write_synced),
            || each(pond.path(""), |path, body| Ok(write_and_close(path, body)?)),
        )?;
        settle(pond)?;
        let last = round.load(Ordering::Relaxed) - 1;
        world.check(&format!("small-{last}/"), files, files * 1024)?;
    }
    Ok(())
}

/// 4 KiB at the end and in the middle of a large file, each followed by fsync.
fn in_place(world: &World, pond: &Pond, scale: Scale, report: &mut Report) -> Result<()> {
    let length = 64 * MIB;
    let changes = 200 / scale.divisor.min(4);
    let body = noise(5, usize::try_from(length)?);
    let [native, ours] = [world.folder.path().join("changed.bin"), pond.path("changed.bin")];
    for path in [&native, &ours] {
        write_synced(path, &body)?;
    }
    let piece = &body[..4096];
    let appended = |path: &Path| -> Result<f64> {
        let mut file = OpenOptions::new().append(true).open(path)?;
        for _ in 0..changes {
            file.write_all(piece)?;
            file.sync_all()?;
        }
        Ok(float(changes))
    };
    let overwritten = |path: &Path| -> Result<f64> {
        let file = OpenOptions::new().write(true).open(path)?;
        for n in 0..changes {
            file.write_all_at(piece, (n * 7_919 * 4096) % length)?;
            file.sync_all()?;
        }
        Ok(float(changes))
    };
    for what in ["append", "overwrite"] {
        let name = format!("async: {what} 4 KiB in a 64 MiB file with fsync, against native with fsync");
        let change = |path: &Path| if what == "append" { appended(path) } else { overwritten(path) };
        report.compare_after(scale, &name, "/s", "≥ 0.2 ×", || settle(pond), || change(&native), || change(&ours))?;
    }
    settle(pond)?;
    let expected = fs::read(&ours)?;
    ensure!(world.runtime.block_on(world.s3.get("changed.bin"))? == expected, "the object has other bytes");
    ensure!(fs::read(&native)? == expected, "the same changes end with other bytes");
    Ok(())
}

/// A source tree that is unpacked, and removed.
fn tree(world: &World, pond: &Pond, scale: Scale, report: &mut Report) -> Result<()> {
    let files = TREE / scale.divisor;
    let source = world.folder.path().join("source");
    for n in 0..files {
        let dir = source.join(format!("tree/part-{}/module-{}", n % 12, n % 240));
        fs::create_dir_all(&dir)?;
        let length = usize::try_from(200 + n * 7_919 % 12_000)?;
        fs::write(dir.join(format!("file-{n}.rs")), noise(n, length))?;
    }
    let archive = world.folder.path().join("tree.tar");
    run_command(Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(&source).arg("tree"))?;
    let unpack = |into: &Path| {
        run_command(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(into))?;
        Ok(float(files))
    };
    let remove = |below: &Path| {
        run_command(Command::new("rm").arg("-r").arg(below.join("tree")))?;
        Ok(float(files))
    };
    let [native, ours] = [world.folder.path().join("unpacked"), pond.path("unpacked")];
    fs::create_dir(&native)?;
    fs::create_dir(&ours)?;
    report.compare_after(
        scale,
        "async: untar of a source tree, files, against native",
        "/s",
        "said",
        || {
            for below in [&native, &ours].into_iter().filter(|below| below.join("tree").exists()) {
                fs::remove_dir_all(below.join("tree"))?;
            }
            settle(pond)
        },
        || unpack(&native),
        || unpack(&ours),
    )?;
    settle(pond)?;
    world.check("unpacked/tree/", files, (0..files).map(|n| 200 + n * 7_919 % 12_000).sum())?;
    report.compare_after(
        scale,
        "async: rm -r of it once it is persisted, against native",
        "/s",
        "said",
        || {
            for below in [&native, &ours].into_iter().filter(|below| !below.join("tree").exists()) {
                unpack(below)?;
            }
            settle(pond)
        },
        || remove(&native),
        || remove(&ours),
    )?;
    Ok(())
}

/// A job whose tasks write under `_temporary` and are renamed into place, then a `_SUCCESS`, until the store has it all.
fn job(world: &World, scale: Scale, report: &mut Report) -> Result<()> {
    let tasks = TASKS / scale.divisor;
    let body = noise(6, 64 << 10);
    let round = AtomicU64::new(0);
    let ours = |pond: &Pond| {
        let output = format!("ours-{}", round.fetch_add(1, Ordering::Relaxed));
        job_of_renames(&pond.path(&output), tasks, &body)?;
        settle(pond)?;
        world.check(&format!("{output}/"), tasks + 1, tasks * (64 << 10))
    };
    let pond = world.pond().arg("--durability").arg("deferred").start()?;
    report.compare(
        scale,
        "deferred: commit of a job's task files and fs sync, against copies and deletes, 16 at a time",
        "/s",
        "≥ 2 ×",
        || {
            let output = format!("direct-{}", round.fetch_add(1, Ordering::Relaxed));
            world.runtime.block_on(job_of_copies(world, &output, tasks, &body))?;
            Ok(float(tasks))
        },
        || {
            ours(&pond)?;
            Ok(float(tasks))
        },
    )?;
    drop(pond);
    // Counted by itself: the proxy takes its share of the processors.
    let pond = world.pond_through_proxy().arg("--durability").arg("deferred").start()?;
    world.proxy.reset();
    ours(&pond)?;
    let requests = world.proxy.requests();
    let puts = float(requests.iter().filter(|request| request.puts()).count() as u64) / float(tasks + 1);
    report.fact("the same: PUTs a file", "2", &format!("{puts:.3}"), "", "≤ 1.05");
    let copies = requests.iter().filter(|request| request.copies.is_some()).count() as u64;
    report.fact("the same: copies", &figure(float(2 * tasks)), &copies.to_string(), "", "0");
    Ok(())
}

/// The job as a client without a rename does it: two renames of each file, each a copy and a delete.
async fn job_of_copies(world: &World, output: &str, tasks: u64, body: &Bytes) -> Result<()> {
    let attempt = |n: u64| format!("{output}/_temporary/0/_temporary/attempt_{n}/part-{n:05}");
    let task = |n: u64| format!("{output}/_temporary/0/task_{n}/part-{n:05}");
    stream::iter(0..tasks)
        .map(|n| async move {
            world.s3.put(&attempt(n), body.clone()).await?;
            world.s3.copy_and_delete(&attempt(n), &task(n)).await
        })
        .buffer_unordered(usize::try_from(PARALLEL)?)
        .try_collect::<()>()
        .await?;
    stream::iter(0..tasks)
        .map(|n| async move { world.s3.copy_and_delete(&task(n), &format!("{output}/part-{n:05}")).await })
        .buffer_unordered(usize::try_from(PARALLEL)?)
        .try_collect::<()>()
        .await?;
    world.s3.put(&format!("{output}/_SUCCESS"), Bytes::new()).await.map(drop)
}

fn job_of_renames(output: &Path, tasks: u64, body: &[u8]) -> Result<()> {
    let temporary = output.join("_temporary/0");
    fs::create_dir_all(temporary.join("_temporary"))?;
    beside(PARALLEL, tasks, |n| {
        let attempt = temporary.join(format!("_temporary/attempt_{n}"));
        fs::create_dir(&attempt)?;
        write_and_close(&attempt.join(format!("part-{n:05}")), body)?;
        Ok(fs::rename(&attempt, temporary.join(format!("task_{n}")))?)
    })?;
    beside(PARALLEL, tasks, |n| {
        let name = format!("part-{n:05}");
        Ok(fs::rename(temporary.join(format!("task_{n}/{name}")), output.join(name))?)
    })?;
    fs::remove_dir_all(output.join("_temporary"))?;
    Ok(write_and_close(&output.join("_SUCCESS"), b"")?)
}

/// Does `work` for each number below `count`, on so many threads.
fn beside(threads: u64, count: u64, work: impl Fn(u64) -> Result<()> + Sync) -> Result<()> {
    let next = AtomicU64::new(0);
    let each = || {
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= count {
                return anyhow::Ok(());
            }
            work(n)?;
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(each)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?)
    })
}

/// Writes a file in steps of 1 MiB, and has it on disk before it closes it.
fn write_synced(path: &Path, body: &[u8]) -> Result<()> {
    let mut file = File::create(path).with_context(|| path.display().to_string())?;
    for piece in body.chunks(1 << 20) {
        file.write_all(piece)?;
    }
    file.sync_all()?;
    Ok(close(file)?)
}

fn run_command(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} ended with {}: {said}", output.status);
    Ok(())
}
