//! An answer about one inode or name.

use std::{sync::Arc, time::Duration};

use headpond_types::Attr;
use tokio::time::Instant;

/// What an inode or a name is, and until when this may be believed without asking again.
#[derive(Clone, Debug)]
pub struct Lookup {
    /// The attributes; `None`: there is no such entry.
    pub attr: Option<Arc<Attr>>,
    /// End of validity on this machine's monotonic clock.
    pub valid_until: Instant,
}

impl Lookup {
    /// How long the answer is still valid; zero when it has expired.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.valid_until.saturating_duration_since(Instant::now())
    }

    /// Whether the answer may still be believed.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        Instant::now() < self.valid_until
    }
}
