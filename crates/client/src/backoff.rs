//! Pauses between attempts.

use std::time::Duration;

/// Growing pauses with jitter, so that many clients do not come back at once ("equal jitter", M. Brooker, AWS
/// Architecture Blog, 2015).
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    max: Duration,
}

impl Backoff {
    /// Pauses from about `first`, doubling up to `max`.
    pub(crate) const fn new(first: Duration, max: Duration) -> Self {
        Self { next: first, max }
    }

    /// The next pause.
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = self.next.mul_f64(rand::random_range(0.5..1.0));
        self.next = (self.next * 2).min(self.max);
        pause
    }
}
