//! How a run gets on.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::SetOnce;

/// How soon pages are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Priority {
    /// Somebody waits for them.
    Now,
    /// Somebody may want them soon.
    Later,
}

/// What a run and those who wait for it tell each other.
#[derive(Debug)]
pub(crate) struct Headway {
    urgent: SetOnce<()>,
    received: AtomicU64,
}

impl Headway {
    pub(crate) fn new(priority: Priority) -> Self {
        let headway = Self { urgent: SetOnce::new(), received: AtomicU64::new(0) };
        headway.want(priority);
        headway
    }

    /// Somebody wants a page of it. What was fetched for later becomes urgent when a reader catches up with it.
    pub(crate) fn want(&self, priority: Priority) {
        if priority == Priority::Now {
            let _ = self.urgent.set(());
        }
    }

    /// Whether somebody waits, or has waited.
    pub(crate) fn is_urgent(&self) -> bool {
        self.urgent.initialized()
    }

    /// Waits until somebody waits. Cancel-safe.
    pub(crate) async fn until_urgent(&self) {
        self.urgent.wait().await;
    }

    /// Bytes have come.
    pub(crate) fn advance(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes that have come so far, of all its pages.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}
