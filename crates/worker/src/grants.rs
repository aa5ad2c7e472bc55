//! Grants: what a client shows to be served, checked with the master's key.
//!
//! Checking a signature costs tens of microseconds, so grants found good are remembered by all their bytes; their expiry
//! is compared at every use.

use std::sync::{Arc, RwLock};

use headpond_proto::{
    grant::GrantVerifier,
    v1::{ContentGrant, PersistGrant, SignedGrant, StagingGrant, UploadGrant},
};
use headpond_types::{ByteRange, ContentId, Error, ErrorKind, MountId, Result, Timestamp};
use headpond_ufs::Key;
use moka::sync::Cache;
use prost::Message as _;

/// Grants remembered at most, about 500 bytes each.
const REMEMBERED: u64 = 16 << 10;

/// The right to read one content, checked, and all that is needed to fetch it.
#[derive(Debug)]
pub(crate) struct Grant {
    /// The content.
    pub(crate) content: ContentId,
    /// Bytes of the whole content.
    pub(crate) length: u64,
    /// Mount whose under store has it.
    pub(crate) mount: MountId,
    /// Its key there.
    pub(crate) key: Key,
    /// What a fetch must match.
    pub(crate) version: String,
    /// Not empty: the under store does not have it, the workers at these addresses do; key and version are empty then.
    pub(crate) holders: Vec<String>,
    /// Refused afterwards.
    expires: Timestamp,
    /// As the master signed it, to show to peers.
    pub(crate) signed: SignedGrant,
}

impl Grant {
    fn new(grant: ContentGrant, signed: &SignedGrant) -> Result<Self> {
        let ContentGrant { content, length, mount, key, version, expires_ns, cluster: _, holders } = grant;
        let content = content.ok_or_else(|| Error::new(ErrorKind::InvalidArgument, "a grant without a content"))?;
        Ok(Self {
            content: content.into(),
            length,
            mount: MountId(mount),
            key: key.into(),
            version,
            holders,
            expires: Timestamp(expires_ns),
            signed: signed.clone(),
        })
    }

    /// Whether only workers have the content.
    pub(crate) const fn is_dirty(&self) -> bool {
        !self.holders.is_empty()
    }

    /// What errors name: the object, or the content where there is none.
    pub(crate) fn describe(&self) -> String {
        if self.is_dirty() {
            return format!("content {}, which is not in the store of mount {} yet", self.content, self.mount);
        }
        format!("{} of mount {}", self.key, self.mount)
    }

    /// The part of `range` that lies inside the content.
    pub(crate) fn clamp(&self, range: ByteRange) -> ByteRange {
        range.start.min(self.length)..range.end.min(self.length)
    }
}

/// The content that `signed` says it is for, be it signed by whom it may.
pub(crate) fn claimed_content(signed: &SignedGrant) -> Option<ContentId> {
    ContentGrant::decode(&signed.grant[..]).ok()?.content.map(ContentId::from)
}

/// Checks grants with the key of the cluster that this worker belongs to.
#[derive(Debug)]
pub(crate) struct Grants {
    verifier: RwLock<Option<GrantVerifier>>,
    good: Cache<SignedGrant, Arc<Grant>>,
    staging: Cache<SignedGrant, StagingGrant>,
}

impl Grants {
    /// Accepts nothing until a key is set.
    pub(crate) fn new() -> Self {
        Self { verifier: RwLock::default(), good: Cache::new(REMEMBERED), staging: Cache::new(REMEMBERED) }
    }

    /// Accepts the grants of `cluster`, signed with the key that belongs to `public_key`, and no others.
    pub(crate) fn set_key(&self, public_key: Vec<u8>, cluster: u64) {
        *self.verifier.write().expect("no panic while held") = Some(GrantVerifier::new(public_key, cluster));
        self.good.invalidate_all();
        self.staging.invalidate_all();
    }

    /// The grant in `signed`.
    ///
    /// # Errors
    /// `PermissionDenied` when it is not one of this cluster or has expired, `Unavailable` before a master was ever
    /// reached, `InvalidArgument` when there is none.
    pub(crate) fn check(&self, signed: Option<&SignedGrant>, now: Timestamp) -> Result<Arc<Grant>> {
        let signed = shown(signed)?;
        let check = || Ok(Arc::new(Grant::new(self.verifier()?.verify(signed, now)?, signed)?));
        remembered(&self.good, signed, |grant| now <= grant.expires, check)
    }

