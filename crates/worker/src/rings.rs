//! The ring as it is, and as it was a while ago.
//!
//! When a block gets another owner, its pages are still where they were. For some time the new owner asks there before it asks the
//! under store: a worker that joins costs a copy between workers, not a second read of what the cluster has. With rendezvous hashing the
//! owner before a join is the owner in the ring without the one who joined, so a worker needs to have seen no earlier ring.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use headpond_types::{ContentId, Member, Ring, WorkerId};
use tokio::time::Instant;

/// How long earlier owners are asked: what nobody wanted for so long may come from the under store.
const ASKED_FOR: Duration = Duration::from_hours(1);

/// Earlier rings remembered: enough for a few workers that join one after the other.
const REMEMBERED: usize = 8;

/// The current ring, and earlier ones, the latest first.
#[derive(Debug, Default)]
pub(crate) struct Rings {
    current: Arc<Ring>,
    earlier: VecDeque<(Arc<Ring>, Instant)>,
    /// Workers that did not answer lately.
    given_up: HashSet<WorkerId>,
}

impl Rings {
    /// The ring as last heard of.
    pub(crate) const fn current(&self) -> &Arc<Ring> {
        &self.current
    }

    /// `me` joined `ring`.
    pub(crate) fn join(&mut self, ring: Ring, me: WorkerId) {
        let mut before = ring.clone();
        before.members.retain(|member| member.id != me);
        self.current = Arc::new(before);
        self.set(ring);
    }

    /// The ring has changed.
    pub(crate) fn set(&mut self, ring: Ring) {
        let before = std::mem::replace(&mut self.current, Arc::new(ring));
        if before.members.is_empty() || before.members == self.current.members {
            return;
        }
        self.given_up.clear();
        self.earlier.push_front((before, Instant::now()));
        self.earlier.truncate(REMEMBERED);
    }

    /// Who owned a block of `me` before and still lives.
    pub(crate) fn previous_owner(&self, content: ContentId, block: u64, me: WorkerId) -> Option<Member> {
        let earlier = self.earlier.iter().take_while(|(_, until)| until.elapsed() < ASKED_FOR);
        let owners = earlier.filter_map(|(ring, _)| ring.owner(content, block));
        // Those who owned it before it was this worker's for the last time lost it to this worker then.
        let mut lately = owners.take_while(|owner| owner.id != me);
        lately.find_map(|owner| self.asked(owner.id)).cloned()
    }

    /// `worker` did not answer: until the ring changes it is not asked for what it owned before.
    pub(crate) fn give_up(&mut self, worker: WorkerId) {
        self.given_up.insert(worker);
    }

    /// A worker as it is now, if it can be asked.
    fn asked(&self, worker: WorkerId) -> Option<&Member> {
        let alive = self.current.members.iter().find(|member| member.id == worker);
        alive.filter(|_| !self.given_up.contains(&worker))
    }
}

#[cfg(test)]
mod tests {
    use headpond_types::Epoch;

    use super::*;

    fn ring(ids: &[u32]) -> Ring {
        let members = ids.iter().map(|id| Member {
            id: WorkerId(*id),
            address: String::new(),
            socket: String::new(),
            node: String::new(),
            zone: String::new(),
            weight: 1,
        });
        Ring { epoch: Epoch(1), members: members.collect() }
    }

    fn contents() -> impl Iterator<Item = ContentId> {
        (0..500_u128).map(|n| ContentId(n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c834)))
    }

    #[tokio::test(start_paused = true)]
    async fn who_joins_asks_the_former_owners_for_a_while() {
        let mut rings = Rings::default();
        rings.join(ring(&[1, 2, 3]), WorkerId(3));
        let before = ring(&[1, 2]);
        let previous = |rings: &Rings, content| rings.previous_owner(content, 0, WorkerId(3)).map(|owner| owner.id);
        for content in contents() {
            assert_eq!(previous(&rings, content), before.owner(content, 0).map(|owner| owner.id));
        }
        rings.give_up(WorkerId(1));
        assert!(contents().all(|content| previous(&rings, content) != Some(WorkerId(1))));
        assert!(contents().any(|content| previous(&rings, content) == Some(WorkerId(2))));
        tokio::time::advance(ASKED_FOR).await;
        assert!(contents().all(|content| previous(&rings, content).is_none()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_block_that_stayed_or_whose_owner_is_gone_is_asked_of_nobody() {
        let mut rings = Rings::default();
        rings.join(ring(&[1, 2]), WorkerId(1));
        rings.set(ring(&[1, 2, 3]));
        rings.set(ring(&[1, 3]));
        for content in contents().filter(|content| ring(&[1, 3]).owner(*content, 0).expect("two").id == WorkerId(1)) {
            let before = ring(&[1, 2, 3]).owner(content, 0).expect("three").id;
            let previous = rings.previous_owner(content, 0, WorkerId(1)).map(|owner| owner.id);
            assert_eq!(previous, None, "{before}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_alone_and_a_ring_that_is_the_same_leave_nothing_to_ask() {
        let mut rings = Rings::default();
        rings.join(ring(&[1]), WorkerId(1));
        rings.set(Ring { epoch: Epoch(2), ..ring(&[1]) });
        assert!(rings.earlier.is_empty());
        rings.set(ring(&[1, 2]));
        let theirs = |content: &ContentId| ring(&[1, 2]).owner(*content, 0).expect("two").id == WorkerId(2);
        assert!(
            contents()
                .filter(|content| !theirs(content))
                .all(|content| { rings.previous_owner(content, 0, WorkerId(1)).is_none() })
        );
    }
}
