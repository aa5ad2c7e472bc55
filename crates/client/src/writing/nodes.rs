//! Symbolic links and special files.

use bytes::Bytes;
use headpond_proto::v1;
use headpond_types::{FileKind, InodeId, Name, Result};
use moka::sync::Cache;

use super::Owner;
use crate::{
    Lookup,
    admin::request_id,
    master::{self, Retry},
    shared::Shared,
};

/// Bytes of targets kept in memory.
const TARGETS: u64 = 16 << 20;

/// What an entry takes besides its target.
const ENTRY: usize = 96;

/// Targets of symbolic links. They never change under their inodes, so they are valid for ever.
#[derive(Debug)]
pub(crate) struct Targets(Cache<InodeId, Bytes>);

impl Targets {
    pub(crate) fn new() -> Self {
        let weight = |_: &InodeId, target: &Bytes| u32::try_from(target.len() + ENTRY).unwrap_or(u32::MAX);
        Self(Cache::builder().max_capacity(TARGETS).weigher(weight).build())
    }

    pub(crate) fn get(&self, inode: InodeId) -> Option<Bytes> {
        self.0.get(&inode)
    }
}

impl Shared {
    pub(crate) async fn make_node(
        &self,
        parent: InodeId,
        name: &Name,
        kind: FileKind,
        target: Bytes,
        owner: Owner,
    ) -> Result<Lookup> {
        let Owner { mode, uid, gid } = owner;
        let request = v1::MakeNodeRequest {
            parent: parent.0,
            name: Bytes::copy_from_slice(name.as_bytes()),
            mode,
            uid,
            gid,
            kind: v1::FileKind::from(kind).into(),
            target: target.clone(),
            device: kind.device(),
            caller: self.caller.clone(),
            request_id: request_id(),
        };
        let call = |channel| {
            let request = request.clone();
            async move { master::writing(channel).make_node(request).await }
        };
        let ticket = self.cache.ticket();
        let answer = self.masters.call("make node", Retry::Change, call).await?;
        if kind == FileKind::Symlink
            && let Some(attr) = &answer.attr
        {
            self.targets.0.insert(InodeId(attr.inode), target);
        }
        self.keep_made(ticket, parent, name, answer)
    }

    pub(crate) async fn read_link(&self, inode: InodeId) -> Result<Bytes> {
        if let Some(target) = self.targets.get(inode) {
            return Ok(target);
        }
        let call = |channel| {
            let request = v1::ReadLinkRequest { inode: inode.0, caller: self.caller.clone() };
            async move { master::namespace(channel).read_link(request).await }
        };
        let target = self.masters.call("readlink", Retry::Yes, call).await?.target;
        self.targets.0.insert(inode, target.clone());
        Ok(target)
    }
}
