//! Signed grants: how a worker knows that the master lets a client read a content, without asking the master.
//!
//! The master signs what a worker needs to serve and to fetch a content (Ed25519, RFC 8032); workers hold only the public
//! key, so neither a client nor a stolen worker can make a grant. A grant names one version of one file: it can be kept
//! and shown again until it expires, also while no master is reachable.

use std::fmt;

use headpond_types::{Error, ErrorKind, Timestamp};
use prost::Message;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use crate::v1::{ContentGrant, PersistGrant, SignedGrant, StagingGrant, UploadGrant};

/// Stand before the bytes that are signed for a kind of grant, so that none passes for one of another kind. A [`ContentGrant`] has none;
/// no message begins with these bytes.
const STAGING: &[u8] = b"\0staging\0";
const UPLOAD: &[u8] = b"\0upload\0";
const PERSIST: &[u8] = b"\0persist\0";

/// Signs grants; the master has one.
pub struct GrantSigner {
    key: Ed25519KeyPair,
    cluster: u64,
}

impl GrantSigner {
    /// A signer from a 32-byte secret seed, for the cluster with that id.
    ///
    /// # Errors
    /// `Corrupt` when the seed is not 32 bytes.
    pub fn new(seed: &[u8], cluster: u64) -> Result<Self, Error> {
        let key = Ed25519KeyPair::from_seed_unchecked(seed)
            .map_err(|_| Error::new(ErrorKind::Corrupt, "the seed of the grant key is not 32 bytes long"))?;
        Ok(Self { key, cluster })
    }

    /// The public key that [`GrantVerifier`] needs.
    #[must_use]
    pub fn public_key(&self) -> Vec<u8> {
        self.key.public_key().as_ref().to_vec()
    }

    /// Checks what this signer signs.
    #[must_use]
    pub fn verifier(&self) -> GrantVerifier {
        GrantVerifier::new(self.public_key(), self.cluster)
    }

    /// Signs `grant`, after setting its cluster.
    #[must_use]
    pub fn sign(&self, mut grant: ContentGrant) -> SignedGrant {
        grant.cluster = self.cluster;
        self.sign_bytes(&[], &grant.encode_to_vec())
    }

    /// Signs the right to stage bytes, after setting its cluster.
    #[must_use]
    pub fn sign_staging(&self, mut grant: StagingGrant) -> SignedGrant {
        grant.cluster = self.cluster;
        self.sign_bytes(STAGING, &grant.encode_to_vec())
    }

    /// Signs the right to send staged bytes ahead, after setting its cluster.
    #[must_use]
    pub fn sign_upload(&self, mut grant: UploadGrant) -> SignedGrant {
        grant.cluster = self.cluster;
        self.sign_bytes(UPLOAD, &grant.encode_to_vec())
    }

    /// Signs the right to persist staged bytes, after setting its cluster.
    #[must_use]
    pub fn sign_persist(&self, mut grant: PersistGrant) -> SignedGrant {
        grant.cluster = self.cluster;
        self.sign_bytes(PERSIST, &grant.encode_to_vec())
    }

    fn sign_bytes(&self, domain: &[u8], grant: &[u8]) -> SignedGrant {
        let signature = self.key.sign(&[domain, grant].concat()).as_ref().to_vec();
        SignedGrant { grant: grant.to_vec().into(), signature: signature.into() }
    }
}

impl fmt::Debug for GrantSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrantSigner").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

/// Checks grants; every worker has one.
#[derive(Clone, Debug)]
pub struct GrantVerifier {
    key: Vec<u8>,
    cluster: u64,
}

impl GrantVerifier {
    /// A verifier for the grants of one cluster.
    #[must_use]
    pub const fn new(public_key: Vec<u8>, cluster: u64) -> Self {
        Self { key: public_key, cluster }
    }

    /// The grant inside, if the master of this cluster signed it and it has not expired at `now`.
    ///
    /// # Errors
    /// `PermissionDenied` otherwise, saying what to do about it.
    pub fn verify(&self, signed: &SignedGrant, now: Timestamp) -> Result<ContentGrant, Error> {
        let grant: ContentGrant = self.signed(&[], signed)?;
        self.check(grant.cluster, grant.expires_ns, now)?;
        Ok(grant)
    }

    /// As [`GrantVerifier::verify`], of the right to stage bytes. Whoever may end a staged file, which asks for no more than the right to
    /// have begun it, gives `Timestamp(i64::MIN)` as `now`.
    ///
    /// # Errors
    /// As [`GrantVerifier::verify`].
    pub fn verify_staging(&self, signed: &SignedGrant, now: Timestamp) -> Result<StagingGrant, Error> {
        let grant: StagingGrant = self.signed(STAGING, signed)?;
        self.check(grant.cluster, grant.expires_ns, now)?;
        Ok(grant)
    }

