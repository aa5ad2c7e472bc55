//! Stretches of files through a mount: data and holes, copies, and lengths.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt as _,
    time::{Duration, SystemTime},
};

use anyhow::{Result, ensure};
use headpond_tests::eventually;
use rustix::{
    fs::{SeekFrom, copy_file_range, seek},
    io::Errno,
};

use crate::lake::Lake;

const MIB: u64 = 1 << 20;

#[test]
fn holes_are_found_while_a_file_is_written() -> Result<()> {
    let lake = Lake::empty()?;
    let mut pond = lake.pond().start()?;
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(pond.path("f"))?;
    file.write_all_at(&[7; 8192], MIB)?;
    file.set_len(3 * MIB)?;
    let next = |to| seek(&file, to);
    ensure!(next(SeekFrom::Data(0)) == Ok(MIB) && next(SeekFrom::Hole(0)) == Ok(0), "the hole in front");
    ensure!(next(SeekFrom::Hole(MIB)) == Ok(MIB + 8192), "the hole behind: {:?}", next(SeekFrom::Hole(MIB)));
    ensure!(next(SeekFrom::Data(2 * MIB)) == Err(Errno::NXIO), "data: {:?}", next(SeekFrom::Data(2 * MIB)));
    drop(file);
    let file = File::open(pond.path("f"))?;
    // The kernel tells of the close a moment after it.
    eventually("all is data", || {
        Ok(seek(&file, SeekFrom::Data(5)) == Ok(5) && seek(&file, SeekFrom::Hole(5)) == Ok(3 * MIB))
    })?;
    drop(file);
    pond.stop()
}

#[test]
fn a_copied_file_is_in_the_store() -> Result<()> {
    let bytes: Vec<u8> = (0..20 * MIB + 77).map(|at| u8::try_from(at % 253).unwrap_or(0)).collect();
    let lake = Lake::of([("f", bytes.clone())])?;
    let mut pond = lake.pond().start()?;
    // Read before: the kernel has it open by itself, or not.
    for (number, warm) in [(0, false), (1, true)] {
        if warm {
            ensure!(fs::read(pond.path("f"))? == bytes, "what is read");
        }
        let (from, name) = (File::open(pond.path("f"))?, format!("copy-{number}"));
        let to = File::create_new(pond.path(&name))?;
        let (mut at, mut to_at) = (0, 0);
        while copy_file_range(&from, Some(&mut at), &to, Some(&mut to_at), usize::MAX >> 2)? > 0 {}
        drop(to);
        ensure!(lake.get(&name)? == bytes, "{name} has other bytes in the store");
        ensure!(fs::read(pond.path(&name))? == bytes, "{name} reads as other bytes");
    }
    ensure!(headpond_tests::Command::new("cp").arg(pond.path("f")).arg(pond.path("cp")).status()?.success(), "cp");
    ensure!(lake.get("cp")? == bytes, "cp copied other bytes");
    pond.stop()
}

#[test]
fn a_file_is_modified_by_cutting_it_to_its_own_length() -> Result<()> {
    let lake = Lake::of([("f", "bytes")])?;
    let mut pond = lake.pond().start()?;
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
    for written in [false, true] {
        let file = OpenOptions::new().write(true).open(pond.path("f"))?;
        if written {
            file.write_all_at(b"B", 0)?;
        }
        file.set_modified(old)?;
        ensure!(fs::metadata(pond.path("f"))?.modified()? == old, "the time was set");
        file.set_len(5)?;
        ensure!(fs::metadata(pond.path("f"))?.modified()? > old, "it is cut, written: {written}");
        drop(file);
        ensure!(fs::metadata(pond.path("f"))?.modified()? > old, "it is closed, written: {written}");
    }
    pond.stop()
}
