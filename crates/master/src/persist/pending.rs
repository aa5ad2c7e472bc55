//! What is not in the store yet as the namespace says, for who asks.

use std::collections::HashMap;

use headpond_namespace::{Due, Snapshot};
use headpond_types::{InodeId, NsPath, Result};

use super::{
    Persister,
    backlog::MountLine,
    line::{Amount, Item},
};

/// Most that is listed.
const LISTED: usize = 1000;

/// How something dirty is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Waiting,
    Persisting,
    Failed,
    /// Has a temporary name.
    Deferred,
    /// Is not to be persisted.
    Scratch,
}

/// Something that the store lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dirty {
    pub(crate) path: NsPath,
    pub(crate) number: u64,
    pub(crate) size: u64,
    /// Addresses of the workers that hold the bytes.
    pub(crate) holders: Vec<String>,
    pub(crate) state: State,
    /// What it waits for, or why it does not go on.
    pub(crate) reason: String,
    pub(crate) barrier: bool,
}

/// How much there is, with what is not listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DirtyAmounts {
    pub(crate) due: Amount,
    pub(crate) not_due: Amount,
}

/// Whether directories lie at or below one, as far as was asked.
struct Within<'s> {
    snapshot: &'s Snapshot,
    top: InodeId,
    known: HashMap<InodeId, bool>,
}

impl Persister {
    /// What is dirty at and below `top`, which has the path `path`, and has a number below `up_to`: in order, what is due first. Of everything
    /// else only directories are looked at, each once.
    ///
    /// # Errors
    /// Those of the namespace.
    pub(crate) fn dirty_below(&self, top: InodeId, path: &NsPath, up_to: u64) -> Result<(Vec<Dirty>, DirtyAmounts)> {
        let snapshot = self.catalog.snapshot()?;
        let mut within = Within { snapshot: &snapshot, top, known: HashMap::from([(top, true)]) };
        let (mut listed, mut amounts) = (Vec::new(), DirtyAmounts::default());
        for mount in self.backlog.mounts() {
            let (Some(line), Ok(live)) = (self.backlog.line(mount), self.mount(mount)) else { continue };
            if !live.mount.path.starts_with(path) && !path.starts_with(&live.mount.path) {
                continue;
            }
            line.hurry();
            let (mut due, mut not_due): (Vec<_>, Vec<_>) = {
                let locked = line.lock();
                let take = |(inode, item): (InodeId, &Item)| (inode, item.clone());
                (locked.due(up_to).map(take).collect(), locked.not_due().map(take).collect())
            };
            not_due.retain(|(_, item)| item.number < up_to);
            not_due.sort_unstable_by_key(|(inode, item)| (item.number, *inode));
            for (items, amount) in [(&mut due, &mut amounts.due), (&mut not_due, &mut amounts.not_due)] {
                let mut failed = None;
                items.retain(|(inode, item)| match within.covers(*inode, item) {
                    Ok(covers) => covers,
                    Err(error) => {
                        failed = Some(error);
                        false
                    }
                });
                if let Some(error) = failed {
                    return Err(error);
                }
                amount.items += items.len() as u64;
                amount.bytes += items.iter().map(|(_, item)| item.size).sum::<u64>();
            }
            for (inode, item) in due.into_iter().chain(not_due) {
                if listed.len() == LISTED {
                    break;
                }
                listed.extend(self.describe_dirty(&snapshot, &line, inode, &item)?);
            }
        }
        Ok((listed, amounts))
    }

    fn describe_dirty(
        &self,
        snapshot: &Snapshot,
        line: &MountLine,
        inode: InodeId,
        item: &Item,
    ) -> Result<Option<Dirty>> {
        let Some(row) = snapshot.dirty(inode)? else { return Ok(None) };
        let Some(path) = self.path_of(inode)? else { return Ok(None) };
        let problem = self.problems.get(inode);
        let (state, reason) = match item.due {
            Due::WhenRenamed => (State::Deferred, "it has a temporary name".to_owned()),
            Due::Never => (State::Scratch, "it is not to be persisted".to_owned()),
            Due::Now => match problem {
                _ if line.lock().is_at_work(inode) => (State::Persisting, String::new()),
                Some(problem) => (State::Failed, problem.reason),
                None => (State::Waiting, self.waits_for(snapshot, line, inode, item)?),
            },
        };
        let holders = self.holders.addresses(&row.holders);
        let Item { number, size, barrier, .. } = *item;
        Ok(Some(Dirty { path, number, size, holders, state, reason, barrier }))
    }

    /// What something that is due waits for.
    fn waits_for(&self, snapshot: &Snapshot, line: &MountLine, inode: InodeId, item: &Item) -> Result<String> {
        let first = line.lock().due(item.number).next().map(|(first, _)| first);
        Ok(match first {
            Some(first) if item.barrier || item.replaces || item.tree => {
                let path =
                    snapshot.path(first)?.map_or_else(|| "an object that is deleted".to_owned(), |p| p.to_string());
                match self.problems.get(first) {
                    Some(problem) => format!("waits for {path}, which cannot be persisted: {}", problem.reason),
                    None => format!("waits for what was changed before, from {path} on"),
                }
            }
            _ if inode.0 == item.number => "an object without a file is to be deleted".to_owned(),
            _ => "in the queue".to_owned(),
        })
    }
}

impl Within<'_> {
    fn covers(&mut self, inode: InodeId, item: &Item) -> Result<bool> {
        if inode == self.top || self.top == InodeId::ROOT {
            return Ok(true);
        }
        // An object without a file: its mount says enough.
        if inode.0 == item.number {
            return Ok(true);
        }
        let (mut way, mut at) = (Vec::new(), item.parent);
        let found = loop {
            if let Some(known) = self.known.get(&at) {
                break *known;
            }
            way.push(at);
            match self.snapshot.attr(at)? {
                Some(attr) if attr.parent != at => at = attr.parent,
                _ => break false,
            }
        };
        self.known.extend(way.into_iter().map(|dir| (dir, found)));
        Ok(found)
    }
}
