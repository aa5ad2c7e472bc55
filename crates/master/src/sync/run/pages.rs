//! The pages of one listing, asked for ahead of whoever merges them.

use std::sync::Arc;

use headpond_types::Result;
use headpond_ufs::{ListPage, ListRequest, UnderStore};
use tokio::sync::mpsc;

use super::Run;
use crate::{
    mount::LiveMount,
    sync::{flight::shutting_down, metrics::SyncMetrics},
};

/// Pages that wait; one more is in the hand of who asks the store, and the next is not asked for before it is given away.
const AHEAD: usize = 1;

/// Pages as they arrive. Dropped, no further page is asked for.
#[derive(Debug)]
pub(super) struct Pages(mpsc::Receiver<Result<ListPage>>);

impl Pages {
    /// The next page; not to be called after one without a continuation. Cancel-safe.
    ///
    /// # Errors
    /// Those of the store, `Unavailable` at shutdown. No page follows.
    pub(super) async fn next(&mut self) -> Result<ListPage> {
        self.0.recv().await.unwrap_or_else(|| Err(shutting_down()))
    }
}

impl Run {
    /// Asks for `request` and the pages behind it, to their end or until `limit` entries were given.
    ///
    /// The asking goes on by itself: the store is at work while the namespace is.
    pub(super) fn pages(&self, request: ListRequest, limit: u64) -> Pages {
        let (give, pages) = mpsc::channel(AHEAD);
        let asker = Asker {
            mount: self.mount.clone(),
            store: self.store.clone(),
            metrics: self.engine.metrics().clone(),
            request,
        };
        self.engine.tasks().spawn_until_shutdown(asker.ask(limit, give));
        Pages(pages)
    }
}

/// Asks for page after page.
struct Asker {
    mount: Arc<LiveMount>,
    store: Arc<dyn UnderStore>,
    metrics: SyncMetrics,
    request: ListRequest,
}

impl Asker {
    async fn ask(mut self, limit: u64, give: mpsc::Sender<Result<ListPage>>) {
        let mut listed = 0;
        loop {
            let next = tokio::select! {
                page = self.page() => page,
                () = give.closed() => return,
            };
            let continuation = next.as_ref().ok().and_then(|page| page.continuation.clone());
            let entries = next.as_ref().map_or(0, |page| page.entries.len() as u64);
            self.metrics.listed.inc_by(entries);
            listed += entries;
            if give.send(next).await.is_err() || continuation.is_none() || listed >= limit {
                return;
            }
            self.request.continuation = continuation;
        }
    }

    async fn page(&self) -> Result<ListPage> {
        let page = self.mount.ask("list", &self.request.prefix, self.store.list(&self.request)).await?;
        // A store without such a prefix shows nothing there.
        Ok(page.unwrap_or_default())
    }
}
