//! `headpond fs sync`.

use std::{collections::BTreeSet, time::Duration};

use clap::Args;
use headpond_client::{Pending, PersistState};
use headpond_types::{Error, ErrorKind, NsPath};
use indicatif::ProgressBar;
use tokio::time::Instant;

use super::progress;
use crate::{
    args::parse_duration,
    failure::{Result, remark},
    output::size,
    session::Session,
};

/// Pause between two questions.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// Wait until the store holds everything that was acknowledged before.
///
/// Whoever reads the store itself then sees it. Files that are being written are waited for until they are closed, and renames until their objects
/// are moved. What is deferred or scratch is not waited for: `headpond fs persist` has it persisted.
#[derive(Debug, Args)]
pub(super) struct SyncArgs {
    /// Files or directories.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<NsPath>,
    /// Give up after this long, such as 30s or 5m, and say what was in the way. Default: never.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    timeout: Option<Duration>,
}

pub(super) async fn run(session: &mut Session, args: &SyncArgs) -> Result<()> {
    let until = args.timeout.map(|timeout| Instant::now() + timeout);
    super::for_each_path(session, &args.paths, async |session, path| {
        let pending = session.client.pending(path, None).await?;
        let mut wait = Wait::new(path, pending);
        while !wait.is_over() {
            wait.show();
            if until.is_some_and(|until| Instant::now() >= until) {
                return Err(wait.too_late().into());
            }
            tokio::time::sleep(ASK_EVERY).await;
            wait.learn(session.client.pending(path, Some(wait.up_to)).await?);
        }
        wait.bar.finish_and_clear();
        Ok(())
    })
    .await
}

/// What one path waits for: all that was pending at the beginning, and nothing that came later.
struct Wait<'a> {
    path: &'a NsPath,
    up_to: u64,
    /// Files that have been open all the time.
    writing: BTreeSet<NsPath>,
    left: Pending,
    /// Bytes at the beginning.
    total: u64,
    bar: ProgressBar,
    /// What was in the way was told.
    told: Option<String>,
}

impl<'a> Wait<'a> {
    fn new(path: &'a NsPath, left: Pending) -> Self {
        let (writing, total) = (left.writing.iter().cloned().collect(), left.due.bytes);
        Self { path, up_to: left.now, writing, left, total, bar: progress::bytes(total), told: None }
    }

    fn learn(&mut self, left: Pending) {
        let open: BTreeSet<_> = left.writing.iter().cloned().collect();
        self.writing = self.writing.intersection(&open).cloned().collect();
        self.left = left;
    }

    fn is_over(&self) -> bool {
        self.writing.is_empty() && self.left.moving.is_empty() && self.left.due.files == 0
    }

    fn show(&mut self) {
        // A file that was open was closed since, and has become due.
        self.total = self.total.max(self.left.due.bytes);
        self.bar.set_length(self.total);
        self.bar.set_position(self.total - self.left.due.bytes);
        self.bar.set_message(format!("{}: {}", self.path, self.in_words()));
        let problem = self.problem();
        if problem != self.told {
            if let Some(problem) = &problem {
                self.bar.suspend(|| remark(&format!("{}: waiting on: {problem}", self.path)));
            }
            self.told = problem;
        }
    }

    fn in_words(&self) -> String {
        let counts = [
            (self.left.due.files, "files to be persisted"),
            (self.writing.len() as u64, "files being written"),
            (self.left.moving.len() as u64, "renames and removals being followed"),
        ];
        let words = counts.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
        words.collect::<Vec<_>>().join(", ")
    }

    /// The first thing that does not go on, and why.
    fn problem(&self) -> Option<String> {
        let failed = self.left.dirty.iter().filter(|dirty| dirty.state == PersistState::Failed);
        let failed = failed.map(|dirty| (&dirty.path, &dirty.reason));
        let moving = self.left.moving.iter().map(|moving| (&moving.path, &moving.problem));
        let (path, reason) = failed.chain(moving).find_map(|(path, reason)| Some((path, reason.as_ref()?)))?;
        Some(format!("{path}: {reason}"))
    }

    fn too_late(&self) -> Error {
        self.bar.finish_and_clear();
        let bytes = match self.left.due.bytes {
            0 => String::new(),
            bytes => format!(", {}", size(bytes, true)),
        };
        let why = self.problem().map_or_else(String::new, |problem| format!(": {problem}"));
        let message = format!("{} is not in the store yet: {}{bytes}{why}", self.path, self.in_words());
        Error::new(ErrorKind::DeadlineExceeded, message)
    }
}

#[cfg(test)]
mod tests {
    use headpond_client::{Amount, Unpersisted};

    use super::*;

    fn path(text: &str) -> NsPath {
        text.parse().expect("a path")
    }

    fn dirty(text: &str, state: PersistState, reason: Option<&str>) -> Unpersisted {
        let (holders, reason) = (Vec::new(), reason.map(str::to_owned));
        Unpersisted { path: path(text), number: 1, size: 1024, holders, state, reason, barrier: false }
    }

    #[test]
    fn what_began_later_is_not_waited_for() {
        let root = path("/");
        let mut wait = Wait::new(&root, Pending { writing: vec![path("/a")], now: 7, ..Pending::default() });
        assert!(!wait.is_over() && wait.up_to == 7);
        let due = Amount { files: 1, bytes: 1024 };
        wait.learn(Pending { writing: vec![path("/b")], due, ..Pending::default() });
        wait.show();
        assert!(!wait.is_over(), "/a was closed and is to be persisted");
        assert_eq!(wait.too_late().to_string(), "/ is not in the store yet: 1 files to be persisted, 1.00 KiB");
        wait.learn(Pending { writing: vec![path("/b"), path("/a")], ..Pending::default() });
        assert!(wait.is_over(), "/a was opened anew");
    }

    #[test]
    fn what_is_in_the_way_is_named() {
        let root = path("/");
        let states = vec![
            dirty("/waits", PersistState::Waiting, Some("waits for /fails")),
            dirty("/fails", PersistState::Failed, Some("the store refuses")),
        ];
        let due = Amount { files: 2, bytes: 2048 };
        let wait = Wait::new(&root, Pending { dirty: states, due, ..Pending::default() });
        assert!(wait.too_late().to_string().ends_with("2.00 KiB: /fails: the store refuses"));
    }
}
