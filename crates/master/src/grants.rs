//! Gives out the rights to read a file's content, and to stage and store the next, signed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use headpond_proto::{
    grant::{GrantSigner, GrantVerifier},
    v1::{ContentGrant, PersistGrant, SignedGrant, StagingGrant, UploadGrant},
};
use headpond_runtime::Clock;
use headpond_types::{Attr, ContentId, Error, ErrorKind, InodeId, MountId, Result, Timestamp};
use headpond_ufs::Key;
use moka::sync::Cache;

/// Grants remembered, some 400 bytes each: signing costs 20 µs, finding one 0.2 µs.
const KEPT: u64 = 50_000;

/// How long bytes may be staged; the lease decides whether they count.
const STAGING_FOR: Duration = Duration::from_hours(24);

/// How long storing staged bytes may take until it begins.
const PERSIST_WITHIN: Duration = Duration::from_mins(10);

/// Issues grants; one per master.
#[derive(Debug)]
pub(crate) struct Grants {
    signer: GrantSigner,
    verifier: GrantVerifier,
    ttl: Duration,
    clock: Arc<dyn Clock>,
    signed: Cache<(MountId, ContentId, bool), Remembered>,
    /// Whether contents have come to lie under other keys since the start, so that grants for them have to be made anew.
    keys_move: AtomicBool,
}

/// A grant that was given.
#[derive(Clone, Debug)]
struct Remembered {
    signed: SignedGrant,
    expires: Timestamp,
    source: Source,
}

/// Where the bytes of a content are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// In the under store.
    Object(Key),
    /// At workers: their addresses.
    Holders(Vec<String>),
}

impl Grants {
    pub(crate) fn new(signer: GrantSigner, ttl: Duration, clock: Arc<dyn Clock>) -> Self {
        let verifier = signer.verifier();
        Self { signer, verifier, ttl, clock, signed: Cache::new(KEPT), keys_move: AtomicBool::new(false) }
    }

    /// What workers check grants with.
    pub(crate) fn public_key(&self) -> Vec<u8> {
        self.signer.public_key()
    }

    /// From now on a content may lie under another key than it was granted for.
    pub(crate) fn keys_move(&self) {
        self.keys_move.store(true, Ordering::Release);
    }

    /// The right to stage bytes of `inode` under a write lease; `later` is its mount where they are acknowledged before the store has them.
    pub(crate) fn staging(&self, lease: u64, inode: InodeId, later: Option<MountId>) -> SignedGrant {
        let expires_ns = self.clock.now().saturating_add(STAGING_FOR).0;
        let later = later.map_or(0, |mount| mount.0);
        self.signer.sign_staging(StagingGrant { lease, inode: inode.0, expires_ns, cluster: 0, later })
    }

    /// What a right to stage bytes that this cluster's master once signed is for; it may have expired.
    ///
    /// # Errors
    /// `PermissionDenied` for any other.
    pub(crate) fn staged(&self, signed: &SignedGrant) -> Result<StagingGrant> {
        self.verifier.verify_staging(signed, Timestamp(i64::MIN))
    }

    /// The right to send staged bytes ahead, as `grant` says but for when it expires: with the right to have staged them.
    pub(crate) fn upload(&self, grant: UploadGrant) -> SignedGrant {
        let expires_ns = self.clock.now().saturating_add(STAGING_FOR).0;
        self.signer.sign_upload(UploadGrant { expires_ns, ..grant })
    }

    /// The right to store staged bytes, as `grant` says but for when it expires.
    pub(crate) fn persist(&self, grant: PersistGrant) -> SignedGrant {
        let expires_ns = self.clock.now().saturating_add(PERSIST_WITHIN).0;
        self.signer.sign_persist(PersistGrant { expires_ns, ..grant })
    }

    /// A grant for the content that `attr` has, which is to be had from `source()`, and how long it is accepted: at least half the configured
    /// time.
    ///
    /// # Errors
    /// `IsADirectory` or `InvalidArgument` when `attr` has no content; that of `source`.
    pub(crate) fn issue(
        &self,
        attr: &Attr,
        source: impl FnOnce() -> Result<Source>,
    ) -> Result<(SignedGrant, Duration)> {
        let Some(content) = attr.content else {
            return Err(Error::new(ErrorKind::InvalidArgument, format!("inode {} has no content to read", attr.inode)));
        };
        let now = self.clock.now();
        let place = (attr.mount, content, attr.dirty);
        let given = self.signed.get(&place);
        let given = given.filter(|given| given.expires.saturating_since(now) >= self.ttl / 2);
        let changes = attr.dirty || self.keys_move.load(Ordering::Acquire);
        let source = match given {
            None => source()?,
            Some(given) => {
                let source = if changes { source()? } else { given.source.clone() };
                if source == given.source {
                    return Ok((given.signed, given.expires.saturating_since(now)));
                }
                source
            }
        };
        let expires = now.saturating_add(self.ttl);
        let grant = ContentGrant {
            content: Some(content.into()),
            length: attr.size,
            mount: attr.mount.0,
            expires_ns: expires.0,
            ..ContentGrant::default()
        };
        let signed = self.signer.sign(match &source {
            Source::Object(key) => ContentGrant { key: key.0.clone(), version: attr.version.clone(), ..grant },
            Source::Holders(holders) => ContentGrant { holders: holders.clone(), ..grant },
        });
        self.signed.insert(place, Remembered { signed: signed.clone(), expires, source });
        Ok((signed, self.ttl))
    }
}
