//! Disks that fill up or break, for one test.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tempfile::TempDir;

use crate::{Command, new_folder};

/// A file system of its own, unmounted when dropped. Only root may make one.
#[derive(Debug)]
pub struct Disk {
    // Unmounted before its folder goes.
    mounted: PathBuf,
    _folder: TempDir,
}

impl Disk {
    /// One in memory that is full after so many bytes.
    ///
    /// # Errors
    /// It cannot be mounted.
    pub fn small(bytes: u64) -> Result<Self> {
        let disk = Self::new()?;
        let options = std::ffi::CString::new(format!("size={bytes}"))?;
        mount("tmpfs", &disk.mounted, "tmpfs", MountFlags::empty(), options.as_c_str())
            .context("cannot mount a tmpfs")?;
        Ok(disk)
    }

    /// An ext4 on a loop device that turns read-only at its first error.
    ///
    /// # Errors
    /// It cannot be made or mounted.
    pub fn fragile(bytes: u64) -> Result<Self> {
        let disk = Self::new()?;
        let image = disk.mounted.with_extension("image");
        std::fs::File::create_new(&image)?.set_len(bytes)?;
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image))?;
        run(Command::new("mount").args(["-o", "loop,errors=remount-ro"]).arg(&image).arg(&disk.mounted))?;
        Ok(disk)
    }

    fn new() -> Result<Self> {
        let folder = new_folder()?;
        let mounted = folder.path().canonicalize()?.join("disk");
        std::fs::create_dir(&mounted)?;
        Ok(Self { mounted, _folder: folder })
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.mounted
    }

    /// Lets a disk of [`Disk::fragile`] have an error, as a bad sector would: it is read-only from now on, whoever has files open.
    ///
    /// # Errors
    /// This kernel has no way to do so.
    pub fn break_down(&self) -> Result<()> {
        let table = std::fs::read_to_string("/proc/self/mountinfo")?;
        let path = self.mounted.to_string_lossy();
        let line = table.lines().find(|line| line.split(' ').nth(4) == Some(&path)).context("it is not mounted")?;
        let device = line.split(" - ").nth(1).and_then(|rest| rest.split(' ').nth(1)).context("no device")?;
        let name = device.strip_prefix("/dev/loop").with_context(|| format!("{device} is no loop device"))?;
        std::fs::write(format!("/sys/fs/ext4/loop{name}/trigger_fs_error"), "a broken disk")?;
        ensure!(std::fs::write(self.mounted.join("probe"), "").is_err(), "{path} can still be written to");
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _unmounted = unmount(&self.mounted, UnmountFlags::DETACH);
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} ended with {}: {said}", output.status);
    Ok(())
}
