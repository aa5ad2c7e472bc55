//! What becomes due: trees that were renamed from temporary names, what has no temporary name any more, and what somebody asks for.

use headpond_namespace::{Command, Due, Snapshot};
use headpond_types::{Attr, FileKind, InodeId, Name, Result};

use super::Persister;
use crate::{mount::LiveMount, sync::stale};

/// Rows that are made due together.
const BATCH: usize = 1000;

/// What is looked for in a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Looked {
    /// What waits for another name, and has it.
    Released,
    /// All that is not due.
    All,
}

impl Persister {
    /// Makes due, with the number `number`, what waits below the renamed directory `top`. Can be done again.
    ///
    /// # Errors
    /// Those of namespace and journal.
    pub(super) async fn make_tree_due(&self, top: InodeId, number: u64) -> Result<()> {
        self.walk(top, Looked::Released, Some(number)).await.map(|_| ())
    }

    /// Makes due all that is not yet, at and below `top`, but for what a rename has released, which becomes due with its directory; gives how many files
    /// that were.
    ///
    /// # Errors
    /// Those of namespace and journal; what was made due until then is.
    pub(crate) async fn persist_below(&self, top: InodeId) -> Result<u64> {
        self.walk(top, Looked::All, None).await
    }

    async fn walk(&self, top: InodeId, looked: Looked, number: Option<u64>) -> Result<u64> {
        let snapshot = self.catalog.snapshot()?;
        let attr = snapshot.attr(top)?.ok_or_else(|| stale(top))?;
        let mut mount = self.mount(attr.mount).ok();
        let names = snapshot.location(top)?.map(|location| location.names);
        drop(snapshot);
        let (mut found, mut files) = (Vec::new(), 0);
        self.look_at(&attr, mount.as_deref(), &names.clone().unwrap_or_default(), looked, &mut found)?;
        let mut open = vec![(attr, names.unwrap_or_default())];
        while let Some((dir, names)) = open.pop() {
            if dir.kind != FileKind::Directory {
                continue;
            }
            if mount.as_ref().is_none_or(|mount| mount.mount.id != dir.mount) {
                mount = self.mount(dir.mount).ok();
            }
            let mut after = None;
            loop {
                let entries = self.catalog.snapshot()?.list(dir.inode, after.as_ref(), BATCH)?;
                let Some((last, _)) = entries.last() else { break };
                after = Some(last.clone());
                for (name, attr) in entries {
                    if attr.mount != dir.mount {
                        // A mount below another has its own way.
                        if looked == Looked::All {
                            open.push((attr, Vec::new()));
                        }
                        continue;
                    }
                    let path: Vec<Name> = names.iter().cloned().chain([name]).collect();
                    if attr.dirty || attr.kind == FileKind::Directory {
                        self.look_at(&attr, mount.as_deref(), &path, looked, &mut found)?;
                    }
                    if attr.kind == FileKind::Directory {
                        open.push((attr, path));
                    }
                }
                if found.len() >= BATCH {
                    files += self.make_due(std::mem::take(&mut found), number).await?;
                }
            }
        }
        Ok(files + self.make_due(found, number).await?)
    }

    /// Adds an inode to what is `found` if it is looked for.
    fn look_at(
        &self,
        attr: &Attr,
        mount: Option<&LiveMount>,
        path: &[Name],
        looked: Looked,
        found: &mut Vec<(InodeId, bool, bool)>,
    ) -> Result<()> {
        let Some(mount) = mount else { return Ok(()) };
        let snapshot = self.catalog.snapshot()?;
        let Some(dirty) = snapshot.dirty(attr.inode)? else { return Ok(()) };
        let is_released = || mount.policy.due(path).is_none_or(|due| due == Due::Now);
        let wanted = match (looked, dirty.due) {
            (_, Due::Now) => false,
            (Looked::All, Due::WhenRenamed) => !(is_released() && is_in_tree(&snapshot, attr)?),
            (Looked::Released, Due::WhenRenamed) => is_released(),
            (Looked::All, Due::Never) => true,
            (Looked::Released, Due::Never) => false,
        };
        if wanted {
            let is_file = attr.kind == FileKind::File;
            found.push((attr.inode, is_file && mount.policy.is_barrier(path), is_file));
        }
        Ok(())
    }

    /// Makes due what was found; gives how many of it are files.
    async fn make_due(&self, found: Vec<(InodeId, bool, bool)>, number: Option<u64>) -> Result<u64> {
        if found.is_empty() {
            return Ok(0);
        }
        let files = found.iter().filter(|(.., is_file)| *is_file).count();
        let inodes = found.into_iter().map(|(inode, barrier, _)| (inode, barrier)).collect();
        self.catalog.propose(Command::MakeDue { inodes, number }).await?;
        fail::fail_point!("persist::due");
        Ok(files as u64)
    }

    /// Makes due what has no temporary name any more, in whichever way it lost it.
    pub(crate) async fn release_renamed(&self) {
        for mount in self.backlog.mounts() {
            if let Err(error) = self.release_renamed_in(mount).await {
                tracing::warn!(%mount, %error, "cannot see what has no temporary name any more, trying again");
            }
        }
    }

    async fn release_renamed_in(&self, mount: headpond_types::MountId) -> Result<()> {
        let (Some(line), Ok(live)) = (self.backlog.line(mount), self.mount(mount)) else { return Ok(()) };
        let waiting: Vec<_> = line.lock().not_due().map(|(inode, _)| inode).collect();
        for inodes in waiting.chunks(BATCH) {
            let mut found = Vec::new();
            {
                let snapshot = self.catalog.snapshot()?;
                for inode in inodes {
                    let (Some(attr), Some(location)) = (snapshot.attr(*inode)?, snapshot.location(*inode)?) else {
                        continue;
                    };
                    let is_released = live.policy.due(&location.names).is_none_or(|due| due == Due::Now);
                    if is_released && !is_in_tree(&snapshot, &attr)? {
                        let is_file = attr.kind == FileKind::File;
                        found.push((*inode, is_file && live.policy.is_barrier(&location.names), is_file));
                    }
                }
            }
            self.make_due(found, None).await?;
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}

/// Whether a directory above was renamed whose tree is being made due: with its number, since all below is seen only after what was changed before.
fn is_in_tree(snapshot: &Snapshot, attr: &Attr) -> Result<bool> {
    let (mut at, mut parent) = (attr.inode, attr.parent);
    while parent != at {
        if snapshot.dirty(parent)?.is_some_and(|dirty| dirty.tree) {
            return Ok(true);
        }
        let Some(above) = snapshot.attr(parent)? else { break };
        (at, parent) = (parent, above.parent);
    }
    Ok(false)
}
