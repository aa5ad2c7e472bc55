//! Listing one directory.

use headpond_namespace::ObservedKind;
use headpond_types::{InodeId, Result};
use headpond_ufs::{Key, ListPage, ListRequest, Listed};

use super::{Outcome, Run};
use crate::sync::{
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

    /// Ends a listing, which may have shown nothing at all, not even a marker: then the directory is asked about when it is listed by its name again.
    async fn complete(&self, merge: Merge, is_hollow: bool) -> Result<Outcome> {
        let dir = merge.dir();
        merge.finish(self).await?;
        if is_hollow
            && !self.store.capabilities().native_directories
            && let Some(path) = self.snapshot()?.path(dir)?
            && let (Some((_, name)), Some(attr)) = (path.split_last(), self.snapshot()?.attr(dir)?)
        {
            self.engine.hollow().note(attr.parent, name.as_bytes());
        }
        Ok(Outcome::Complete)
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