    /// The right to stage bytes in `signed`. Whoever ends a staged file gives the least time as `now`.
    ///
    /// # Errors
    /// As [`Grants::check`].
    pub(crate) fn check_staging(&self, signed: Option<&SignedGrant>, now: Timestamp) -> Result<StagingGrant> {
        let signed = shown(signed)?;
        let check = || self.verifier()?.verify_staging(signed, now);
        remembered(&self.staging, signed, |grant| now.0 <= grant.expires_ns, check)
    }

    /// The right to send staged bytes ahead in `signed`.
    ///
    /// # Errors
    /// As [`Grants::check`].
    pub(crate) fn check_upload(&self, signed: Option<&SignedGrant>, now: Timestamp) -> Result<UploadGrant> {
        self.verifier()?.verify_upload(shown(signed)?, now)
    }

    /// The right to store staged bytes in `signed`.
    ///
    /// # Errors
    /// As [`Grants::check`].
    pub(crate) fn check_persist(&self, signed: Option<&SignedGrant>, now: Timestamp) -> Result<PersistGrant> {
        self.verifier()?.verify_persist(shown(signed)?, now)
    }

    fn verifier(&self) -> Result<GrantVerifier> {
        self.verifier.read().expect("no panic while held").clone().ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, "this worker has not reached a master yet and cannot check grants")
        })
    }
}

/// The grant in `signed` that was found good before and still `holds`, or what `check` finds it to be.
fn remembered<G: Clone + Send + Sync + 'static>(
    good: &Cache<SignedGrant, G>,
    signed: &SignedGrant,
    holds: impl FnOnce(&G) -> bool,
    check: impl FnOnce() -> Result<G>,
) -> Result<G> {
    if let Some(grant) = good.get(signed).filter(holds) {
        return Ok(grant);
    }
    let grant = check()?;
    good.insert(signed.clone(), grant.clone());
    Ok(grant)
}

fn shown(signed: Option<&SignedGrant>) -> Result<&SignedGrant> {
    signed.ok_or_else(|| Error::new(ErrorKind::InvalidArgument, "a request without a grant"))
}

#[cfg(test)]
mod tests {
    use headpond_proto::grant::GrantSigner;

    use super::*;

    fn signed(signer: &GrantSigner) -> SignedGrant {
        let content = Some(ContentId(7).into());
        signer.sign(ContentGrant { content, length: 9, expires_ns: 100, ..ContentGrant::default() })
    }

    #[test]
    fn a_remembered_grant_still_expires_and_a_changed_key_forgets_it() {
        let (signer, other) =
            (GrantSigner::new(&[1; 32], 5).expect("seed"), GrantSigner::new(&[2; 32], 5).expect("seed"));
        let (grants, grant) = (Grants::new(), signed(&signer));
        let refused = |now| grants.check(Some(&grant), Timestamp(now)).expect_err("refused").kind();
        assert_eq!(refused(0), ErrorKind::Unavailable);
        grants.set_key(signer.public_key(), 5);
        for _ in 0..2 {
            assert_eq!(grants.check(Some(&grant), Timestamp(100)).expect("good").content, ContentId(7));
        }
        assert_eq!(refused(101), ErrorKind::PermissionDenied);
        grants.set_key(other.public_key(), 5);
        assert_eq!(refused(0), ErrorKind::PermissionDenied);
    }

    #[test]
    fn a_remembered_signature_does_not_vouch_for_other_bytes() {
        let signer = GrantSigner::new(&[1; 32], 5).expect("seed");
        let (grants, grant) = (Grants::new(), signed(&signer));
        grants.set_key(signer.public_key(), 5);
        grants.check(Some(&grant), Timestamp(0)).expect("good");
        let forged = SignedGrant { grant: signed(&GrantSigner::new(&[2; 32], 5).expect("seed")).grant, ..grant };
        let forged = SignedGrant { grant: [&forged.grant[..], &[0]].concat().into(), ..forged };
        assert_eq!(grants.check(Some(&forged), Timestamp(0)).expect_err("forged").kind(), ErrorKind::PermissionDenied);
    }
}
