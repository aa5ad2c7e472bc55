//! Attributes that are set through Headpond.

use headpond_types::{InodeId, MountId, Timestamp};

use super::{Apply, stop::Stop};
use crate::{
    command::{AttrChange, Effect, Refusal, Reply},
    inode::Node,
    own::Own,
};

impl Apply<'_> {
    pub(super) fn set_attr(
        &mut self,
        id: InodeId,
        change: &AttrChange,
        atime: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Reply, Stop> {
        let mut row = self.rows.inode(id)?.ok_or(Refusal::Gone(id))?;
        let parent = self.mounts.directory(row.parent);
        let around = self.rows.mount_of(&self.mounts, parent)?.ok_or(Refusal::Gone(id))?;
        let mount = self.mounts.rooted_at(id).unwrap_or(around);
        row.own = self.changed_own(row.own, mount, row.directory().is_some(), change);
        row.own.ctime = Some(now);
        row.own.atime = atime.or(row.own.atime);
        if let Some(time) = change.mtime {
            row.own.mtime = true;
            match &mut row.node {
                Node::File(file) => file.mtime = time,
                Node::Directory(directory) => directory.mtime = time,
                Node::Unstored { mtime, .. } => *mtime = time,
            }
        }
        self.put_inode(id, &row)?;
        // The root has no name, so nobody can be told of its own attributes: they are believed for as long as they were given.
        if let Some(name) = row.name {
            self.effects.push(Effect::Entry { parent, name, old: Some(id) });
        }
        Ok(Reply::Done)
    }

    /// `own` after a change. What the mount shows anyway is not noted.
    pub(super) fn changed_own(&self, own: Own, mount: MountId, is_directory: bool, change: &AttrChange) -> Own {
        let shown = self.mounts.get(mount);
        let noted = |known: Option<u32>, given: Option<u32>, shown: Option<u32>| match given {
            Some(_) => given.filter(|_| given != shown),
            None => known,
        };
        let mode = shown.map(|mount| if is_directory { mount.dir_mode } else { mount.file_mode });
        Own {
            mode: noted(own.mode, change.mode, mode),
            uid: noted(own.uid, change.uid, shown.map(|mount| mount.uid)),
            gid: noted(own.gid, change.gid, shown.map(|mount| mount.gid)),
            ..own
        }
    }
}
