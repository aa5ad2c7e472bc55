//! What of one mount is dirty, and which of it may be persisted now.
//!
//! Files, markers of directories, and *orphans*: objects that are to go because their file did, which counts as replacing one.
//!
//! All that is due stands in one line, by number. Within a number, which only what a renamed directory released shares, the directory comes first
//! (its tree is being walked), then files, then commit files. Invariants:
//!
//! 1. A file with nothing in its place in the store goes at any time, unless a renamed directory released it.
//! 2. What replaces an object goes when no *barrier* with a lower number is left: no commit file, no released directory, no renamed directory whose
//!    objects are still moved.
//! 3. What a renamed directory released goes when nothing with a lower number is left; a commit file when nothing before it in the line is left. Neither
//!    goes before objects that were renamed earlier have been moved.
//! 4. What was begun under a key that is not its path's any more goes at any time: the objects around it cannot be moved before.
//!
//! What was changed a moment ago is left alone for a while ([`Linger`]): it may be written again, renamed or removed at once, as temporary files are, and
//! then costs the store nothing, or one request. Nobody waits for that: who waits for something in the line hurries all of it, and while writers wait for room
//! at a worker nothing rests.
//!
//! What is at work or failed keeps its place. Every step costs `O(log n)`: of what waits, only the first is looked at.

mod item;
mod linger;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use headpond_namespace::Due;
use headpond_types::{ContentId, InodeId};
use tokio::time::Instant;

pub(crate) use self::item::{Amount, Item, Moves};
use self::{
    item::{Class, Entry, Place, State, Users, place},
    linger::Linger,
};

/// One mount's line.
#[derive(Debug, Default)]
pub(crate) struct Line {
    /// How long what was changed is left alone.
    linger: Duration,
    /// Until then nothing is left alone.
    pressed: Option<Instant>,
    /// What is left alone, and until when.
    fresh: BTreeSet<(Instant, InodeId)>,
    entries: HashMap<InodeId, Entry>,
    /// All that is due.
    due: BTreeSet<Place>,
    /// Those of it that are barriers.
    barriers: BTreeSet<(u64, InodeId)>,
    trees: BTreeMap<u64, InodeId>,
    /// Those of the trees below which all is due.
    walked: BTreeSet<u64>,
    /// Ready, by what they wait for.
    free: BTreeSet<Place>,
    replacing: BTreeSet<Place>,
    gated: BTreeSet<Place>,
    /// With something in the store that the namespace does not have as a version yet.
    begun: BTreeSet<InodeId>,
    contents: HashMap<ContentId, Users>,
    due_amount: Amount,
    other_amount: Amount,
}

impl Line {
    /// An empty line, where what is changed is left alone for `linger`.
    pub(crate) fn new(linger: Duration) -> Self {
        Self { linger, ..Self::default() }
    }

    /// Takes over what is known of `inode` now; `None`: it is not dirty any more. Whether anything left the line, or came to another place.
    pub(crate) fn update(&mut self, inode: InodeId, item: Option<Item>) -> bool {
        let before = self.entries.remove(&inode);
        if before.as_ref().map(|entry| &entry.item) == item.as_ref() {
            self.entries.extend(before.map(|entry| (inode, entry)));
            return false;
        }
        let was_due = before.as_ref().is_some_and(|entry| entry.item.due == Due::Now);
        let walked = before.as_ref().map(|entry| entry.item.number).filter(|number| self.walked.contains(number));
        let mut state = State::Ready;
        let now = Instant::now();
        let mut linger = before.as_ref().map(|entry| entry.linger);
        let is_changed = |item: &Item| {
            let is_new = before.as_ref().is_none_or(|entry| entry.item.content != item.content);
            is_new && item.due == Due::Now && item.stores && item.parent != InodeId(0)
        };
        if item.as_ref().is_some_and(is_changed) {
            linger = Some(Linger::changed(now, self.linger, linger));
        }
        if let Some(Entry { item: old, state: old_state, .. }) = before {
            self.take_out(inode, &old);
            // What failed before was another content, or in another place.
            if let (State::AtWork, Some(_)) = (old_state, &item) {
                state = old_state;
            }
            if let State::Fresh(until) = old_state {
                self.fresh.remove(&(until, inode));
            }
        }
        if let Some(item) = item {
            self.put_in(inode, &item);
            walked.into_iter().for_each(|number| self.walked(number));
            let linger = linger.unwrap_or_else(|| Linger::over(now, self.linger));
            self.entries.insert(inode, Entry { item, state, linger });
            self.settle(inode);
        }
        was_due
    }

