//! What of a staged file the under store may hold.

use std::sync::Arc;

use headpond_types::{ContentId, MountId};
use headpond_ufs::Key;

/// Requests remembered per staged file.
const REMEMBERED: usize = 8;

/// The bytes of one request that makes an object.
#[derive(Clone, Debug)]
pub(super) struct Try {
    pub(super) mount: MountId,
    pub(super) key: Key,
    /// What the bytes are called if they arrived.
    pub(super) content: ContentId,
    pub(super) length: u64,
    /// Of each page.
    pub(super) checksums: Arc<[u32]>,
    /// The version that the store answered; `None` while it is not known whether the bytes arrived.
    pub(super) version: Option<String>,
}

/// Requests that were carried out, or may have been; the latest is the last.
#[derive(Debug, Default)]
pub(super) struct Sent(Vec<(u64, Try)>, u64);

impl Sent {
    /// Notes a request before it is sent: should nobody wait for its answer any more, it is one that may have been carried out.
    pub(super) fn begin(&mut self, request: Try) -> u64 {
        self.1 += 1;
        if self.0.len() == REMEMBERED {
            self.0.remove(0);
        }
        self.0.push((self.1, request));
        self.1
    }

    /// The request was carried out: what came before it is no longer in the store.
    pub(super) fn succeeded(&mut self, id: u64, version: &str) {
        let Some((_, mut done)) = self.0.iter().find(|(known, _)| *known == id).cloned() else { return };
        done.version = Some(version.to_owned());
        self.0.retain(|(_, other)| (other.mount, &other.key) != (done.mount, &done.key));
        self.0.push((id, done));
    }

    /// The request was not carried out.
    pub(super) fn failed(&mut self, id: u64) {
        self.0.retain(|(known, _)| *known != id);
    }

    /// What may lie under a key, the latest first; `refused` does not.
    pub(super) fn under(&self, mount: MountId, key: &Key, refused: Option<u64>) -> Vec<Try> {
        let is_there = |(id, sent): &&(u64, Try)| sent.mount == mount && sent.key == *key && Some(*id) != refused;
        let there = self.0.iter().rev().filter(is_there);
        there.map(|(_, sent)| sent.clone()).collect()
    }

    /// The checksums of the bytes that were stored as `content`.
    pub(super) fn stored_as(&self, content: ContentId) -> Option<Arc<[u32]>> {
        let stored = |sent: &&Try| sent.content == content && sent.version.is_some();
        self.0.iter().map(|(_, sent)| sent).find(stored).map(|sent| Arc::clone(&sent.checksums))
    }
}
