//! Deleting what the store has of a directory that was removed with all that lay below.
//!
//! The namespace still knows what it knew then, though nobody finds it any more, and what is below the directory's places is masked. Nothing is put there
//! meanwhile: what is made under the old path begins below `.headpond/displaced/`, and whatever is to be moved there waits for the end of this.
//! So what is deleted is, and all of that can be done again:
//!
//! * in directories that were never listed, objects that the namespace does not know, in the version that is listed now, if they were stored before the
//!   removal was asked for. Stores with directories of their own keep the times of what is moved: there all is listed before a removal, and nothing is
//!   judged by its age;
//! * files that were known, in the version that was known. Each is forgotten when its object is gone;
//! * markers, as those of any directory that is gone.
//!
//! An object that belongs to another relocation, since it was renamed out of the directory and has not been moved yet, is not touched, nor is one that
//! the persister is to delete. What else is there came later, or was changed meanwhile, and is shown when the mask goes.

use std::time::Duration;

use fail::fail_point;
use headpond_namespace::{Command, Remaining, Snapshot};
use headpond_types::{InodeId, Name, Result, Timestamp};
use headpond_ufs::{Key, ObjectMeta, Precondition};

use super::{
    below::Below,
    covered::Covered,
    deletions::Doomed,
    job::{BATCH, Job},
    owners::Owners,
};
use crate::mount::Verdict;

/// What says that it was stored later than so long before the removal may have come after it: stores tell seconds, and their clocks are not ours.
const MARGIN: Duration = Duration::from_secs(2);

/// A file that was known, and its object.
#[derive(Debug)]
struct Known {
    inode: InodeId,
    /// Relative to the mount's prefix.
    key: Vec<u8>,
    version: String,
}

/// Places of other relocations.
#[derive(Debug)]
struct Others(Vec<Vec<u8>>);

impl Others {
    /// Whether an object at `key` is another's than that whose objects are below `base` bytes of it: the longest place above it decides.
    fn claim(&self, key: &[u8], base: usize) -> bool {
        let is_above = |place: &[u8]| place == key || place.ends_with(b"/") && key.starts_with(place);
        self.0.iter().any(|place| place.len() >= base && is_above(place))
    }
}

