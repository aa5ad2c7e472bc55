//! Gives out the right to read a file's content, signed.

use std::{sync::Arc, time::Duration};

use headpond_proto::{
    grant::GrantSigner,
    v1::{ContentGrant, SignedGrant},
};
use headpond_runtime::Clock;
use headpond_types::{Attr, ContentId, Error, ErrorKind, MountId, Result, Timestamp};
use headpond_ufs::Key;
use moka::sync::Cache;

/// Grants remembered, some 400 bytes each: signing costs 20 µs, finding one 0.2 µs.
const REMEMBERED: u64 = 50_000;

/// Issues grants; one per master.
#[derive(Debug)]
pub(crate) struct Grants {
    signer: GrantSigner,
    ttl: Duration,
    clock: Arc<dyn Clock>,
    signed: Cache<(MountId, ContentId), (SignedGrant, Timestamp)>,
}

impl Grants {
    pub(crate) fn new(signer: GrantSigner, ttl: Duration, clock: Arc<dyn Clock>) -> Self {
        Self { signer, ttl, clock, signed: Cache::new(REMEMBERED) }
    }

    /// What workers check grants with.
    pub(crate) fn public_key(&self) -> Vec<u8> {
        self.signer.public_key()
    }

    /// A grant for the content that `attr` has, at `key()` in the store, and how long it is accepted: at least half the
    /// configured time.
    ///
    /// # Errors
    /// `IsADirectory` or `InvalidArgument` when `attr` has no content; that of `key`.
    pub(crate) fn issue(&self, attr: &Attr, key: impl FnOnce() -> Result<Key>) -> Result<(SignedGrant, Duration)> {
        let Some(content) = attr.content else {
            return Err(Error::new(ErrorKind::InvalidArgument, format!("inode {} has no content to read", attr.inode)));
        };
        let now = self.clock.now();
        if let Some((signed, expires)) = self.signed.get(&(attr.mount, content)) {
            let left = expires.saturating_since(now);
            if left >= self.ttl / 2 {
                return Ok((signed, left));
            }
        }
        let expires = now.saturating_add(self.ttl);
        let signed = self.signer.sign(ContentGrant {
            content: Some(content.into()),
            length: attr.size,
            mount: attr.mount.0,
            key: key()?.0,
            version: attr.version.clone(),
            expires_ns: expires.0,
            cluster: 0,
        });
        self.signed.insert((attr.mount, content), (signed.clone(), expires));
        Ok((signed, self.ttl))
    }
}
