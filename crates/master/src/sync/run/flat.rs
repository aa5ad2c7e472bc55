//! Listing a whole subtree at once: one flat listing, cut into the directories that its keys imply.
//!
//! In key order all keys below a directory lie together. So the directories in work are a path from the top; when a key
//! no longer lies below one, that directory has been listed to its end and can be completed, whatever becomes of the rest of
//! the run. Memory: the path, and one page of keys.

use std::collections::{BTreeSet, HashMap};

use futures::{StreamExt, TryStreamExt, stream};
use headpond_namespace::{Observed, ObservedKind};
use headpond_types::{Error, ErrorKind, FileKind, InodeId, Name, Result};
use headpond_ufs::{Key, ListPage, ListRequest, Listed};

use super::Run;
use crate::sync::{
    merge::Merge,
    translate::{branch, observed},
};

/// Directories completed, or made known, at the same time: their commands share the journal's syncs.
const AT_ONCE: usize = 64;

/// Directories of a page by their path below the top, `/` behind each name; `None` for one that belongs to another mount or is
/// being moved.
type Directories = HashMap<Vec<u8>, Option<InodeId>>;

impl Run {
    /// Lists all keys below `prefix` and merges them into `top` and the directories below it.
    pub(super) async fn list_tree(&self, top: InodeId, prefix: Key) -> Result<()> {
        if !self.ordered() {
            let (mount, uri) = (&self.mount.mount.path, &self.mount.mount.uri);
            let message = format!("mount {mount}: {uri} lists in no order, list one directory at a time");
            return Err(Error::new(ErrorKind::NotSupported, message));
        }
        let mut path = vec![Merge::new(top, prefix.as_bytes().to_vec(), true)];
        let mut pages = self.pages(ListRequest { prefix, ..ListRequest::default() }, u64::MAX);
        loop {
            let page = pages.next().await?;
            self.merge_page(&mut path, &page).await?;
            if page.continuation.is_none() {
                break;
            }
        }
        while let Some(merge) = path.pop() {
            merge.finish(self).await?;
        }
        self.engine.freshness().tree_listed(top, self.began());
        Ok(())
    }

    async fn merge_page(&self, path: &mut Vec<Merge>, page: &ListPage) -> Result<()> {
        let directories = self.directories(path, page).await?;
        let ended = self.see_keys(path, page, &directories)?;
        stream::iter(ended).map(|merge| merge.finish(self)).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        for merge in path {
            merge.advance(self).await?;
        }
        Ok(())
    }

    /// Makes all directories on the page known to the namespace, those of one depth together.
    async fn directories(&self, path: &[Merge], page: &ListPage) -> Result<Directories> {
        let top = path.first().map_or(0, |merge| merge.prefix().len());
        let mut known: Directories =
            path.iter().map(|merge| (merge.prefix()[top..].to_vec(), Some(merge.dir()))).collect();
        for level in levels(page, top) {
            let mut missing: HashMap<InodeId, Vec<Observed>> = HashMap::new();
            let snapshot = self.snapshot()?;
            for (parent, name) in &level {
                let Some(Some(dir)) = known.get(*parent).copied() else { continue };
                match snapshot.lookup(dir, name)? {
                    Some(attr) if attr.mount != self.mount_id() => {}
                    Some(attr) if attr.kind == FileKind::Directory => {}
                    _ if self.was_checked(dir, name) => {}
                    _ => missing
                        .entry(dir)
                        .or_default()
                        .push(Observed { name: name.clone(), object: ObservedKind::Directory }),
                }
            }
            drop(snapshot);
            let commands = missing.into_iter().map(|(dir, entries)| self.upsert(dir, entries));
            stream::iter(commands).buffer_unordered(AT_ONCE).try_collect::<()>().await?;

            let snapshot = self.snapshot()?;
            for (parent, name) in level {
                let Some(Some(dir)) = known.get(parent).copied() else { continue };
                let attr = snapshot.lookup(dir, &name)?;
                let attr = attr.filter(|attr| attr.mount == self.mount_id() && attr.kind == FileKind::Directory);
                let inode = match attr.map(|attr| attr.inode) {
                    Some(inode) if self.is_apart(inode)? => None,
                    other => other,
                };
                known.insert([parent, name.as_bytes(), b"/"].concat(), inode);
            }
        }
        Ok(known)
    }

    /// Gives the page's keys to the directories on the path, moves the path along, and gives those that it left.
    fn see_keys(&self, path: &mut Vec<Merge>, page: &ListPage, directories: &Directories) -> Result<Vec<Merge>> {
        let top = path.first().map(|merge| merge.prefix().to_vec()).unwrap_or_default();
        let mut ended = Vec::new();
        for listed in &page.entries {
            let Listed::Object(meta) = listed else { continue };
            let key = meta.key.as_bytes();
            let Some(place) = branch(&top, key) else { continue };
            while path.len() > 1 && path.last().is_some_and(|merge| !key.starts_with(merge.prefix())) {
                ended.extend(path.pop());
            }
            let mut at = path.last().map_or(0, |merge| merge.prefix().len()) - top.len();
            while let Some(length) = place.directories[at..].iter().position(|byte| *byte == b'/') {
                let name = &place.directories[at..at + length];
                self.see(path, name, ObservedKind::Directory)?;
                at += length + 1;
                // Neither a name that no path can have nor another mount is entered.
                let Some(Some(inode)) = directories.get(&place.directories[..at]) else { break };
                path.push(Merge::new(*inode, key[..top.len() + at].to_vec(), true));
            }
            if let (Some(name), true) = (place.object, at == place.directories.len()) {
                let inside = path.last().is_some_and(|merge| merge.prefix().len() == top.len() + at);
                if inside {
                    self.see(path, name, observed(self.store.identity(), meta))?;
                }
            }
        }
        Ok(ended)
    }

    fn see(&self, path: &mut [Merge], name: &[u8], object: ObservedKind) -> Result<()> {
        let Some(merge) = path.last_mut() else { return Ok(()) };
        merge.see(name, object).map_err(|error| self.out_of_order(error))
    }
}

/// The directories on a page by depth, each as its parent's path below the top and its name. A name that no path can have
/// ends its branch.
fn levels(page: &ListPage, top: usize) -> Vec<BTreeSet<(&[u8], Name)>> {
    let mut levels: Vec<BTreeSet<(&[u8], Name)>> = Vec::new();
    let mut before: &[u8] = &[];
    for listed in &page.entries {
        let Some(path) = listed.key().as_bytes().get(top..) else { continue };
        let Some(end) = path.iter().rposition(|byte| *byte == b'/') else { continue };
        let directories = &path[..=end];
        if directories == before {
            continue;
        }
        before = directories;
        let mut start = 0;
        for (depth, part) in directories[..end].split(|byte| *byte == b'/').enumerate() {
            let Ok(name) = Name::new(part) else { break };
            if levels.len() <= depth {
                levels.push(BTreeSet::new());
            }
            levels[depth].insert((&directories[..start], name));
            start += part.len() + 1;
        }
    }
    levels
}