    fn put_in(&mut self, inode: InodeId, item: &Item) {
        if item.begun {
            self.begun.insert(inode);
        }
        if let Some(content) = item.content {
            let users = self.contents.entry(content).or_default();
            users.all += 1;
            users.due += u32::from(item.due == Due::Now);
        }
        let amount = if item.due == Due::Now { &mut self.due_amount } else { &mut self.other_amount };
        amount.items += 1;
        amount.bytes += item.size;
        if item.due == Due::Now {
            let place = place(inode, item);
            self.due.insert(place);
            if place.1 != Class::Plain {
                self.barriers.insert((item.number, inode));
            }
            if item.tree {
                self.trees.insert(item.number, inode);
            }
        }
    }

    fn take_out(&mut self, inode: InodeId, item: &Item) {
        self.unfile(inode, item);
        self.begun.remove(&inode);
        if let Some(content) = item.content
            && let Some(users) = self.contents.get_mut(&content)
        {
            users.all -= 1;
            users.due -= u32::from(item.due == Due::Now);
            if users.all == 0 {
                self.contents.remove(&content);
            }
        }
        let amount = if item.due == Due::Now { &mut self.due_amount } else { &mut self.other_amount };
        amount.items -= 1;
        amount.bytes -= item.size;
        self.due.remove(&place(inode, item));
        self.barriers.remove(&(item.number, inode));
        if self.trees.get(&item.number) == Some(&inode) {
            self.trees.remove(&item.number);
            self.walked.remove(&item.number);
        }
    }

    /// Puts a ready item where it is looked for.
    fn file(&mut self, inode: InodeId) {
        let Some(Entry { item, state: State::Ready, .. }) = self.entries.get(&inode) else { return };
        if item.due != Due::Now || !item.stores {
            return;
        }
        let place = place(inode, item);
        let list = if item.elsewhere {
            &mut self.free
        } else if place.1 != Class::Plain || self.trees.contains_key(&item.number) {
            &mut self.gated
        } else if item.replaces {
            &mut self.replacing
        } else {
            &mut self.free
        };
        list.insert(place);
    }

    fn unfile(&mut self, inode: InodeId, item: &Item) {
        let place = place(inode, item);
        for list in [&mut self.free, &mut self.replacing, &mut self.gated] {
            list.remove(&place);
        }
    }

    /// Up to `limit` of what may go at `now`, given what is being moved; the lowest numbers of what holds up others first. Each is at work from then on.
    pub(crate) fn choose(&mut self, now: Instant, moves: Moves, limit: usize) -> Vec<InodeId> {
        if self.barriers.is_empty() && !self.is_pressed(now) {
            self.ripen(now);
        } else {
            self.hurry();
        }
        let mut chosen: Vec<Place> = Vec::new();
        let gated = self.gated.iter().take_while(|place| self.may_pass(**place, moves));
        chosen.extend(gated.take(limit));
        let barrier = self.first_barrier(moves);
        // A barrier in a replacing file's own number is another's: numbers of plain ones are their own.
        let replacing =
            self.replacing.iter().take_while(|(number, ..)| barrier.is_none_or(|barrier| *number < barrier));
        chosen.extend(replacing.take(limit - chosen.len()));
        chosen.extend(self.free.iter().take(limit - chosen.len()));
        chosen.iter().for_each(|(.., inode)| self.begin(*inode));
        chosen.into_iter().map(|(.., inode)| inode).collect()
    }

