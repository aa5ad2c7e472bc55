//! The namespace behind its journal: reading by snapshot, changing by command, and telling sessions what changed.

use std::{sync::Arc, time::Duration};

use headpond_journal::{Journal, JournalStatus};
use headpond_namespace::{ClientSession, Command, Effect, Namespace, Refusal, Reply, Snapshot};
use headpond_types::{Error, ErrorKind, InodeId, Result};

use crate::{
    denials::Denials,
    metrics::Metrics,
    persist::Backlog,
    sessions::{Change, Locks, Sessions},
};

/// The one way to the namespace.
#[derive(Debug)]
pub(crate) struct Catalog {
    namespace: Arc<Namespace>,
    journal: Journal<Namespace>,
    sessions: Arc<Sessions>,
    denials: Denials,
    backlog: Arc<Backlog>,
    metrics: Metrics,
}

impl Catalog {
    pub(crate) fn new(
        namespace: Arc<Namespace>,
        journal: Journal<Namespace>,
        sessions: Arc<Sessions>,
        denials: Denials,
        metrics: Metrics,
        persist_delay: Duration,
    ) -> Self {
        let backlog = Arc::new(Backlog::new(namespace.clone(), persist_delay));
        Self { namespace, journal, sessions, denials, backlog, metrics }
    }

    pub(crate) const fn denials(&self) -> &Denials {
        &self.denials
    }

    /// What is dirty.
    pub(crate) const fn backlog(&self) -> &Arc<Backlog> {
        &self.backlog
    }

    /// The sessions of clients that the journal knows. Reads the disk.
    ///
    /// # Errors
    /// When the namespace cannot be read.
    pub(crate) fn sessions(&self) -> Result<Vec<(u64, ClientSession)>> {
        self.namespace.sessions()
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
        self.propose_telling(command, |_| true).await
    }

    /// The same for what a listing shows that nobody has a part of yet: sessions hear only of what they may hold otherwise.
    ///
    /// # Errors
    /// As for [`Catalog::propose`].
    pub(crate) async fn propose_listed(&self, command: Command) -> Result<Reply> {
        self.propose_telling(command, |effect| self.denials.concern(effect)).await
    }

    async fn propose_telling(&self, command: Command, tells: impl Fn(&Effect) -> bool) -> Result<Reply> {
        let moves_mounts = matches!(command, Command::AddMount { .. } | Command::RemoveMount { .. });
        if moves_mounts {
            self.unsettle();
        }
        let change = change_of(&command);
        let dirtied = dirtied(&command);
        // What happens to one name may change what is dirty of others.
        let has_links = self.snapshot()?.has_links()?;
        let outcome = self.journal.propose(command).await?;
        if moves_mounts {
            self.unsettle();
        }
        if let Some((inodes, certain)) = dirtied.or_else(|| has_links.then(Default::default))
            && (certain || has_links || !self.backlog.is_empty())
        {
            self.backlog.note(&inodes);
        }
        // No earlier than the command: who reads from now on is not told to forget what they get.
        match change {
            Some(change) if !outcome.effects.is_empty() => {
                self.sessions.tell_change(self.snapshot()?.position(), &outcome.effects, change);
            }
            _ => {
                let told: Vec<_> = outcome.effects.iter().filter(|effect| tells(effect)).collect();
                if !told.is_empty() {
                    self.sessions.tell(self.snapshot()?.position(), told);
                }
            }
        }
        match outcome.reply {
            Reply::Refused(refusal) => Err(refused(refusal)),
            reply => Ok(reply),
        }
    }

    /// A change was made that is asked for again: whoever asked first may have gone, or asked another master, before all had heard of it.
    pub(crate) fn tell_again(&self, effects: &[Effect], change: Change) -> Result<()> {
        self.sessions.tell_again(self.snapshot()?.position(), effects, change);
        Ok(())
    }

