//! The way of a file into the under store: one PUT, or a multipart upload.

use std::{fmt, sync::Arc};

use futures::FutureExt as _;
use headpond_store::checksums;
use headpond_types::{ContentId, ErrorKind, MountId, Result};
use headpond_ufs::{Key, Label, ObjectMeta, Precondition, UnderStore};
use tokio::sync::watch;

use super::{
    Stager,
    ahead::Ahead,
    buffers::Buffers,
    head::Head,
    origin::Origin,
    parts::{PART, Parts, Reach, Sender, part_size},
    persist::patience,
    settle::Made,
};

/// Where an object is to go. As text, key and mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) mount: MountId,
    pub(super) key: Key,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of mount {}", self.key, self.mount)
    }
}

/// A file on its way.
#[derive(Debug)]
pub(super) struct Upload<'a> {
    pub(super) stager: &'a Stager,
    pub(super) origin: Origin,
    pub(super) store: Arc<dyn UnderStore>,
    pub(super) target: &'a Target,
    /// What its bytes are called.
    pub(super) content: ContentId,
    /// What may have been stored under the key before, by whomever: that is replaced.
    pub(super) earlier: Vec<ContentId>,
    /// What the object says of itself, unless its upload was begun before that was known.
    pub(super) label: Label,
    /// What of it the store has already.
    pub(super) head: Option<Head>,
    pub(super) length: u64,
}

/// A file that arrived.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) meta: ObjectMeta,
    /// Bytes from its beginning that the store had before.
    pub(super) copied: u64,
}

impl Stored {
    const fn sent(meta: ObjectMeta) -> Self {
        Self { meta, copied: 0 }
    }
}

impl Upload<'_> {
    /// Stores the file under `condition`, of which what is `ahead` may be there already. Dropped, it leaves nothing but what the store was doing; a
    /// multipart upload is then aborted in the background, as after an error.
    ///
    /// # Errors
    /// `Stale` when the condition does not hold; what the store answered else, naming mount and key.
    pub(super) async fn run(&self, condition: Precondition, ahead: Option<Ahead>) -> Result<Stored> {
        let capabilities = self.store.capabilities();
        if self.length <= PART || capabilities.min_part_size == 0 {
            return self.put(condition).await.map(Stored::sent);
        }
        let parts = match ahead.filter(|ahead| ahead.target() == self.target) {
            Some(ahead) => ahead.finish(self.length).await,
            None => None,
        };
        if let Some(parts) = parts {
            return self.complete(condition, parts).await.map(Stored::sent);
        }
        let part = part_size(self.length, capabilities);
        if let Some((parts, copied)) = self.behind_head(part).await {
            let done = self.complete(condition.clone(), parts).await;
            match done.map(|meta| Stored { meta, copied }) {
                // Some stores want all parts but the last to be of one size, and say so only now.
                Err(error) if matches!(error.kind(), ErrorKind::InvalidArgument | ErrorKind::NotSupported) => {
                    tracing::debug!(%error, target = %self.target, "what was copied in part is sent as a whole");
                }
                done => return done,
            }
        }
        let (_, whole) = watch::channel(Reach { up_to: self.length, is_whole: true });
        let parts = self.sender().send(part, whole, self.label).await?;
        self.complete(condition, parts).await.map(Stored::sent)
    }

    /// The parts of the file, of which those that the store has are copied, and how many bytes were; `None` when all of it is to be sent. That is not worse than it was
    /// before, so no more is spent on it than a quarter of the time that there is.
    async fn behind_head(&self, part: u64) -> Option<(Parts, u64)> {
        let head = self.head.as_ref()?;
        let sender = self.sender();
        let sending = sender.send_behind(head, (part, self.length), self.label);
        match tokio::time::timeout(patience(self.length) / 4, sending).await {
            Ok(Ok(parts)) => Some((parts?, head.length.min(self.length))),
            Ok(Err(error)) => {
                tracing::debug!(%error, target = %self.target, "what the store has of a file cannot be copied: sending all of it");
                None
            }
            Err(late) => {
                tracing::debug!(%late, target = %self.target, "what the store has of a file is not copied: sending all of it");
                None
            }
        }
    }

    /// Without multipart uploads the whole file passes through memory.
    async fn put(&self, condition: Precondition) -> Result<ObjectMeta> {
        let sender = self.sender();
        let (_memory, body) = sender.read(0, self.length).await?;
        let checksums = checksums(&body).into();
        let (key, label) = (&self.target.key, self.label);
        let send = |condition: Precondition| {
            let body = body.clone();
            async move { self.store.put_as(key, body, &condition, label).await }.boxed()
        };
        let (Made::Answered(meta) | Made::Found(meta)) = self.make(checksums, condition, send).await?;
        Ok(meta)
    }

    async fn complete(&self, condition: Precondition, parts: Parts) -> Result<ObjectMeta> {
        let Parts { upload, noted, tags, checksums } = parts;
        let key = &self.target.key;
        let send = |condition: Precondition| {
            let (upload, tags) = (&upload, &tags);
            async move { self.store.complete_multipart(key, upload, tags, &condition).await }.boxed()
        };
        match self.make(checksums, condition, send).await? {
            Made::Answered(meta) => {
                noted.done().await;
                Ok(meta)
            }
            // It may be another upload's: this one is aborted, if it still is one.
            Made::Found(meta) => Ok(meta),
        }
    }

    fn sender(&self) -> Sender<'_> {
        let buffers = Buffers::default();
        Sender { stager: self.stager, origin: &self.origin, store: &self.store, target: self.target, buffers }
    }
}