    /// Whether what waits for all before it need not wait any more. True for the first of a sorted list before it is for the next.
    fn may_pass(&self, (number, class, _): Place, moves: Moves) -> bool {
        let up_to = if class == Class::Commit { Class::Commit } else { Class::Tree };
        // A directory of which all below is due, and that is not to be stored itself, only waits for what has its number.
        let is_over = |(of, class, inode): &Place| {
            let stores = self.get(*inode).is_some_and(|item| item.stores);
            *of == number && *class == Class::Tree && self.walked.contains(of) && !stores
        };
        let mut before = self.due.range(..(number, up_to, InodeId(0))).filter(|place| !is_over(place));
        before.next().is_none() && moves.first.is_none_or(|first| first > number)
    }

    /// All below the directory of the tree `number` is due.
    pub(crate) fn walked(&mut self, number: u64) {
        if self.trees.contains_key(&number) {
            self.walked.insert(number);
        }
    }

    /// The number of the first barrier.
    fn first_barrier(&self, moves: Moves) -> Option<u64> {
        self.barriers.first().map(|(number, _)| *number).into_iter().chain(moves.first_barrier).min()
    }

    /// Has an item go at once, whatever it is to wait for. Whether it did wait.
    pub(crate) fn free(&mut self, inode: InodeId) -> bool {
        let Some(entry) = self.entries.get_mut(&inode).filter(|entry| !entry.item.elsewhere) else { return false };
        entry.item.elsewhere = true;
        let item = entry.item.clone();
        self.unfile(inode, &item);
        self.file(inode);
        true
    }

    /// The number of the first barrier after `number`.
    pub(crate) fn barrier_after(&self, number: u64) -> Option<u64> {
        self.barriers.range((number + 1, InodeId(0))..).next().map(|(number, _)| *number)
    }

    /// Whether all that is due with a lower number is persisted.
    pub(crate) fn is_clear_below(&self, number: u64) -> bool {
        self.due.first().is_none_or(|(first, ..)| *first >= number)
    }

    /// Whether no barrier with a lower number is left.
    pub(crate) fn has_no_barrier_below(&self, number: u64, moves: Moves) -> bool {
        self.first_barrier(moves).is_none_or(|barrier| barrier >= number)
    }

    /// Whether anything waits that depends on what is being moved.
    pub(crate) fn asks_for_moves(&self) -> bool {
        !self.gated.is_empty() || !self.replacing.is_empty()
    }

    fn begin(&mut self, inode: InodeId) {
        let Some(entry) = self.entries.get_mut(&inode) else { return };
        entry.state = State::AtWork;
        // From here on only what changes it anew has it left alone.
        entry.linger = Linger::over(Instant::now(), self.linger);
        let item = entry.item.clone();
        self.unfile(inode, &item);
    }

    /// An item that was chosen is not at work any more; unless it `rests`, it can be chosen again.
    pub(crate) fn end(&mut self, inode: InodeId, rests: bool) {
        if let Some(entry) = self.entries.get_mut(&inode) {
            entry.state = if rests { State::Resting } else { State::Ready };
            self.settle(inode);
        }
    }

