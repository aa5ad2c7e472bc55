//! Small files that must survive the end of their process, and of the machine.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

/// Makes `bytes` the file `name` in `dir`, which only its owner can read: written beside it as `name.new`, made durable, renamed over it. So it is
/// there wholly, or as it was before. Blocks on the disk.
///
/// # Errors
/// Those of the file system; a file `name.new` may be left.
pub fn replace(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let beside = dir.join(format!("{name}.new"));
    let mut file = File::options().create(true).truncate(true).write(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, dir.join(name))?;
    File::open(dir)?.sync_all()
}