impl Job<'_> {
    /// Deletes all that is left of the directory, which was removed at `at`.
    ///
    /// # Errors
    /// Those of store and journal. What was deleted stays so.
    pub(super) async fn clear_removed(&self, at: Timestamp) -> Result<()> {
        self.clear_unlisted(at).await?;
        self.clear_known().await?;
        self.clear_replaced().await?;
        self.clear_left().await?;
        let native = self.mount.store().await?.capabilities().native_directories;
        let mut before = Vec::new();
        loop {
            let cleared = self.clear_markers(at).await?;
            // A store with directories shows one as empty only when those in it are gone, and keeps one that is not empty.
            if !native || cleared.is_empty() || cleared == before {
                return Ok(());
            }
            before = cleared;
        }
    }

    /// Deletes what lies in directories that were never listed.
    async fn clear_unlisted(&self, at: Timestamp) -> Result<()> {
        if self.mount.store().await?.capabilities().native_directories {
            return Ok(());
        }
        let top = self.relocator.catalog.snapshot()?.removed(self.relocation.inode)?;
        let mut open: Vec<_> = top.into_iter().map(|top| (top, false)).collect();
        while let Some((dir, is_covered)) = open.pop() {
            let Remaining::Directory { listed, apart } = dir.what else { continue };
            let mut is_covered = is_covered && !apart;
            if !listed && !is_covered {
                self.clear_listing(dir.inode, at).await?;
                is_covered = true;
            }
            let mut after = None;
            loop {
                let entries = self.relocator.catalog.snapshot()?.remains(dir.inode, after.as_ref(), BATCH)?;
                let Some((last, _)) = entries.last() else { break };
                after = Some(last.clone());
                let below = entries.into_iter().map(|(_, remain)| remain);
                let below = below.filter(|remain| matches!(remain.what, Remaining::Directory { .. }));
                open.extend(below.map(|remain| (remain, is_covered)));
            }
        }
        Ok(())
    }

    /// Lists `dir` with all below, and deletes what was there at `at` and is not known.
    async fn clear_listing(&self, dir: InodeId, at: Timestamp) -> Result<()> {
        let Some((prefix, base)) = self.relocator.catalog.snapshot()?.remaining_prefix(dir)? else { return Ok(()) };
        let mut below = Below::new(&self.mount.object_key(&prefix));
        while let Some(objects) = below.next(self).await? {
            let (owners, others) = (self.owners()?, self.others()?);
            let mut doomed = Vec::new();
            for meta in objects {
                let Some(place) = self.mount.relative(meta.key.as_bytes()) else { continue };
                let Some(rest) = place.strip_prefix(&prefix[..]) else { continue };
                if is_older(&meta, at)
                    && !others.claim(place, base)
                    && is_unknown(&self.relocator.catalog.snapshot()?, dir, rest)?
                    && !self.is_needed(&owners, place)?
                {
                    doomed.push(meta);
                }
            }
            drop(owners);
            self.delete_all(doomed).await?;
        }
        Ok(())
    }

    /// Whether what is at `key` is a file's, or may become one's, or is to be deleted in its turn.
    fn is_needed(&self, owners: &Owners, key: &[u8]) -> Result<bool> {
        let Self { relocator, relocation, .. } = self;
        let snapshot = relocator.catalog.snapshot()?;
        Ok(owners.file_at(key)?.is_some()
            || relocator.leases.is_persisting_at(key)
            || snapshot.orphan_at(relocation.mount, key)?.is_some()
            || snapshot.is_left(relocation.mount, key)?)
    }

    async fn delete_all(&self, objects: Vec<ObjectMeta>) -> Result<()> {
        let doomed: Vec<_> =
            objects.into_iter().map(|ObjectMeta { key, version, .. }| Doomed { key, version }).collect();
        let (verdicts, outcome) = self.delete_versions(&doomed).await;
        for _ in verdicts.into_iter().flatten() {
            fail_point!("removal::deleted");
        }
        outcome
    }

    /// Deletes the objects of files that were known, and forgets them.
    async fn clear_known(&self) -> Result<()> {
        let mut open: Vec<(InodeId, Option<Name>)> = vec![(self.relocation.inode, None)];
        loop {
            let mut known = Vec::new();
            while known.len() < BATCH {
                let Some((dir, after)) = open.pop() else { break };
                let entries = self.relocator.catalog.snapshot()?.remains(dir, after.as_ref(), BATCH)?;
                if let Some((last, _)) = entries.last().filter(|_| entries.len() == BATCH) {
                    open.push((dir, Some(last.clone())));
                }
                for (_, remain) in entries {
                    match remain.what {
                        Remaining::Directory { .. } => open.push((remain.inode, None)),
                        Remaining::File { key, version } => known.push(Known { inode: remain.inode, key, version }),
                        Remaining::Nothing => {}
                    }
                }
            }
            if known.is_empty() {
                return Ok(());
            }
            self.delete_known(known).await?;
        }
    }

    async fn delete_known(&self, known: Vec<Known>) -> Result<()> {
        let owners = self.owners()?;
        let (mut gone, mut left, mut doomed) = (Vec::with_capacity(known.len()), Vec::new(), Vec::new());
        for Known { inode, key, version } in known {
            // Another file's by now.
            if owners.file_at(&key)?.is_some() || self.relocator.leases.is_persisting_at(&key) {
                gone.push((inode, version));
            } else {
                left.push(inode);
                doomed.push(Doomed { key: self.mount.object_key(&key), version });
            }
        }
        drop(owners);
        let (verdicts, outcome) = self.delete_versions(&doomed).await;
        for ((Doomed { key, version }, inode), verdict) in doomed.into_iter().zip(left).zip(verdicts) {
            let Some(verdict) = verdict else { continue };
            if verdict == Verdict::Unmet {
                tracing::warn!(
                    ?key,
                    "an object was changed outside before it was deleted with its directory: it stays as a file at its old path"
                );
            }
            fail_point!("removal::deleted");
            gone.push((inode, version));
        }
        fail_point!("removal::journal");
        self.relocator.catalog.propose(Command::Reap { tree: self.relocation.inode, files: gone }).await?;
        fail_point!("removal::journalled");
        outcome
    }

    /// Deletes markers at and below the places of the directory; gives their keys. Those with bytes in them, as some programs make them, only if they
    /// were there at `at`.
    async fn clear_markers(&self, at: Timestamp) -> Result<Vec<Vec<u8>>> {
        let store = self.mount.store().await?;
        let mut cleared = Vec::new();
        for place in self.relocation.places().filter(|place| place.ends_with(b"/")) {
            let prefix = self.mount.object_key(place);
            let (mut markers, mut covered) = (Vec::new(), self.covered_at(place).await?);
            let mut below = Below::new(&prefix);
            while let Some(objects) = below.next(self).await? {
                for meta in objects {
                    if meta.key.as_bytes().ends_with(b"/") {
                        markers.push(meta);
                    } else {
                        covered.add(meta.key.as_bytes().strip_prefix(prefix.as_bytes()).unwrap_or_default());
                    }
                }
            }
            markers.extend(self.covered_markers(&prefix, &covered).await?);
            // Those in a directory before it.
            for meta in markers.into_iter().rev() {
                let relative = self.mount.relative(meta.key.as_bytes()).unwrap_or_default();
                if self.others()?.claim(relative, place.len()) {
                    continue;
                }
                let Some(_guards) = self.lock_marker(&meta.key, InodeId(0)).await? else { continue };
                if meta.size == 0 {
                    self.mount.ask("delete", &meta.key, store.delete(&meta.key, &Precondition::None)).await?;
                } else if is_older(&meta, at) {
                    self.delete_version(&meta.key, &meta.version).await?;
                }
                cleared.push(meta.key.as_bytes().to_vec());
            }
        }
        Ok(cleared)
    }

    /// Markers that no listing of `prefix` shows.
    async fn covered_markers(&self, prefix: &Key, covered: &Covered) -> Result<Vec<ObjectMeta>> {
        let mut markers = Vec::new();
        if covered.is_empty() {
            return Ok(markers);
        }
        let store = self.mount.store().await?;
        let mut open = vec![(self.relocation.inode, Vec::new())];
        while let Some((dir, way)) = open.pop() {
            if covered.holds(&way) {
                let key = Key::from([prefix.as_bytes(), &way].concat());
                markers.extend(self.mount.ask("find", &key, store.head(&key)).await?);
            }
            let mut after = None;
            loop {
                let entries = self.relocator.catalog.snapshot()?.remains(dir, after.as_ref(), BATCH)?;
                let Some((last, _)) = entries.last() else { break };
                after = Some(last.clone());
                for (name, remain) in entries {
                    if matches!(remain.what, Remaining::Directory { .. }) {
                        open.push((remain.inode, [&way, name.as_bytes(), b"/"].concat()));
                    }
                }
            }
        }
        markers.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        Ok(markers)
    }

    /// Where what was renamed, and is not being removed with this, may have objects.
    fn others(&self) -> Result<Others> {
        let snapshot = self.relocator.catalog.snapshot()?;
        let mut others = Vec::new();
        for relocation in snapshot.relocations()? {
            if relocation.mount == self.relocation.mount
                && relocation.id != self.relocation.id
                && !snapshot.is_being_removed(relocation.inode)?
            {
                others.extend(relocation.places().map(<[u8]>::to_vec));
            }
        }
        Ok(Others(others))
    }
}

