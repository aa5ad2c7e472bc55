//! What a writer knows of its bytes.

use std::sync::Arc;

use headpond_runtime::{Clock as _, SystemClock};
use headpond_types::{Attr, Error, ErrorKind, Result, Timestamp};

use super::room::Room;

/// What is known of the bytes.
#[derive(Debug)]
pub(super) struct State {
    /// Attributes with the length and the times of what is staged.
    pub(super) attr: Arc<Attr>,
    /// Position in the journal of what the master said of them last: answers come in any order.
    pub(super) as_of: u64,
    /// The version that is being changed, as long as none of its bytes has been: reads are answered from it.
    pub(super) origin: Option<Arc<Attr>>,
    /// Changes made so far, and how many of them the last persist has in it.
    pub(super) changes: u64,
    pub(super) persisted: u64,
    /// A change was begun and not ended: the staged file may be longer than the attributes say.
    pub(super) unsure: bool,
    /// A modification time that was set since the last change, for the next version.
    pub(super) mtime: Option<Timestamp>,
    /// The file has no name any more, so nothing is persisted.
    pub(super) unlinked: bool,
    /// What the staged file takes up.
    pub(super) room: Room,
    /// Why the bytes are lost.
    pub(super) lost: Option<(ErrorKind, String)>,
}

impl State {
    /// Of a file that was not changed yet.
    pub(super) fn new(attr: Arc<Attr>, room: Room) -> Self {
        let is_new = attr.version.is_empty() && !attr.dirty;
        let origin = (!is_new && attr.size > 0).then(|| Arc::clone(&attr));
        Self {
            attr,
            as_of: 0,
            origin,
            changes: u64::from(is_new),
            persisted: 0,
            unsure: true,
            mtime: None,
            unlinked: false,
            room,
            lost: None,
        }
    }

    /// # Errors
    /// The bytes are lost.
    pub(super) fn check(&self) -> Result<()> {
        match &self.lost {
            Some((kind, message)) => Err(Error::new(*kind, message.clone())),
            None => Ok(()),
        }
    }

    pub(super) const fn is_dirty(&self) -> bool {
        self.changes != self.persisted && !self.unlinked
    }

    /// The file was cut, or made longer by a hole.
    pub(super) fn change(&mut self, length: u64) {
        self.room.take(self.used().min(length), length > self.attr.size);
        self.change_to(length);
    }

    fn change_to(&mut self, length: u64) {
        self.changes += 1;
        self.origin = None;
        self.edit(|attr| attr.size = length);
        self.touch();
    }

    /// The next version is modified now, whatever time was set for it before.
    pub(super) fn touch(&mut self) {
        self.mtime = None;
        let now = SystemClock.now();
        self.edit(|attr| (attr.mtime, attr.ctime) = (now, now));
    }

    /// Bytes from `offset` to `end` were written.
    pub(super) fn change_to_hold(&mut self, offset: u64, end: u64) {
        self.room.take(self.used_after(offset, end), offset > self.attr.size);
        self.change_to(self.attr.size.max(end));
    }

    pub(super) fn edit(&mut self, edit: impl FnOnce(&mut Attr)) {
        edit(Arc::make_mut(&mut self.attr));
    }

    pub(super) fn lose(&mut self, kind: ErrorKind, message: String) {
        if self.lost.is_none() {
            tracing::warn!(inode = %self.attr.inode, message, "bytes that were written are lost");
            self.lost = Some((kind, message));
        }
    }
}
