//! Signed grants: how a worker knows that the master lets a client read a content, without asking the master.
//!
//! The master signs what a worker needs to serve and to fetch a content (Ed25519, RFC 8032); workers hold only the public
//! key, so neither a client nor a stolen worker can make a grant. A grant names one version of one file: it can be kept
//! and shown again until it expires, also while no master is reachable.

use std::fmt;

use headpond_types::{Error, ErrorKind, Timestamp};
use prost::Message;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use crate::v1::{ContentGrant, SignedGrant};

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

    /// Signs `grant`, after setting its cluster.
    #[must_use]
    pub fn sign(&self, mut grant: ContentGrant) -> SignedGrant {
        grant.cluster = self.cluster;
        let grant = grant.encode_to_vec();
        let signature = self.key.sign(&grant).as_ref().to_vec();
        SignedGrant { grant: grant.into(), signature: signature.into() }
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
        let refuse = |message: &str| Error::new(ErrorKind::PermissionDenied, message);
        UnparsedPublicKey::new(&ED25519, &self.key)
            .verify(&signed.grant, &signed.signature)
            .map_err(|_| refuse("the grant was not signed by this worker's master: open the file again"))?;
        let grant = ContentGrant::decode(&signed.grant[..])
            .map_err(|error| refuse("the grant cannot be read: open the file again").with_source(error))?;
        if grant.cluster != self.cluster {
            return Err(refuse("the grant belongs to another cluster: open the file again"));
        }
        if grant.expires_ns < now.0 {
            return Err(refuse("the grant has expired: open the file again"));
        }
        Ok(grant)
    }
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
}