/// Whether an object was there at `at` for sure.
fn is_older(meta: &ObjectMeta, at: Timestamp) -> bool {
    let margin = i64::try_from(MARGIN.as_nanos()).unwrap_or(i64::MAX);
    meta.mtime.0.saturating_add(margin) <= at.0
}

/// Whether `path`, of an object below `dir`, leads to something that the namespace did not know, in a directory that was never listed.
fn is_unknown(snapshot: &Snapshot, dir: InodeId, path: &[u8]) -> Result<bool> {
    let (mut at, mut was_listed) = (dir, false);
    let mut parts = path.split(|byte| *byte == b'/').peekable();
    while let Some(part) = parts.next() {
        // What no path can express is nobody's business, and a marker is no file.
        let Ok(name) = Name::new(part) else { return Ok(false) };
        let Some(remain) = snapshot.remain(at, &name)? else {
            return Ok(!was_listed && parts.all(|part| Name::new(part).is_ok()));
        };
        match remain.what {
            Remaining::Directory { listed, apart: false } if parts.peek().is_some() => {
                (at, was_listed) = (remain.inode, listed);
            }
            _ => return Ok(false),
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_belongs_to_the_longest_place_above_it() {
        let others = Others([&b"d/sub/"[..], b"d/f", b"a/"].map(<[u8]>::to_vec).to_vec());
        let claims = |key: &str, prefix: &str| others.claim(key.as_bytes(), prefix.len());
        assert!(claims("d/sub/x", "d/") && claims("d/sub/", "d/") && claims("d/f", "d/"));
        assert!(!claims("d/g", "d/") && !claims("d/subs/x", "d/") && !claims("d/fg", "d/") && !claims("d/f/x", "d/"));
        // What lies in another that moves is of the inner one, and of two at one place nobody knows.
        assert!(!claims("a/b/x", "a/b/") && claims("a/x", "a/"));
    }
}
