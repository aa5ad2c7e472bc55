//! Listing one directory.

use headpond_namespace::{Command, ObservedKind};
use headpond_types::{InodeId, Result};
use headpond_ufs::{Key, ListPage, ListRequest, Listed};

use super::{Outcome, Run};
use crate::sync::{
    difference::stays_inode,
    merge::Merge,
    translate::{Place, observed, place},
};

impl Run {
    /// Lists the keys directly below `prefix` and merges them into `dir`, unless they are more than `limit`.
    pub(super) async fn list_directory(
        &self,
        dir: InodeId,
        prefix: Key,
        first: Option<ListPage>,
        limit: u64,
    ) -> Result<Outcome> {
        let mut merge = Merge::new(dir, prefix.as_bytes().to_vec(), self.ordered());
        let mut request = ListRequest { prefix, delimited: true, ..ListRequest::default() };
        let (mut listed, mut sightings) = (0, 0);
        if let Some(first) = first {
            listed = first.entries.len() as u64;
            self.engine.metrics().listed.inc_by(listed);
            sightings += self.see_page(&mut merge, &first).await?;
            if first.continuation.is_none() {
                return self.complete(merge, sightings == 0).await;
            }
            request.continuation = first.continuation;
            // The first entries wait for this: before the store is busy with the next page.
            merge.ask(self).await?;
        }
        let mut pages = self.pages(request, limit.saturating_sub(listed));
        loop {
            merge.advance(self).await?;
            let page = pages.next().await?;
            listed += page.entries.len() as u64;
            let more = page.continuation.is_some();
            if more && listed >= limit {
                return Ok(Outcome::GivenUp);
            }
            sightings += self.see_page(&mut merge, &page).await?;
            if !more {
                return self.complete(merge, sightings == 0).await;
            }
        }
    }

    /// Ends a listing, which may have shown nothing at all.
    async fn complete(&self, merge: Merge, is_hollow: bool) -> Result<Outcome> {
        let dir = merge.dir();
        merge.finish(self).await?;
        if is_hollow && !self.store.capabilities().native_directories {
            self.forget_hollow(dir).await?;
        }
        Ok(Outcome::Complete)
    }

    /// Forgets a directory of which the store has nothing, not even a marker, as a listing of the one above would that does not show it.
    async fn forget_hollow(&self, dir: InodeId) -> Result<()> {
        let snapshot = self.snapshot()?;
        let Some(path) = snapshot.path(dir)? else { return Ok(()) };
        let (Some((_, name)), Some(attr)) = (path.split_last(), snapshot.attr(dir)?) else { return Ok(()) };
        let stays = self.fixed().contains(&dir)
            || !snapshot.list(dir, None, 1)?.is_empty()
            || snapshot.relocation_of(dir)?.is_some()
            || stays_inode(&snapshot, dir)?;
        drop(snapshot);
        // It may have been moved away, and back, while it was listed.
        if stays || self.was_checked(attr.parent, name) || self.is_overtaken(dir)? {
            return Ok(());
        }
        self.engine.hollow().note(attr.parent, name.as_bytes());
        self.propose(Command::Forget { dir: attr.parent, entries: vec![(name.clone(), dir)] }).await
    }

    /// Takes the sightings of a page, and gives how many they are. The directory's own marker is one.
    async fn see_page(&self, merge: &mut Merge, page: &ListPage) -> Result<u64> {
        let prefix = merge.prefix().to_vec();
        let mut sightings = 0;
        for listed in &page.entries {
            let place = place(&prefix, listed);
            if let (Listed::Prefix(key), Place::Directory(name)) = (listed, &place)
                && self.engine.is_hollow(&self.mount, &self.store, merge.dir(), name, key).await?
            {
                continue;
            }
            sightings += u64::from(place != Place::Elsewhere);
            let seen = match place {
                Place::Itself | Place::Elsewhere => continue,
                Place::Directory(name) => merge.see(name, ObservedKind::Directory),
                Place::Object(name, meta) => merge.see(name, observed(self.store.identity(), meta)),
            };
            seen.map_err(|error| self.out_of_order(error))?;
        }
        Ok(sightings)
    }
}
