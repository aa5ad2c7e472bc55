//! The row of an inode, and how it lies on disk.
//!
//! A file's row must stay small: with its directory entry it has a budget of 300 bytes of disk at a million inodes. So numbers
//! are as short as they can be, hexadecimal ETags are packed, and what an inode inherits from its mount (mode, owner,
//! group) is not stored. What few inodes have (a key that is not where the path says, attributes of their own) takes no byte of
//! the others.

use headpond_types::{ContentId, InodeId, Name, Timestamp};

use crate::{
    codec::{Reader, put_counted, put_varint},
    own::Own,
    unstored::Unstored,
};

/// Format of the row in the upper half of its first byte; the kind is in the lower.
const FILE: u8 = 0x11;
const DIRECTORY: u8 = 0x12;
const UNSTORED: u8 = 0x13;

/// The version is in quotes, which are not stored.
const QUOTED: u8 = 1;
/// The version begins with 32 hexadecimal digits, stored as 16 bytes.
const PACKED: u8 = 2;
/// The time is a whole number of milliseconds and stored as that.
const MILLIS: u8 = 4;

/// Flags of both kinds. The inode has an [`Inode::key`].
const KEY: u8 = 0x20;
/// The inode has attributes of its own.
const OWN: u8 = 0x40;
/// See [`Inode::dirty`].
const DIRTY: u8 = 0x10;
/// All of these.
const COMMON: u8 = KEY | OWN | DIRTY;

/// See [`Directory::made`].
const MADE: u8 = 1;
/// The directory was listed completely.
const LISTED: u8 = 2;

/// Where the flags are in a row.
const FLAGS: usize = 1;

const NANOS_PER_MILLI: i64 = 1_000_000;

/// Under which id the entries of a directory are stored: its own, except for the root (see `Header::root_key`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DirKey(pub(crate) u64);

/// An inode as the tables have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Inode {
    /// Where the entry is that leads here.
    pub(crate) parent: DirKey,
    /// The name there; `None` for the root only.
    pub(crate) name: Option<Name>,
    /// Where the under store has it, relative to the mount's prefix, if not where the directory's prefix and the name say: the key of a
    /// file, or the prefix of what is below a directory, which ends in `/`. Of a file without a version it means nothing.
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) own: Own,
    /// It has a row in the table of what is dirty. Never of what no under store holds.
    pub(crate) dirty: bool,
    pub(crate) node: Node,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    File(File),
    Directory(Directory),
    Unstored { what: Unstored, mtime: Timestamp },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) size: u64,
    pub(crate) mtime: Timestamp,
    /// Empty when no under store holds anything of it yet.
    pub(crate) version: String,
    pub(crate) content: ContentId,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Directory {
    pub(crate) mtime: Timestamp,
    /// Entries in it.
    pub(crate) children: u64,
    /// When its last complete listing began, and the keys that it skipped.
    pub(crate) listed: Option<(Timestamp, u64)>,
    /// It is here because a mount point needed it, not because the under store was seen to hold it.
    pub(crate) made: bool,
}

/// The inode and kind that a directory entry leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) inode: InodeId,
    pub(crate) is_directory: bool,
}

impl Entry {
    pub(crate) const fn encode(self) -> u64 {
        self.inode.0 << 1 | self.is_directory as u64
    }

    pub(crate) const fn decode(value: u64) -> Self {
        Self { inode: InodeId(value >> 1), is_directory: value & 1 == 1 }
    }
}

impl Inode {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        match &self.node {
            Node::File(file) => file.encode(self.parent, &mut out),
            Node::Directory(directory) => directory.encode(self.parent, &mut out),
            Node::Unstored { what, mtime } => {
                out.extend_from_slice(&[UNSTORED, 0]);
                put_varint(&mut out, self.parent.0);
                out.extend_from_slice(&mtime.0.to_le_bytes());
                what.encode(&mut out);
            }
        }
        if let Some(key) = &self.key {
            out[FLAGS] |= KEY;
            put_counted(&mut out, key);
        }
        if self.dirty {
            out[FLAGS] |= DIRTY;
        }
        if self.own != Own::default() {
            out[FLAGS] |= OWN;
            self.own.encode(&mut out);
        }
        out.extend_from_slice(self.name.as_ref().map_or(&[], Name::as_bytes));
        out
    }

    /// `None` when the bytes are not a row that this release writes.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let tag = reader.byte()?;
        let flags = reader.byte()?;
        let parent = DirKey(reader.varint()?);
        let node = match tag {
            FILE => Node::File(File::decode(flags & !COMMON, &mut reader)?),
            DIRECTORY => Node::Directory(Directory::decode(flags & !COMMON, &mut reader)?),
            UNSTORED if flags & !(KEY | OWN) == 0 => {
                let mtime = Timestamp(i64::from_le_bytes(reader.array()?));
                Node::Unstored { what: Unstored::decode(&mut reader)?, mtime }
            }
            _ => return None,
        };
        let key = if flags & KEY == 0 { None } else { Some(reader.counted()?.to_vec()) };
        let own = if flags & OWN == 0 { Own::default() } else { Own::decode(&mut reader)? };
        let name = match reader.rest() {
            [] => None,
            name => Some(Name::new(name).ok()?),
        };
        Some(Self { parent, name, key, own, dirty: flags & DIRTY != 0, node })
    }

    pub(crate) const fn directory(&self) -> Option<&Directory> {
        match &self.node {
            Node::Directory(directory) => Some(directory),
            Node::File(_) | Node::Unstored { .. } => None,
        }
    }

    pub(crate) const fn file(&self) -> Option<&File> {
        match &self.node {
            Node::File(file) => Some(file),
            Node::Directory(_) | Node::Unstored { .. } => None,
        }
    }

    pub(crate) const fn bytes(&self) -> u64 {
        match &self.node {
            Node::File(file) => file.size,
            Node::Directory(_) | Node::Unstored { .. } => 0,
        }
    }
}

