//! What the store lists below a prefix.

use headpond_types::Result;
use headpond_ufs::{Key, ListRequest, Listed, ObjectMeta};

use super::job::Job;

/// The objects below a prefix, a page of the listing at a time.
#[derive(Debug)]
pub(super) struct Below {
    /// `None` after the last page.
    request: Option<ListRequest>,
}

impl Below {
    pub(super) fn new(prefix: &Key) -> Self {
        Self { request: Some(ListRequest { prefix: prefix.clone(), ..ListRequest::default() }) }
    }

    /// The next page; `None` after the last.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) async fn next(&mut self, job: &Job<'_>) -> Result<Option<Vec<ObjectMeta>>> {
        let Some(mut request) = self.request.take() else { return Ok(None) };
        let store = job.mount.store().await?;
        let page = job.mount.ask("list", &request.prefix, store.list(&request)).await?.unwrap_or_default();
        request.continuation = page.continuation;
        self.request = Some(request).filter(|request| request.continuation.is_some());
        let objects = page.entries.into_iter().filter_map(|listed| match listed {
            Listed::Object(meta) => Some(meta),
            Listed::Prefix(_) => None,
        });
        Ok(Some(objects.collect()))
    }
}
