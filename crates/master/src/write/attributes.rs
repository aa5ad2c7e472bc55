//! Changing attributes, which no store holds.

use std::sync::Arc;

use headpond_namespace::{AttrChange, Command, Reply, Snapshot};
use headpond_types::{Attr, Error, ErrorKind, InodeId, RequestId, Result, Timestamp};

use super::{Locked, Writing};
use crate::{
    access::Caller,
    lookup::{Answer, describe},
};

/// A change of an inode's attributes, of one kind or the other, that is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Change<C> {
    pub(crate) inode: InodeId,
    pub(crate) change: C,
    pub(crate) caller: Option<Caller>,
    pub(crate) request: RequestId,
}

impl Writing {
    /// Changes attributes, and the time of access to `atime`.
    ///
    /// # Errors
    /// `Stale`, `ReadOnly`, `PermissionDenied` for who is not the owner (nor root, to give it away); those of a lookup.
    pub(crate) async fn set_attr(
        self: &Arc<Self>,
        change: Change<AttrChange>,
        atime: Option<Timestamp>,
    ) -> Result<Answer> {
        let this = self.clone();
        self.run_once(change.request, async move { this.do_set_attr(change, atime).await }).await
    }

    async fn do_set_attr(&self, change: Change<AttrChange>, atime: Option<Timestamp>) -> Result<Answer> {
        let Change { inode, change, caller, request } = change;
        if self.answered(request)? == Some(Reply::Done) {
            self.tell_again(request, &[], &[inode], Locked::Inodes)?;
            return self.answer(inode);
        }
        let (_guard, attr, snapshot) = self.lock_writable(inode, caller.as_ref()).await?;
        if let Some(caller) = caller.filter(|caller| !caller.is_root()) {
            require_ownership(&snapshot, &attr, &change, &caller)?;
        }
        drop(snapshot);
        let now = self.clock.now();
        let command = match atime {
            Some(atime) => Command::SetTimes { request, inode, change, atime, now },
            None => Command::SetAttr { request, inode, change, now },
        };
        self.change(&[], command).await?;
        self.answer(inode)
    }
}

/// Owners change all but the owner, and the group only to one that they are in.
fn require_ownership(snapshot: &Snapshot, attr: &Attr, change: &AttrChange, caller: &Caller) -> Result<()> {
    let gives_away = change.uid.is_some_and(|uid| uid != attr.uid);
    let foreign_group = change.gid.is_some_and(|gid| gid != attr.gid && !caller.is_in(gid));
    if caller.uid() == attr.uid && !gives_away && !foreign_group {
        return Ok(());
    }
    let (user, path) = (caller.uid(), describe(snapshot, attr.inode));
    let why = if caller.uid() == attr.uid { "only root may give it away" } else { "it belongs to another user" };
    let message = format!("user {user} may not change the attributes of {path}: {why}");
    Err(Error::new(ErrorKind::PermissionDenied, message))
}
