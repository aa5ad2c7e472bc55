//! Replies.

use std::{ffi::OsStr, ops::ControlFlow, os::unix::ffi::OsStrExt as _};

use fuser::{Errno, FileType, INodeNo, ReplyAttr, ReplyDirectory, ReplyDirectoryPlus, ReplyEntry, ReplyXattr};

use super::convert;
use crate::fs::{DirEntry, Entry};

/// A name: its node and attributes, or that there is none (which the kernel remembers as well).
pub(super) fn entry(reply: ReplyEntry, entry: &Entry) {
    let attr = match &entry.found {
        Some((node, attr)) => convert::file_attr(*node, attr),
        None if entry.ttl.is_zero() => return reply.error(Errno::ENOENT),
        None => convert::no_entry(),
    };
    reply.entry(&entry.ttl, &attr, convert::GENERATION);
}

/// Attributes of a node.
pub(super) fn attr(reply: ReplyAttr, node: u64, entry: &Entry) {
    match &entry.found {
        Some((_, attr)) => reply.attr(&entry.ttl, &convert::file_attr(node, attr)),
        None => reply.error(Errno::ESTALE),
    }
}

/// One entry of a listing.
pub(super) fn add(reply: &mut ReplyDirectory, entry: &DirEntry<'_>) -> ControlFlow<()> {
    let kind = entry.attr.map_or(FileType::Directory, |attr| convert::file_type(attr.kind));
    full(reply.add(INodeNo(entry.node), entry.next, kind, OsStr::from_bytes(entry.name)))
}

/// One entry of a listing with its attributes. The dots have none: the kernel takes neither node nor validity of them.
pub(super) fn add_plus(reply: &mut ReplyDirectoryPlus, entry: &DirEntry<'_>) -> ControlFlow<()> {
    let attr = entry.attr.map_or_else(|| convert::directory(entry.node), |attr| convert::file_attr(entry.node, attr));
    let name = OsStr::from_bytes(entry.name);
    full(reply.add(INodeNo(entry.node), entry.next, name, &entry.ttl, &attr, convert::GENERATION))
}

/// A value, or its size when that is asked for.
pub(super) fn xattr(reply: ReplyXattr, size: u32, value: &[u8]) {
    match u32::try_from(value.len()) {
        Ok(len) if size == 0 => reply.size(len),
        Ok(len) if len <= size => reply.data(value),
        Ok(_) | Err(_) => reply.error(Errno::ERANGE),
    }
}

const fn full(full: bool) -> ControlFlow<()> {
    if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}
