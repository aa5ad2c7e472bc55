//! What is not yet in the under store as the namespace says.

use headpond_proto::v1;
use headpond_types::{Error, ErrorKind, NsPath, Result};

use crate::{
    master::{self, Retry},
    shared::Shared,
};

/// What is pending at and below a path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// Files that somebody is writing.
    pub writing: Vec<NsPath>,
    /// What was renamed and whose objects are being moved.
    pub moving: Vec<Moving>,
    /// What the under store lacks, in the order in which it was acknowledged: the first 1,000.
    pub dirty: Vec<Unpersisted>,
    /// All that is to be persisted in its turn.
    pub due: Amount,
    /// All that is not to be persisted as it is: deferred, or scratch.
    pub not_due: Amount,
    /// What is acknowledged by now has a lower number: for [`crate::Client::pending`].
    pub now: u64,
}

/// How much is pending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Files and directories.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Something whose objects are being moved, or deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moving {
    /// Where it is, or was.
    pub path: NsPath,
    /// Where its objects were, relative to the mount's prefix.
    pub from: Vec<u8>,
    /// It was removed with all below, and they are deleted.
    pub removed: bool,
    /// Why it does not go on; it is tried again after a pause of at most 30 s.
    pub problem: Option<String>,
}

/// A file or directory that the under store lacks, or has in an older version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpersisted {
    /// Where it is.
    pub path: NsPath,
    /// Its place in the order in which changes were acknowledged.
    pub number: u64,
    /// Bytes.
    pub size: u64,
    /// Workers (`host:port`) that hold the bytes.
    pub holders: Vec<String>,
    /// How far it is.
    pub state: PersistState,
    /// What it waits for, or why it does not go on.
    pub reason: Option<String>,
    /// It is seen in the under store only after all that was acknowledged before.
    pub barrier: bool,
}

/// How far the persisting of something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PersistState {
    /// In the queue.
    Waiting,
    /// On its way to the under store.
    Persisting,
    /// Tried, and to be tried again; or an operator has to decide ([`crate::AdminClient::problems`]).
    Failed,
    /// It has a temporary name, and waits for another.
    Deferred,
    /// It is not to be persisted unless that is asked for.
    Scratch,
}

impl Pending {
    /// Nothing is on its way to the under store, or has to be: what is deferred or scratch may be there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.writing.is_empty() && self.moving.is_empty() && self.due.files == 0
    }
}

impl Shared {
    pub(crate) async fn pending(&self, path: &NsPath, up_to: Option<u64>) -> Result<Pending> {
        let request = v1::PendingRequest {
            path: path.to_bytes().into(),
            caller: self.caller.clone(),
            up_to: up_to.unwrap_or_default(),
        };
        let call = |channel| {
            let request = request.clone();
            async move { master::writing(channel).pending(request).await }
        };
        self.masters.call("pending", Retry::Yes, call).await?.try_into()
    }

    pub(crate) async fn persist_path(&self, path: &NsPath) -> Result<u64> {
        let request = v1::PersistPathRequest { path: path.to_bytes().into(), caller: self.caller.clone() };
        let call = |channel| {
            let request = request.clone();
            async move { master::writing(channel).persist_path(request).await }
        };
        Ok(self.masters.call("persist", Retry::Yes, call).await?.files)
    }
}

impl TryFrom<v1::PendingResponse> for Pending {
    type Error = Error;

    fn try_from(answer: v1::PendingResponse) -> Result<Self> {
        Ok(Self {
            writing: answer.writing.iter().map(|path| path_of(path)).collect::<Result<_>>()?,
            moving: answer.moving.into_iter().map(Moving::try_from).collect::<Result<_>>()?,
            dirty: answer.dirty.into_iter().map(Unpersisted::try_from).collect::<Result<_>>()?,
            due: Amount { files: answer.due, bytes: answer.due_bytes },
            not_due: Amount { files: answer.not_due, bytes: answer.not_due_bytes },
            now: answer.now,
        })
    }
}

impl TryFrom<v1::PendingMove> for Moving {
    type Error = Error;

    fn try_from(moving: v1::PendingMove) -> Result<Self> {
        let (path, from, removed) = (path_of(&moving.path)?, moving.from.to_vec(), moving.removed);
        Ok(Self { path, from, removed, problem: text(moving.problem) })
    }
}

impl TryFrom<v1::PendingPersist> for Unpersisted {
    type Error = Error;

    fn try_from(dirty: v1::PendingPersist) -> Result<Self> {
        Ok(Self {
            path: path_of(&dirty.path)?,
            number: dirty.number,
            size: dirty.size,
            state: dirty.state().into(),
            holders: dirty.holders,
            reason: text(dirty.reason),
            barrier: dirty.barrier,
        })
    }
}

impl From<v1::PersistState> for PersistState {
    fn from(state: v1::PersistState) -> Self {
        match state {
            // What a newer master says of what is in the queue.
            v1::PersistState::Unspecified | v1::PersistState::Waiting => Self::Waiting,
            v1::PersistState::Persisting => Self::Persisting,
            v1::PersistState::Failed => Self::Failed,
            v1::PersistState::Deferred => Self::Deferred,
            v1::PersistState::Scratch => Self::Scratch,
        }
    }
}

fn text(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// # Errors
/// `Internal`: a master that names no path is of another version.
pub(crate) fn path_of(bytes: &[u8]) -> Result<NsPath> {
    NsPath::parse(bytes).map_err(|error| Error::new(ErrorKind::Internal, "the master named no path").with_source(error))
}
