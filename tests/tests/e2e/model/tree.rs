//! Whole trees, compared, and what a bucket must hold for one.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::ffi::OsStringExt as _,
    path::Path,
};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use rustix::fs::AtFlags;

use super::{
    calls::xattrs,
    outcome::{Attributes, Began, Kind},
};

/// Everything below a root.
#[derive(Debug)]
pub(super) struct Tree {
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    attributes: Attributes,
    inode: u64,
    /// Names, of a file.
    links: u64,
    bytes: Bytes,
    /// Attributes that were set.
    extended: BTreeMap<String, Vec<u8>>,
}

/// Extended attributes of a file or a directory; nothing else has any.
fn extended(path: &Path, kind: Kind) -> Result<BTreeMap<String, Vec<u8>>> {
    if !matches!(kind, Kind::File | Kind::Directory) {
        return Ok(BTreeMap::new());
    }
    let mut list = vec![0; 4096];
    let listed = rustix::fs::listxattr(path, &mut list[..]).with_context(|| path.display().to_string())?;
    let names = xattrs(&list[..listed]).into_iter().map(|(name, _)| {
        let mut value = vec![0; 4096];
        let got = rustix::fs::getxattr(path, &name, &mut value[..])
            .with_context(|| format!("{name} of {}", path.display()))?;
        value.truncate(got);
        Ok((name, value))
    });
    names.collect()
}

impl Tree {
    /// All of it, with the bytes of the files.
    pub(super) fn read(root: &Path, began: Began) -> Result<Self> {
        let mut tree = Self { entries: BTreeMap::new() };
        tree.walk(root, "", began, true)?;
        Ok(tree)
    }

    /// All of it, without bytes.
    pub(super) fn names(root: &Path, began: Began) -> Result<Self> {
        let mut tree = Self { entries: BTreeMap::new() };
        tree.walk(root, "", began, false)?;
        Ok(tree)
    }

    fn walk(&mut self, root: &Path, below: &str, began: Began, bytes: bool) -> Result<()> {
        let directory = root.join(below);
        let listed = std::fs::read_dir(&directory).with_context(|| format!("listing /{below}"))?;
        for entry in listed {
            let entry = entry.with_context(|| format!("listing /{below}"))?;
            let name = entry.file_name();
            let name = name.to_str().with_context(|| format!("{name:?} is no UTF-8"))?;
            let path = if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
            let full = root.join(&path);
            let stat = rustix::fs::statat(rustix::fs::CWD, &full, AtFlags::SYMLINK_NOFOLLOW)
                .with_context(|| format!("/{path} is listed, but"))?;
            let attributes = began.attributes(&stat);
            let is_directory = attributes.kind == Kind::Directory;
            let content = match attributes.kind {
                Kind::File if bytes => std::fs::read(&full).with_context(|| format!("reading /{path}"))?.into(),
                Kind::Symlink => std::fs::read_link(&full)?.into_os_string().into_vec().into(),
                _ => Bytes::new(),
            };
            let extended = if bytes { extended(&full, attributes.kind)? } else { BTreeMap::new() };
            let links = if is_directory { 0 } else { stat.st_nlink };
            self.entries
                .insert(path.clone(), Entry { attributes, inode: stat.st_ino, links, bytes: content, extended });
            if is_directory {
                self.walk(root, &path, began, bytes)?;
            }
        }
        Ok(())
    }

    /// Paths of all directories, or of all files.
    pub(super) fn paths(&self, kind: Kind) -> Vec<&str> {
        let some = self.entries.iter().filter(|(_, entry)| entry.attributes.kind == kind);
        some.map(|(path, _)| path.as_str()).collect()
    }

    /// What the inode at `path` is called.
    pub(super) fn inode(&self, path: &str) -> Option<u64> {
        self.entries.get(path.trim_end_matches('/')).map(|entry| entry.inode)
    }

    /// Whether extended attributes of the inode at `path` were set.
    pub(super) fn is_extended(&self, path: &str) -> bool {
        self.entries.get(path).is_some_and(|entry| !entry.extended.is_empty())
    }

    /// Whether there is something in the directory at `path`, which ends in a slash.
    pub(super) fn has_entries(&self, path: &str) -> bool {
        self.entries.keys().any(|other| other.starts_with(path))
    }

    /// Entries.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Fails unless `other` is the same; names the first difference.
    pub(super) fn must_be(&self, other: &Self, what: &str) -> Result<()> {
        for (path, entry) in &self.entries {
            let Some(found) = other.entries.get(path) else { bail!("/{path} is missing {what}: {entry:?}") };
            ensure!(
                entry.attributes == found.attributes,
                "/{path} has {:?} {what} instead of {:?}",
                found.attributes,
                entry.attributes
            );
            ensure!(entry.bytes == found.bytes, "the bytes of /{path} differ {what}");
            let (some, expected) = (&found.extended, &entry.extended);
            ensure!(some == expected, "/{path} has {some:?} {what} instead of {expected:?}");
            let (links, expected) = (found.links, entry.links);
            ensure!(links == expected, "/{path} has {links} names {what} instead of {expected}");
        }
        for path in other.entries.keys() {
            ensure!(self.entries.contains_key(path), "/{path} is too much {what}");
        }
        Ok(())
    }

    /// The objects of the tree: each file, and a marker for each directory; and those markers that may be missing, since nobody made the
    /// directories of these inodes but the objects below them.
    pub(super) fn objects(&self, implied: &BTreeSet<u64>) -> (BTreeMap<String, Bytes>, BTreeSet<String>) {
        let (mut objects, mut either) = (BTreeMap::new(), BTreeSet::new());
        for (path, entry) in &self.entries {
            if entry.attributes.kind == Kind::File {
                objects.insert(path.clone(), entry.bytes.clone());
            } else if entry.attributes.kind != Kind::Directory {
                // The namespace alone has it.
            } else if implied.contains(&entry.inode) {
                either.insert(format!("{path}/"));
            } else {
                objects.insert(format!("{path}/"), Bytes::new());
            }
        }
        (objects, either)
    }
}
