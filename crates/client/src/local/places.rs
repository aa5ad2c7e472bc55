//! How many cache files may be open at once.

use std::sync::Arc;

use headpond_runtime::descriptors;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Places for open cache files: half of the descriptors that this process may open. The rest of it needs some too, and one that comes over
/// a socket when none is free breaks the connection.
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
        Self(Arc::new(Semaphore::new((limit / 2).min(Semaphore::MAX_PERMITS))))
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
    fn half_of_the_descriptors_may_be_cache_files() {
        let places = Places::with_descriptors(5);
        let (first, second) = (places.take(), places.take());
        assert!(first.is_some() && second.is_some() && places.take().is_none());
        drop(first);
        assert!(places.take().is_some());
        assert!(Places::with_descriptors(usize::MAX).take().is_some());
    }
}
