//! Changes of names and attributes.
//!
//! Each carries an id, so that a repetition after an answer that was lost is the same change. What the answer tells is in the client's
//! memory before the call returns, with the position in the journal that keeps older answers out.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use fail::fail_point;
use headpond_proto::v1;
use headpond_types::{Attr, Error, ErrorKind, InodeId, Name, RenameMode, Result};
use tokio::time::Instant;

use super::{AttrChange, FileWriter, NewFile, Owner};
use crate::{
    Lookup,
    admin::request_id,
    cache::{Answered, Ticket},
    master::{self, Retry},
    metadata::{Question, attr_of, gone},
    shared::Shared,
};

impl Shared {
    pub(crate) async fn create(
        self: &Arc<Self>,
        parent: InodeId,
        name: &Name,
        new: NewFile,
    ) -> Result<Arc<FileWriter>> {
        // The master gives one right to write: who has it here shares it.
        if let Some(inode) = self.remembered(parent, name)
            && self.writers.get(inode).is_some()
            && !new.exclusive
        {
            return self.open_writer(inode, new.truncate).await;
        }
        let NewFile { mode, uid, gid, exclusive, truncate } = new;
        let request = v1::CreateRequest {
            parent: parent.0,
            name: bytes_of(name),
            mode,
            uid,
            gid,
            exclusive,
            caller: self.caller.clone(),
            request_id: request_id(),
        };
        if !exclusive {
            // The file may be there, and its lease about to be given back.
            self.writers.returns().hurry();
        }
        let call = |channel| {
            let request = request.clone();
            async move { master::writing(channel).create(request).await }
        };
        let ticket = self.cache.ticket();
        let answer = self.masters.call("create", Retry::Change, call).await?;
        let (as_of, valid) = (answer.as_of, Duration::from_millis(answer.valid_ms));
        let attr = attr_of(answer.attr)?.ok_or_else(|| {
            Error::new(ErrorKind::Internal, format!("the master created {name} and answered nothing"))
        })?;
        self.cache.invalidate(as_of, parent, Some(name), None);
        let answered = ticket.answered(as_of, valid);
        self.cache.put_name(&answered, parent, name.as_bytes(), Some(Arc::clone(&attr)));
        if let Some(parent) = attr_of(answer.parent)? {
            self.cache.put_attr(&answered, parent);
        }
        let Some(lease) = answer.lease else {
            return Err(Error::new(ErrorKind::IsADirectory, format!("{name} exists and is not a file")));
        };
        let writer = FileWriter::new(Arc::clone(self), lease.try_into()?, attr, truncate);
        Ok(self.add(writer))
    }

    pub(crate) async fn open_writer(self: &Arc<Self>, inode: InodeId, truncate: bool) -> Result<Arc<FileWriter>> {
        let _entered = self.writers.enter(inode).await;
        if let Some(writer) = self.writers.get(inode) {
            if truncate {
                writer.set_length(0).await?;
            }
            return Ok(writer);
        }
        self.writers.returns().hurry();
        let request =
            v1::OpenForWritingRequest { inode: inode.0, caller: self.caller.clone(), request_id: request_id() };
        let call = |channel| {
            let request = request.clone();
            async move { master::writing(channel).open_for_writing(request).await }
        };
        let ticket = self.cache.ticket();
        let answer = self.masters.call("open for writing", Retry::Yes, call).await?;
        let attr = self.keep(ticket, inode, answer.attr, answer.as_of, answer.valid_ms)?;
        let Some((lease, attr)) = answer.lease.zip(attr.attr) else {
            return Err(Error::new(ErrorKind::IsADirectory, format!("inode {inode} is not a file")));
        };
        let writer = FileWriter::new(Arc::clone(self), lease.try_into()?, attr, truncate);
        Ok(self.add(writer))
    }

    pub(crate) async fn make_directory(&self, parent: InodeId, name: &Name, owner: Owner) -> Result<Lookup> {
        let Owner { mode, uid, gid } = owner;
        let request = v1::MakeDirectoryRequest {
            parent: parent.0,
            name: bytes_of(name),
            mode,
            uid,
            gid,
            caller: self.caller.clone(),
            request_id: request_id(),
        };
        let call = |channel| {
            let request = request.clone();
            async move { master::writing(channel).make_directory(request).await }
        };
        let ticket = self.cache.ticket();
        let answer = self.masters.call("mkdir", Retry::Change, call).await?;
        self.keep_made(ticket, parent, name, answer)
    }

    /// Keeps what was made, and what its directory is since.
    pub(super) fn keep_made(
        &self,
        ticket: Ticket,
        parent: InodeId,
        name: &Name,
        answer: v1::MadeResponse,
    ) -> Result<Lookup> {
        let attr = attr_of(answer.attr)?
            .ok_or_else(|| Error::new(ErrorKind::Internal, format!("the master made {name} and answered nothing")))?;
        let answered = |valid_ms| ticket.answered(answer.as_of, Duration::from_millis(valid_ms));
        self.cache.invalidate(answer.as_of, parent, Some(name), None);
        if answer.empty_ms > 0 {
            self.cache.put_empty(&answered(answer.empty_ms), attr.inode);
        }
        if let Some(directory) = attr_of(answer.parent)? {
            self.cache.put_attr(&answered(answer.valid_ms), directory);
        }
        Ok(self.cache.put_name(&answered(answer.valid_ms), parent, name.as_bytes(), Some(attr)))
    }

