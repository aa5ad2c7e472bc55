//! Conversions between messages and the types they carry.

use headpond_types::{
    Attr, ContentId, Epoch, Error, ErrorKind, FileKind, InodeId, Member, MountId, Ring, Timestamp, WorkerId,
};

use crate::{status, v1};

/// A message lacks a field or holds a value that its type does not allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid message: {0}")]
pub struct InvalidMessage(pub &'static str);

impl From<InvalidMessage> for Error {
    fn from(error: InvalidMessage) -> Self {
        Self::new(ErrorKind::InvalidArgument, error.to_string())
    }
}

impl From<InvalidMessage> for tonic::Status {
    fn from(error: InvalidMessage) -> Self {
        status::from_error(&error.into())
    }
}

impl From<ContentId> for v1::ContentId {
    fn from(id: ContentId) -> Self {
        let (high, low) = id.halves();
        Self { high, low }
    }
}

impl From<v1::ContentId> for ContentId {
    fn from(id: v1::ContentId) -> Self {
        Self::from_halves(id.high, id.low)
    }
}

impl From<FileKind> for v1::FileKind {
    fn from(kind: FileKind) -> Self {
        match kind {
            FileKind::File => Self::File,
            FileKind::Directory => Self::Directory,
            FileKind::Symlink => Self::Symlink,
            FileKind::Fifo => Self::Fifo,
            FileKind::Socket => Self::Socket,
            FileKind::CharDevice(_) => Self::CharDevice,
            FileKind::BlockDevice(_) => Self::BlockDevice,
        }
    }
}

/// The kind that a message tells of, with the number of a device.
///
/// # Errors
/// When it tells of none.
pub const fn file_kind(kind: v1::FileKind, device: u32) -> Result<FileKind, InvalidMessage> {
    match kind {
        v1::FileKind::File => Ok(FileKind::File),
        v1::FileKind::Directory => Ok(FileKind::Directory),
        v1::FileKind::Symlink => Ok(FileKind::Symlink),
        v1::FileKind::Fifo => Ok(FileKind::Fifo),
        v1::FileKind::Socket => Ok(FileKind::Socket),
        v1::FileKind::CharDevice => Ok(FileKind::CharDevice(device)),
        v1::FileKind::BlockDevice => Ok(FileKind::BlockDevice(device)),
        v1::FileKind::Unspecified => Err(InvalidMessage("an attribute without a file kind")),
    }
}

impl From<Attr> for v1::Attr {
    fn from(attr: Attr) -> Self {
        Self {
            inode: attr.inode.0,
            parent: attr.parent.0,
            mount: attr.mount.0,
            kind: v1::FileKind::from(attr.kind).into(),
            mode: attr.mode,
            uid: attr.uid,
            gid: attr.gid,
            nlink: attr.nlink,
            size: attr.size,
            mtime_ns: attr.mtime.0,
            atime_ns: attr.atime.map(|atime| atime.0),
            ctime_ns: attr.ctime.0,
            content: attr.content.map(Into::into),
            version: attr.version,
            device: attr.kind.device(),
            has_xattrs: attr.has_xattrs,
            dirty: attr.dirty,
        }
    }
}

impl TryFrom<v1::Attr> for Attr {
    type Error = InvalidMessage;

    fn try_from(attr: v1::Attr) -> Result<Self, InvalidMessage> {
        Ok(Self {
            inode: InodeId(attr.inode),
            parent: InodeId(attr.parent),
            mount: MountId(attr.mount),
            kind: file_kind(attr.kind(), attr.device)?,
            mode: attr.mode,
            uid: attr.uid,
            gid: attr.gid,
            nlink: attr.nlink,
            size: attr.size,
            mtime: Timestamp(attr.mtime_ns),
            atime: attr.atime_ns.map(Timestamp),
            own_mtime: false,
            has_xattrs: attr.has_xattrs,
            dirty: attr.dirty,
            ctime: Timestamp(attr.ctime_ns),
            content: attr.content.map(Into::into),
            version: attr.version,
        })
    }
}

impl From<Member> for v1::Member {
    fn from(member: Member) -> Self {
        let Member { id, address, socket, node, zone, weight } = member;
        Self { id: id.0, address, socket, node, zone, weight }
    }
}

impl From<v1::Member> for Member {
    fn from(member: v1::Member) -> Self {
        let v1::Member { id, address, socket, node, zone, weight } = member;
        Self { id: WorkerId(id), address, socket, node, zone, weight }
    }
}

impl From<Ring> for v1::Ring {
    fn from(ring: Ring) -> Self {
        Self { epoch: ring.epoch.0, members: ring.members.into_iter().map(Into::into).collect() }
    }
}

impl From<v1::Ring> for Ring {
    fn from(ring: v1::Ring) -> Self {
        Self { epoch: Epoch(ring.epoch), members: ring.members.into_iter().map(Into::into).collect() }
    }
}

impl From<v1::Range> for headpond_types::ByteRange {
    fn from(range: v1::Range) -> Self {
        range.start..range.end
    }
}

impl From<headpond_types::ByteRange> for v1::Range {
    fn from(range: headpond_types::ByteRange) -> Self {
        Self { start: range.start, end: range.end }
    }
}

/// An error and its causes as they stand in a batch.
#[must_use]
pub fn failure(error: &Error) -> v1::Failure {
    v1::Failure { kind: status::name(error.kind()).to_owned(), message: status::message_with_causes(error) }
}

/// The error that a batch or a socket answered.
#[must_use]
pub fn from_failure(kind: &str, message: String) -> Error {
    Error::new(status::kind(kind).unwrap_or(ErrorKind::Internal), message)
}
