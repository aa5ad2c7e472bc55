//! Storing a staged file as one object, once for each grant.

use std::{sync::Arc, time::Duration};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use headpond_proto::v1::{PersistGrant, PersistResponse, SignedGrant};
use headpond_types::{Error, ErrorKind, MountId, Result};
use headpond_ufs::Precondition;

use super::{
    Stager,
    table::Staged,
    upload::{Target, Upload},
};
use crate::shared_error::SharedError;

/// For a persist of no bytes, with all its tries.
const PATIENCE: Duration = Duration::from_mins(2);

/// Bytes per second that an upload gets time for.
const LEAST_RATE: u64 = 1 << 20;

type Answer = Shared<BoxFuture<'static, Result<PersistResponse, SharedError>>>;

/// A persist that was asked for, under way or done.
#[derive(Debug)]
pub(super) struct Current {
    grant: SignedGrant,
    length: u64,
    answer: Answer,
}

impl Current {
    fn has_failed(&self) -> bool {
        self.answer.peek().is_some_and(std::result::Result::is_err)
    }
}

/// Stores `length` bytes as `grant` says, which is what stands in `signed`; or answers what was answered to it before.
pub(super) async fn run(
    stager: Arc<Stager>,
    staged: Arc<Staged>,
    (signed, length): (SignedGrant, u64),
    grant: PersistGrant,
) -> Result<PersistResponse> {
    let answer = staged.with_current(|current| match current {
        Some(known) if known.grant == signed && !known.has_failed() => {
            // A content id must not come to mean other bytes.
            (known.length == length).then(|| known.answer.clone())
        }
        _ => {
            let answer = begin(stager, Arc::clone(&staged), grant, length);
            *current = Some(Current { grant: signed, length, answer: answer.clone() });
            Some(answer)
        }
    });
    let answer = answer.ok_or_else(|| {
        let message = "the grant was used for a file of another length: ask the master for a new one";
        Error::new(ErrorKind::InvalidArgument, message)
    })?;
    answer.await.map_err(|error| error.to_error())
}

/// In a task of its own: a client that hangs up neither stops nor repeats an upload.
fn begin(stager: Arc<Stager>, staged: Arc<Staged>, grant: PersistGrant, length: u64) -> Answer {
    let tasks = stager.tasks.clone();
    let task = tasks.spawn(async move {
        let stored = persist(&stager, &staged, grant, length).await;
        stager.metrics.persisted(stored.as_ref().map(|answer| answer.size).map_err(Error::kind));
        stored
    });
    let answer = task.map(|ended| match ended {
        Ok(stored) => stored.map_err(SharedError::from),
        Err(error) => Err(Error::new(ErrorKind::Internal, "storing a file").with_source(error).into()),
    });
    answer.boxed().shared()
}

async fn persist(stager: &Stager, staged: &Arc<Staged>, grant: PersistGrant, length: u64) -> Result<PersistResponse> {
    let _turn = staged.turn.lock().await;
    let PersistGrant { mount, key, replaces, content, .. } = grant;
    let content = content.ok_or_else(|| Error::new(ErrorKind::InvalidArgument, "a grant without a content"))?.into();
    let target = Target { mount: MountId(mount), key: key.into(), content };
    let condition = replaces.map_or(Precondition::Absent, Precondition::Matches);
    let found = staged.on_file(headpond_store::Staging::len).await?;
    if found != length {
        let message = format!("{} bytes are staged for {target} and not {length}: stage all of them first", found);
        return Err(Error::new(ErrorKind::InvalidArgument, message));
    }
    let time = PATIENCE + Duration::from_secs(length / LEAST_RATE);
    let stored = tokio::time::timeout(time, async {
        let store = stager.cluster.mounts.store(target.mount).await?;
        Upload { stager, staged, store, target: &target, length }.run(condition).await
    });
    let meta = stored.await.map_err(|_| {
        let message = format!("{target} was not stored within {} s: try again", time.as_secs());
        Error::new(ErrorKind::DeadlineExceeded, message)
    })??;
    staged.touch();
    Ok(PersistResponse { size: meta.size, mtime_ns: meta.mtime.0, version: meta.version })
}
