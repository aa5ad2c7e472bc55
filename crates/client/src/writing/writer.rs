//! A file open for writing.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use fail::fail_point;
use headpond_runtime::{Clock as _, SystemClock};
use headpond_types::{Attr, Error, ErrorKind, InodeId, Result, Timestamp};

use super::{
    AttrChange, Lease,
    ahead::{Changed, WrittenAhead},
    copying::Copied,
    ending,
    heads::Original,
    persisting::Unanswered,
    room::Room,
    staged::{Slot, Staged},
    state::State,
};
use crate::{OpenFile, shared::Shared};

/// The next version of a file, as it is being written. One per inode and client: all who write a file through one [`crate::Client`] share
/// it and see each other's bytes. Others see what was persisted. With the last reference the right to write is given back in the
/// background; what was not persisted then is thrown away.
///
/// Calls change nothing after `Stale` or `Unavailable` told that bytes are lost, and go on telling so. Needs a living [`crate::Client`].
pub struct FileWriter {
    pub(super) shared: Arc<Shared>,
    lease: Lease,
    /// How often the master had forgotten the lease, and with it the persist under way, and gave it back; held while it is asked to.
    pub(super) reclaims: tokio::sync::Mutex<u64>,
    pub(super) staged: Slot,
    /// Held while a persist runs, with a commit that was not answered.
    pub(super) persisting: tokio::sync::Mutex<Option<Unanswered>>,
    /// Held while bytes or the length change; how much of the old version is staged.
    pub(super) changing: tokio::sync::Mutex<Copied>,
    /// What of the bytes the worker stores already.
    pub(super) ahead: Arc<WrittenAhead>,
    /// Never held across an await; no other lock is taken inside.
    state: Mutex<State>,
}

impl FileWriter {
    /// A writer of the file that `attr` tells of; with `truncate` its bytes are none.
    pub(super) fn new(shared: Arc<Shared>, lease: Lease, attr: Arc<Attr>, truncate: bool) -> Self {
        let mut state = State::new(attr, Room::new(lease.is_bounded));
        if truncate && state.attr.size > 0 {
            state.change(0);
        }
        let changing = tokio::sync::Mutex::new(Copied::default());
        let ahead = Arc::new(WrittenAhead::new(state.origin.as_deref()));
        Self {
            shared,
            lease,
            reclaims: tokio::sync::Mutex::new(0),
            staged: Slot::default(),
            persisting: tokio::sync::Mutex::new(None),
            changing,
            ahead,
            state: Mutex::new(state),
        }
    }

    /// The file.
    #[must_use]
    pub fn inode(&self) -> InodeId {
        self.lock().attr.inode
    }

    /// Attributes with the length and the modification time of the bytes as they are now. Never waits; any thread.
    #[must_use]
    pub fn attr(&self) -> Arc<Attr> {
        Arc::clone(&self.lock().attr)
    }

