//! Listing one directory.

use headpond_namespace::ObservedKind;
use headpond_types::{InodeId, Result};
use headpond_ufs::{Key, ListPage, ListRequest};

use super::Run;
use crate::sync::{
    merge::Merge,
    translate::{Place, observed, place},
};

impl Run {
    /// Lists the keys directly below `prefix` and merges them into `dir`.
    pub(super) async fn list_directory(&self, dir: InodeId, prefix: Key) -> Result<()> {
        let mut merge = Merge::new(dir, prefix.as_bytes().to_vec(), self.ordered());
        let mut request = ListRequest { prefix, delimited: true, ..ListRequest::default() };
        let mut page = self.fetch(request.clone()).await?;
        loop {
            self.see_page(&mut merge, &page)?;
            let Some(continuation) = page.continuation.take() else { break };
            request.continuation = Some(continuation);
            let (merged, next) = futures::future::join(merge.advance(self), self.fetch(request.clone())).await;
            merged?;
            page = next?;
        }
        merge.finish(self).await
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