    /// Nothing is at work: who worked is gone.
    pub(crate) fn reset(&mut self) {
        self.walked.clear();
        let busy: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| matches!(entry.state, State::AtWork | State::Resting))
            .map(|(id, _)| *id)
            .collect();
        busy.into_iter().for_each(|inode| self.end(inode, false));
    }

    /// An item that rested can be chosen again.
    pub(crate) fn wake(&mut self, inode: InodeId) {
        if self.entries.get(&inode).is_some_and(|entry| entry.state == State::Resting) {
            self.end(inode, false);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn get(&self, inode: InodeId) -> Option<&Item> {
        self.entries.get(&inode).map(|entry| &entry.item)
    }

    pub(crate) fn is_at_work(&self, inode: InodeId) -> bool {
        self.entries.get(&inode).is_some_and(|entry| entry.state == State::AtWork)
    }

    /// Whether a content that workers have to keep is to be persisted in its turn; `None`: they need not keep it.
    pub(crate) fn needs(&self, content: ContentId) -> Option<bool> {
        self.contents.get(&content).map(|users| users.due > 0)
    }

    /// Whether a file is about to be put, which makes a marker with the number `number` of its directory needless.
    pub(crate) fn is_about_to_go(&self, inode: InodeId, number: u64) -> bool {
        self.entries.get(&inode).is_some_and(|Entry { item, state, .. }| {
            let place = place(inode, item);
            let goes_along = item.number == number && place.1 == Class::Plain && self.gated.contains(&place);
            let goes = matches!(state, State::AtWork | State::Fresh(_)) || goes_along || self.free.contains(&place);
            item.content.is_some() && goes
        })
    }

    /// Whether it is not known yet what below a directory goes along with it.
    pub(crate) fn is_being_walked(&self, inode: InodeId) -> bool {
        self.get(inode).is_some_and(|item| item.tree && !self.walked.contains(&item.number))
    }

    /// All that is in it.
    pub(crate) fn inodes(&self) -> impl Iterator<Item = InodeId> + '_ {
        self.entries.keys().copied()
    }

    /// Inodes that may have an object which the namespace does not have as a version yet.
    pub(crate) fn begun(&self) -> impl Iterator<Item = InodeId> + '_ {
        self.begun.iter().copied()
    }

    /// Directories whose trees are being made due, by number.
    pub(crate) fn trees(&self) -> impl Iterator<Item = (u64, InodeId)> + '_ {
        self.trees.iter().map(|(number, inode)| (*number, *inode))
    }

    /// Whether of the number of a tree only the directory itself is left, and nothing of that is to be stored.
    pub(crate) fn is_last_of_tree(&self, number: u64, inode: InodeId) -> bool {
        let mut of_number = self.due.range((number, Class::Tree, InodeId(0))..(number + 1, Class::Tree, InodeId(0)));
        of_number.all(|(.., other)| *other == inode) && self.get(inode).is_some_and(|item| !item.stores)
    }

    /// All that is due with a number below `up_to`, in order.
    pub(crate) fn due(&self, up_to: u64) -> impl Iterator<Item = (InodeId, &Item)> + '_ {
        let due = self.due.range(..(up_to, Class::Tree, InodeId(0)));
        due.filter_map(|(.., inode)| self.get(*inode).map(|item| (*inode, item)))
    }

    /// All that is not due, in no order.
    pub(crate) fn not_due(&self) -> impl Iterator<Item = (InodeId, &Item)> + '_ {
        let not_due = self.entries.iter().filter(|(_, entry)| entry.item.due != Due::Now);
        not_due.map(|(inode, entry)| (*inode, &entry.item))
    }

    /// How much is due, and how much is not.
    pub(crate) const fn amounts(&self) -> (Amount, Amount) {
        (self.due_amount, self.other_amount)
    }

    /// How many wait that stand behind `inode`, and would not wait but for what stands before them.
    pub(crate) fn held_up_by(&self, inode: InodeId) -> u64 {
        let Some(item) = self.get(inode).filter(|item| item.due == Due::Now) else { return 0 };
        let after = place(inode, item);
        let gated = self.gated.range(after..).count();
        let barrier = self.barriers.range((item.number, InodeId(0))..).next();
        let replacing =
            barrier.map_or(0, |(number, _)| self.replacing.range((*number, Class::Tree, InodeId(0))..).count());
        (gated + replacing) as u64
    }

    /// How much waits for a relocation with the place `number` in the order.
    pub(crate) fn held_up_behind(&self, number: u64) -> u64 {
        self.gated.range((number + 1, Class::Tree, InodeId(0))..).count() as u64
    }
}

#[cfg(test)]
mod tests;
