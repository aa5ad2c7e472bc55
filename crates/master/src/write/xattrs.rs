//! Extended attributes, which the namespace alone has.

use std::sync::Arc;

use headpond_namespace::{Command, Reply, Xattr, XattrChange};
use headpond_types::{Attr, Error, ErrorKind, FileKind, InodeId, Result};

use super::{Change, Locked, STICKY, Writing};
use crate::{
    access::{Caller, READ, WRITE},
    lookup::{Answer, describe},
    sync::stale,
};

/// Longest name, with what it begins with.
const NAME_MAX: usize = 255;

/// What the names of users' attributes begin with.
const USER: &[u8] = b"user.";

/// What those begin with that tell of the store's version and are set by nobody.
const OURS: &[u8] = b"user.headpond.";

impl Writing {
    /// Sets or removes an extended attribute.
    ///
    /// # Errors
    /// `AlreadyExists` and `NoAttribute` when it is not as expected, `ResourceExhausted` for more than 64 KiB, `NotSupported` for names that do
    /// not begin with `user.` and for those of Headpond's own, `NameTooLong`; `PermissionDenied` for who may not write, and of links and special
    /// files; `ReadOnly`, `Stale`; those of a lookup.
    pub(crate) async fn set_xattr(self: &Arc<Self>, setting: Change<XattrChange>) -> Result<Answer> {
        let this = self.clone();
        self.run_once(setting.request, async move { this.do_set_xattr(setting).await }).await
    }

    async fn do_set_xattr(&self, setting: Change<XattrChange>) -> Result<Answer> {
        let Change { inode, change, caller, request } = setting;
        if self.answered(request)? == Some(Reply::Done) {
            self.tell_again(request, &[], &[inode], Locked::Inodes)?;
            return self.answer(inode);
        }
        check_name(&change.name)?;
        let (_guard, attr, snapshot) = self.lock_writable(inode, caller.as_ref()).await?;
        let what = || describe(&snapshot, inode);
        let denied = |why: &str| Err(Error::new(ErrorKind::PermissionDenied, format!("{}: {why}", what())));
        if !matches!(attr.kind, FileKind::File | FileKind::Directory) {
            return denied("only files and directories have extended attributes of users");
        }
        if let Some(caller) = caller.filter(|caller| !caller.is_root()) {
            caller.require(&attr, WRITE, what)?;
            if is_sticky(&attr) && caller.uid() != attr.uid {
                return denied("only the owner sets extended attributes of a directory with the sticky bit");
            }
        }
        drop(snapshot);
        let command = Command::SetXattr { request, inode, change, now: self.clock.now() };
        self.change(&[], command).await?;
        self.answer(inode)
    }

    /// The extended attributes of an inode.
    ///
    /// # Errors
    /// `Stale`, `PermissionDenied` for who may not read.
    pub(crate) fn xattrs(&self, inode: InodeId, caller: Option<&Caller>) -> Result<Vec<Xattr>> {
        let snapshot = self.catalog.snapshot()?;
        let attr = snapshot.attr(inode)?.ok_or_else(|| stale(inode))?;
        if let Some(caller) = caller {
            caller.require_way(&snapshot, inode)?;
            caller.require(&attr, READ, || describe(&snapshot, inode))?;
        }
        snapshot.xattrs(inode)
    }
}

const fn is_sticky(attr: &Attr) -> bool {
    matches!(attr.kind, FileKind::Directory) && attr.mode & STICKY != 0
}

fn check_name(name: &[u8]) -> Result<()> {
    let shown = String::from_utf8_lossy(name);
    if name.len() > NAME_MAX {
        let message = format!("extended attribute {shown} has a name of more than {NAME_MAX} bytes");
        return Err(Error::new(ErrorKind::NameTooLong, message));
    }
    if name.starts_with(OURS) {
        let message = format!("extended attribute {shown} says what the store has: it cannot be set");
        return Err(Error::new(ErrorKind::NotSupported, message));
    }
    match name.strip_prefix(USER) {
        Some(rest) if !rest.is_empty() && !rest.contains(&0) => Ok(()),
        Some(_) => Err(Error::new(ErrorKind::InvalidArgument, format!("{shown} is no name of an extended attribute"))),
        None => {
            let message = format!("extended attribute {shown} is not of users: give a name that begins with user.");
            Err(Error::new(ErrorKind::NotSupported, message))
        }
    }
}
