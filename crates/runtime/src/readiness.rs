//! Whether a process can do its work, and if not, why.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use headpond_types::Result;

/// Conditions that must all hold for `/readyz` to say yes. Clones share them.
#[derive(Clone, Default)]
pub struct Readiness {
    // A check takes what locks it needs while this is held; nobody takes this while holding such a lock.
    state: Arc<Mutex<State>>,
}

/// Says why a condition does not hold.
type Check = Box<dyn Fn() -> Result<()> + Send>;

#[derive(Default)]
struct State {
    /// What does not hold, by name.
    reasons: BTreeMap<String, String>,
    checks: Vec<(String, Check)>,
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

    /// Adds a condition that is asked for each time; its error is the reason. `check` must not wait.
    pub fn check(&self, name: &str, check: impl Fn() -> Result<()> + Send + 'static) {
        self.state().checks.push((name.to_owned(), Box::new(check)));
    }

    /// What does not hold, each as `name: reason`; empty when ready.
    #[must_use]
    pub fn reasons(&self) -> Vec<String> {
        let state = self.state();
        let told = state.reasons.iter().map(|(name, reason)| format!("{name}: {reason}"));
        let asked = state.checks.iter().filter_map(|(name, check)| Some(format!("{name}: {}", check().err()?)));
        told.chain(asked).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readiness").field("reasons", &self.state().reasons).finish_non_exhaustive()
    }
}

impl Condition {
    /// It holds now.
    pub fn holds(&self) {
        self.readiness.state().reasons.remove(&self.name);
    }

    /// It does not hold, for `reason`.
    pub fn fails(&self, reason: &str) {
        self.readiness.state().reasons.insert(self.name.clone(), reason.to_owned());
    }
}

impl Drop for Condition {
    fn drop(&mut self) {
        self.holds();
    }
}