    pub(crate) async fn link(&self, inode: InodeId, parent: InodeId, name: &Name) -> Result<Lookup> {
        let request = v1::LinkRequest {
            inode: inode.0,
            parent: parent.0,
            name: bytes_of(name),
            caller: self.caller.clone(),
            request_id: request_id(),
        };
        let call = |channel| {
            let request = request.clone();
            async move { master::writing(channel).link(request).await }
        };
        let ticket = self.cache.ticket();
        let answer = self.masters.call("link", Retry::Change, call).await?;
        self.cache.invalidate(answer.as_of, parent, Some(name), None);
        let found = self.keep(ticket, inode, answer.attr, answer.as_of, answer.valid_ms)?;
        if let (Some(writer), Some(attr)) = (self.writers.get(inode), &found.attr) {
            writer.learn(attr, answer.as_of);
            return Ok(Lookup { attr: Some(writer.attr()), valid_until: found.valid_until });
        }
        Ok(found)
    }

    pub(crate) async fn remove(self: &Arc<Self>, parent: InodeId, name: &Name, directory: bool) -> Result<()> {
        let inode = self.named(parent, name).await?;
        let writer = inode.and_then(|inode| self.writers.get(inode));
        let (ticket, mut told) = (self.cache.ticket(), v1::RemoveResponse::default());
        let remove = async {
            told = self.ask_to_remove(parent, name, directory, false).await?;
            Ok((told.as_of, told.links))
        };
        unlinking(writer.filter(|_| !directory), remove).await?;
        self.keep_removed(ticket, (parent, name), inode, told)
    }

    pub(crate) async fn remove_tree(self: &Arc<Self>, parent: InodeId, name: &Name) -> Result<()> {
        let inode = self.remembered(parent, name);
        let ticket = self.cache.ticket();
        let removed = self.ask_to_remove(parent, name, true, true).await?;
        self.keep_removed(ticket, (parent, name), inode, removed)
    }

    /// Keeps that a name is gone, which was that of `old`.
    fn keep_removed(
        &self,
        ticket: Ticket,
        (parent, name): (InodeId, &Name),
        old: Option<InodeId>,
        told: v1::RemoveResponse,
    ) -> Result<()> {
        self.cache.invalidate(told.as_of, parent, Some(name), old);
        if told.valid_ms > 0 {
            let answered = ticket.answered(told.as_of, Duration::from_millis(told.valid_ms));
            self.keep_without(&answered, (parent, name), told.parent)?;
        }
        Ok(())
    }

    /// Keeps that nothing has a name any more, and what the directories are whose times changed with it.
    fn keep_without(
        &self,
        answered: &Answered,
        (parent, name): (InodeId, &Name),
        directories: impl IntoIterator<Item = v1::Attr>,
    ) -> Result<()> {
        for directory in directories {
            if let Some(directory) = attr_of(Some(directory))? {
                self.cache.put_attr(answered, directory);
            }
        }
        self.cache.put_name(answered, parent, name.as_bytes(), None);
        Ok(())
    }

    async fn ask_to_remove(
        &self,
        parent: InodeId,
        name: &Name,
        directory: bool,
        recursive: bool,
    ) -> Result<v1::RemoveResponse> {
        let request = v1::RemoveRequest {
            parent: parent.0,
            name: bytes_of(name),
            directory,
            caller: self.caller.clone(),
            request_id: request_id(),
            recursive,
        };
        let call = |channel| {
            let request = request.clone();
            async move { master::writing(channel).remove(request).await }
        };
        Ok(self.masters.call("remove", Retry::Change, call).await?)
    }

    pub(crate) async fn rename(
        self: &Arc<Self>,
        from: (InodeId, &Name),
        to: (InodeId, &Name),
        mode: RenameMode,
    ) -> Result<()> {
        let (moved, replaced) = (self.remembered(from.0, from.1), self.named(to.0, to.1).await?);
        // A file that gets a name of its own again stays.
        let writer = replaced.filter(|inode| moved != Some(*inode)).and_then(|inode| self.writers.get(inode));
        let request = v1::RenameRequest {
            from_parent: from.0.0,
            from_name: bytes_of(from.1),
            to_parent: to.0.0,
            to_name: bytes_of(to.1),
            // A master that knows nothing of exchanges must not replace anything.
            no_replace: mode != RenameMode::Replace,
            exchange: mode == RenameMode::Exchange,
            caller: self.caller.clone(),
            request_id: request_id(),
        };
        let call = |channel| {
            let request = request.clone();
            async move { master::writing(channel).rename(request).await }
        };
        let (ticket, mut told) = (self.cache.ticket(), v1::RenameResponse::default());
        let rename = async {
            told = self.masters.call("rename", Retry::Change, call).await?;
            fail_point!("rename::asked");
            Ok((told.as_of, told.links))
        };
        let as_of = unlinking(writer.filter(|_| mode == RenameMode::Replace), rename).await?;
        self.cache.invalidate(as_of, from.0, Some(from.1), moved);
        self.cache.invalidate(as_of, to.0, Some(to.1), replaced);
        if told.valid_ms > 0 {
            let answered = ticket.answered(as_of, Duration::from_millis(told.valid_ms));
            self.keep_without(&answered, from, told.parents)?;
            if let Some(moved) = attr_of(told.moved)? {
                self.cache.put_name(&answered, to.0, to.1.as_bytes(), Some(moved));
            }
        }
        Ok(())
    }