impl File {
    /// A file that is only in the namespace.
    pub(crate) const fn unpersisted(now: Timestamp) -> Self {
        Self { size: 0, mtime: now, version: String::new(), content: ContentId(0) }
    }

    /// Whether the under store holds a version of it.
    pub(crate) const fn is_persisted(&self) -> bool {
        !self.version.is_empty()
    }

    fn encode(&self, parent: DirKey, out: &mut Vec<u8>) {
        let (quoted, text) = match self.version.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
            Some(inner) => (QUOTED, inner),
            None => (0, self.version.as_str()),
        };
        let packed = pack(text);
        let millis = if self.mtime.0 % NANOS_PER_MILLI == 0 { MILLIS } else { 0 };
        out.extend_from_slice(&[FILE, quoted | packed.map_or(0, |_| PACKED) | millis]);
        put_varint(out, parent.0);
        put_varint(out, self.size);
        if millis == 0 {
            out.extend_from_slice(&self.mtime.0.to_le_bytes());
        } else {
            put_varint(out, zigzag(self.mtime.0 / NANOS_PER_MILLI));
        }
        out.extend_from_slice(&self.content.0.to_be_bytes());
        match packed {
            Some((digits, rest)) => {
                out.extend_from_slice(&digits);
                put_counted(out, rest.as_bytes());
            }
            None => put_counted(out, text.as_bytes()),
        }
    }

    fn decode(flags: u8, reader: &mut Reader<'_>) -> Option<Self> {
        if flags & !(QUOTED | PACKED | MILLIS) != 0 {
            return None;
        }
        let size = reader.varint()?;
        let mtime = if flags & MILLIS == 0 {
            i64::from_le_bytes(reader.array()?)
        } else {
            unzigzag(reader.varint()?).checked_mul(NANOS_PER_MILLI)?
        };
        let content = ContentId(u128::from_be_bytes(reader.array()?));
        let mut version = String::with_capacity(36);
        let quote = if flags & QUOTED == 0 { "" } else { "\"" };
        version.push_str(quote);
        if flags & PACKED != 0 {
            let mut digits = [0; 32];
            hex::encode_to_slice(reader.array::<16>()?, &mut digits).ok()?;
            version.push_str(str::from_utf8(&digits).ok()?);
        }
        version.push_str(str::from_utf8(reader.counted()?).ok()?);
        version.push_str(quote);
        Some(Self { size, mtime: Timestamp(mtime), version, content })
    }
}

impl Directory {
    fn encode(&self, parent: DirKey, out: &mut Vec<u8>) {
        let made = if self.made { MADE } else { 0 };
        out.extend_from_slice(&[DIRECTORY, made | self.listed.map_or(0, |_| LISTED)]);
        put_varint(out, parent.0);
        out.extend_from_slice(&self.mtime.0.to_le_bytes());
        put_varint(out, self.children);
        if let Some((at, skipped)) = self.listed {
            out.extend_from_slice(&at.0.to_le_bytes());
            put_varint(out, skipped);
        }
    }

    fn decode(flags: u8, reader: &mut Reader<'_>) -> Option<Self> {
        if flags & !(MADE | LISTED) != 0 {
            return None;
        }
        let mtime = Timestamp(i64::from_le_bytes(reader.array()?));
        let children = reader.varint()?;
        let listed = if flags & LISTED == 0 {
            None
        } else {
            Some((Timestamp(i64::from_le_bytes(reader.array()?)), reader.varint()?))
        };
        Some(Self { mtime, children, listed, made: flags & MADE != 0 })
    }
}

/// The first 32 characters as 16 bytes, if they are lower-case hexadecimal digits, and what follows them.
fn pack(text: &str) -> Option<([u8; 16], &str)> {
    let (digits, rest) = text.split_at_checked(32)?;
    if digits.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    let mut bytes = [0; 16];
    hex::decode_to_slice(digits, &mut bytes).ok()?;
    Some((bytes, rest))
}

const fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63).cast_unsigned()
}

const fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

#[cfg(test)]
mod tests;
