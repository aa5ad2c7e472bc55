//! The ring: from it every client computes a block's owner by itself.
//!
//! Owners are chosen by weighted rendezvous hashing (Thaler and Ravishankar, "Using name-based mappings to increase hit
//! rates", 1998; weights after Schindelhauer and Schomaker, "Weighted distributed hash tables", 2005): when a worker
//! joins or leaves only the blocks that it gains or loses move, and no table has to be kept.

use serde::{Deserialize, Serialize};

use crate::{ContentId, Epoch, WorkerId};

/// A live worker as clients need to know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub id: WorkerId,
    /// `host:port` of its gRPC service.
    pub address: String,
    /// Path of its unix socket on its node; empty without one.
    pub socket: String,
    /// Node (machine) it runs on; clients on the same node use the socket.
    pub node: String,
    /// Zone of the node; empty if unknown.
    pub zone: String,
    /// Share of the blocks relative to the others: its capacity in MiB, at least 1.
    pub weight: u32,
}

/// The live workers at one epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ring {
    /// Grows by one with every change of the members.
    pub epoch: Epoch,
    /// The members, in order of id.
    pub members: Vec<Member>,
}

impl Ring {
    /// The members in the order in which they are to be asked for block `block` of `content`: the owner first, then who
    /// would own it if those before were gone.
    #[must_use]
    pub fn owners(&self, content: ContentId, block: u64) -> Vec<&Member> {
        let mut scored: Vec<_> = self.members.iter().map(|member| (score(content, block, member), member)).collect();
        scored.sort_by(|(a, x), (b, y)| b.total_cmp(a).then(x.id.cmp(&y.id)));
        scored.into_iter().map(|(_, member)| member).collect()
    }

    /// The owner alone, without ordering the rest; `None` when no worker is live.
    #[must_use]
    pub fn owner(&self, content: ContentId, block: u64) -> Option<&Member> {
        self.members
            .iter()
            .map(|member| (score(content, block, member), member))
            .max_by(|(a, x), (b, y)| a.total_cmp(b).then(y.id.cmp(&x.id)))
            .map(|(_, member)| member)
    }
}

/// Weighted rendezvous score `-weight / ln(u)` with `u` uniform in (0, 1).
fn score(content: ContentId, block: u64, member: &Member) -> f64 {
    let (high, low) = content.halves();
    let hash = mix(high ^ mix(low ^ mix(block ^ mix(u64::from(member.id.0)))));
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit the mantissa exactly")]
    let uniform = ((hash >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -f64::from(member.weight.max(1)) / uniform.ln()
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood, 2014): part of the ring's definition, never to change.
const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(weights: &[u32]) -> Ring {
        let members = weights.iter().zip(1..).map(|(weight, id)| Member {
            id: WorkerId(id),
            address: format!("10.0.0.{id}:7000"),
            socket: String::new(),
            node: format!("n{id}"),
            zone: String::new(),
            weight: *weight,
        });
        Ring { epoch: Epoch(1), members: members.collect() }
    }

    fn content(n: u128) -> ContentId {
        ContentId(n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c834))
    }

    #[test]
    fn blocks_spread_by_weight() {
        let ring = ring(&[100, 100, 200]);
        let mut counts = [0u32; 3];
        for n in 0..40_000 {
            let owner = ring.owner(content(n), 0).expect("three members");
            counts[owner.id.0 as usize - 1] += 1;
        }
        for (count, share) in counts.into_iter().zip([10_000, 10_000, 20_000]) {
            assert!(count.abs_diff(share) < share / 20, "{counts:?}");
        }
    }

    #[test]
    fn a_leaving_worker_moves_only_its_own_blocks() {
        let before = ring(&[1, 1, 1, 1]);
        let mut after = before.clone();
        after.members.remove(2);
        for n in 0..2_000 {
            let owners = before.owners(content(n), 7);
            assert_eq!(before.owner(content(n), 7), owners.first().copied());
            let heir = owners.iter().find(|member| member.id != WorkerId(3)).copied();
            assert_eq!(after.owner(content(n), 7), heir);
        }
    }
}
