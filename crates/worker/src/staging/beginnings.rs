//! What contents that are stored later begin with: an object that they replace may have that already.
//!
//! Whoever has a content made durable tells with which versions it has its beginning in common, and a content stays as it was then. So that of an older
//! version follows, over all that came between. What an object is called is known of those that this worker put last, and follows from
//! the object where it was found in the store. What was copied from another file is known with that file's object, for the very content that was copied:
//! who has it in common with a later one has not shown that he may read the original. All this is in memory, and bounded: of what is not known, or was put
//! by another worker, moved or replaced, all bytes are sent.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    sync::{Mutex, MutexGuard},
};

use headpond_proto::v1;
use headpond_types::{ContentId, MountId};
use headpond_ufs::UnderStore;

use super::{head::Head, parts::PART, upload::Target};

/// Contents, and objects, that are remembered.
const REMEMBERED: usize = 4096;

/// A version, and how many bytes of it something begins with.
type Beginning = (ContentId, u64);

/// What is known of contents and objects.
#[derive(Debug, Default)]
pub(super) struct Beginnings(Mutex<Known>);

/// A leaf lock, held for a few instructions.
#[derive(Debug, Default)]
struct Known {
    /// Of each content, the oldest version first.
    of: Remembered<ContentId, Vec<Beginning>>,
    /// The version of each object, and what it is called.
    objects: Remembered<(MountId, Vec<u8>), (String, ContentId)>,
    /// What objects are, by content.
    stored: HashMap<ContentId, usize>,
    /// What contents begin with that was copied from another file.
    originals: Remembered<ContentId, (MountId, Head)>,
}

/// A map that forgets what came first.
#[derive(Debug)]
struct Remembered<K, V> {
    entries: HashMap<K, V>,
    order: VecDeque<K>,
}

impl<K, V> Default for Remembered<K, V> {
    fn default() -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new() }
    }
}

impl<K: Clone + Eq + Hash, V> Remembered<K, V> {
    /// Takes in an entry; those that go for it.
    fn insert(&mut self, key: K, value: V) -> Vec<V> {
        let before = self.entries.insert(key.clone(), value);
        if before.is_some() {
            return before.into_iter().collect();
        }
        self.order.push_back(key);
        let surplus = self.order.len().saturating_sub(REMEMBERED);
        self.order.drain(..surplus).filter_map(|oldest| self.entries.remove(&oldest)).collect()
    }
}

impl Beginnings {
    /// Notes that a content was made durable, and what its beginning has in common with earlier ones. Those that it is told of no more are needed if they are
    /// stored, or `is_being_stored` says so; and the oldest, which may be what was found in the store.
    pub(super) fn made_durable(
        &self,
        content: ContentId,
        heads: &[v1::Head],
        is_being_stored: impl Fn(ContentId) -> bool,
    ) {
        let own = heads.iter().filter(|head| head.original.is_none());
        let told = own.filter_map(|head| Some((head.content?.into(), head.length)));
        let told: Vec<Beginning> = told.filter(|(_, length)| *length >= PART).collect();
        let mut known = self.known();
        let mut all: Vec<Beginning> = Vec::new();
        for (between, length) in &told {
            for (older, of_older) in known.of.entries.get(between).into_iter().flatten() {
                add(&mut all, (*older, *length.min(of_older)));
            }
        }
        let mut oldest = true;
        all.retain(|(older, length)| {
            let is_needed = oldest || known.stored.contains_key(older) || is_being_stored(*older);
            oldest = false;
            *length >= PART && is_needed
        });
        told.into_iter().for_each(|head| add(&mut all, head));
        if !all.is_empty() {
            drop(known.of.insert(content, all));
        }
    }

    /// Notes what of a content was copied from another file.
    pub(super) fn copied(&self, content: ContentId, original: (MountId, Head)) {
        if original.1.length >= PART {
            drop(self.known().originals.insert(content, original));
        }
    }

    /// Notes that an object is a content.
    pub(super) fn stored(&self, target: &Target, version: &str, content: ContentId) {
        let mut known = self.known();
        let place = (target.mount, target.key.as_bytes().to_vec());
        *known.stored.entry(content).or_default() += 1;
        for (_, gone) in known.objects.insert(place, (version.to_owned(), content)) {
            if let Some(times) = known.stored.get_mut(&gone) {
                *times -= 1;
                if *times == 0 {
                    known.stored.remove(&gone);
                }
            }
        }
    }

