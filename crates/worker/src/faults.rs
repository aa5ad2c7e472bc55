//! Which faults of the page store are news: each kind is logged once in a while, all are counted.

use std::{
    collections::HashMap,
    mem::{Discriminant, discriminant},
    sync::Mutex,
    time::Duration,
};

use headpond_store::StoreError;
use tokio::time::Instant;

/// Faults of one kind are logged once within this time.
const LOG_AGAIN: Duration = Duration::from_mins(10);

/// Remembers what was logged.
#[derive(Debug, Default)]
pub(crate) struct Faults(Mutex<HashMap<Discriminant<StoreError>, Instant>>);

impl Faults {
    /// Whether no fault of that kind was news lately; then this one is.
    pub(crate) fn is_news(&self, error: &StoreError) -> bool {
        let now = Instant::now();
        let mut logged = self.0.lock().expect("no panic while held");
        let news = logged.get(&discriminant(error)).is_none_or(|last| now >= *last + LOG_AGAIN);
        if news {
            logged.insert(discriminant(error), now);
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_kind_is_news_once_in_a_while() {
        let full = StoreError::Full { dir: "/a".into() };
        let failed = |dir: &str| StoreError::DirFailed { dir: dir.into(), reason: "gone".to_owned() };
        let faults = Faults::default();
        let told: Vec<_> =
            [&failed("/a"), &failed("/b"), &full, &failed("/a"), &full].map(|fault| faults.is_news(fault)).into();
        assert_eq!(told, [true, false, true, false, false]);
        tokio::time::advance(LOG_AGAIN).await;
        assert!(faults.is_news(&full) && !faults.is_news(&full));
    }
}
