//! The request that makes the object: sent until it is known whether the store carried it out.
//!
//! A request without an answer may have been carried out. Then its repetition meets an object where none must be, or another version than
//! the one to be replaced, and only the object itself tells whether it is ours: it is if it has the version that the store once
//! answered to us, or says that it is a content that only we put there, or, where no answer came, the very bytes that were sent. ETags are not computed for it: what they are made of
//! depends on how a store encrypts.
//!
//! An answer that does not come is not waited for: the key is looked at meanwhile, and after a while the request is sent again.
//!
//! Of a request that was answered with a refusal it is certain that it was not carried out. So an object that somebody else has
//! put there is never taken for ours, not even one of the same bytes.

use std::{future::Future, sync::Arc, time::Duration};

use futures::{StreamExt as _, future::BoxFuture};
use headpond_store::checksums;
use headpond_types::{Error, ErrorKind, PAGE_SIZE, Result};
use headpond_ufs::{ObjectMeta, Precondition, UfsError, UfsErrorKind};

use super::{
    persist::LEAST_RATE,
    sent::Try,
    upload::{Target, Upload},
};

/// Tries without an answer, each with the store's own deadline, after which the failure is told.
const TRIES: u32 = 4;

/// A try without an answer is over after so long, and a quarter of the time that its bytes are given: well before the persist, so that a request
/// that was lost on its way is sent again, and long enough for what a store does to put parts together.
const TRY: Duration = Duration::from_secs(20);

/// Pause between two looks at the key while an answer does not come; most are there long before the first.
const LOOK: Duration = Duration::from_secs(3);

/// Pause before the second try; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// How an object was made.
#[derive(Debug)]
pub(super) enum Made {
    /// The store said so.
    Answered(ObjectMeta),
    /// It was found under its key; whatever else was sent to make it may be left.
    Found(ObjectMeta),
}

/// An object that an earlier request of this staged file made.
struct Ours {
    meta: ObjectMeta,
    /// It has the bytes that are to be stored.
    is_done: bool,
}

