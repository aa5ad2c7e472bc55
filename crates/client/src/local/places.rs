//! How many cache files may be open at once.

use std::sync::Arc;

use headpond_runtime::descriptors;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Descriptors left to the rest of the process at least. One that comes over a socket when none is free breaks the connection.
const RESERVE: usize = 64;

/// Places for open cache files: three quarters of the descriptors that this process may open, less where these are few.
#[derive(Clone, Debug)]
pub(crate) struct Places(Arc<Semaphore>);

/// A place that is taken; free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
}

impl Places {
    pub(crate) fn new() -> Self {
        Self::with_descriptors(descriptors::limit())
    }

    fn with_descriptors(limit: usize) -> Self {
        let places = limit.saturating_sub(RESERVE.max(limit / 4));
        Self(Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))))
    }

    /// Places that are free.
    pub(crate) fn free(&self) -> usize {
        self.0.available_permits()
    }

    /// Takes a place, if one is free.
    pub(super) fn take(&self) -> Option<Place> {
        let permit = Arc::clone(&self.0).try_acquire_owned().ok()?;
        Some(Place { _permit: permit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_of_the_descriptors_may_be_cache_files() {
        assert_eq!(Places::with_descriptors(20_000).free(), 15_000);
        assert!(Places::with_descriptors(RESERVE).take().is_none());
        let places = Places::with_descriptors(RESERVE + 2);
        let (first, second) = (places.take(), places.take());
        assert!(first.is_some() && second.is_some() && places.take().is_none());
        drop(first);
        assert!(places.take().is_some());
        assert!(Places::with_descriptors(usize::MAX).take().is_some());
    }
}
