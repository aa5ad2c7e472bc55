//! What a store cannot hold: symbolic links, special files, extended attributes, holes.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    os::unix::fs::{FileExt as _, FileTypeExt as _, PermissionsExt as _, symlink},
    path::Path,
};

use anyhow::{Result, ensure};
use rustix::{
    fs::{CWD, FallocateFlags, FileType, Mode, XattrFlags},
    io::Errno,
};

use crate::lake::Lake;

fn xattr(path: &Path, name: &str) -> Result<Vec<u8>, Errno> {
    let mut buffer = [0; 256];
    rustix::fs::getxattr(path, name, &mut buffer).map(|length| buffer[..length].to_vec())
}

#[test]
fn what_no_store_holds_outlives_a_killed_pond_and_follows_renames() -> Result<()> {
    let lake = Lake::of([("d/f", "bytes")])?;
    let mut pond = lake.pond().arg("--sync-interval").arg("1s").start()?;
    symlink("f", pond.path("d/l"))?;
    rustix::fs::mknodat(CWD, pond.path("d/fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    rustix::fs::setxattr(pond.path("d/f"), "user.tag", b"blue", XattrFlags::CREATE)?;
    ensure!(fs::read(pond.path("d/l"))? == b"bytes", "the link is followed");
    for _ in 0..2 {
        pond.kill()?;
        pond.launch()?;
        ensure!(fs::read_link(pond.path("d/l"))? == Path::new("f"), "the link");
        ensure!(fs::symlink_metadata(pond.path("d/fifo"))?.file_type().is_fifo(), "the pipe");
        ensure!(xattr(&pond.path("d/f"), "user.tag") == Ok(b"blue".to_vec()), "the attribute");
    }
    let keys: Vec<_> = lake.list()?.into_iter().map(|(key, ..)| key).collect();
    ensure!(keys == ["d/f"], "nothing of it is in the bucket: {keys:?}");

    fs::rename(pond.path("d"), pond.path("e"))?;
    ensure!(fs::read(pond.path("e/l"))? == b"bytes", "below its new name");
    headpond_tests::eventually("the object has followed", || {
        Ok(lake.list()?.into_iter().map(|(key, ..)| key).eq(["e/f"]))
    })?;
    ensure!(xattr(&pond.path("e/f"), "user.tag") == Ok(b"blue".to_vec()), "the attribute after the move");
    lake.delete("e/f")?;
    headpond_tests::eventually("the deletion is seen", || Ok(!pond.path("e/f").exists()))?;
    let mut names: Vec<_> =
        fs::read_dir(pond.path("e"))?.map(|entry| entry.map(|entry| entry.file_name())).collect::<Result<_, _>>()?;
    names.sort();
    ensure!(names == ["fifo", "l"], "{names:?}");
    fs::remove_file(pond.path("e/l"))?;
    fs::remove_file(pond.path("e/fifo"))?;
    fs::remove_dir(pond.path("e"))?;
    ensure!(lake.list()?.is_empty(), "{:?}", lake.list()?);
    pond.stop()
}

#[test]
fn a_link_takes_the_place_of_another_and_of_a_file() -> Result<()> {
    let lake = Lake::of([("v1/f", "old"), ("v2/f", "new"), ("plain", "x")])?;
    let mut pond = lake.pond().start()?;
    symlink("v1", pond.path("current"))?;
    ensure!(fs::read(pond.path("current/f"))? == b"old", "the old version");
    symlink("v2", pond.path("next"))?;
    fs::rename(pond.path("next"), pond.path("current"))?;
    ensure!(fs::read(pond.path("current/f"))? == b"new", "the new version");
    fs::rename(pond.path("current"), pond.path("plain"))?;
    ensure!(fs::read(pond.path("plain/f"))? == b"new", "in the place of a file");
    let keys: Vec<_> = lake.list()?.into_iter().map(|(key, ..)| key).collect();
    ensure!(keys == ["v1/f", "v2/f"], "{keys:?}");
    pond.stop()
}

#[test]
fn a_hole_is_stored_as_zeros() -> Result<()> {
    let lake = Lake::of([("f", vec![7; 3 << 20])])?;
    let mut pond = lake.pond().start()?;
    let file = OpenOptions::new().read(true).write(true).open(pond.path("f"))?;
    rustix::fs::fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 1 << 20, 1 << 20)?;
    let mut byte = [9];
    file.read_exact_at(&mut byte, 3 << 19)?;
    ensure!(byte == [0], "the hole reads as {byte:?}");
    drop(file);
    let mut expected = vec![7; 3 << 20];
    expected[1 << 20..2 << 20].fill(0);
    pond.kill()?;
    pond.launch()?;
    ensure!(fs::read(pond.path("f"))? == expected, "what the store has");
    ensure!(File::open(pond.path("f"))?.metadata()?.len() == 3 << 20, "its length");
    pond.stop()
}

#[test]
fn the_root_of_a_mount_takes_attributes() -> Result<()> {
    let lake = Lake::of([("f", "x")])?;
    let mut pond = lake.pond().start()?;
    let root = pond.path("");
    fs::set_permissions(&root, Permissions::from_mode(0o750))?;
    rustix::fs::setxattr(&root, "user.tag", b"green", XattrFlags::empty())?;
    pond.kill()?;
    pond.launch()?;
    ensure!(fs::metadata(&root)?.permissions().mode() & 0o7777 == 0o750, "{:?}", fs::metadata(&root)?);
    ensure!(xattr(&root, "user.tag") == Ok(b"green".to_vec()), "the attribute");
    pond.stop()
}
