//! `headpond fs status`.

use clap::Args;
use headpond_client::{Amount, Moving, Pending, PersistState, Unpersisted};
use headpond_types::{FileKind, NsPath};
use serde::Serialize;

use crate::{
    failure::Result,
    output::{Output, PathJson, escape, size},
    session::Session,
};

/// Show what is not yet in the store as the namespace says, and why.
///
/// Of a file also how much of it is cached. Of a directory with more than 1,000 unpersisted files below the first are listed, and all are counted.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// Files or directories.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<NsPath>,
}

#[derive(Debug, Serialize)]
struct StatusJson<'a> {
    #[serde(flatten)]
    path: PathJson,
    /// The store has everything as the namespace says.
    persisted: bool,
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    cached: Option<u64>,
    writing: Vec<PathJson>,
    moving: Vec<MovingJson<'a>>,
    dirty: Vec<DirtyJson<'a>>,
    /// Files that are to be persisted in their turn, and those that are not.
    due: u64,
    due_bytes: u64,
    not_due: u64,
    not_due_bytes: u64,
}

#[derive(Debug, Serialize)]
struct MovingJson<'a> {
    #[serde(flatten)]
    path: PathJson,
    from: String,
    /// They are deleted.
    removed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct DirtyJson<'a> {
    #[serde(flatten)]
    path: PathJson,
    state: &'static str,
    /// Bytes.
    size: u64,
    /// Place in the order in which changes were acknowledged.
    number: u64,
    /// Only to be seen after all that was acknowledged before.
    barrier: bool,
    holders: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

pub(super) async fn run(session: &mut Session, args: &StatusArgs) -> Result<()> {
    super::for_each_path(session, &args.paths, async |session, path| {
        let attr = session.stat(path).await?;
        let pending = session.client.pending(path, None).await?;
        let cached = match attr.content.filter(|_| attr.kind == FileKind::File) {
            Some(content) => {
                let presence = session.client.presence(&[content]).await?;
                // On the worker that has most of it: copies are not added up.
                presence.iter().filter_map(|worker| worker.cached_bytes.as_ref().ok()?.first().copied()).max()
            }
            None => None,
        };
        if session.out.is_json() {
            return session.out.json(&StatusJson::new(path, cached, &pending));
        }
        let cached = cached
            .map_or_else(String::new, |cached| format!(", {} of {} cached", size(cached, true), size(attr.size, true)));
        session.out.line(&format!("{}: {}{cached}", escape(&path.to_bytes()), summary(&pending)))?;
        details(&mut session.out, &pending)
    })
    .await
}

/// A word for what is in the store, and how much is not.
fn summary(pending: &Pending) -> String {
    let Pending { due, not_due, .. } = pending;
    let mut words = vec![if is_persisted(pending) { "persisted" } else { "pending" }.to_owned()];
    let mut count = |amount: &Amount, what| {
        if amount.files > 0 {
            words.push(format!("{} files, {}, {what}", amount.files, size(amount.bytes, true)));
        }
    };
    count(due, "to be persisted");
    count(not_due, "not to be persisted as they are");
    words.join(", ")
}

fn details(out: &mut Output, pending: &Pending) -> Result<()> {
    for path in &pending.writing {
        out.line(&format!("  {} is being written", escape(&path.to_bytes())))?;
    }
    for Moving { path, from, removed, problem } in &pending.moving {
        let (path, from) = (escape(&path.to_bytes()), escape(from));
        let line = if *removed {
            format!("  {path} was removed, and its objects are being deleted at {from}")
        } else {
            format!("  objects of {path} are being moved from {from}")
        };
        out.line(&with_reason(line, problem.as_deref()))?;
    }
    for dirty in &pending.dirty {
        let (path, size) = (escape(&dirty.path.to_bytes()), size(dirty.size, true));
        let line = format!("  {path} is {}, {size}", state(dirty.state));
        out.line(&with_reason(line, dirty.reason.as_deref()))?;
    }
    let left = (pending.due.files + pending.not_due.files).saturating_sub(pending.dirty.len() as u64);
    if left > 0 {
        out.line(&format!("  and {left} more"))?;
    }
    Ok(())
}

fn with_reason(mut line: String, reason: Option<&str>) -> String {
    if let Some(reason) = reason {
        line.push_str(": ");
        line.push_str(reason);
    }
    line
}

fn is_persisted(pending: &Pending) -> bool {
    pending.is_empty() && pending.not_due.files == 0
}

const fn state(state: PersistState) -> &'static str {
    match state {
        PersistState::Persisting => "persisting",
        PersistState::Failed => "failing",
        PersistState::Deferred => "deferred",
        PersistState::Scratch => "scratch",
        // And what is added later, all of which is not in the store.
        _ => "dirty",
    }
}

impl<'a> StatusJson<'a> {
    fn new(path: &NsPath, cached: Option<u64>, pending: &'a Pending) -> Self {
        Self {
            path: path.into(),
            persisted: is_persisted(pending),
            cached,
            writing: pending.writing.iter().map(PathJson::from).collect(),
            moving: pending.moving.iter().map(MovingJson::from).collect(),
            dirty: pending.dirty.iter().map(DirtyJson::from).collect(),
            due: pending.due.files,
            due_bytes: pending.due.bytes,
            not_due: pending.not_due.files,
            not_due_bytes: pending.not_due.bytes,
        }
    }
}

impl<'a> From<&'a Moving> for MovingJson<'a> {
    fn from(moving: &'a Moving) -> Self {
        let Moving { path, from, removed, problem } = moving;
        Self { path: path.into(), from: escape(from), removed: *removed, problem: problem.as_deref() }
    }
}

impl<'a> From<&'a Unpersisted> for DirtyJson<'a> {
    fn from(dirty: &'a Unpersisted) -> Self {
        Self {
            path: (&dirty.path).into(),
            state: state(dirty.state),
            size: dirty.size,
            number: dirty.number,
            barrier: dirty.barrier,
            holders: &dirty.holders,
            reason: dirty.reason.as_deref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_counts_what_is_on_its_way_and_what_is_not() {
        let (due, not_due) = (Amount { files: 2, bytes: 2048 }, Amount { files: 1, bytes: 0 });
        assert_eq!(summary(&Pending::default()), "persisted");
        let both = Pending { due, not_due, ..Pending::default() };
        let said = "pending, 2 files, 2.00 KiB, to be persisted, 1 files, 0 B, not to be persisted as they are";
        assert_eq!(summary(&both), said);
        let scratch = Pending { not_due, ..Pending::default() };
        assert!(scratch.is_empty() && summary(&scratch).starts_with("pending"));
    }
}
