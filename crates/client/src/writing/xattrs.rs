//! Extended attributes.

use bytes::Bytes;
use headpond_proto::v1;
use headpond_types::{InodeId, Result};

use crate::{
    Lookup,
    admin::request_id,
    master::{self, Retry},
    metadata::Question,
    shared::Shared,
};

use std::sync::Arc;

impl Shared {
    pub(crate) async fn set_xattr(
        &self,
        inode: InodeId,
        name: &[u8],
        value: Option<&[u8]>,
        exists: Option<bool>,
    ) -> Result<Lookup> {
        let request = v1::SetXattrRequest {
            inode: inode.0,
            name: Bytes::copy_from_slice(name),
            value: value.map(Bytes::copy_from_slice),
            exists,
            caller: self.caller.clone(),
            request_id: request_id(),
        };
        let call = |channel| {
            let request = request.clone();
            async move { master::writing(channel).set_xattr(request).await }
        };
        let ticket = self.cache.ticket();
        let answer = self.masters.call("setxattr", Retry::Change, call).await?;
        let found = self.keep(ticket, inode, answer.attr, answer.as_of, answer.valid_ms)?;
        if let (Some(writer), Some(attr)) = (self.writers.get(inode), &found.attr) {
            writer.learn(attr, answer.as_of);
        }
        Ok(found)
    }

    pub(crate) async fn xattrs(self: &Arc<Self>, inode: InodeId) -> Result<Vec<(Bytes, Bytes)>> {
        let found = self.ask(Question::Inode(inode)).await?;
        if !found.attr.is_some_and(|attr| attr.has_xattrs) {
            return Ok(Vec::new());
        }
        let call = |channel| {
            let request = v1::GetXattrsRequest { inode: inode.0, caller: self.caller.clone() };
            async move { master::namespace(channel).get_xattrs(request).await }
        };
        let answer = self.masters.call("getxattr", Retry::Yes, call).await?;
        Ok(answer.xattrs.into_iter().map(|xattr| (xattr.name, xattr.value)).collect())
    }
}
