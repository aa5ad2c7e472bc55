//! One run: adjacent pages brought by one ranged request, or by several when a source breaks off.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use headpond_types::{BLOCK_SIZE, ByteRange, Error, ErrorKind, Member, PAGE_SIZE, Result, page_len, page_range};
use tokio::task::JoinHandle;

use super::{Filler, Job, flight::Route, headway::Headway, landing::Landing, source::Body};
use crate::{metrics::Source, shared_error::SharedError, staging};

/// Pages to be fetched; each landing leaves the run when its page has come.
#[derive(Debug)]
pub(super) struct Run {
    filler: Arc<Filler>,
    job: Job,
    /// What its flights are known as.
    route: Route,
    /// Whom to ask before the under store.
    owner: Option<Member>,
    /// Adjacent, in order.
    landings: VecDeque<Landing>,
    headway: Arc<Headway>,
}

impl Run {
    pub(super) fn new(
        filler: Arc<Filler>,
        job: Job,
        (route, owner): (Route, Option<Member>),
        landings: VecDeque<Landing>,
        headway: Arc<Headway>,
    ) -> Self {
        Self { filler, job, route, owner, landings, headway }
    }

    /// Brings all pages home, or fails those that could not be had. When shutdown begins it goes on only if somebody waits.
    pub(super) async fn fly(self) {
        let shutdown = self.filler.tasks.shutdown().clone();
        let headway = Arc::clone(&self.headway);
        let unwanted = async {
            shutdown.begun().await;
            if headway.is_urgent() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = self.land_all() => {}
            () = unwanted => {}
        }
    }

    async fn land_all(mut self) {
        let filler = Arc::clone(&self.filler);
        let pages = u32::try_from(self.landings.len()).unwrap_or(u32::MAX);
        let _admitted = filler.admission(self.route).admit(pages, &self.headway).await;
        if let Err(error) = self.receive_all().await {
            filler.metrics.fill_failed(error.kind());
            let error = SharedError::from(error);
            self.landings.drain(..).for_each(|landing| landing.fail(error.clone()));
        }
    }

    /// Looks at what was written here, then asks the owner, then the under store for what is left; the latter again as long as it breaks off only after
    /// having sent whole pages.
    async fn receive_all(&mut self) -> Result<()> {
        if self.receive_from_here().await {
            return Ok(());
        }
        if self.job.grant.is_dirty() {
            return self.receive_from_holders().await;
        }
        if let Some(owner) = self.owner.take() {
            match self.receive_from_owner(&owner).await {
                Err(error) if error.kind() != ErrorKind::Stale => {
                    self.filler.metrics.owner_failed();
                    let worker = owner.id.0;
                    tracing::debug!(%error, worker, "the owner of a block failed, asking the under store");
                }
                done => return done,
            }
        } else if self.receive_from_previous_owner().await {
            return Ok(());
        }
        loop {
            let before = self.landings.len();
            let body = self.filler.ask_under_store(&self.job.grant, self.rest()).await?;
            match self.receive(body, Source::UnderStore).await {
                Err(error) if error.kind() == ErrorKind::Unavailable && self.landings.len() < before => {}
                done => return done,
            }
        }
    }

    /// Takes the pages of a file that was written here and was not adopted when they were asked for; whether all came.
    async fn receive_from_here(&mut self) -> bool {
        let Some(body) = staging::body(&self.filler.cache, self.job.grant.content, &self.rest()) else { return false };
        let received = self.receive(body, Source::Staged).await;
        if let Err(error) = &received {
            tracing::debug!(%error, "what was written here cannot be had here, asking elsewhere");
        }
        received.is_ok()
    }

    async fn receive_from_owner(&mut self, owner: &Member) -> Result<()> {
        let body = self.filler.ask_owner(owner, &self.job.grant, self.rest()).await?;
        self.receive(body, Source::Peer).await
    }

