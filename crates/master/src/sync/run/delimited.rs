//! Listing one directory.

use headpond_namespace::ObservedKind;
use headpond_types::{InodeId, Result};
use headpond_ufs::{Key, ListPage, ListRequest};

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
        let mut listed = 0;
        if let Some(first) = first {
            listed = first.entries.len() as u64;
            self.engine.metrics().listed.inc_by(listed);
            self.see_page(&mut merge, &first)?;
            if first.continuation.is_none() {
                return merge.finish(self).await.map(|()| Outcome::Complete);
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
            self.see_page(&mut merge, &page)?;
            if !more {
                return merge.finish(self).await.map(|()| Outcome::Complete);
            }
        }
    }

    fn see_page(&self, merge: &mut Merge, page: &ListPage) -> Result<()> {
        let prefix = merge.prefix().to_vec();
        for listed in &page.entries {
            let seen = match place(&prefix, listed) {
                Place::Itself | Place::Elsewhere => continue,
                Place::Directory(name) => merge.see(name, ObservedKind::Directory),
                Place::Object(name, meta) => merge.see(name, observed(self.store.identity(), meta)),
            };
            seen.map_err(|error| self.out_of_order(error))?;
        }
        Ok(())
    }
}