    pub(crate) async fn set_attr(&self, inode: InodeId, mut change: AttrChange) -> Result<Lookup> {
        let writer = self.writers.get(inode);
        if let Some(writer) = writer.as_ref().filter(|writer| writer.change_unlinked(change)) {
            return Ok(Lookup { attr: Some(writer.attr()), valid_until: Instant::now() });
        }
        if let (Some(writer), Some(mtime)) = (&writer, change.mtime)
            && writer.set_mtime(mtime)
        {
            change.mtime = None;
            if change == AttrChange::default() {
                return Ok(Lookup { attr: Some(writer.attr()), valid_until: Instant::now() });
            }
        }
        let (found, as_of) = self.change_attr(inode, change).await?;
        if let (Some(writer), Some(attr)) = (&writer, &found.attr) {
            writer.learn(attr, as_of);
            return Ok(Lookup { attr: Some(writer.attr()), valid_until: found.valid_until });
        }
        Ok(found)
    }

    /// Changes attributes where the namespace is; gives its position in the journal, too.
    pub(super) async fn change_attr(&self, inode: InodeId, change: AttrChange) -> Result<(Lookup, u64)> {
        let AttrChange { mode, uid, gid, mtime, atime } = change;
        let request = v1::SetAttrRequest {
            inode: inode.0,
            mode,
            uid,
            gid,
            mtime_ns: mtime.map(|mtime| mtime.0),
            atime_ns: atime.map(|atime| atime.0),
            caller: self.caller.clone(),
            request_id: request_id(),
        };
        let call = |channel| {
            let request = request.clone();
            async move { master::writing(channel).set_attr(request).await }
        };
        let ticket = self.cache.ticket();
        let answer = self.masters.call("setattr", Retry::Change, call).await?;
        Ok((self.keep(ticket, inode, answer.attr, answer.as_of, answer.valid_ms)?, answer.as_of))
    }

    /// Keeps what a change of `inode` made of it.
    pub(super) fn keep(
        &self,
        ticket: Ticket,
        inode: InodeId,
        attr: Option<v1::Attr>,
        as_of: u64,
        valid_ms: u64,
    ) -> Result<Lookup> {
        let attr: Arc<Attr> = attr_of(attr)?.ok_or_else(|| gone(inode))?;
        self.cache.outdate(as_of, inode);
        Ok(self.cache.put_attr(&ticket.answered(as_of, Duration::from_millis(valid_ms)), attr))
    }

    fn add(&self, writer: FileWriter) -> Arc<FileWriter> {
        let writer = Arc::new(writer);
        self.writers.put(&writer);
        writer
    }

    /// The inode that memory has for a name.
    fn remembered(&self, parent: InodeId, name: &Name) -> Option<InodeId> {
        Some(self.cache.name(parent, name.as_bytes())?.attr?.inode)
    }

    /// The inode of a name; asked for only when this client writes files, one of which it may be.
    async fn named(self: &Arc<Self>, parent: InodeId, name: &Name) -> Result<Option<InodeId>> {
        if self.writers.is_empty() {
            return Ok(self.remembered(parent, name));
        }
        Ok(self.ask(Question::Name(parent, name)).await?.attr.map(|attr| attr.inode))
    }
}

/// Makes a change by which the file of `writer` loses its name, unless it is answered that it has others. A persist that is under way ends before; none
/// begins until the change is made.
async fn unlinking(writer: Option<Arc<FileWriter>>, change: impl Future<Output = Result<(u64, u32)>>) -> Result<u64> {
    let Some(writer) = writer else { return Ok(change.await?.0) };
    writer.keep_old().await;
    let _persisting = writer.persisting.lock().await;
    let links = writer.attr().nlink;
    writer.set_unlinked();
    let mut unlinking = Unlinking(Some(&writer), links);
    let (as_of, links) = change.await?;
    unlinking.0 = None;
    if links > 0 {
        writer.set_links(links);
    }
    Ok(as_of)
}

/// Gives a file its name back unless it is known that it lost it: if it did, the next persist says so.
struct Unlinking<'a>(Option<&'a FileWriter>, u32);

impl Drop for Unlinking<'_> {
    fn drop(&mut self) {
        if let Some(writer) = self.0 {
            writer.set_links(self.1);
        }
    }
}

fn bytes_of(name: &Name) -> Bytes {
    Bytes::copy_from_slice(name.as_bytes())
}
