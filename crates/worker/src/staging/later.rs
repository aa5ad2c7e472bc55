//! Storing contents that were acknowledged before: from the page store, or from a staged file that is still being written.
//!
//! Of the latter what it was when it was acknowledged is stored; what was written since is part of a later content. Each object says which
//! content it is, so an upload that is repeated after a lost answer, or by another process, costs a HEAD where it had been carried out.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard},
};

use fail::fail_point;
use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use headpond_proto::v1::{self, PersistGrant, PersistResponse};
use headpond_store::Content;
use headpond_types::{ContentId, Error, ErrorKind, MountId, Result};
use headpond_ufs::Precondition;
use tokio::sync::{Notify, Semaphore};

use super::{
    Stager,
    beginnings::Beginnings,
    head::Head,
    origin::Origin,
    parts::PART,
    persist::{content_of, ids, label_of, patience},
    table::Staged,
    upload::{Stored, Target, Upload},
};
use crate::shared_error::SharedError;

/// Contents stored at once.
const AT_ONCE: usize = 64;

type Answer = Shared<BoxFuture<'static, Result<PersistResponse, SharedError>>>;

/// Content, mount and key.
type Which = (ContentId, u32, Vec<u8>);

/// What is being stored.
#[derive(Debug)]
pub(super) struct Later {
    running: Mutex<HashMap<Which, Answer>>,
    turns: Semaphore,
    /// Tells that something was stored.
    pub(super) stored: Arc<Notify>,
    /// What of it the store may have already.
    pub(super) beginnings: Beginnings,
}

impl Default for Later {
    fn default() -> Self {
        Self {
            running: Mutex::default(),
            turns: Semaphore::new(AT_ONCE),
            stored: Arc::default(),
            beginnings: Beginnings::default(),
        }
    }
}

impl Later {
    fn running(&self) -> MutexGuard<'_, HashMap<Which, Answer>> {
        self.running.lock().expect("no panic while held")
    }

    /// Notes that a content was made durable here, of which these are beginnings of others, and one was copied from the `original`.
    pub(super) fn made_durable(&self, content: ContentId, heads: &[v1::Head], original: Option<(MountId, Head)>) {
        let running: HashSet<_> = self.running().keys().map(|(running, ..)| *running).collect();
        self.beginnings.made_durable(content, heads, |other| running.contains(&other));
        if let Some(original) = original {
            self.beginnings.copied(content, original);
        }
    }

    /// Waits until nothing is being stored under a key. Cancel-safe.
    pub(super) async fn settle(&self, mount: u32, key: &[u8]) {
        loop {
            let under = |(_, of, other): &Which| *of == mount && other == key;
            let answer = self
                .running()
                .iter()
                .find(|(which, _)| under(which))
                .map(|(which, answer)| (which.clone(), answer.clone()));
            let Some((which, answer)) = answer else { return };
            // Whoever asked for it may have hung up.
            let _ = answer.clone().await;
            self.forget(&which, &answer);
        }
    }

    fn forget(&self, which: &Which, answer: &Answer) {
        self.running().retain(|other, known| other != which || !known.ptr_eq(answer));
    }
}

/// Stores what `grant` says, or joins who does.
pub(super) async fn run(stager: &Arc<Stager>, grant: PersistGrant) -> Result<PersistResponse> {
    let content = content_of(stager, &grant)?;
    if grant.lease != 0 || grant.copies != 0 {
        let message = "the grant is for what is staged, not for what was acknowledged: ask the master for another";
        return Err(Error::new(ErrorKind::InvalidArgument, message));
    }
    let of = (content, grant.mount, grant.key.to_vec());
    let answer = {
        let mut running = stager.later.running();
        let answer = running.get(&of).cloned().unwrap_or_else(|| begin(stager, content, grant));
        running.insert(of.clone(), answer.clone());
        answer
    };
    let answered = answer.clone().await;
    stager.later.forget(&of, &answer);
    answered.map_err(|error| error.to_error())
}

