//! fio on a mount: what it wrote, sequentially, at random and through mapped memory, is there when it looks again, at once and when the cache is cold.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use headpond_tests::Command;

use crate::lake::Lake;

/// Each writes a file of its own name; every block has its checksum and its place in it.
const JOBS: &str = "\
[global]
thread
verify=crc32c
verify_fatal=1
randrepeat=1
end_fsync=1

[sequential]
rw=write
bs=64k
size=24m

[random]
rw=randwrite
bs=4k
size=8m
fsync=64

[pieces]
rw=randwrite
bsrange=512-60k
bs_unaligned
size=8m

[mapped]
ioengine=mmap
rw=randwrite
bs=4k
size=8m
";

const NAMES: [&str; 4] = ["sequential", "random", "pieces", "mapped"];

fn fio(jobs: &Path, folder: &Path, scratch: &Path, more: &[&str]) -> Result<()> {
    let mut command = Command::new("fio");
    command.current_dir(scratch).arg("--directory").arg(folder).args(["--filename_format=$jobname", "--minimal"]);
    let output = command.args(more).arg(jobs).output().context("no fio: `make tools` installs it")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "fio {more:?} ended with {}:\n{said}", output.status);
    Ok(())
}

fn fio_on(durability: &str) -> Result<()> {
    let lake = Lake::empty()?;
    let pond = lake.pond().arg("--durability").arg(durability).start()?;
    let scratch = tempfile::tempdir()?;
    let jobs = scratch.path().join("jobs");
    std::fs::write(&jobs, JOBS)?;
    fio(&jobs, &pond.path(""), scratch.path(), &[])?;
    pond.run_ok(&["fs", "sync", "/", "--timeout", "90s"])?;
    for name in NAMES {
        ensure!(lake.get(name)? == std::fs::read(pond.path(name))?, "the object {name} differs from the file");
    }
    pond.run_ok(&["fs", "free", "-r", "/"])?;
    fio(&jobs, &pond.path(""), scratch.path(), &["--verify_only"])
}

#[test]
fn fio_finds_what_it_wrote() -> Result<()> {
    fio_on("through")
}

#[test]
fn fio_finds_what_it_wrote_where_files_are_persisted_later() -> Result<()> {
    fio_on("async")
}