    /// As [`GrantVerifier::verify`], of the right to send staged bytes ahead.
    ///
    /// # Errors
    /// As [`GrantVerifier::verify`].
    pub fn verify_upload(&self, signed: &SignedGrant, now: Timestamp) -> Result<UploadGrant, Error> {
        let grant: UploadGrant = self.signed(UPLOAD, signed)?;
        self.check(grant.cluster, grant.expires_ns, now)?;
        Ok(grant)
    }

    /// As [`GrantVerifier::verify`], of the right to persist staged bytes.
    ///
    /// # Errors
    /// As [`GrantVerifier::verify`].
    pub fn verify_persist(&self, signed: &SignedGrant, now: Timestamp) -> Result<PersistGrant, Error> {
        let grant: PersistGrant = self.signed(PERSIST, signed)?;
        self.check(grant.cluster, grant.expires_ns, now)?;
        Ok(grant)
    }

    /// The message that the master signed for the kind of grant that `domain` stands for.
    fn signed<T: Message + Default>(&self, domain: &[u8], signed: &SignedGrant) -> Result<T, Error> {
        let bytes = [domain, &signed.grant].concat();
        UnparsedPublicKey::new(&ED25519, &self.key)
            .verify(&bytes, &signed.signature)
            .map_err(|_| refuse("the grant was not signed by this worker's master: open the file again"))?;
        T::decode(&signed.grant[..])
            .map_err(|error| refuse("the grant cannot be read: open the file again").with_source(error))
    }

    fn check(&self, cluster: u64, expires_ns: i64, now: Timestamp) -> Result<(), Error> {
        if cluster != self.cluster {
            return Err(refuse("the grant belongs to another cluster: open the file again"));
        }
        if expires_ns < now.0 {
            return Err(refuse("the grant has expired: open the file again"));
        }
        Ok(())
    }
}

fn refuse(message: &str) -> Error {
    Error::new(ErrorKind::PermissionDenied, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant() -> ContentGrant {
        ContentGrant { length: 7, key: "a/b".into(), version: "e".into(), expires_ns: 100, ..Default::default() }
    }

    #[test]
    fn a_grant_is_accepted_until_it_expires() {
        let signer = GrantSigner::new(&[1; 32], 5).expect("32 bytes");
        let verifier = GrantVerifier::new(signer.public_key(), 5);
        let signed = signer.sign(grant());
        assert_eq!(verifier.verify(&signed, Timestamp(100)).expect("valid").length, 7);
        assert!(verifier.verify(&signed, Timestamp(101)).is_err());
    }

    #[test]
    fn a_grant_of_somebody_else_or_changed_is_refused() {
        let signer = GrantSigner::new(&[1; 32], 5).expect("32 bytes");
        let stranger = GrantSigner::new(&[2; 32], 5).expect("32 bytes");
        let verifier = GrantVerifier::new(signer.public_key(), 5);
        assert!(verifier.verify(&stranger.sign(grant()), Timestamp(0)).is_err());
        let mut changed = signer.sign(grant());
        changed.grant = ContentGrant { length: 8, cluster: 5, ..grant() }.encode_to_vec().into();
        assert!(verifier.verify(&changed, Timestamp(0)).is_err());
        let elsewhere = GrantVerifier::new(signer.public_key(), 6);
        assert!(elsewhere.verify(&signer.sign(grant()), Timestamp(0)).is_err());
    }

    #[test]
    fn a_grant_of_one_kind_is_none_of_another() {
        let signer = GrantSigner::new(&[1; 32], 5).expect("32 bytes");
        let verifier = GrantVerifier::new(signer.public_key(), 5);
        let staging = signer.sign_staging(StagingGrant { lease: 7, expires_ns: 100, ..Default::default() });
        let persist = signer.sign_persist(PersistGrant { lease: 7, expires_ns: 100, ..Default::default() });
        let upload = signer.sign_upload(UploadGrant { lease: 7, expires_ns: 100, ..Default::default() });
        let now = Timestamp(100);
        assert_eq!(verifier.verify_upload(&upload, now).expect("valid").lease, 7);
        assert!(verifier.verify_persist(&upload, now).is_err() && verifier.verify_upload(&persist, now).is_err());
        assert!(verifier.verify_staging(&upload, now).is_err() && verifier.verify_upload(&staging, now).is_err());
        assert!(verifier.verify_upload(&upload, Timestamp(101)).is_err());
        assert_eq!(verifier.verify_staging(&staging, now).expect("valid").lease, 7);
        assert_eq!(verifier.verify_persist(&persist, now).expect("valid").lease, 7);
        assert!(verifier.verify_staging(&persist, now).is_err() && verifier.verify_persist(&staging, now).is_err());
        assert!(verifier.verify(&staging, now).is_err() && verifier.verify(&persist, now).is_err());
        let content = signer.sign(grant());
        assert!(verifier.verify_staging(&content, now).is_err() && verifier.verify_persist(&content, now).is_err());
        assert!(verifier.verify_staging(&staging, Timestamp(101)).is_err());
    }
}