    /// What a content has in common with the version of the object that it replaces, or with another file's object, if that is worth anything. Asks the
    /// store at most once.
    pub(super) async fn head(
        &self,
        content: ContentId,
        (store, target): (&dyn UnderStore, &Target),
        replaced: Option<&str>,
    ) -> Option<Head> {
        let own = match replaced {
            Some(replaced) => self.own_head(content, (store, target), replaced).await,
            None => None,
        };
        let original = self.known().originals.entries.get(&content).cloned();
        let original = original.filter(|(mount, _)| *mount == target.mount).map(|(_, head)| head);
        Head::longer(own, original)
    }

    async fn own_head(
        &self,
        content: ContentId,
        (store, target): (&dyn UnderStore, &Target),
        replaced: &str,
    ) -> Option<Head> {
        let (beginnings, object) = {
            let known = self.known();
            let object = known.objects.entries.get(&(target.mount, target.key.as_bytes().to_vec())).cloned();
            (known.of.entries.get(&content).cloned()?, object)
        };
        let called = match object {
            Some((version, called)) if version == replaced => called,
            Some(_) | None => {
                let meta = store.head(&target.key).await.ok().filter(|meta| meta.version == replaced)?;
                ContentId::of_object(store.identity(), target.key.as_bytes(), replaced, meta.size)
            }
        };
        let (_, length) = beginnings.into_iter().find(|(known, _)| *known == called)?;
        Some(Head { key: target.key.clone(), version: replaced.to_owned(), length })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().expect("no panic while held")
    }
}

/// Adds a beginning; of two of one version the longer counts.
fn add(all: &mut Vec<Beginning>, (version, length): Beginning) {
    match all.iter_mut().find(|(known, _)| *known == version) {
        Some((_, known)) => *known = length.max(*known),
        None => all.push((version, length)),
    }
}

#[cfg(test)]
mod tests {
    use headpond_ufs::Memory;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn id(n: u64) -> ContentId {
        ContentId(n.into())
    }

    fn durable(beginnings: &Beginnings, n: u64, heads: &[(u64, u64)]) {
        let head = |(of, length): &(u64, u64)| v1::Head {
            content: Some(id(*of).into()),
            length: length * MIB,
            original: None,
        };
        let heads: Vec<_> = heads.iter().map(head).collect();
        beginnings.made_durable(id(n), &heads, |content| content == id(100));
    }

    fn target() -> Target {
        Target { mount: MountId(1), key: "k".into() }
    }

    async fn head(beginnings: &Beginnings, n: u64, version: &str) -> Option<u64> {
        let store = Memory::named("beginnings");
        Some(beginnings.head(id(n), (&store, &target()), Some(version)).await?.length / MIB)
    }

    #[tokio::test]
    async fn what_is_stored_is_the_beginning_over_all_that_came_between() {
        let beginnings = Beginnings::default();
        durable(&beginnings, 101, &[(100, 40)]);
        for n in 102..120 {
            durable(&beginnings, n, &[(n - 1, if n == 110 { 30 } else { n })]);
        }
        assert_eq!(head(&beginnings, 119, "v").await, None, "nobody knows what it is");
        beginnings.stored(&target(), "v", id(100));
        assert_eq!(head(&beginnings, 119, "v").await, Some(30));
        assert_eq!(head(&beginnings, 109, "v").await, Some(40));
        assert_eq!(head(&beginnings, 119, "other").await, None);
        assert_eq!(head(&beginnings, 500, "v").await, None);
        beginnings.stored(&target(), "w", id(118));
        assert_eq!((head(&beginnings, 119, "v").await, head(&beginnings, 119, "w").await), (None, Some(119)));
        durable(&beginnings, 120, &[(119, 15)]);
        assert_eq!(head(&beginnings, 120, "w").await, None, "it is too short");
    }

    #[test]
    fn what_came_first_is_forgotten() {
        let beginnings = Beginnings::default();
        for n in 0..10_000 {
            durable(&beginnings, 1000 + n, &[(999 + n, 20)]);
            let target = Target { mount: MountId(1), key: format!("k{n}").into() };
            beginnings.stored(&target, "v", id(1000 + n / 2));
        }
        let known = beginnings.known();
        assert_eq!((known.of.entries.len(), known.of.order.len()), (REMEMBERED, REMEMBERED));
        assert_eq!((known.objects.entries.len(), known.stored.len()), (REMEMBERED, REMEMBERED / 2));
        let longest = known.of.entries.values().map(Vec::len).max();
        assert!(longest <= Some(REMEMBERED), "{longest:?}");
    }
}
