//! What under stores list and describe.

use std::fmt;

use bytes::Bytes;
use headpond_types::{ContentId, Name, Timestamp};

/// The raw key of an object, relative to nothing: the whole key as the store knows it, never with a leading slash.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Key(pub Bytes);

impl Key {
    /// The bytes of the key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl<T: Into<Bytes>> From<T> for Key {
    fn from(bytes: T) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        String::from_utf8_lossy(&self.0).fmt(f)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

/// What a store says of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Its raw key.
    pub key: Key,
    /// Bytes.
    pub size: u64,
    /// Last modification; stores without one give the epoch.
    pub mtime: Timestamp,
    /// What identifies this version: the ETag without quotes, or what the driver builds in its place (the `local` driver:
    /// inode, mtime, ctime and length). Never empty.
    pub version: String,
    /// The content that it was put as, when that is asked of a single object ([`crate::UnderStore::head`], and what was just made); a listing
    /// does not tell it, nor a store that keeps nothing beside the bytes. A copy says the same as its source.
    pub content: Option<ContentId>,
}

/// What an object says of itself beside its bytes, to whoever finds it. A store that keeps nothing beside the bytes drops it, or a part of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Label {
    /// The content that it is, so that whoever made it knows it again ([`ObjectMeta::content`]).
    pub content: Option<ContentId>,
    /// Permission bits of the file, without its type.
    pub mode: Option<u32>,
    /// When the bytes of the file were modified last.
    pub mtime: Option<Timestamp>,
}

impl From<Option<ContentId>> for Label {
    /// Of an object that is no file's, or of whose file nothing is known.
    fn from(content: Option<ContentId>) -> Self {
        Self { content, ..Self::default() }
    }
}

/// Which keys to list.
#[derive(Clone, Debug, Default)]
pub struct ListRequest {
    /// Only keys that start with these bytes; empty for all. Never `/`.
    pub prefix: Key,
    /// Fold keys that contain `/` behind the prefix into one [`Listed::Prefix`].
    pub delimited: bool,
    /// Only keys after this one in byte order (exclusive).
    pub start_after: Option<Key>,
    /// Where the page before ended.
    pub continuation: Option<String>,
    /// Most results in this page; 0 for what the store likes (1000 on S3).
    pub max_keys: u32,
}

/// One result of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listed {
    /// An object; its key may end in `/` (a marker).
    Object(ObjectMeta),
    /// A common prefix, with its trailing `/`.
    Prefix(Key),
}

impl Listed {
    /// The key or prefix.
    #[must_use]
    pub const fn key(&self) -> &Key {
        match self {
            Self::Object(meta) => &meta.key,
            Self::Prefix(prefix) => prefix,
        }
    }
}

/// One page of a listing, in byte order of the keys; objects and prefixes are merged.
#[derive(Clone, Debug, Default)]
pub struct ListPage {
    /// The results.
    pub entries: Vec<Listed>,
    /// Goes into the next request; `None` at the end.
    pub continuation: Option<String>,
}

/// A multipart upload, and where a listing of uploads goes on behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadMark {
    /// The key that it is to become an object of.
    pub key: Key,
    /// Its id.
    pub upload: String,
}

/// One page of a listing of uploads.
#[derive(Clone, Debug, Default)]
pub struct UploadPage {
    /// The uploads.
    pub uploads: Vec<UploadMark>,
    /// Goes into the next request; `None` at the end.
    pub next: Option<UploadMark>,
}

/// What must hold of the present object for a request to be carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Precondition {
    /// Anything.
    #[default]
    None,
    /// It has this version.
    Matches(String),
    /// There is none.
    Absent,
}

/// What a store can do beyond the basics; asked, never assumed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each asked by its name")]
pub struct Capabilities {
    /// `put` honours preconditions.
    pub conditional_put: bool,
    /// `copy` honours a precondition on its destination.
    pub conditional_copy: bool,
    /// Largest object, in bytes, that is copied on a condition better by [`copy_through`](crate::UnderStore::copy_through) than in parts; `None`: none.
    pub copy_through: Option<u64>,
    /// `delete` honours a precondition.
    pub conditional_delete: bool,
    /// Most keys that one [`delete_all`](crate::UnderStore::delete_all) takes in one request; 1: each is a request of its own.
    pub max_deletes: usize,
    /// `list` honours `start_after` and gives byte order.
    pub ordered_listing: bool,
    /// Directories exist on their own, without entries (HDFS, POSIX).
    pub native_directories: bool,
    /// `rename` exists and is atomic.
    pub native_rename: bool,
    /// Smallest part of a multipart upload but the last, in bytes; 0 without multipart uploads.
    pub min_part_size: u64,
    /// Most parts of a multipart upload.
    pub max_parts: u32,
    /// Largest object one `put` or `copy` takes, in bytes.
    pub max_put_size: u64,
    /// Longest key, in bytes; `usize::MAX` where only its names have a greatest length.
    pub max_key: usize,
}

impl Capabilities {
    /// Bytes in each part but the last of an object of `length` bytes: `preferred`, or more where the store takes no smaller or not so many.
    #[must_use]
    pub fn part_size(&self, length: u64, preferred: u64) -> u64 {
        preferred.max(self.min_part_size).max(length.div_ceil(u64::from(self.max_parts.max(1))))
    }
}

/// The key of the object at `names` below `prefix` (empty or ending in `/`), without a trailing slash.
#[must_use]
pub fn path_key<'a>(prefix: &Key, names: impl IntoIterator<Item = &'a Name>) -> Key {
    let mut key = prefix.0.to_vec();
    for (index, name) in names.into_iter().enumerate() {
        if index > 0 {
            key.push(b'/');
        }
        key.extend_from_slice(name.as_bytes());
    }
    key.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_becomes_a_key_without_outer_slashes() {
        let names = ["a", "b\n"].map(|name| Name::new(name).expect("a name"));
        assert_eq!(path_key(&Key::default(), &names), Key::from("a/b\n"));
        assert_eq!(path_key(&Key::from("p/"), &names), Key::from("p/a/b\n"));
        assert_eq!(path_key(&Key::from("p/"), []), Key::from("p/"));
    }
}
