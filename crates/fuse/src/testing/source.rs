//! What the namespace in memory answers.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;
use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use headpond_client::{AttrChange, Event, ListEntry, ListPage, Lookup, NewFile, Owner, StatFs};
use headpond_types::{Attr, Error, ErrorKind, FileKind, InodeId, Name, NsPath, RenameMode, Result};
use tokio::sync::broadcast;

use super::{FakeFile, FakePond, FakeWriter, stale};
use crate::source::Source;

impl Source for FakePond {
    type File = FakeFile;
    type Writer = FakeWriter;

    fn cached_lookup(&self, parent: InodeId, name: &[u8]) -> Option<Lookup> {
        self.warm().then(|| self.found(self.child(parent, name)))
    }

    fn cached_attr(&self, inode: InodeId) -> Option<Lookup> {
        self.attr_of(inode).filter(|_| self.warm()).map(|attr| self.found(Some(attr)))
    }

    fn cached_open(&self, inode: InodeId) -> Option<Arc<FakeFile>> {
        self.state().nodes.get(&inode)?.file.clone().filter(|_| self.warm())
    }

    fn cached_link(&self, inode: InodeId) -> Option<Bytes> {
        self.state().targets.get(&inode).cloned().filter(|_| self.warm())
    }

    fn writer(&self, inode: InodeId) -> Option<Arc<FakeWriter>> {
        self.state().writers.get(&inode)?.upgrade()
    }

    async fn resolve(&self, path: &NsPath) -> Result<Lookup> {
        let mut at = self.attr_of(InodeId::ROOT);
        for name in path.names() {
            at = at.and_then(|attr| self.child(attr.inode, name.as_bytes()));
        }
        Ok(self.found(at))
    }

    async fn lookup(&self, parent: InodeId, name: &Name) -> Result<Lookup> {
        self.0.asked.lookups.fetch_add(1, Ordering::SeqCst);
        Ok(self.found(self.child(parent, name.as_bytes())))
    }

    async fn attr(&self, inode: InodeId) -> Result<Lookup> {
        self.0.asked.attrs.fetch_add(1, Ordering::SeqCst);
        drop(self.0.knobs.answering.subscribe().wait_for(|answering| *answering).await);
        let attr = self.attr_of(inode).ok_or_else(|| stale(inode))?;
        Ok(self.found(Some(attr)))
    }

    async fn open(&self, inode: InodeId) -> Result<Arc<FakeFile>> {
        self.0.asked.opens.fetch_add(1, Ordering::SeqCst);
        self.state().nodes.get(&inode).and_then(|node| node.file.clone()).ok_or_else(|| stale(inode))
    }

    async fn reopen(&self, attr: Arc<Attr>) -> Result<Arc<FakeFile>> {
        self.state().replaced.get(&attr.inode).cloned().ok_or_else(|| stale(attr.inode))
    }

    async fn xattrs(&self, inode: InodeId) -> Result<Vec<(Bytes, Bytes)>> {
        let state = self.state();
        let xattrs = state.xattrs.iter().filter(|((of, _), _)| *of == inode);
        Ok(xattrs.map(|((_, name), value)| (Bytes::copy_from_slice(name), value.clone())).collect())
    }

    async fn set_xattr(
        &self,
        inode: InodeId,
        name: &[u8],
        value: Option<&[u8]>,
        exists: Option<bool>,
    ) -> Result<Lookup> {
        let key = (inode, name.to_vec());
        let is_there = self.state().xattrs.contains_key(&key);
        if name.starts_with(b"user.headpond.") {
            return Err(Error::new(ErrorKind::NotSupported, "one of ours"));
        }
        if is_there && exists == Some(false) {
            return Err(Error::new(ErrorKind::AlreadyExists, "it exists"));
        }
        if !is_there && (exists == Some(true) || value.is_none()) {
            return Err(Error::new(ErrorKind::NoAttribute, "there is none"));
        }
        match value {
            Some(value) => self.state().xattrs.insert(key, Bytes::copy_from_slice(value)),
            None => self.state().xattrs.remove(&key),
        };
        Ok(self.found(self.attr_of(inode)))
    }