    /// Bytes of the file as it is now.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.lock().attr.size
    }

    /// Whether there is something to persist.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.lock().is_dirty()
    }

    /// Up to `len` bytes from `offset`; fewer only at the end of the file, none past it. Cancel-safe.
    ///
    /// # Errors
    /// As of [`FileWriter::write_at`].
    pub async fn read_at(&self, offset: u64, len: usize) -> Result<Bytes> {
        loop {
            let (origin, length) = {
                let state = self.lock();
                state.check()?;
                (state.origin.clone(), state.attr.size)
            };
            let wanted = usize::try_from(length.saturating_sub(offset)).map_or(len, |left| left.min(len));
            if wanted == 0 {
                return Ok(Bytes::new());
            }
            if let Some(origin) = origin {
                return self.origin(origin).await?.read_at(offset, wanted).await;
            }
            let staged = self.staged().await?;
            match staged.read(offset, wanted).await {
                // Another has taken its place.
                Err(_) if !self.staged.has(&staged) => {}
                read => return read.inspect_err(|error| self.note(error)),
            }
        }
    }

    /// Reads into `buffer` what is staged on this node and in memory: the number of bytes, fewer than it has only at the end of the file. `None`:
    /// use [`FileWriter::read_at`]. Never waits; any thread.
    pub fn try_read_at(&self, offset: u64, buffer: &mut [u8]) -> Option<usize> {
        let length = {
            let state = self.lock();
            if state.lost.is_some() || state.origin.is_some() {
                return None;
            }
            state.attr.size
        };
        let wanted = usize::try_from(length.saturating_sub(offset)).map_or(buffer.len(), |left| left.min(buffer.len()));
        if wanted == 0 {
            return Some(0);
        }
        let staged = self.staged.get().filter(|staged| !staged.is_lost())?;
        staged.local()?.try_read(offset, &mut buffer[..wanted]).then_some(wanted)
    }

    /// Writes all of `bytes`, in one step as seen by other calls of this writer. The first change of a file with bytes stages the old
    /// version before, in time that grows with its length.
    ///
    /// # Errors
    /// `Stale` when the right to write was lost, or the old version; `Unavailable` or `DeadlineExceeded` when the worker that has the
    /// bytes does not answer; `ResourceExhausted` when its disk is full. Parts may be written after an error, and after the future
    /// was dropped.
    pub async fn write_at(&self, offset: u64, bytes: Bytes) -> Result<()> {
        if bytes.is_empty() {
            return self.lock().check();
        }
        let end = end_of(offset, &bytes)?;
        let mut copied = self.begin_change(|state| state.used_after(offset, end)).await?;
        self.put(&mut copied, offset, bytes, None).await
    }

    /// [`FileWriter::write_at`] of bytes that `from` has at the same place. What was copied so from the front of a file to the front of this one, up to the
    /// first byte that was written otherwise, the under store need not be sent where it has it: it copies that within itself.
    ///
    /// # Errors
    /// As of [`FileWriter::write_at`].
    pub async fn write_copied(&self, offset: u64, bytes: Bytes, from: &OpenFile) -> Result<()> {
        if bytes.is_empty() {
            return self.lock().check();
        }
        let end = end_of(offset, &bytes)?;
        let original = Original { inode: from.attr().inode, content: from.content() };
        let mut copied = self.begin_change(|state| state.used_after(offset, end)).await?;
        self.put(&mut copied, offset, bytes, Some(original)).await
    }

    /// [`FileWriter::write_at`] if it need wait for nobody but this node's disk, and for that one thread at a time; whether it was done. If not,
    /// parts may be written: write all of it again. Any thread.
    pub fn try_write_at(&self, offset: u64, bytes: &[u8]) -> bool {
        let Ok(_changing) = self.changing.try_lock() else { return false };
        let Some(staged) = self.staged.get().filter(|staged| !staged.is_lost()) else { return false };
        let Some(file) = staged.local() else { return false };
        let Some(end) = offset.checked_add(bytes.len() as u64) else { return false };
        {
            let mut state = self.lock();
            if state.lost.is_some() || state.origin.is_some() || !state.room.has(state.used_after(offset, end)) {
                return false;
            }
            state.unsure = true;
        }
        let change = Changed::Written { offset, end };
        self.ahead.begin(change);
        let written = file.try_write(offset, bytes);
        if written {
            fail_point!("write::staged");
            self.lock().change_to_hold(offset, end);
            self.ahead.made(change);
            self.ahead.tell(&self.shared, self.lease.id, &staged);
        } else {
            self.ahead.failed();
        }
        written
    }

    /// Writes all of `bytes` behind the end, in one step as seen by other calls of this writer: answers where.
    ///
    /// # Errors
    /// As of [`FileWriter::write_at`].
    pub async fn append(&self, bytes: Bytes) -> Result<u64> {
        let length = bytes.len() as u64;
        let needed = |state: &State| state.used_after(state.attr.size, state.attr.size.saturating_add(length));
        let mut copied = self.begin_change(needed).await?;
        let offset = self.length();
        self.put(&mut copied, offset, bytes, None).await?;
        Ok(offset)
    }

    /// Cuts the file, or makes it longer with zeros. To the length that it has, what is to be persisted is modified now, and what is persisted stays.
    ///
    /// # Errors
    /// As of [`FileWriter::write_at`].
    pub async fn set_length(&self, length: u64) -> Result<()> {
        let mut copied = self.begin_change(|state| state.used().min(length)).await?;
        if self.length() == length {
            let mut state = self.lock();
            state.check()?;
            if state.is_dirty() {
                state.touch();
            }
            return Ok(());
        }
        if length == 0 && self.cut_apart().await {
            return Ok(());
        }
        self.bring_over(&mut copied, length).await?;
        let cut = async move |staged: Arc<Staged>| staged.set_length(length).await;
        self.change(cut, Changed::Cut(length), None).await
    }

    /// Sets the modification time of what is not persisted yet; whether there is such.
    pub(super) fn set_mtime(&self, mtime: Timestamp) -> bool {
        let mut state = self.lock();
        if !state.is_dirty() {
            return false;
        }
        state.mtime = Some(mtime);
        state.edit(|attr| (attr.mtime, attr.ctime) = (mtime, SystemClock.now()));
        true
    }

    /// Changes attributes if the file has no name any more: then nobody else has them. Whether it did.
    pub(super) fn change_unlinked(&self, change: AttrChange) -> bool {
        let mut state = self.lock();
        if !state.unlinked {
            return false;
        }
        let AttrChange { mode, uid, gid, mtime, atime } = change;
        state.edit(|attr| {
            attr.mode = mode.unwrap_or(attr.mode);
            attr.uid = uid.unwrap_or(attr.uid);
            attr.gid = gid.unwrap_or(attr.gid);
            attr.mtime = mtime.unwrap_or(attr.mtime);
            attr.atime = atime.or(attr.atime);
            attr.ctime = SystemClock.now();
        });
        true
    }

    /// The master had other attributes for the file at the position `as_of`, of which length and times are those of an older version. What it said of a
    /// later position, as with a version that was stored meanwhile, stays, but for the number of names: that is told here only.
    pub(super) fn learn(&self, attr: &Attr, as_of: u64) {
        let mut state = self.lock();
        let (mode, uid, gid) = (attr.mode, attr.uid, attr.gid);
        let nlink = if state.unlinked { 0 } else { attr.nlink };
        if as_of < state.as_of {
            return state.edit(|own| own.nlink = nlink);
        }
        state.as_of = as_of;
        let mtime = if state.is_dirty() { state.attr.mtime } else { attr.mtime };
        state.edit(|own| {
            (own.mode, own.uid, own.gid) = (mode, uid, gid);
            (own.mtime, own.atime, own.ctime) = (mtime, attr.atime, attr.ctime);
            own.nlink = nlink;
        });
    }

    /// The file loses its last name.
    pub(super) fn set_unlinked(&self) {
        self.ahead.stop();
        let mut state = self.lock();
        state.unlinked = true;
        state.edit(|attr| attr.nlink = 0);
    }

    /// The file has so many names, at least one.
    pub(super) fn set_links(&self, links: u32) {
        let mut state = self.lock();
        state.unlinked = false;
        state.edit(|attr| attr.nlink = links);
    }

    /// The right to write is gone.
    pub(super) fn lose_lease(&self) {
        let mut state = self.lock();
        if !state.unlinked {
            let inode = state.attr.inode;
            let message = format!("the right to write inode {inode} was lost: open it again and write it anew");
            state.lose(ErrorKind::Stale, message);
        }
    }

    /// Whether what was written is known to be lost.
    pub(crate) fn is_lost(&self) -> bool {
        self.staged.get().is_some_and(|staged| staged.is_lost()) || self.lock().lost.is_some()
    }

    /// Lets the worker know that the bytes are still wanted.
    pub(super) async fn keep_staged(&self) {
        let Some(staged) = self.staged.get() else { return };
        if let Err(error) = staged.keep_alive().await
            && self.staged.has(&staged)
        {
            self.note(&error);
        }
    }

    pub(super) const fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Where the bytes are staged.
    pub(super) async fn staged(&self) -> Result<Arc<Staged>> {
        let staged = self.staged.get_or_begin(|| Staged::begin(&self.shared, &self.lease)).await?;
        if staged.is_lost() {
            let mut state = self.lock();
            let inode = state.attr.inode;
            let worker = &staged.member().address;
            let message = format!("worker {worker} was lost with what was written to inode {inode}: write it anew");
            state.lose(ErrorKind::Unavailable, message);
            state.check()?;
        }
        Ok(staged)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of an error that tells that bytes are lost.
    pub(super) fn note(&self, error: &Error) {
        if error.kind() == ErrorKind::Stale {
            self.lock().lose(ErrorKind::Stale, error.message().to_owned());
        }
    }

    async fn put(&self, copied: &mut Copied, offset: u64, bytes: Bytes, original: Option<Original>) -> Result<()> {
        let end = end_of(offset, &bytes)?;
        self.bring_over(copied, u64::MAX).await?;
        let write = async move |staged: Arc<Staged>| staged.write(offset, bytes).await;
        self.change(write, Changed::Written { offset, end }, original).await
    }

    /// Makes a change. What it writes may be what an `original` has there.
    pub(super) async fn change(
        &self,
        change: impl AsyncFnOnce(Arc<Staged>) -> Result<()>,
        changed: Changed,
        original: Option<Original>,
    ) -> Result<()> {
        self.lock().check()?;
        let staged = self.staged().await?;
        self.lock().unsure = true;
        self.ahead.begin(changed);
        change(Arc::clone(&staged)).await.inspect_err(|error| self.note(error))?;
        fail_point!("write::staged");
        let mut state = self.lock();
        state.check()?;
        match changed {
            Changed::Written { offset, end } => state.change_to_hold(offset, end),
            Changed::Cut(length) => state.change(length),
        }
        drop(state);
        self.ahead.made(changed);
        if let (Some(original), Changed::Written { offset, end }) = (original, changed) {
            self.ahead.copied(original, (offset, end));
        }
        self.ahead.tell(&self.shared, self.lease.id, &staged);
        Ok(())
    }
}

/// Where bytes that are written from `offset` on end.
///
/// # Errors
/// `InvalidArgument`: no file is so long.
fn end_of(offset: u64, bytes: &Bytes) -> Result<u64> {
    let end = offset.checked_add(bytes.len() as u64).filter(|end| i64::try_from(*end).is_ok());
    end.ok_or_else(|| Error::new(ErrorKind::InvalidArgument, format!("no file reaches beyond {offset}: write nearer")))
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        let inode = self.inode();
        self.shared.writers.clear(inode);
        let (content, shared) = (self.adoptable(), Arc::clone(&self.shared));
        ending::end(shared, self.lease.id, self.staged.take(), content);
    }
}

impl fmt::Debug for FileWriter {
    /// Without the shared state, which has all writers in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileWriter").field("lease", &self.lease).field("state", &self.state).finish_non_exhaustive()
    }
}
