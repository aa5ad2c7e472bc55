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
    pub(super) async fn list_directory(&self, dir: InodeId, prefix: Key, limit: u64) -> Result<Outcome> {
        let mut merge = Merge::new(dir, prefix.as_bytes().to_vec(), self.ordered());
        let mut request = ListRequest { prefix, delimited: true, ..ListRequest::default() };
        let mut page = self.fetch(request.clone()).await?;
        let mut seen = 0;
        while let Some(continuation) = page.continuation.take() {
            seen += page.entries.len() as u64;
            if seen >= limit {
                return Ok(Outcome::GivenUp);
            }
            request.continuation = Some(continuation);
            let merged = async {
                self.see_page(&mut merge, &page)?;
                merge.advance(self).await
            };
            // The next request goes out before this page is worked on.
            let (next, merged) = futures::future::join(self.fetch(request.clone()), merged).await;
            merged?;
            page = next?;
        }
        self.see_page(&mut merge, &page)?;
        merge.finish(self).await.map(|()| Outcome::Complete)
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
