//! Storing a staged file as one object, once for each grant.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use fail::fail_point;
use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use headpond_proto::v1::{self, PersistGrant, PersistResponse, SignedGrant};
use headpond_types::{ContentId, Error, ErrorKind, MountId, Result, Timestamp};
use headpond_ufs::{Label, Precondition};

use super::{
    Stager, durable,
    head::Head,
    mirrors::Wish,
    origin::Origin,
    stored,
    table::Staged,
    upload::{Stored, Target, Upload},
};
use crate::shared_error::SharedError;

/// For a persist of no bytes, with all its tries.
const PATIENCE: Duration = Duration::from_mins(2);

/// Bytes per second that an upload gets time for.
pub(super) const LEAST_RATE: u64 = 1 << 20;

/// Grants remembered per staged file.
const REMEMBERED: usize = 8;

type Answer = Shared<BoxFuture<'static, Result<PersistResponse, SharedError>>>;

/// What a client says of the bytes to be stored.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) length: u64,
    /// The round in which they may have been sent ahead.
    pub(super) round: u64,
    /// When they were modified last.
    pub(super) mtime: Option<Timestamp>,
    /// Versions with which they have their beginning in common, those of other files among them.
    pub(super) heads: Vec<v1::Head>,
    /// Other workers are to have them, too.
    pub(super) copies: Option<Wish>,
}

/// The persists that were asked for lately, under way or done; the latest is the last.
#[derive(Debug, Default)]
pub(super) struct Asked(VecDeque<Persist>);

#[derive(Debug)]
struct Persist {
    grant: SignedGrant,
    length: u64,
    answer: Answer,
}

impl Asked {
    /// The persist of `grant`, unless it has failed.
    fn find(&self, grant: &SignedGrant) -> Option<&Persist> {
        let has_failed = |answer: &Answer| answer.peek().is_some_and(std::result::Result::is_err);
        self.0.iter().find(|asked| asked.grant == *grant && !has_failed(&asked.answer))
    }

    fn push(&mut self, new: Persist) {
        self.0.retain(|asked| asked.grant != new.grant);
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(new);
    }
}

/// Stores all bytes as `grant` says, which is what stands in `signed`; or answers what was answered to it before.
pub(super) async fn run(
    stager: Arc<Stager>,
    staged: Arc<Staged>,
    (signed, wanted): (SignedGrant, Wanted),
    grant: PersistGrant,
) -> Result<PersistResponse> {
    let answer = staged.with_asked(|asked| match asked.find(&signed) {
        // A content id must not come to mean other bytes.
        Some(known) => (known.length == wanted.length).then(|| known.answer.clone()),
        None => {
            let length = wanted.length;
            let answer = begin(stager, Arc::clone(&staged), grant, wanted);
            asked.push(Persist { grant: signed, length, answer: answer.clone() });
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
fn begin(stager: Arc<Stager>, staged: Arc<Staged>, grant: PersistGrant, wanted: Wanted) -> Answer {
    let tasks = stager.tasks.clone();
    let task = tasks.spawn(async move {
        let stored = persist(&stager, &staged, grant, wanted).await;
        stager.metrics.persisted(stored.as_ref().map(|answer| answer.size).map_err(Error::kind));
        stored
    });
    let answer = task.map(|ended| match ended {
        Ok(stored) => stored.map_err(SharedError::from),
        Err(error) => Err(Error::new(ErrorKind::Internal, "storing a file").with_source(error).into()),
    });
    answer.boxed().shared()
}

async fn persist(
    stager: &Stager,
    staged: &Arc<Staged>,
    grant: PersistGrant,
    Wanted { length, round, mtime, heads, copies }: Wanted,
) -> Result<PersistResponse> {
    let _turn = staged.turn.lock().await;
    if grant.copies > 0 {
        return durable::keep(stager, staged, grant, (length, copies), &heads).await;
    }
    let ahead = staged.with_rounds(|rounds| rounds.take(round));
    let content = content_of(stager, &grant)?;
    let label = Label { mtime, ..label_of(content, &grant) };
    let original = Head::original(stager, &heads).filter(|(mount, _)| mount.0 == grant.mount).map(|(_, head)| head);
    let head = Head::longer(head_of(&grant, heads), original);
    let PersistGrant { mount, key, replaces, earlier, .. } = grant;
    let target = Target { mount: MountId(mount), key: key.into() };
    let condition = replaces.map_or(Precondition::Absent, Precondition::Matches);
    let found = staged.on_file(headpond_store::Staging::len).await?;
    if found != length {
        let message = format!("{} bytes are staged for {target} and not {length}: stage all of them first", found);
        return Err(Error::new(ErrorKind::InvalidArgument, message));
    }
    let time = patience(length);
    let stored = tokio::time::timeout(time, async {
        let store = stager.cluster.mounts.store(target.mount).await?;
        let (origin, earlier) = (Origin::Staged(Arc::clone(staged), Some(content)), ids(earlier));
        let upload = Upload { stager, origin, store, target: &target, content, earlier, label, head, length };
        upload.run(condition, ahead).await
    });
    let Stored { meta, copied } = stored.await.map_err(|_| {
        let message = format!("{target} was not stored within {} s: try again", time.as_secs());
        Error::new(ErrorKind::DeadlineExceeded, message)
    })??;
    fail_point!("persist::stored");
    staged.touch();
    stored::show_stored(stager, staged, content, length).await;
    let (size, mtime_ns) = (meta.size, meta.mtime.0);
    Ok(PersistResponse { size, mtime_ns, version: meta.version, holders: Vec::new(), copied })
}

/// The content that a grant is for; it may have expired while another persist was under way.
pub(super) fn content_of(stager: &Stager, grant: &PersistGrant) -> Result<ContentId> {
    if grant.expires_ns < stager.clock.now().0 {
        let message = "the grant has expired while another persist was under way: ask the master for a new one";
        return Err(Error::new(ErrorKind::PermissionDenied, message));
    }
    let content = grant.content.ok_or_else(|| Error::new(ErrorKind::InvalidArgument, "a grant without a content"))?;
    Ok(content.into())
}

/// What the object is to say, as far as the master knows.
pub(super) fn label_of(content: ContentId, grant: &PersistGrant) -> Label {
    Label { content: Some(content), mode: grant.mode, mtime: grant.mtime_ns.map(Timestamp) }
}

/// What the staged bytes have in common with the version that is replaced.
fn head_of(grant: &PersistGrant, heads: Vec<v1::Head>) -> Option<Head> {
    let (version, replaced) = (grant.replaces.clone()?, grant.replaced?);
    let head = heads.into_iter().find(|head| head.original.is_none() && head.content == Some(replaced))?;
    Some(Head { key: grant.key.clone().into(), version, length: head.length })
}

pub(super) fn ids(contents: Vec<headpond_proto::v1::ContentId>) -> Vec<ContentId> {
    contents.into_iter().map(Into::into).collect()
}

/// Time for storing a file, with all its tries.
pub(super) const fn patience(length: u64) -> Duration {
    PATIENCE.saturating_add(Duration::from_secs(length / LEAST_RATE))
}
