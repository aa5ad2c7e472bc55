//! Grants in memory.

use std::{fmt, time::Duration};

use bytes::Bytes;
use headpond_proto::v1::SignedGrant;
use tokio::time::Instant;

/// The right to read one content, until it expires. A bearer's token: never shown.
pub(crate) struct Grant {
    signed: SignedGrant,
    renew_at: Instant,
    expires_at: Instant,
    dirty: bool,
}

impl Grant {
    /// A grant that was asked for at `asked` and is accepted for `valid` from then on, for what no store had yet if it is `dirty`. Its bytes are
    /// copied: as they came, they hold all of the buffer that the answer was received in, a hundred times as large.
    pub(crate) fn new(signed: &SignedGrant, asked: Instant, valid: Duration, dirty: bool) -> Self {
        let SignedGrant { grant, signature } = signed;
        let signed = SignedGrant { grant: Bytes::copy_from_slice(grant), signature: Bytes::copy_from_slice(signature) };
        Self { signed, renew_at: asked + valid / 2, expires_at: asked + valid, dirty }
    }

    /// What workers are shown.
    pub(crate) fn signed(&self) -> SignedGrant {
        self.signed.clone()
    }

    /// Less than half of its life is over.
    pub(crate) fn is_fresh(&self) -> bool {
        Instant::now() < self.renew_at
    }

    /// It names workers that have what no store had: once it is persisted they need not have it any more, and another grant will do.
    pub(crate) const fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// It is still accepted, if the workers' clocks are right.
    pub(crate) fn is_accepted(&self) -> bool {
        Instant::now() < self.expires_at
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_holds_nothing_of_the_answer_it_came_in() {
        let answer = Bytes::from(vec![7; 8192]);
        let signed = SignedGrant { grant: answer.slice(..90), signature: answer.slice(90..154) };
        let grant = Grant::new(&signed, Instant::now(), Duration::from_secs(1), false);
        assert_eq!(grant.signed(), signed);
        drop(signed);
        assert!(answer.is_unique());
    }

    #[tokio::test]
    async fn a_grant_is_not_shown() {
        let signed = SignedGrant { grant: Bytes::from_static(b"bearer"), signature: Bytes::from_static(b"signed") };
        let shown = format!("{:?}", Grant::new(&signed, Instant::now(), Duration::from_secs(1), false));
        assert!(!shown.contains("bearer") && !shown.contains("signed"), "{shown}");
    }
}
