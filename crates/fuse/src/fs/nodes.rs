//! Symbolic links and special files.

use bytes::Bytes;
use headpond_client::{NewFile, Owner};
use headpond_types::{FileKind, Result};

use super::{Entry, FileSystem, Source, SourceWriter, attributes::name_of};

impl<S: Source, B: Send + Sync + 'static> FileSystem<S, B> {
    /// The target of a symbolic link, if it is in memory.
    pub(crate) fn readlink_now(&self, node: u64) -> Option<Bytes> {
        self.source.cached_link(self.inode_of(node))
    }

    /// The target of a symbolic link.
    pub(crate) async fn readlink(&self, node: u64) -> Result<Bytes> {
        self.within("reading a symbolic link", self.source.read_link(self.inode_of(node))).await
    }

    /// Makes a symbolic link.
    pub(crate) async fn symlink(&self, parent: u64, name: &[u8], target: &[u8], owner: Owner) -> Result<Entry> {
        let (parent, name) = (self.inode_of(parent), name_of(name)?);
        let made = self.within("making a symbolic link", self.source.symlink(parent, &name, target, owner)).await?;
        self.disturb(parent);
        Ok(self.entry(&made))
    }

    /// Makes a special file, or an empty file, which is in the store then.
    pub(crate) async fn make_node(&self, parent: u64, name: &[u8], kind: FileKind, owner: Owner) -> Result<Entry> {
        if kind == FileKind::File {
            let Owner { mode, uid, gid } = owner;
            let writer =
                self.create(parent, name, NewFile { mode, uid, gid, exclusive: true, truncate: false }).await?;
            writer.persist(true).await?;
            drop(writer);
            return self.lookup(parent, name).await;
        }
        let (parent, name) = (self.inode_of(parent), name_of(name)?);
        let made = self.within("making a special file", self.source.make_node(parent, &name, kind, owner)).await?;
        self.disturb(parent);
        Ok(self.entry(&made))
    }
}
