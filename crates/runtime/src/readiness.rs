//! Whether a process can do its work, and if not, why.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Conditions that must all hold for `/readyz` to say yes. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    // Innermost: nothing else is locked while it is held.
    reasons: Arc<Mutex<BTreeMap<String, String>>>,
}

/// One condition of a [`Readiness`]. Dropped, it no longer counts.
#[derive(Debug)]
pub struct Condition {
    name: String,
    readiness: Readiness,
}

impl Readiness {
    /// Ready: no conditions yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the condition `name`, which does not hold for `reason`.
    #[must_use]
    pub fn condition(&self, name: &str, reason: &str) -> Condition {
        let condition = Condition { name: name.to_owned(), readiness: self.clone() };
        condition.fails(reason);
        condition
    }

    /// What does not hold, each as `name: reason`; empty when ready.
    #[must_use]
    pub fn reasons(&self) -> Vec<String> {
        self.with(|reasons| reasons.iter().map(|(name, reason)| format!("{name}: {reason}")).collect())
    }

    fn with<T>(&self, change: impl FnOnce(&mut BTreeMap<String, String>) -> T) -> T {
        change(&mut self.reasons.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Condition {
    /// It holds now.
    pub fn holds(&self) {
        self.readiness.with(|reasons| reasons.remove(&self.name));
    }

    /// It does not hold, for `reason`.
    pub fn fails(&self, reason: &str) {
        self.readiness.with(|reasons| reasons.insert(self.name.clone(), reason.to_owned()));
    }
}

impl Drop for Condition {
    fn drop(&mut self) {
        self.holds();
    }
}
