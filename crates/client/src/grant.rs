//! Grants in memory.

use std::{fmt, time::Duration};

use headpond_proto::v1::SignedGrant;
use tokio::time::Instant;

/// The right to read one content, until it expires. A bearer's token: never shown.
pub(crate) struct Grant {
    signed: SignedGrant,
    renew_at: Instant,
    expires_at: Instant,
}

impl Grant {
    /// A grant that was asked for at `asked` and is accepted for `valid` from then on.
    pub(crate) fn new(signed: SignedGrant, asked: Instant, valid: Duration) -> Self {
        Self { signed, renew_at: asked + valid / 2, expires_at: asked + valid }
    }

    /// What workers are shown.
    pub(crate) fn signed(&self) -> SignedGrant {
        self.signed.clone()
    }

    /// Less than half of its life is over.
    pub(crate) fn is_fresh(&self) -> bool {
        Instant::now() < self.renew_at
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