impl Upload<'_> {
    /// Makes the object of bytes with these checksums by `send`, which is given the condition to send along.
    ///
    /// Where the store has no conditions, the object is looked at just before: somebody who writes it between that and the request is
    /// overwritten.
    pub(super) async fn make<'s>(
        &'s self,
        checksums: Arc<[u32]>,
        mut condition: Precondition,
        send: impl Fn(Precondition) -> BoxFuture<'s, Result<ObjectMeta, UfsError>>,
    ) -> Result<Made> {
        let request = Try {
            mount: self.target.mount,
            key: self.target.key.clone(),
            content: self.content,
            length: self.length,
            checksums: Arc::clone(&checksums),
            version: None,
        };
        let id = self.origin.with_sent(|sent| sent.begin(request));
        let (mut tries, mut unanswered, mut pause) = (0, false, FIRST_PAUSE);
        loop {
            let (was_sent, answer) = match self.admit(&condition).await {
                Ok(admitted) => tokio::select! {
                    biased;
                    answer = self.within_a_try(send(admitted)) => (true, answer),
                    meta = self.until_there(&checksums, &condition) => return Ok(Made::Found(self.done(id, meta))),
                },
                Err(error) => (false, Err(error)),
            };
            let error = match answer {
                Ok(meta) => return Ok(Made::Answered(self.done(id, meta))),
                Err(error) => error,
            };
            if is_no_answer(error.kind()) {
                unanswered |= was_sent;
                tries += 1;
                if tries < TRIES {
                    tracing::debug!(%error, "storing a file again");
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                    continue;
                }
            }
            let error = self.told_of_absence(error, &condition).await;
            let unmet = error.kind() == UfsErrorKind::Precondition;
            let refused = (!unanswered).then_some(id);
            let found = if unmet || unanswered { self.find_ours(&checksums, refused).await } else { Ok(None) };
            let error = match found {
                Ok(Some(ours)) if ours.is_done => return Ok(Made::Found(self.done(id, ours.meta))),
                // Stored by us before, and not taken over by the master: that is what is replaced.
                Ok(Some(ours)) if unmet && condition != matches(&ours.meta) => {
                    condition = matches(&ours.meta);
                    continue;
                }
                Err(unknown) if unmet => unknown,
                Ok(_) | Err(_) => told(self.target, error),
            };
            if let Some(refused) = refused {
                self.origin.with_sent(|sent| sent.failed(refused));
            }
            return Err(error);
        }
    }

    /// The error as one of the condition, if the version to be replaced is gone: stores then say that there is nothing. They say the same of an
    /// upload that they have lost.
    async fn told_of_absence(&self, error: UfsError, condition: &Precondition) -> UfsError {
        let replaces = matches!(condition, Precondition::Matches(_));
        if error.kind() != UfsErrorKind::NotFound || !replaces {
            return error;
        }
        match self.store.head(&self.target.key).await {
            Err(gone) if gone.kind() == UfsErrorKind::NotFound => {
                UfsError::new(UfsErrorKind::Precondition, format!("{} is gone", self.target))
            }
            Ok(_) | Err(_) => error,
        }
    }

    fn done(&self, id: u64, meta: ObjectMeta) -> ObjectMeta {
        self.origin.with_sent(|sent| sent.succeeded(id, &meta.version));
        meta
    }

    async fn within_a_try(
        &self,
        request: impl Future<Output = Result<ObjectMeta, UfsError>>,
    ) -> Result<ObjectMeta, UfsError> {
        let time = TRY + Duration::from_secs(self.length / LEAST_RATE / u64::from(TRIES));
        tokio::time::timeout(time, request).await.unwrap_or_else(|_| {
            let message = format!("no answer for {} within {} s", self.target, time.as_secs());
            Err(UfsError::new(UfsErrorKind::DeadlineExceeded, message))
        })
    }

    /// Looks at the key now and then until what is to be stored is there; what `replaced` says is not.
    async fn until_there(&self, checksums: &[u32], replaced: &Precondition) -> ObjectMeta {
        let mut other = match replaced {
            Precondition::Matches(version) => Some(version.clone()),
            Precondition::None | Precondition::Absent => None,
        };
        loop {
            tokio::time::sleep(LOOK).await;
            let Ok(Ok(meta)) = tokio::time::timeout(LOOK, self.store.head(&self.target.key)).await else { continue };
            // Bytes are compared once.
            if other.as_ref() == Some(&meta.version) {
                continue;
            }
            match self.is_ours(meta, checksums, None).await {
                Ok(Ok(ours)) if ours.is_done => return ours.meta,
                Ok(Ok(Ours { meta, .. }) | Err(meta)) => other = Some(meta.version),
                Err(error) => tracing::debug!(%error, "cannot compare what may have been stored"),
            }
        }
    }

    /// The condition for the store to check; what it cannot check was checked by looking.
    async fn admit(&self, condition: &Precondition) -> Result<Precondition, UfsError> {
        if self.store.capabilities().conditional_put {
            return Ok(condition.clone());
        }
        let present = match self.store.head(&self.target.key).await {
            Ok(meta) => Some(meta.version),
            Err(error) if error.kind() == UfsErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let holds = match condition {
            Precondition::None => true,
            Precondition::Absent => present.is_none(),
            Precondition::Matches(version) => present.as_ref() == Some(version),
        };
        let unmet = || UfsError::new(UfsErrorKind::Precondition, format!("{} is another version", self.target));
        holds.then_some(Precondition::None).ok_or_else(unmet)
    }

    /// The object under the key, if a request of ours made it, in whatever process; by its bytes none that `refused` made.
    async fn find_ours(&self, checksums: &[u32], refused: Option<u64>) -> Result<Option<Ours>> {
        match self.store.head(&self.target.key).await {
            Ok(meta) => self.is_ours(meta, checksums, refused).await.map(std::result::Result::ok),
            Err(error) if error.kind() == UfsErrorKind::NotFound => Ok(None),
            Err(error) => Err(told(self.target, error)),
        }
    }

    /// Whether a request of ours made the object that lies under the key; by its bytes none that `refused` made. Gives the object back if not.
    async fn is_ours(
        &self,
        meta: ObjectMeta,
        checksums: &[u32],
        refused: Option<u64>,
    ) -> Result<std::result::Result<Ours, ObjectMeta>> {
        if let Some(said) = meta.content.filter(|said| *said == self.content || self.earlier.contains(said)) {
            let is_done = said == self.content && meta.size == self.length;
            return Ok(Ok(Ours { meta, is_done }));
        }
        for sent in self.origin.with_sent(|sent| sent.under(self.target.mount, &self.target.key, refused)) {
            let ours = match &sent.version {
                Some(version) => *version == meta.version,
                None => sent.length == meta.size && self.has_bytes(&meta, &sent.checksums).await?,
            };
            if ours {
                let is_done = sent.length == self.length && *sent.checksums == *checksums;
                return Ok(Ok(Ours { meta, is_done }));
            }
        }
        Ok(Err(meta))
    }

    /// Whether the pages of an object have these checksums.
    async fn has_bytes(&self, meta: &ObjectMeta, expected: &[u32]) -> Result<bool> {
        if meta.size == 0 {
            return Ok(expected.is_empty());
        }
        let body = self.store.get(&self.target.key, 0..meta.size, &meta.version).await;
        let mut body = body.map_err(|error| told(self.target, error))?;
        let one_page = usize::try_from(PAGE_SIZE).expect("a page fits in memory");
        let (mut found, mut buffer) = (Vec::with_capacity(expected.len()), Vec::new());
        while let Some(chunk) = body.next().await {
            buffer.extend_from_slice(&chunk.map_err(|error| told(self.target, error))?);
            let whole = buffer.len() / one_page * one_page;
            found.extend(checksums(&buffer[..whole]));
            buffer.drain(..whole);
        }
        found.extend(checksums(&buffer));
        Ok(found == expected)
    }
}

/// What a failure of the store is for the client.
pub(super) fn told(target: &Target, error: UfsError) -> Error {
    match error.kind() {
        UfsErrorKind::Precondition | UfsErrorKind::Changed => {
            let message = format!("{target} was changed by somebody else: open the file again");
            Error::new(ErrorKind::Stale, message).with_source(error)
        }
        // Of an upload that is gone; a missing object is none of a write.
        UfsErrorKind::NotFound => {
            let message = format!("the store has lost the upload of {target}: store it again");
            Error::new(ErrorKind::Unavailable, message).with_source(error)
        }
        _ => {
            let error = Error::from(error);
            Error::new(error.kind(), format!("cannot store {target}")).with_source(error)
        }
    }
}

fn matches(meta: &ObjectMeta) -> Precondition {
    Precondition::Matches(meta.version.clone())
}

/// Whether a failure leaves open what became of a request.
const fn is_no_answer(kind: UfsErrorKind) -> bool {
    match kind {
        UfsErrorKind::Transient | UfsErrorKind::Protocol | UfsErrorKind::DeadlineExceeded => true,
        UfsErrorKind::NotFound
        | UfsErrorKind::NoSuchStore
        | UfsErrorKind::Changed
        | UfsErrorKind::Precondition
        | UfsErrorKind::Refused
        | UfsErrorKind::SlowDown
        | UfsErrorKind::Unsupported
        | UfsErrorKind::Invalid
        | UfsErrorKind::TooLong => false,
    }
}
