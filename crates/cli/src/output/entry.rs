//! Entries of the namespace as text and JSON.

use headpond_types::{Attr, FileKind, Timestamp};
use serde::Serialize;

use super::{PathJson, escape, moment, size};

/// An entry in JSON; the same shape in `ls`, `stat` and `find`.
#[derive(Debug, Serialize)]
pub(crate) struct EntryJson {
    #[serde(flatten)]
    path: PathJson,
    #[serde(rename = "type")]
    kind: &'static str,
    /// Bytes.
    size: u64,
    /// RFC 3339.
    mtime: String,
    /// That of modification, unless a program has set another.
    atime: String,
    ctime: String,
    /// Permission bits in octal.
    mode: String,
    uid: u32,
    gid: u32,
    nlink: u32,
    inode: u64,
    mount: u32,
    /// Identity of the bytes; `null` unless it is a file.
    content: Option<String>,
    /// The store's name of this version (ETag); `null` unless it is a file.
    version: Option<String>,
}

impl EntryJson {
    pub(crate) fn new(path: &[u8], attr: &Attr) -> Self {
        Self {
            path: PathJson::new(path),
            kind: kind_name(attr.kind),
            size: attr.size,
            mtime: moment(attr.mtime),
            atime: moment(attr.accessed()),
            ctime: moment(attr.ctime),
            mode: format!("{:04o}", attr.mode),
            uid: attr.uid,
            gid: attr.gid,
            nlink: attr.nlink,
            inode: attr.inode.0,
            mount: attr.mount.0,
            content: attr.content.map(|content| content.to_string()),
            version: (!attr.version.is_empty()).then(|| attr.version.clone()),
        }
    }
}

/// The kind as `find --type` and JSON call it.
pub(crate) const fn kind_name(kind: FileKind) -> &'static str {
    match kind {
        FileKind::File => "file",
        FileKind::Directory => "directory",
        FileKind::Symlink => "symlink",
        FileKind::Fifo => "fifo",
        FileKind::Socket => "socket",
        FileKind::CharDevice(_) => "character device",
        FileKind::BlockDevice(_) => "block device",
    }
}

/// An entry as `ls -l` shows it.
pub(crate) fn long_line(path: &[u8], attr: &Attr, human: bool) -> String {
    let mode = mode_letters(attr.kind, attr.mode);
    let size = size(attr.size, human);
    let time = moment(Timestamp(attr.mtime.0 - attr.mtime.0.rem_euclid(1_000_000_000)));
    format!("{mode} {:>5} {:>5} {size:>12} {time} {}", attr.uid, attr.gid, escape(path))
}

fn mode_letters(kind: FileKind, mode: u32) -> String {
    let mut letters = String::from(match kind {
        FileKind::File => "-",
        FileKind::Directory => "d",
        FileKind::Symlink => "l",
        FileKind::Fifo => "p",
        FileKind::Socket => "s",
        FileKind::CharDevice(_) => "c",
        FileKind::BlockDevice(_) => "b",
    });
    for bit in (0..9).rev() {
        let letter = ['x', 'w', 'r'][bit % 3];
        letters.push(if mode >> bit & 1 == 1 { letter } else { '-' });
    }
    letters
}

#[cfg(test)]
mod tests {
    use headpond_types::{ContentId, InodeId, MountId};

    use super::*;

    fn attr() -> Attr {
        Attr {
            inode: InodeId(7),
            parent: InodeId(1),
            mount: MountId(1),
            kind: FileKind::File,
            mode: 0o640,
            uid: 1000,
            gid: 100,
            nlink: 1,
            size: 1536,
            mtime: Timestamp(1_700_000_000_500_000_000),
            atime: None,
            own_mtime: false,
            has_xattrs: false,
            dirty: false,
            ctime: Timestamp(0),
            content: Some(ContentId(255)),
            version: "etag".to_owned(),
        }
    }

    #[test]
    fn an_entry_is_one_line_for_people() {
        let line = "-rw-r-----  1000   100     1.50 KiB 2023-11-14T22:13:20Z a\\nb";
        assert_eq!(long_line(b"a\nb", &attr(), true), line);
        let directory = Attr { kind: FileKind::Directory, mode: 0o755, size: 0, ..attr() };
        assert!(long_line(b"d", &directory, false).starts_with("drwxr-xr-x  1000   100            0 "));
    }

    #[test]
    fn an_entry_has_one_shape_for_programs() {
        let json = serde_json::to_value(EntryJson::new(b"/a", &attr())).expect("serialisable");
        assert_eq!(
            json,
            serde_json::json!({
                "path": "/a", "type": "file", "size": 1536, "mtime": "2023-11-14T22:13:20.5Z",
                "atime": "2023-11-14T22:13:20.5Z", "ctime": "1970-01-01T00:00:00Z", "mode": "0640", "uid": 1000,
                "gid": 100, "nlink": 1, "inode": 7, "mount": 1, "content": "000000000000000000000000000000ff", "version": "etag",
            })
        );
    }
}
