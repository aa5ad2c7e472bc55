//! What the commands tell of files on their way.

use anyhow::{Context as _, Result};
use headpond_tests::{Cluster, eventually};
use serde_json::Value;

/// What `fs status` says of a path.
#[derive(Debug)]
pub(super) struct Status(Value);

impl Status {
    pub(super) fn of(cluster: &Cluster, path: &str) -> Result<Self> {
        Ok(Self(serde_json::from_str(&cluster.run_ok(&["fs", "status", path, "-o", "json"])?)?))
    }

    /// Whether the store has everything.
    pub(super) fn is_persisted(&self) -> bool {
        self.0["persisted"] == true
    }

    /// How many files and directories are to be persisted in their turn, and how many are not.
    pub(super) fn counts(&self) -> (u64, u64) {
        let count = |name| self.0[name].as_u64().unwrap_or(u64::MAX);
        (count("due"), count("not_due"))
    }

    /// Bytes that are to be persisted in their turn.
    pub(super) fn due_bytes(&self) -> u64 {
        self.0["due_bytes"].as_u64().unwrap_or(u64::MAX)
    }

    /// Paths that are in this state.
    pub(super) fn paths_in(&self, state: &str) -> Vec<&str> {
        let dirty = self.0["dirty"].as_array().map_or(&[][..], Vec::as_slice);
        dirty.iter().filter(|dirty| dirty["state"] == state).filter_map(|dirty| dirty["path"].as_str()).collect()
    }

    /// How many workers hold the dirty file at this path.
    pub(super) fn holders(&self, path: &str) -> usize {
        let dirty = self.0["dirty"].as_array().map_or(&[][..], Vec::as_slice);
        let dirty = dirty.iter().find(|dirty| dirty["path"] == path);
        dirty.and_then(|dirty| dirty["holders"].as_array()).map_or(0, Vec::len)
    }
}

/// A line of `admin problems`.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) path: String,
    pub(super) reason: String,
    pub(super) held_up: u64,
    pub(super) conflict: bool,
}

/// What `admin problems` lists.
pub(super) fn problems(cluster: &Cluster) -> Result<Vec<Problem>> {
    let text = cluster.run_ok(&["admin", "problems", "-o", "json"])?;
    text.lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line)?;
            Ok(Problem {
                path: line["path"].as_str().context("no path")?.to_owned(),
                reason: line["reason"].as_str().context("no reason")?.to_owned(),
                held_up: line["held_up"].as_u64().context("no count")?,
                conflict: line["conflict"].as_bool().context("no word of conflict")?,
            })
        })
        .collect()
}

/// Waits until `admin problems` lists `path`.
pub(super) fn problem_of(cluster: &Cluster, path: &str) -> Result<Problem> {
    let mut found = None;
    eventually(&format!("a problem of {path} is listed"), || {
        found = problems(cluster)?.into_iter().find(|problem| problem.path == path);
        Ok(found.is_some())
    })?;
    found.context("just seen")
}
