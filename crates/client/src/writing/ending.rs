//! The end of a writer, in the background.

use std::{sync::Arc, time::Duration};

use headpond_proto::v1;
use headpond_types::{ContentId, Result};
use tokio::time::timeout;

use super::{
    FileWriter,
    staged::{Staged, call_worker},
};
use crate::{
    master::{self, Retry},
    shared::Shared,
};

/// How long the worker may take, which computes checksums of what it keeps. Nobody waits for it.
const PATIENCE: Duration = Duration::from_mins(10);

impl FileWriter {
    /// What the staged bytes are called in the under store, if all of them are there.
    pub(super) fn adoptable(&self) -> Option<ContentId> {
        let state = self.lock();
        let is_persisted = state.changes == state.persisted && !state.unsure && !state.unlinked;
        state.attr.content.filter(|_| is_persisted && state.lost.is_none())
    }
}

/// Gives a lease back and ends what was staged under it. The two need nothing of each other: whoever wants to write the file next
/// does not wait until its bytes are a cached content.
pub(super) fn end(shared: Arc<Shared>, lease: u64, staged: Option<Staged>, content: Option<ContentId>) {
    let (tasks, runtime) = (shared.writers.endings().clone(), shared.runtime.clone());
    let _entered = runtime.enter();
    drop(tasks.spawn(async move {
        let staging = async {
            let Some(staged) = staged else { return };
            if let Ok(Err(error)) = timeout(PATIENCE, end_staging(&shared, &staged, content)).await {
                tracing::debug!(%error, lease, "a staged file could not be ended: its worker clears it away");
            }
        };
        let writing = async {
            let call = |channel| async move { master::writing(channel).end_writing(v1::EndWritingRequest { lease }).await };
            if let Err(failed) = shared.masters.call("end of writing", Retry::Yes, call).await {
                tracing::debug!(error = %failed.error, lease, "a write lease could not be given back: its term ends it");
            }
        };
        futures::join!(staging, writing);
    }));
}

async fn end_staging(shared: &Shared, staged: &Staged, content: Option<ContentId>) -> Result<()> {
    let service = shared.workers.staging(staged.member())?;
    let request = v1::EndStagingRequest { grant: Some(staged.grant().clone()), content: content.map(Into::into) };
    call_worker(staged.member(), "end of staging", PATIENCE, || {
        let (mut service, request) = (service.clone(), request.clone());
        async move { service.end_staging(request).await }
    })
    .await?;
    Ok(())
}
