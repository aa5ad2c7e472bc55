//! The namespace behind its journal: reading by snapshot, changing by command, and telling sessions what changed.

use std::sync::Arc;

use headpond_journal::{Journal, JournalStatus};
use headpond_namespace::{Command, Namespace, Refusal, Reply, Snapshot};
use headpond_types::{Error, ErrorKind, Result};

use crate::sessions::Sessions;

/// The one way to the namespace.
#[derive(Debug)]
pub(crate) struct Catalog {
    namespace: Arc<Namespace>,
    journal: Journal<Namespace>,
    sessions: Arc<Sessions>,
}

impl Catalog {
    pub(crate) const fn new(namespace: Arc<Namespace>, journal: Journal<Namespace>, sessions: Arc<Sessions>) -> Self {
        Self { namespace, journal, sessions }
    }

    /// A consistent view of all that is applied. Keep it short: what it sees cannot be freed meanwhile.
    pub(crate) fn snapshot(&self) -> Result<Snapshot> {
        self.namespace.snapshot()
    }

    /// Journals and applies `command`; durable when it returns. Sessions have been told of its effects by then.
    ///
    /// Not cancel-safe: dropped half-way, the command may be applied without sessions being told. Call it in a task that
    /// runs to its end.
    ///
    /// # Errors
    /// The refusal of the namespace, or the journal's failure (whether the command took place is then not known).
    pub(crate) async fn propose(&self, command: Command) -> Result<Reply> {
        let outcome = self.journal.propose(command).await?;
        if !outcome.effects.is_empty() {
            // No earlier than the command: who reads from now on is not told to forget what they get.
            self.sessions.tell(self.snapshot()?.position(), &outcome.effects);
        }
        match outcome.reply {
            Reply::Refused(refusal) => Err(refused(refusal)),
            reply => Ok(reply),
        }
    }

    /// Number of the last command entry that is applied; 0 before the first.
    pub(crate) fn applied_index(&self) -> u64 {
        self.journal.status().applied.map_or(0, |position| position.index)
    }

    pub(crate) fn journal_status(&self) -> JournalStatus {
        self.journal.status()
    }

    /// Ends the journal; later commands fail.
    pub(crate) async fn shutdown(&self) -> Result<()> {
        self.journal.shutdown().await
    }
}

/// The answer that the namespace gives to another command: a defect.
pub(crate) fn unexpected(reply: &Reply) -> Error {
    Error::new(ErrorKind::Internal, format!("the namespace gave an unexpected answer: {reply:?}"))
}

fn refused(refusal: Refusal) -> Error {
    let kind = match refusal {
        Refusal::MountExists(_) => ErrorKind::AlreadyExists,
        Refusal::NoMount(_) => ErrorKind::NotFound,
        Refusal::MountsBelow(..) => ErrorKind::NotEmpty,
        Refusal::NotADirectory(_) => ErrorKind::NotADirectory,
    };
    Error::new(kind, refusal.to_string())
}