/// In a task of its own: a master that hangs up neither stops nor repeats an upload.
fn begin(stager: &Arc<Stager>, content: ContentId, grant: PersistGrant) -> Answer {
    let (tasks, stager) = (stager.tasks.clone(), Arc::clone(stager));
    let task = tasks.spawn(async move {
        let _turn = stager.later.turns.acquire().await.expect("the semaphore is never closed");
        let stored = store(&stager, content, grant).await;
        stager.metrics.persisted(stored.as_ref().map(|answer| answer.size).map_err(Error::kind));
        if stored.is_ok() {
            stager.later.stored.notify_one();
        }
        stored
    });
    let answer = task.map(|ended| match ended {
        Ok(stored) => stored.map_err(SharedError::from),
        Err(error) => Err(Error::new(ErrorKind::Internal, "storing a content").with_source(error).into()),
    });
    answer.boxed().shared()
}

async fn store(stager: &Stager, content: ContentId, grant: PersistGrant) -> Result<PersistResponse> {
    let label = label_of(content, &grant);
    let PersistGrant { mount, key, replaces, earlier, .. } = grant;
    let target = Target { mount: MountId(mount), key: key.into() };
    let condition = replaces.clone().map_or(Precondition::Absent, Precondition::Matches);
    let (origin, length) = match find(stager, content)? {
        (Found::Staged(staged), length) => {
            let held = staged.on_file(move |file| Ok(file.hold(content))).await;
            match held {
                Ok(held) => {
                    let _held = held.ok_or_else(|| absent(content))?;
                    (Origin::Version { staged, content, _held }, length)
                }
                Err(error) if error.kind() == ErrorKind::Stale => {
                    staged.finished().await;
                    let kept = stager.cache.complete(content).ok_or_else(|| absent(content))?;
                    (Origin::Kept(kept, Mutex::default()), length)
                }
                Err(error) => return Err(error),
            }
        }
        (Found::Kept(kept), length) => (Origin::Kept(kept, Mutex::default()), length),
    };
    let time = patience(length);
    let stored = tokio::time::timeout(time, async {
        let store = stager.cluster.mounts.store(target.mount).await?;
        let head = if length > PART {
            stager.later.beginnings.head(content, (&*store, &target), replaces.as_deref()).await
        } else {
            None
        };
        let upload =
            Upload { stager, origin, store, target: &target, content, earlier: ids(earlier), label, head, length };
        upload.run(condition, None).await
    });
    let Stored { meta, copied: _ } = stored.await.map_err(|_| {
        let message = format!("{target} was not stored within {} s: try again", time.as_secs());
        Error::new(ErrorKind::DeadlineExceeded, message)
    })??;
    fail_point!("later::stored");
    if length > PART {
        stager.later.beginnings.stored(&target, &meta.version, content);
    }
    let (size, mtime_ns) = (meta.size, meta.mtime.0);
    Ok(PersistResponse { size, mtime_ns, version: meta.version, ..PersistResponse::default() })
}

/// Whether all bytes of `content` are here.
pub(super) fn holds(stager: &Stager, content: ContentId) -> bool {
    find(stager, content).is_ok()
}

/// Where the bytes of a content are.
enum Found {
    Staged(Arc<Staged>),
    Kept(Arc<Content>),
}

/// The same, and how many they are.
fn find(stager: &Stager, content: ContentId) -> Result<(Found, u64)> {
    // The page store has it before it is not staged any more.
    if let Some((staged, length)) = stager.cache.stored().staged(content) {
        return Ok((Found::Staged(staged), length));
    }
    let kept = stager.cache.complete(content).ok_or_else(|| absent(content))?;
    let length = kept.length();
    Ok((Found::Kept(kept), length))
}

fn absent(content: ContentId) -> Error {
    let message = format!("content {content} is not on this worker: ask another one that holds it");
    Error::new(ErrorKind::NotFound, message)
}