    /// Directories lose their listings with mounts, which sessions that are there now may hold if they asked for anything.
    fn unsettle(&self) {
        if self.sessions.count() > 0 && self.metrics.has_been_asked() {
            self.denials.be_unsure();
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

/// What clients change, and what the kernel of whoever does so holds meanwhile. Nobody waits for those to hear who know only what the store showed.
const fn change_of(command: &Command) -> Option<Change> {
    let (request, locks) = match command {
        Command::Create { request, .. }
        | Command::MakeDirectory { request, .. }
        | Command::MakeUnstored { request, .. }
        | Command::Link { request, .. }
        | Command::Remove { request, .. }
        | Command::RemoveTree { request, .. }
        | Command::Rename { request, .. }
        | Command::Exchange { request, .. } => (request, Locks::Names),
        Command::SetAttr { request, .. } | Command::SetTimes { request, .. } | Command::SetXattr { request, .. } => {
            (request, Locks::Inodes)
        }
        Command::Commit { request, .. }
        | Command::CommitDirty { request, .. }
        | Command::AddMount { request, .. }
        | Command::RemoveMount { request, .. } => (request, Locks::Nothing),
        Command::Noop
        | Command::SetCluster { .. }
        | Command::BeginTerm
        | Command::RegisterWorker { .. }
        | Command::BeginSession { .. }
        | Command::EndSessions { .. }
        | Command::Upsert { .. }
        | Command::Forget { .. }
        | Command::MarkListed { .. }
        | Command::Sweep
        | Command::Discard { .. }
        | Command::Moved { .. }
        | Command::EndRelocation { .. }
        | Command::BeginPersist { .. }
        | Command::EndPersist { .. }
        | Command::MakeDue { .. }
        | Command::EndTree { .. }
        | Command::DropDirty { .. }
        | Command::Overwrite { .. }
        | Command::Leave { .. }
        | Command::Reap { .. }
        | Command::Replace { .. }
        | Command::Yield { .. } => return None,
    };
    let in_place = matches!(
        command,
        Command::Commit { .. }
            | Command::CommitDirty { .. }
            | Command::SetAttr { .. }
            | Command::SetTimes { .. }
            | Command::SetXattr { .. }
    );
    Some(Change { request: *request, locks, in_place })
}

/// Whose rows of what is dirty a command may change, besides those that get a new number. Whether it may where nothing is dirty before, too.
fn dirtied(command: &Command) -> Option<(Vec<InodeId>, bool)> {
    match command {
        Command::CommitDirty { inode, .. } | Command::Link { inode, .. } => Some((vec![*inode], true)),
        Command::MakeDirectory { dirty: Some(_), .. } => Some((Vec::new(), true)),
        Command::Commit { inode, .. }
        | Command::Yield { inode, .. }
        | Command::EndPersist { inode, .. }
        | Command::EndTree { inode, .. }
        | Command::DropDirty { inode, .. }
        | Command::Overwrite { inode, .. } => Some((vec![*inode], false)),
        Command::BeginPersist { files } => Some((files.iter().map(|begun| begun.inode).collect(), false)),
        Command::MakeDue { inodes, .. } => Some((inodes.iter().map(|(inode, _)| *inode).collect(), false)),
        Command::Remove { inode, parent, later, leaves, .. } => {
            Some((vec![*inode, *parent], *later || !leaves.is_empty()))
        }
        // Whoever has it journalled has all looked at again.
        Command::RemoveTree { parent, .. } => Some((vec![*parent], true)),
        // Who renames names what was renamed.
        Command::Rename { from: (dir, _), later, leaves, marker, .. } => {
            Some((vec![*dir], *later || !leaves.is_empty() || marker.is_some()))
        }
        Command::Exchange { one: (dir, _), other: (other, _), leaves, .. } => {
            Some((vec![*dir, *other], !leaves.is_empty()))
        }
        Command::EndRelocation { .. } => Some((Vec::new(), false)),
        Command::Noop
        | Command::SetCluster { .. }
        | Command::BeginTerm
        | Command::RegisterWorker { .. }
        | Command::BeginSession { .. }
        | Command::EndSessions { .. }
        | Command::AddMount { .. }
        | Command::RemoveMount { .. }
        | Command::Upsert { .. }
        | Command::Forget { .. }
        | Command::MarkListed { .. }
        | Command::Sweep
        | Command::Create { .. }
        | Command::Discard { .. }
        | Command::MakeDirectory { dirty: None, .. }
        | Command::MakeUnstored { .. }
        | Command::SetAttr { .. }
        | Command::SetTimes { .. }
        | Command::SetXattr { .. }
        | Command::Moved { .. }
        | Command::Reap { .. }
        | Command::Replace { .. }
        | Command::Leave { .. } => None,
    }
}

/// The answer that the namespace gives to another command: a defect.
pub(crate) fn unexpected(reply: &Reply) -> Error {
    Error::new(ErrorKind::Internal, format!("the namespace gave an unexpected answer: {reply:?}"))
}

fn refused(refusal: Refusal) -> Error {
    let kind = match refusal {
        Refusal::MountExists(_) | Refusal::Exists(_) | Refusal::XattrExists(_) => ErrorKind::AlreadyExists,
        Refusal::NoMount(_) | Refusal::NoEntry(_) => ErrorKind::NotFound,
        Refusal::MountsBelow(..) | Refusal::NotEmpty(_) => ErrorKind::NotEmpty,
        Refusal::NotADirectory(_) | Refusal::NoDirectory(_) => ErrorKind::NotADirectory,
        Refusal::IsDirectory(_) => ErrorKind::IsADirectory,
        Refusal::Gone(_) => ErrorKind::Stale,
        Refusal::NoXattr(_) => ErrorKind::NoAttribute,
        Refusal::XattrsFull | Refusal::TooManyLinks(_) => ErrorKind::ResourceExhausted,
        Refusal::IntoItself(_) => ErrorKind::InvalidArgument,
        Refusal::CrossMount(..) => ErrorKind::CrossMount,
        Refusal::Fixed(_) | Refusal::Relocating(_) => ErrorKind::Busy,
        Refusal::Reserved(_) => ErrorKind::PermissionDenied,
    };
    Error::new(kind, refusal.to_string())
}