    async fn read_link(&self, inode: InodeId) -> Result<Bytes> {
        self.0.asked.links.fetch_add(1, Ordering::SeqCst);
        let target = self.state().targets.get(&inode).cloned();
        target.ok_or_else(|| Error::new(ErrorKind::InvalidArgument, "not a symbolic link"))
    }

    async fn stat_fs(&self) -> Result<StatFs> {
        Ok(StatFs { inodes: 7, bytes: 4096, ..StatFs::default() })
    }

    async fn create(&self, parent: InodeId, name: &Name, new: NewFile) -> Result<Arc<FakeWriter>> {
        if let Some(attr) = self.child(parent, name.as_bytes()) {
            return if new.exclusive {
                Err(Error::new(ErrorKind::AlreadyExists, "it exists"))
            } else {
                self.open_writer(attr.inode, new.truncate).await
            };
        }
        let inode = self.add(parent, str::from_utf8(name.as_bytes()).unwrap(), FileKind::File, &[]);
        self.edit(inode, |attr| {
            (attr.mode, attr.uid, attr.gid) = (new.mode, new.uid, new.gid);
            attr.version.clear();
        });
        self.open_writer(inode, false).await
    }

    async fn open_writer(&self, inode: InodeId, truncate: bool) -> Result<Arc<FakeWriter>> {
        let writer = match self.writer(inode) {
            Some(writer) => writer,
            None => {
                let attr = self.attr_of(inode).ok_or_else(|| stale(inode))?;
                let data = self.state().nodes[&inode].file.as_ref().unwrap().data.clone();
                let writer = Arc::new(FakeWriter::new(self.clone(), attr, data));
                self.state().writers.insert(inode, Arc::downgrade(&writer));
                writer
            }
        };
        if truncate {
            writer.truncate();
        }
        Ok(writer)
    }

    async fn make_directory(&self, parent: InodeId, name: &Name, owner: Owner) -> Result<Lookup> {
        if self.child(parent, name.as_bytes()).is_some() {
            return Err(Error::new(ErrorKind::AlreadyExists, "it exists"));
        }
        let inode = self.dir(parent, str::from_utf8(name.as_bytes()).unwrap());
        self.edit(inode, |attr| (attr.mode, attr.uid, attr.gid) = (owner.mode, owner.uid, owner.gid));
        Ok(self.found(self.attr_of(inode)))
    }

    async fn symlink(&self, parent: InodeId, name: &Name, target: &[u8], owner: Owner) -> Result<Lookup> {
        let made = self.make_node(parent, name, FileKind::Symlink, owner).await?;
        let inode = made.attr.expect("made").inode;
        self.edit(inode, |attr| attr.size = target.len() as u64);
        self.state().targets.insert(inode, Bytes::copy_from_slice(target));
        Ok(self.found(self.attr_of(inode)))
    }

    async fn make_node(&self, parent: InodeId, name: &Name, kind: FileKind, owner: Owner) -> Result<Lookup> {
        if self.child(parent, name.as_bytes()).is_some() {
            return Err(Error::new(ErrorKind::AlreadyExists, "it exists"));
        }
        let inode = self.add(parent, str::from_utf8(name.as_bytes()).unwrap(), kind, &[]);
        self.edit(inode, |attr| {
            (attr.mode, attr.uid, attr.gid) = (owner.mode, owner.uid, owner.gid);
            attr.version.clear();
        });
        Ok(self.found(self.attr_of(inode)))
    }

    async fn remove(&self, parent: InodeId, name: &Name, directory: bool) -> Result<()> {
        let attr =
            self.child(parent, name.as_bytes()).ok_or_else(|| Error::new(ErrorKind::NotFound, "no such name"))?;
        if directory != (attr.kind == FileKind::Directory) {
            let kind = if directory { ErrorKind::NotADirectory } else { ErrorKind::IsADirectory };
            return Err(Error::new(kind, "it is of the other kind"));
        }
        if !self.state().nodes[&attr.inode].children.is_empty() {
            return Err(Error::new(ErrorKind::NotEmpty, "it has entries"));
        }
        if let Some(writer) = self.writer(attr.inode) {
            writer.unlink();
        }
        self.remove_silently(parent, str::from_utf8(name.as_bytes()).unwrap());
        Ok(())
    }

