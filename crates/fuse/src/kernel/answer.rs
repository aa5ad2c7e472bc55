//! Replies.

use std::{ffi::OsStr, ops::ControlFlow, os::unix::ffi::OsStrExt as _, time::Duration};

use fuser::{
    BackingId, Errno, FileHandle, FileType, FopenFlags, INodeNo, ReplyAttr, ReplyCreate, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEntry, ReplyOpen, ReplyXattr,
};
use headpond_types::Attr;

use super::convert;
use crate::fs::{Admitted, DirEntry, Entry, Mode, READER};

/// A name: its node and attributes, or that there is none (which the kernel remembers as well).
pub(super) fn entry(reply: ReplyEntry, entry: &Entry) {
    let attr = match &entry.found {
        Some((node, attr)) => convert::file_attr(*node, attr),
        None if entry.ttl.is_zero() => return reply.error(Errno::ENOENT),
        None => convert::no_entry(),
    };
    reply.entry_with_ttls(&entry.attr_ttl, &entry.ttl, &attr, convert::GENERATION);
}

/// Attributes of a node.
pub(super) fn attr(reply: ReplyAttr, node: u64, entry: &Entry) {
    match &entry.found {
        Some((_, attr)) => reply.attr(&entry.attr_ttl, &convert::file_attr(node, attr)),
        None => reply.error(Errno::ESTALE),
    }
}

/// An open. Readers need not be asked at their close.
pub(super) fn opened(reply: ReplyOpen, handle: u64, admitted: &Admitted<BackingId>) {
    let (flags, backing) = flags_of(handle, admitted);
    match backing {
        Some(backing) => reply.opened_passthrough(FileHandle(handle), flags, backing),
        None => reply.opened(FileHandle(handle), flags),
    }
}

/// A file that was made, or found, and opened to write. Its attributes change with the next write.
pub(super) fn created(reply: ReplyCreate, node: u64, attr: &Attr, handle: u64, admitted: &Admitted<BackingId>) {
    let (flags, backing) = flags_of(handle, admitted);
    let (attr, handle) = (convert::file_attr(node, attr), FileHandle(handle));
    match backing {
        Some(backing) => {
            reply.created_passthrough(&Duration::ZERO, &attr, convert::GENERATION, handle, flags, backing);
        }
        None => reply.created(&Duration::ZERO, &attr, convert::GENERATION, handle, flags),
    }
}

fn flags_of(handle: u64, admitted: &Admitted<BackingId>) -> (FopenFlags, Option<&BackingId>) {
    let flags = if handle == READER { FopenFlags::FOPEN_NOFLUSH } else { FopenFlags::empty() };
    match &admitted.mode {
        // Not KEEP_CACHE: the kernel refuses it together with passthrough.
        Mode::Passthrough(backing) => (flags, Some(backing)),
        Mode::Beside(backing) => (flags | FopenFlags::FOPEN_DIRECT_IO, Some(backing)),
        Mode::Cached if admitted.keep => (flags | FopenFlags::FOPEN_KEEP_CACHE, None),
        Mode::Cached => (flags, None),
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
