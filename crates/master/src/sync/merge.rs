//! Brings what a listing shows of one directory into the namespace.
//!
//! * Only what differs becomes a command, in batches.
//! * What the namespace has and the listing did not show is forgotten only by [`Merge::finish`], which is called when
//!   the store has listed the directory to its end.
//! * An entry that was checked alone or changed by a client since the run began is left as that left it: it is newer. So is a
//!   directory whose objects were moved meanwhile; if it was never listed before, whoever asked has it listed again.

use std::collections::HashSet;

use headpond_namespace::{Command, ObservedKind};
use headpond_types::{Attr, InodeId, Name, Result};

use super::{
    difference::{Difference, difference, stays_inode},
    name_order::{NameOrder, OutOfOrder, Settled},
    run::Run,
};

/// Entries in a command, and of the namespace looked at in one go.
const BATCH: usize = 1000;

/// Entries in the first command of a directory: what a program's first question takes comes without waiting for the rest of the page.
const FIRST_BATCH: usize = 100;

/// Entries held back by one open name, from which on the store is asked about that name.
const ASK_FROM: usize = 500;

/// One directory while it is listed.
#[derive(Debug)]
pub(crate) struct Merge {
    dir: InodeId,
    /// Its key prefix in the store.
    prefix: Vec<u8>,
    order: NameOrder,
    /// Merged up to this name.
    cursor: Option<Name>,
    /// Entries in the next command.
    batch: usize,
    vanished: HashSet<InodeId>,
}

impl Merge {
    pub(crate) fn new(dir: InodeId, prefix: Vec<u8>, ordered: bool) -> Self {
        Self { dir, prefix, order: NameOrder::new(ordered), cursor: None, batch: FIRST_BATCH, vanished: HashSet::new() }
    }

    pub(crate) const fn dir(&self) -> InodeId {
        self.dir
    }

    pub(crate) fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// Takes the next sighting, in key order.
    pub(crate) fn see(&mut self, name: &[u8], object: ObservedKind) -> Result<(), OutOfOrder> {
        self.order.see(name, object)
    }

    /// Merges all that is settled by what was seen.
    ///
    /// # Errors
    /// Those of the journal and, when the store has to be asked about an open name, of the store.
    pub(crate) async fn advance(&mut self, run: &Run) -> Result<()> {
        self.ask(run).await?;
        let (bound, seen) = (self.order.bound(), self.order.release());
        self.merge(run, &bound, seen).await?;
        // Then it was not merged, or not all of it.
        if !run.is_overtaken(self.dir)? {
            run.progress().advance(self.dir, bound);
        }
        Ok(())
    }

    /// Asks the store about open names that hold back many others.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn ask(&mut self, run: &Run) -> Result<()> {
        while self.order.held_back() >= ASK_FROM {
            let Some(open) = self.order.open() else { break };
            let key = [&self.prefix, open.as_bytes(), b"/"].concat();
            let directory = run.is_directory(key).await?;
            self.order.settle(open, directory);
        }
        Ok(())
    }

    /// Merges the rest, forgets what was not seen, and marks the directory as listed. The listing has reached its end.
    ///
    /// # Errors
    /// Those of the journal; the directory is then not marked.
    pub(crate) async fn finish(mut self, run: &Run) -> Result<()> {
        self.order.complete();
        self.advance(run).await?;
        if !self.vanished.is_empty() {
            self.forget(run).await?;
        }
        run.mark_listed(self.dir, &self.prefix, self.order.skipped()).await?;
        run.progress().finish(self.dir);
        Ok(())
    }

    /// Compares the stretch from the cursor up to `bound` with what was `seen` of it.
    async fn merge(&mut self, run: &Run, bound: &Settled, seen: Vec<(Name, ObservedKind)>) -> Result<()> {
        let mut seen = seen.into_iter().peekable();
        loop {
            let mut known = run.snapshot()?.list(self.dir, self.cursor.as_ref(), BATCH)?;
            let within = known.partition_point(|(name, _)| bound.covers(name));
            let more = within == BATCH;
            known.truncate(within);
            let end = if more { known.last().map(|(name, _)| name.clone()) } else { None };
            let mut part = Vec::new();
            while let Some(next) = seen.next_if(|(name, _)| end.as_ref().is_none_or(|end| name <= end)) {
                part.push(next);
            }
            let last =
                [known.last().map(|(name, _)| name), part.last().map(|(name, _)| name)].into_iter().flatten().max();
            let last = last.cloned();
            self.apply(run, known, part).await?;
            self.cursor = last.or_else(|| self.cursor.take());
            if !more {
                return Ok(());
            }
        }
    }

    async fn apply(&mut self, run: &Run, known: Vec<(Name, Attr)>, seen: Vec<(Name, ObservedKind)>) -> Result<()> {
        let Difference { mut changed, mut vanished } = difference(run.mount_id(), run.fixed(), known, seen);
        if run.is_overtaken(self.dir)? {
            return Ok(());
        }
        vanished.retain(|(name, _)| !run.was_checked(self.dir, name));
        let mut kept = Vec::with_capacity(vanished.len());
        for (name, inode) in vanished {
            if !run.is_moving(inode)? && !stays_inode(&run.snapshot()?, inode)? {
                kept.push((name, inode));
            }
        }
        let vanished = kept;
        run.progress().add_vanished(&vanished);
        self.vanished.extend(vanished.into_iter().map(|(_, inode)| inode));
        while !changed.is_empty() {
            let rest = changed.split_off(changed.len().min(self.batch));
            let mut batch = std::mem::replace(&mut changed, rest);
            // As late as can be: what is changed by clients meanwhile is newer.
            batch.retain(|entry| !run.was_checked(self.dir, &entry.name));
            if !batch.is_empty() {
                run.upsert(self.dir, batch).await?;
            }
            self.batch = BATCH;
            if let Some(next) = changed.first() {
                run.progress().advance(self.dir, Settled::Below(next.name.as_bytes().to_vec()));
            }
        }
        Ok(())
    }

    /// Forgets in batches what was not seen. The names are read again: only inodes are remembered, 8 bytes each.
    async fn forget(&self, run: &Run) -> Result<()> {
        let mut cursor = None;
        loop {
            let overtaken = run.is_overtaken(self.dir)?;
            let known = run.snapshot()?.list(self.dir, cursor.as_ref(), BATCH)?;
            let Some((last, _)) = known.last().filter(|_| !overtaken) else { return Ok(()) };
            cursor = Some(last.clone());
            let gone: Vec<_> = known
                .into_iter()
                .filter(|(name, attr)| self.vanished.contains(&attr.inode) && !run.was_checked(self.dir, name))
                .map(|(name, attr)| (name, attr.inode))
                .collect();
            if !gone.is_empty() {
                run.propose(Command::Forget { dir: self.dir, entries: gone }).await?;
            }
        }
    }
}