    async fn link(&self, inode: InodeId, parent: InodeId, name: &Name) -> Result<Lookup> {
        if self.child(parent, name.as_bytes()).is_some() {
            return Err(Error::new(ErrorKind::AlreadyExists, "it exists"));
        }
        self.attr_of(inode).ok_or_else(|| stale(inode))?;
        self.edit(inode, |attr| attr.nlink += 1);
        self.state().nodes.get_mut(&parent).unwrap().children.insert(name.clone(), inode);
        Ok(self.found(self.attr_of(inode)))
    }

    async fn rename(&self, from: (InodeId, &Name), to: (InodeId, &Name), mode: RenameMode) -> Result<()> {
        if mode == RenameMode::Exchange {
            let mut state = self.state();
            let mut take = |(dir, name): (InodeId, &Name)| {
                let taken = state.nodes.get_mut(&dir).unwrap().children.remove(name);
                taken.ok_or_else(|| Error::new(ErrorKind::NotFound, "no such name"))
            };
            let (one, other) = (take(from)?, take(to)?);
            state.nodes.get_mut(&from.0).unwrap().children.insert(from.1.clone(), other);
            state.nodes.get_mut(&to.0).unwrap().children.insert(to.1.clone(), one);
            return Ok(());
        }
        if self.child(to.0, to.1.as_bytes()).is_some() {
            if mode == RenameMode::NoReplace {
                return Err(Error::new(ErrorKind::AlreadyExists, "it exists"));
            }
            self.remove_silently(to.0, str::from_utf8(to.1.as_bytes()).unwrap());
        }
        let mut state = self.state();
        let moved = state.nodes.get_mut(&from.0).unwrap().children.remove(from.1);
        let moved = moved.ok_or_else(|| Error::new(ErrorKind::NotFound, "no such name"))?;
        state.nodes.get_mut(&to.0).unwrap().children.insert(to.1.clone(), moved);
        Ok(())
    }

    async fn set_attr(&self, inode: InodeId, change: AttrChange) -> Result<Lookup> {
        let AttrChange { mode, uid, gid, mtime, atime } = change;
        self.attr_of(inode).ok_or_else(|| stale(inode))?;
        let set = |attr: &mut Attr| {
            attr.mode = mode.unwrap_or(attr.mode);
            attr.uid = uid.unwrap_or(attr.uid);
            attr.gid = gid.unwrap_or(attr.gid);
            attr.mtime = mtime.unwrap_or(attr.mtime);
            attr.atime = atime.or(attr.atime);
        };
        self.edit(inode, set);
        if let Some(writer) = self.writer(inode) {
            writer.edit(set);
        }
        Ok(self.found(self.attr_of(inode)))
    }

    fn list(&self, dir: InodeId, after: Option<Name>) -> BoxStream<'static, Result<ListPage>> {
        self.0.asked.lists.fetch_add(1, Ordering::SeqCst);
        let state = self.state();
        let entries =
            state.nodes[&dir].children.iter().filter(|(name, _)| after.as_ref().is_none_or(|after| *name > after));
        let entry = |(name, inode): (&Name, &InodeId)| ListEntry {
            name: Bytes::copy_from_slice(name.as_bytes()),
            attr: Arc::clone(&state.nodes[inode].attr),
        };
        let entries: Vec<ListEntry> = entries.map(entry).collect();
        let (valid_until, page) = (self.valid_until(), self.0.knobs.page.load(Ordering::SeqCst));
        let break_after = self.0.knobs.break_after.swap(usize::MAX, Ordering::SeqCst);
        let broken = entries.len() > break_after;
        let mut pages: Vec<Result<ListPage>> = entries[..entries.len().min(break_after)]
            .chunks(page)
            .map(|entries| Ok(ListPage { directory: None, entries: entries.to_vec(), valid_until, skipped: 0 }))
            .collect();
        if pages.is_empty() {
            pages.push(Ok(ListPage { directory: None, entries: Vec::new(), valid_until, skipped: 0 }));
        }
        if broken {
            pages.push(Err(Error::new(ErrorKind::Unavailable, "the store answered 503")));
        }
        stream::iter(pages).boxed()
    }

    fn events(&self) -> broadcast::Receiver<Event> {
        self.0.events.subscribe()
    }

    fn let_go(&self) {
        self.0.asked.let_go.fetch_add(1, Ordering::SeqCst);
    }
}