    /// Asks who owned the block before this worker did; whether all pages came.
    async fn receive_from_previous_owner(&mut self) -> bool {
        let Some(first) = self.landings.front() else { return true };
        let (filler, grant) = (Arc::clone(&self.filler), Arc::clone(&self.job.grant));
        let block = first.page() * PAGE_SIZE / BLOCK_SIZE;
        let Some(previous) = filler.cluster.previous_owner(grant.content, block) else { return false };
        let received = match filler.ask_previous_owner(&previous, &grant, self.rest()).await {
            Ok(body) => self.receive(body, Source::Peer).await,
            Err(error) => Err(error),
        };
        if let Err(error) = &received
            && error.kind() != ErrorKind::NotFound
        {
            tracing::debug!(%error, worker = previous.id.0, "the former owner of a block failed, asking the under store");
            filler.cluster.give_up(previous.id);
        }
        received.is_ok()
    }

    /// Asks the workers that have what no store has; of those that ask each other, only the first.
    async fn receive_from_holders(&mut self) -> Result<()> {
        let (filler, grant) = (Arc::clone(&self.filler), Arc::clone(&self.job.grant));
        if self.route == Route::Direct {
            return Err(Error::new(ErrorKind::NotFound, format!("{} is not here", grant.describe())));
        }
        let mut failure = None;
        for holder in &grant.holders {
            let received = match filler.ask_holder(holder, &grant, self.rest()).await {
                Ok(body) => self.receive(body, Source::Peer).await,
                Err(error) => Err(error),
            };
            match received {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => failure = Some(error),
            }
        }
        let (what, holders) = (grant.describe(), grant.holders.join(", "));
        Err(match failure {
            None => {
                Error::new(ErrorKind::Stale, format!("{what}, is not needed any more at {holders}: ask for it again"))
            }
            Some(error) => {
                let message = format!("{what}, cannot be had from {holders}: start these workers again");
                Error::new(ErrorKind::Unavailable, message).with_source(error)
            }
        })
    }

    /// The bytes that have not come yet.
    fn rest(&self) -> ByteRange {
        let bytes = |landing: Option<&Landing>| {
            landing.map_or(0..0, |landing| page_range(landing.page(), self.job.grant.length))
        };
        bytes(self.landings.front()).start..bytes(self.landings.back()).end
    }

    /// Cuts `body` into pages and lands each as soon as it is whole; while one is written, the next is received.
    async fn receive(&mut self, body: Body, source: Source) -> Result<()> {
        let headway = Arc::clone(&self.headway);
        let mut body = body.inspect_ok(move |part| headway.advance(part.len())).boxed();
        let mut surplus = Bytes::new();
        let mut writing: Option<JoinHandle<()>> = None;
        while let Some(landing) = self.landings.front() {
            let length = page_len(landing.page(), self.job.grant.length);
            let page = take(&mut body, &mut surplus, length).await?;
            self.filler.metrics.filled(source, length);
            if let Some(written) = writing.take() {
                // A panic in there has failed its flight by now, and concerns no other.
                let _ = written.await;
            }
            if let Some(landing) = self.landings.pop_front() {
                writing = Some(self.filler.tasks.spawn(landing.keep(page)));
            }
        }
        if let Some(written) = writing {
            let _ = written.await;
        }
        Ok(())
    }
}

/// The next `length` bytes of `body`; `surplus` is what came beyond them, and comes first.
async fn take(body: &mut Body, surplus: &mut Bytes, length: u64) -> Result<Vec<Bytes>> {
    let mut missing = length;
    let mut parts = Vec::new();
    while missing > 0 {
        if surplus.is_empty() {
            *surplus = body.next().await.unwrap_or_else(|| {
                Err(Error::new(ErrorKind::Unavailable, "an answer ended before all its bytes had come: try again"))
            })?;
        }
        let taken = usize::try_from(missing).unwrap_or(usize::MAX).min(surplus.len());
        missing -= taken as u64;
        parts.push(surplus.split_to(taken));
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pages_are_cut_out_of_parts_of_any_size() {
        let parts = [b"abc".as_slice(), b"", b"d", b"efgh"].map(|part| Ok(Bytes::from_static(part)));
        let mut body = futures::stream::iter(parts).boxed();
        let mut surplus = Bytes::new();
        for page in ["ab", "cde", "fg"] {
            let parts = take(&mut body, &mut surplus, page.len() as u64).await.expect("long enough");
            assert_eq!(parts.concat(), page.as_bytes());
        }
        let error = take(&mut body, &mut surplus, 2).await.expect_err("one byte is missing");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
}
