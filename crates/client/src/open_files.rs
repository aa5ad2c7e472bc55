//! Open files in memory, so that the next open of the same content finds them.
//!
//! Not a general cache: those free what they drop at a time of their own, and an open file holds a descriptor and a lease that
//! the worker may be waiting for. Here whatever leaves is let go of at once, outside the locks.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use headpond_types::ContentId;
use tokio::time::Instant;

use crate::OpenFile;

/// Parts with a lock each, so that opens of different contents do not meet.
const SHARDS: usize = 16;

/// A bounded set of open files by content.
#[derive(Debug)]
pub(crate) struct OpenFiles {
    /// Most entries of one shard.
    capacity: usize,
    idle: Duration,
    /// Held for a look-up or a sweep; no other lock is taken inside.
    shards: [Mutex<HashMap<ContentId, Kept>>; SHARDS],
}

#[derive(Debug)]
struct Kept {
    file: Arc<OpenFile>,
    used: Instant,
}

impl OpenFiles {
    /// Room for about `capacity` files, each kept for `idle` after it was last opened or read.
    pub(crate) fn new(capacity: usize, idle: Duration) -> Self {
        Self { capacity: capacity.div_ceil(SHARDS), idle, shards: Default::default() }
    }

    /// The open file of a content.
    pub(crate) fn get(&self, content: ContentId) -> Option<Arc<OpenFile>> {
        let mut shard = self.shard(content);
        let kept = shard.get_mut(&content)?;
        kept.used = Instant::now();
        Some(Arc::clone(&kept.file))
    }

    /// Keeps a file and answers it, or the one that is kept for the content already.
    pub(crate) fn keep(&self, file: Arc<OpenFile>) -> Arc<OpenFile> {
        if self.capacity == 0 {
            return file;
        }
        let content = file.content();
        let mut shard = self.shard(content);
        if let Some(kept) = shard.get(&content) {
            return Arc::clone(&kept.file);
        }
        let oldest = if shard.len() < self.capacity {
            None
        } else {
            let oldest = shard.iter().min_by_key(|(_, kept)| kept.used).map(|(content, _)| *content);
            oldest.and_then(|content| shard.remove(&content))
        };
        shard.insert(content, Kept { file: Arc::clone(&file), used: Instant::now() });
        drop(shard);
        drop(oldest);
        file
    }

    /// Lets go of a content; the file that was kept of it goes to the caller.
    pub(crate) fn forget(&self, content: ContentId) -> Option<Arc<OpenFile>> {
        let kept = self.shard(content).remove(&content);
        kept.map(|kept| kept.file)
    }

    /// Lets go of the file of some shard that nobody has open and that was not used for longest there.
    pub(crate) fn forget_idle(&self) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            let idle = shard.iter().filter(|(_, kept)| Arc::strong_count(&kept.file) == 1);
            let oldest = idle.min_by_key(|(_, kept)| kept.used).map(|(content, _)| *content);
            let oldest = oldest.and_then(|content| shard.remove(&content));
            drop(shard);
            if oldest.is_some() {
                return;
            }
        }
    }

    /// Lets go of what was not used for too long, and of cache files that are not lent any more. What somebody has open anyway
    /// costs nothing and stays.
    pub(crate) fn sweep(&self) {
        let now = Instant::now();
        for shard in &self.shards {
            let mut shard = lock(shard);
            for kept in shard.values_mut().filter(|kept| Arc::strong_count(&kept.file) > 1) {
                kept.used = now;
            }
            let idle: Vec<_> = shard.extract_if(|_, kept| now.duration_since(kept.used) >= self.idle).collect();
            let stays: Vec<_> = shard.values().map(|kept| Arc::clone(&kept.file)).collect();
            drop(shard);
            drop(idle);
            stays.iter().for_each(|file| file.let_go_if_not_lent());
        }
    }

    /// Lets go of everything.
    pub(crate) fn clear(&self) {
        for shard in &self.shards {
            let all = std::mem::take(&mut *lock(shard));
            drop(all);
        }
    }

    fn shard(&self, content: ContentId) -> MutexGuard<'_, HashMap<ContentId, Kept>> {
        // A content id is a hash already.
        let (_, low) = content.halves();
        let [.., last] = low.to_be_bytes();
        lock(&self.shards[usize::from(last) % SHARDS])
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use headpond_proto::v1::SignedGrant;
    use headpond_runtime::{Shutdown, Tasks};
    use headpond_types::{Attr, FileKind, InodeId, MountId, Timestamp};

    use super::*;
    use crate::{ClientConfig, grant::Grant, shared::Shared, source::Source};

    async fn file(shared: &Arc<Shared>, id: u128) -> Arc<OpenFile> {
        let attr = Attr {
            inode: InodeId(7),
            parent: InodeId::ROOT,
            mount: MountId(1),
            kind: FileKind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            nlink: 1,
            size: 0,
            mtime: Timestamp(0),
            atime: None,
            own_mtime: false,
            has_xattrs: false,
            dirty: false,
            ctime: Timestamp(0),
            content: Some(ContentId(id)),
            version: "v".to_owned(),
        };
        let grant = Grant::new(&SignedGrant::default(), Instant::now(), Duration::from_secs(1), false);
        let source = Source::new(Arc::clone(shared), Arc::new(attr), ContentId(id), Arc::new(grant));
        OpenFile::new(Arc::new(source)).await.expect("an empty file needs nobody")
    }

    fn shared() -> Arc<Shared> {
        Shared::new(ClientConfig::default(), Tasks::new(Shutdown::new())).expect("an address")
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_uses_goes_after_its_time() {
        let (shared, files) = (shared(), OpenFiles::new(100, Duration::from_secs(60)));
        let held = files.keep(file(&shared, 1).await);
        let dropped = Arc::downgrade(&files.keep(file(&shared, 2).await));
        tokio::time::advance(Duration::from_secs(59)).await;
        files.sweep();
        assert_eq!(dropped.strong_count(), 1);
        tokio::time::advance(Duration::from_secs(1)).await;
        files.sweep();
        assert_eq!(dropped.strong_count(), 0);
        assert!(files.get(held.content()).is_some(), "it is in use");
    }

    #[tokio::test]
    async fn the_first_of_a_content_is_the_one_that_is_kept() {
        let (shared, files) = (shared(), OpenFiles::new(100, Duration::from_secs(60)));
        let first = files.keep(file(&shared, 1).await);
        assert!(Arc::ptr_eq(&first, &files.keep(file(&shared, 1).await)));
        files.forget(first.content());
        assert!(files.get(first.content()).is_none());
        assert_eq!(Arc::strong_count(&first), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_least_recently_used_makes_room() {
        // Two places per shard; ids that differ by a multiple of 16 share one.
        let (shared, files) = (shared(), OpenFiles::new(2 * SHARDS, Duration::from_secs(60)));
        for id in [16, 32] {
            files.keep(file(&shared, id).await);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        files.get(ContentId(16)).expect("kept");
        files.keep(file(&shared, 48).await);
        let kept = [16, 32, 48].map(|id| files.get(ContentId(id)).is_some());
        assert_eq!(kept, [true, false, true]);
    }
}
