//! Names and attributes.

use std::{sync::Arc, time::Duration};

use headpond_client::{Lookup, StatFs};
use headpond_types::{Attr, Error, ErrorKind, Name, PathError, Result};

use super::{Entry, FileSystem, Source, SourceFile, SourceWriter};

/// Validity of attributes that come from an open file because nobody else could be asked.
const FALLBACK_TTL: Duration = Duration::from_secs(1);

impl<S: Source, B: Send + Sync + 'static> FileSystem<S, B> {
    /// The entry `name` of `parent`, if it is in memory.
    pub(crate) fn lookup_now(&self, parent: u64, name: &[u8]) -> Option<Entry> {
        let dir = self.inode_of(parent);
        let found = self.source.cached_lookup(dir, name)?;
        Some(self.named_entry(dir, name, &found))
    }

    /// The entry `name` of `parent`.
    pub(crate) async fn lookup(&self, parent: u64, name: &[u8]) -> Result<Entry> {
        let (dir, name) = (self.inode_of(parent), name_of(name)?);
        let question = self.source.lookup(dir, &name);
        let found = self.within("looking up a name", question).await?;
        Ok(self.named_entry(dir, name.as_bytes(), &found))
    }

    /// Attributes of a node, if they are in memory.
    pub(crate) fn attr_now(&self, node: u64) -> Option<Entry> {
        let inode = self.inode_of(node);
        if let Some(entry) = self.attr_written(node) {
            return Some(entry);
        }
        let found = self.source.cached_attr(inode)?;
        Some(self.attr_of_version(node, &found))
    }

    /// Attributes of a node that is being written here.
    pub(super) fn attr_written(&self, node: u64) -> Option<Entry> {
        let writer = self.writer_here(node)?;
        Some(Entry { found: Some((node, writer.attr())), ttl: Duration::ZERO, attr_ttl: Duration::ZERO })
    }

    /// Attributes of a node. Those of an open file do not fail: they are its attributes at the time of the open, which hold
    /// for its bytes however its name changed since.
    pub(crate) async fn attr(&self, node: u64) -> Result<Entry> {
        if let Some(entry) = self.attr_written(node) {
            return Ok(entry);
        }
        let inode = self.inode_of(node);
        match self.within("asking for attributes", self.source.attr(inode)).await {
            Ok(found) => Ok(self.attr_of_version(node, &found)),
            Err(error) => match self.attr_when_opened(node) {
                Some(attr) => Ok(Entry { found: Some((node, attr)), ttl: FALLBACK_TTL, attr_ttl: FALLBACK_TTL }),
                None => Err(error),
            },
        }
    }

    /// What is said of an inode, as of a node of it. Who has an older version open is told of the bytes of that: a kernel that hears of fewer gives him no
    /// more.
    pub(super) fn attr_of_version(&self, node: u64, found: &Lookup) -> Entry {
        let ttl = found.remaining().min(self.options.max_ttl);
        let Some(attr) = &found.attr else { return Entry { found: None, ttl, attr_ttl: ttl } };
        let file = self.opens.file(node).filter(|file| {
            let (opened, content) = (file.attr().content, attr.content);
            opened.is_some() && content.is_some() && opened != content
        });
        let attr = match file {
            Some(file) => {
                let Attr { size, mtime, content, ref version, .. } = **file.attr();
                Arc::new(Attr { size, mtime, content, version: version.clone(), ..Attr::clone(attr) })
            }
            None => Arc::clone(attr),
        };
        Entry { found: Some((node, attr)), ttl, attr_ttl: ttl }
    }

    fn attr_when_opened(&self, node: u64) -> Option<Arc<Attr>> {
        let open = self.opens.file(node).map(|file| Arc::clone(file.attr()));
        open.or_else(|| self.recent.as_ref()?.get(self.inode_of(node)))
    }

    /// Size of the namespace and the cache.
    pub(crate) async fn stat_fs(&self) -> Result<StatFs> {
        self.within("asking for the size of the namespace", self.source.stat_fs()).await
    }
}

/// The name that the kernel gave.
pub(super) fn name_of(name: &[u8]) -> Result<Name> {
    Name::new(name).map_err(|error| match error {
        PathError::TooLong(_) => Error::new(ErrorKind::NameTooLong, error.to_string()),
        error => Error::new(ErrorKind::InvalidArgument, error.to_string()),
    })
}
