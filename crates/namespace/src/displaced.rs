//! Where objects wait whose places are still taken by others.

use headpond_types::InodeId;

/// The name at the top of a mount below which Headpond keeps objects of its own: hidden, and not to be made.
pub const RESERVED: &[u8] = b".headpond";

const DISPLACED: &[u8] = b".headpond/displaced/";

/// Where the object of a file, or with `/` what lies below a directory, waits until its place is free, relative to the mount's prefix. No
/// two inodes have the same.
#[must_use]
pub fn displaced_key(inode: InodeId) -> Vec<u8> {
    [DISPLACED, inode.0.to_string().as_bytes()].concat()
}

/// The inode whose place `key` is, or lies below, and what of it lies below.
#[must_use]
pub fn displaced_inode(key: &[u8]) -> Option<(InodeId, &[u8])> {
    let rest = key.strip_prefix(DISPLACED)?;
    let end = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
    let id = str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
    Some((InodeId(id), rest.get(end + 1..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_displaced_key_names_its_inode() {
        let key = displaced_key(InodeId(17));
        assert_eq!(key, b".headpond/displaced/17");
        assert_eq!(displaced_inode(&key), Some((InodeId(17), &b""[..])));
        assert_eq!(displaced_inode(b".headpond/displaced/17/a/b"), Some((InodeId(17), &b"a/b"[..])));
        assert_eq!(displaced_inode(b".headpond/displaced/x"), None);
        assert_eq!(displaced_inode(b"a/17"), None);
    }
}
