//! The kernel's table of mounts (`/proc/self/mountinfo`, proc(5)). Reading it asks no file system anything.

use std::{
    ffi::OsString,
    io,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
};

use super::SUBTYPE;

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MountEntry {
    /// `major:minor` of its files' device.
    pub(super) device: String,
    pub(super) mountpoint: PathBuf,
    /// Type with subtype, such as `fuse.headpond`.
    pub(super) kind: OsString,
    pub(super) source: OsString,
}

impl MountEntry {
    /// Whether a Headpond mounted it.
    pub(super) fn is_ours(&self) -> bool {
        self.kind.as_bytes().strip_prefix(b"fuse.") == Some(SUBTYPE.as_bytes())
    }
}

/// The uppermost mount at `path`, which must be absolute and normal.
///
/// # Errors
/// `/proc` cannot be read.
pub(super) fn mount_at(path: &Path) -> io::Result<Option<MountEntry>> {
    let table = std::fs::read("/proc/self/mountinfo")?;
    Ok(parse(&table).filter(|entry| entry.mountpoint == path).last())
}

/// Whether the uppermost mount at `path`, which must be absolute and normal, is that of `device`.
///
/// # Errors
/// `/proc` cannot be read.
pub(crate) fn is_mounted(path: &Path, device: &str) -> io::Result<bool> {
    Ok(mount_at(path)?.is_some_and(|found| found.device == device))
}

fn parse(table: &[u8]) -> impl Iterator<Item = MountEntry> {
    table.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let device = String::from_utf8(fields.nth(2)?.to_vec()).ok()?;
        let mountpoint = PathBuf::from(unescape(fields.nth(1)?));
        let mut fields = fields.skip_while(|field| *field != b"-").skip(1);
        Some(MountEntry { device, mountpoint, kind: unescape(fields.next()?), source: unescape(fields.next()?) })
    })
}

/// Undoes the kernel's `\040` for spaces and the like.
fn unescape(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let escaped = match rest {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] => {
                Some(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'))
            }
            _ => None,
        };
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &rest[4..] } else { after };
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uppermost_mount_at_a_path_is_found_under_its_real_name() {
        let table = b"22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
            40 22 0:50 / /mnt/my\\040pond ro - ext4 x ro\n\
            41 40 0:51 / /mnt/my\\040pond ro,nosuid shared:9 master:2 - fuse.headpond headpond:s3://b ro,user_id=0\n";
        let found: Vec<_> = parse(table).filter(|entry| entry.mountpoint == Path::new("/mnt/my pond")).collect();
        assert_eq!(found.len(), 2);
        assert_eq!(found[1].device, "0:51");
        assert_eq!(found[1].source, "headpond:s3://b");
        assert!(found[1].is_ours());
        assert!(!found[0].is_ours());
    }
}
