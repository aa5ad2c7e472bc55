//! Making symbolic links and special files, which the namespace alone has: no store is asked to hold them.

use std::sync::Arc;

use headpond_namespace::{Command, Reply, Unstored};
use headpond_types::{Error, ErrorKind, Result};

use super::{Locked, NewEntry, Writing, entries::exists};
use crate::{catalog::unexpected, lookup::Answer};

/// Longest target of a symbolic link: `PATH_MAX` without its NUL byte.
const TARGET_MAX: usize = 4095;

impl Writing {
    /// Makes a symbolic link or a special file.
    ///
    /// # Errors
    /// `AlreadyExists`, `ReadOnly`, `PermissionDenied`, also for a device that another than root asks for; `NameTooLong` and `InvalidArgument` for
    /// targets that no path can be; those of lookup.
    pub(crate) async fn make_node(self: &Arc<Self>, new: NewEntry, what: Unstored) -> Result<Answer> {
        let this = self.clone();
        self.run_once(new.request, async move { this.do_make_node(&new, what).await }).await
    }

    async fn do_make_node(&self, new: &NewEntry, what: Unstored) -> Result<Answer> {
        let NewEntry { parent, name, caller, request, .. } = new;
        if let Some(Reply::Inode(inode)) = self.answered(*request)? {
            self.tell_again(*request, &[(*parent, name.clone())], &[], Locked::Names)?;
            return self.answer(inode);
        }
        check(&what, new)?;
        self.lookups.lookup(*parent, name, caller.as_ref(), false).await?;
        let _guard = self.names.lock(*parent, name).await;
        let snapshot = self.catalog.snapshot()?;
        if snapshot.lookup(*parent, name)?.is_some() {
            return Err(exists(&snapshot, *parent, name));
        }
        let owner = self.directory(&snapshot, *parent, caller.as_ref())?.owner(new, false)?;
        drop(snapshot);
        let (parent, name, request, now) = (*parent, name.clone(), *request, self.clock.now());
        let place = (parent, name.clone());
        let command = Command::MakeUnstored { request, parent, name, owner, what, now };
        match self.change(&[place], command).await? {
            Reply::Inode(inode) => self.answer(inode),
            other => Err(unexpected(&other)),
        }
    }
}

fn check(what: &Unstored, new: &NewEntry) -> Result<()> {
    let name = &new.name;
    let (kind, message) = match what {
        Unstored::Symlink(target) if target.len() > TARGET_MAX => {
            (ErrorKind::NameTooLong, format!("the target of {name} has more than {TARGET_MAX} bytes"))
        }
        Unstored::Symlink(target) if target.is_empty() || target.contains(&0) => {
            (ErrorKind::InvalidArgument, format!("the target of {name} is empty or has a NUL byte"))
        }
        Unstored::CharDevice(_) | Unstored::BlockDevice(_)
            if new.caller.as_ref().is_some_and(|caller| !caller.is_root()) =>
        {
            (ErrorKind::PermissionDenied, format!("{name} is to be a device: only root makes those"))
        }
        Unstored::Symlink(_)
        | Unstored::Fifo
        | Unstored::Socket
        | Unstored::CharDevice(_)
        | Unstored::BlockDevice(_) => return Ok(()),
    };
    Err(Error::new(kind, message))
}
