//! Files' objects under keys that lead to directories. While names change, the object of a file may still be where a directory is by now, or come to be
//! where one was.
//!
//! Some stores keep each object in a directory of its name, as MinIO does: their listings show nothing of what lies below such an object, though all
//! of it is found by its key. So
//!
//! * a relocation of a directory does not end while another file's object covers it, or a directory below, at its new place: what a listing shows there
//!   is not believed before;
//! * where a directory was, an object of the file that has the name by then may cover what is left. The markers there are looked for one by one, under
//!   the names that the namespace knows. Nothing else is left there that only a listing would find: all that is to be moved is listed before
//!   anything is put above it ([`Job::perform`]), or is displaced, and sources are known by their keys.

use std::collections::BTreeSet;

use headpond_types::{Attr, FileKind, Result};

use super::job::{Job, Wait};

/// Which directories at one place of a relocation no listing of it shows.
#[derive(Debug, Default)]
pub(super) struct Covered(BTreeSet<Vec<u8>>);

impl Covered {
    /// All that is in the directory to which `path` leads from the place.
    pub(super) fn add(&mut self, path: &[u8]) {
        let way = if path.is_empty() { Vec::new() } else { [path, b"/"].concat() };
        self.0.insert(way);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the directory to which `way` leads from the place, names that each end in `/`, is one of them or lies below one.
    pub(super) fn holds(&self, way: &[u8]) -> bool {
        self.0.iter().any(|covered| way.starts_with(covered))
    }
}

impl Job<'_> {
    /// What has to go before a listing shows all that is where this belongs.
    ///
    /// # Errors
    /// Those of the store, when an object that may be overwritten is in the way.
    pub(super) async fn is_covered(&self, top: &Attr) -> Result<Option<Wait>> {
        let keys = self.directory_keys(top)?;
        // Before the namespace is asked whose objects are there: what is stored by then is known to that.
        if keys.iter().any(|key| self.relocator.leases.is_persisting_at(key)) {
            return Ok(Some(Wait::Persist));
        }
        let (owners, snapshot) = (self.owners()?, self.relocator.catalog.snapshot()?);
        for key in &keys {
            if owners.file_at(key)?.is_some() {
                return Ok(Some(Wait::Others));
            }
            if snapshot.is_left(self.relocation.mount, key)?
                || self.relocator.waits_for_orphan(&snapshot, self.relocation, key)?
            {
                return Ok(Some(Wait::Persist));
            }
            if let Some(version) = owners.replaced_at(key) {
                self.delete_version(&self.mount.object_key(key), version).await?;
            }
        }
        Ok(None)
    }

    /// The paths of the directories that this moves, and of those above.
    fn directory_keys(&self, top: &Attr) -> Result<Vec<Vec<u8>>> {
        let Some(target) = self.target.as_ref().filter(|_| top.kind == FileKind::Directory) else {
            return Ok(Vec::new());
        };
        let slashes = target.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let mut keys: Vec<_> = slashes.map(|(at, _)| target[..at].to_vec()).collect();
        let mut directories = self.directories(top)?;
        while let Some(snapshot) = self.snapshot()?
            && let Some(dir) = directories.next(&snapshot)?
        {
            let key = [&target[..], b"/", &dir.way].concat();
            keys.push(key.strip_suffix(b"/").unwrap_or(&key).to_vec());
        }
        Ok(keys)
    }

    /// Whether the object of a file covers all at the place `prefix` of this.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) async fn covered_at(&self, prefix: &[u8]) -> Result<Covered> {
        let store = self.mount.store().await?;
        let mut covered = Covered::default();
        let bare = self.mount.object_key(prefix.strip_suffix(b"/").unwrap_or(prefix));
        if self.mount.ask("find", &bare, store.head(&bare)).await?.is_some() {
            covered.add(&[]);
        }
        Ok(covered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_below_a_covered_directory_is_covered() {
        let mut covered = Covered::default();
        assert!(covered.is_empty() && !covered.holds(b""));
        covered.add(b"a/b");
        assert!(covered.holds(b"a/b/") && covered.holds(b"a/b/c/"));
        assert!(!covered.holds(b"a/bc/") && !covered.holds(b"a/") && !covered.holds(b""));
        covered.add(b"");
        assert!(covered.holds(b"") && covered.holds(b"x/"));
    }
}
