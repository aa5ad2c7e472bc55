//! Extended attributes: what the under store and the cache call a file's bytes, and what users set.

use std::sync::Arc;

use bytes::Bytes;
use headpond_types::{Attr, Result};

use super::{FileSystem, Source};

/// Our attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Xattr {
    /// The under store's version (ETag).
    Etag,
    /// The content id.
    Content,
}

const NAMES: [(Xattr, &[u8]); 2] = [(Xattr::Etag, b"user.headpond.etag"), (Xattr::Content, b"user.headpond.content")];

impl Xattr {
    /// The attribute called `name`, if it is one of ours.
    fn named(name: &[u8]) -> Option<Self> {
        NAMES.into_iter().find_map(|(xattr, known)| (known == name).then_some(xattr))
    }

    fn value(self, attr: &Attr) -> Option<Vec<u8>> {
        match self {
            Self::Etag => (!attr.version.is_empty()).then(|| attr.version.clone().into_bytes()),
            Self::Content => attr.content.map(|content| content.to_string().into_bytes()),
        }
    }
}

impl<S: Source, B: Send + Sync + 'static> FileSystem<S, B> {
    /// The value of the extended attribute `name`; `None` when the node has none.
    pub(crate) async fn xattr(&self, node: u64, name: &[u8]) -> Result<Option<Bytes>> {
        if let Some(xattr) = Xattr::named(name) {
            return Ok(self.attr_of(node).await?.and_then(|attr| xattr.value(&attr)).map(Bytes::from));
        }
        let xattrs = self.within("reading extended attributes", self.source.xattrs(self.inode_of(node))).await?;
        Ok(xattrs.into_iter().find_map(|(known, value)| (known == name).then_some(value)))
    }

    /// The names of the node's attributes, each ended by a NUL byte.
    pub(crate) async fn xattr_names(&self, node: u64) -> Result<Vec<u8>> {
        let mut names = Vec::new();
        if let Some(attr) = self.attr_of(node).await? {
            for (xattr, name) in NAMES {
                if xattr.value(&attr).is_some() {
                    names.extend_from_slice(name);
                    names.push(0);
                }
            }
        }
        let xattrs = self.within("reading extended attributes", self.source.xattrs(self.inode_of(node))).await?;
        for (name, _) in xattrs {
            names.extend_from_slice(&name);
            names.push(0);
        }
        Ok(names)
    }

    /// Sets an extended attribute, or removes it without a value.
    pub(crate) async fn set_xattr(
        &self,
        node: u64,
        name: &[u8],
        value: Option<&[u8]>,
        exists: Option<bool>,
    ) -> Result<()> {
        let set = self.source.set_xattr(self.inode_of(node), name, value, exists);
        self.within("setting an extended attribute", set).await.map(drop)
    }

    async fn attr_of(&self, node: u64) -> Result<Option<Arc<Attr>>> {
        let entry = match self.attr_now(node) {
            Some(entry) => entry,
            None => self.attr(node).await?,
        };
        Ok(entry.found.map(|(_, attr)| attr))
    }
}
