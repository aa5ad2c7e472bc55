//! Keys and prefixes at which objects are moved just now, or are said to have been. Two that overlap are never held together, so nobody takes what another
//! just copied, or is about to delete, for his own.

use std::sync::{Mutex, MutexGuard, PoisonError};

use headpond_namespace::overlap;
use headpond_types::MountId;
use tokio::sync::watch;

/// What is held of all mounts.
#[derive(Debug)]
pub(crate) struct Spans {
    /// Never held across an await.
    held: Mutex<Held>,
    /// Counts what was let go of.
    freed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Held {
    next: u64,
    spans: Vec<(u64, MountId, Vec<Vec<u8>>)>,
}

/// Keys and prefixes of one mount, which nobody else has until this is dropped.
#[derive(Debug)]
pub(crate) struct Span<'s> {
    spans: &'s Spans,
    id: u64,
}

impl Spans {
    pub(super) fn new() -> Self {
        Self { held: Mutex::default(), freed: watch::Sender::new(0) }
    }

    /// Holds `keys`, relative to the mount's prefix, unless somebody has one that overlaps.
    pub(super) fn try_hold(&self, mount: MountId, keys: &[Vec<u8>]) -> Option<Span<'_>> {
        let mut held = self.all();
        let meets = |other: &Vec<Vec<u8>>| other.iter().any(|a| keys.iter().any(|b| overlap(a, b)));
        if held.spans.iter().any(|(_, of, other)| *of == mount && meets(other)) {
            return None;
        }
        let id = held.next;
        held.next += 1;
        held.spans.push((id, mount, keys.to_vec()));
        Some(Span { spans: self, id })
    }

    /// Holds `keys` when nobody has one that overlaps any more.
    pub(crate) async fn hold(&self, mount: MountId, keys: &[Vec<u8>]) -> Span<'_> {
        let mut freed = self.freed.subscribe();
        loop {
            freed.mark_unchanged();
            if let Some(span) = self.try_hold(mount, keys) {
                return span;
            }
            if freed.changed().await.is_err() {
                unreachable!("the sender is borrowed");
            }
        }
    }

    fn all(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Span<'_> {
    fn drop(&mut self) {
        self.spans.all().spans.retain(|(id, ..)| *id != self.id);
        self.spans.freed.send_modify(|count| *count += 1);
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, pin_mut};

    use super::*;

    #[test]
    fn what_overlaps_is_held_once() {
        let (spans, mount) = (Spans::new(), MountId(1));
        let keys = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>();
        let one = spans.try_hold(mount, &keys(&["a/b", "c/"])).expect("nobody has it");
        for other in ["a/b", "a", "c/d", "c", ""] {
            assert!(spans.try_hold(mount, &keys(&["x", other])).is_none(), "{other:?}");
        }
        let _beside = spans.try_hold(mount, &keys(&["a/c", "cd"])).expect("nobody has it");
        let _elsewhere = spans.try_hold(MountId(2), &keys(&["a/b"])).expect("nobody has it");
        let wanted = keys(&["c/d"]);
        let waits = spans.hold(mount, &wanted);
        pin_mut!(waits);
        assert!(waits.as_mut().now_or_never().is_none());
        drop(one);
        assert!(waits.now_or_never().is_some());
    }
}
