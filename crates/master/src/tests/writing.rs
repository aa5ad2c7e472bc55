//! What tests of writing have in common: a client's and a worker's part.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use headpond_namespace::Owner;
use headpond_proto::{grant::GrantVerifier, v1::PersistGrant};
use headpond_runtime::{Clock, SystemClock};
use headpond_types::{InodeId, Name, NsPath, RenameMode, RequestId, Result};
use headpond_ufs::{Key, ListRequest, ObjectMeta, Precondition, UfsError, UnderStore};

use super::Rig;
use crate::{
    lookup::Answer,
    write::{NewEntry, Opened, PATIENCE, Persisted, Removal, Renaming, Writing},
};

/// The user that owns what tests make.
pub(super) const OWNER: Owner = Owner { mode: 0o640, uid: 7, gid: 8 };

pub(super) fn request() -> RequestId {
    RequestId(rand::random())
}

impl Rig {
    pub(super) fn writing(&self) -> &Arc<Writing> {
        &self.master.core.writing
    }

    /// The directory and the last name of a path.
    pub(super) async fn place(&self, path: &str) -> (InodeId, Name) {
        let path: NsPath = path.parse().expect("a path");
        let (above, name) = path.split_last().expect("not the root");
        let name = name.clone();
        (self.inode(&above.to_string()).await, name)
    }

    pub(super) async fn new_entry(&self, path: &str, request: RequestId) -> NewEntry {
        let (parent, name) = self.place(path).await;
        NewEntry { parent, name, owner: OWNER, caller: None, request }
    }

    pub(super) async fn create(&self, path: &str) -> Result<Opened> {
        self.writing().create(self.new_entry(path, request()).await, false).await
    }

    pub(super) async fn make_directory(&self, path: &str) -> Result<Answer> {
        self.writing().make_directory(self.new_entry(path, request()).await).await
    }

    pub(super) async fn removal(&self, path: &str, directory: bool) -> Removal {
        let (parent, name) = self.place(path).await;
        Removal { parent, name, directory, caller: None, request: request() }
    }

    pub(super) async fn unlink(&self, path: &str) -> Result<u64> {
        Ok(self.writing().remove(self.removal(path, false).await).await?.0)
    }

    pub(super) async fn remove_directory(&self, path: &str) -> Result<u64> {
        Ok(self.writing().remove(self.removal(path, true).await).await?.0)
    }

    pub(super) async fn remove_tree(&self, path: &str) -> Result<u64> {
        self.writing().remove_tree(self.removal(path, true).await).await
    }

    /// From now on what is in the store was stored long ago, and so is what will be for the next hour.
    pub(super) fn come_later(&self) {
        self.advance(Duration::from_secs(3600) + Duration::from_nanos(SystemClock.now().0.cast_unsigned()));
    }

    pub(super) async fn renaming(&self, from: &str, to: &str) -> Renaming {
        let (from, to) = (self.place(from).await, self.place(to).await);
        Renaming { from, to, mode: RenameMode::Replace, caller: None, request: request() }
    }

    pub(super) async fn rename(&self, from: &str, to: &str) -> Result<u64> {
        Ok(self.writing().rename(self.renaming(from, to).await).await?.0)
    }

    pub(super) async fn exchange(&self, one: &str, other: &str) -> Result<u64> {
        let renaming = Renaming { mode: RenameMode::Exchange, ..self.renaming(one, other).await };
        Ok(self.writing().rename(renaming).await?.0)
    }

    /// The grant to persist under a lease, as a worker reads it.
    pub(super) async fn persist_grant(&self, lease: u64) -> Result<PersistGrant> {
        let core = &self.master.core;
        let signed = self.writing().prepare(lease, None, PATIENCE).await?;
        let verifier = GrantVerifier::new(core.grants.public_key(), core.cluster);
        Ok(verifier.verify_persist(&signed, core.clock.now()).expect("signed by this master"))
    }

    /// The key that bytes under a lease may be sent ahead to.
    pub(super) async fn upload_key(&self, lease: u64) -> Result<Bytes> {
        let core = &self.master.core;
        let signed = self.writing().prepare_upload(lease).await?;
        let verifier = GrantVerifier::new(core.grants.public_key(), core.cluster);
        let grant = verifier.verify_upload(&signed, core.clock.now()).expect("signed by this master");
        assert_eq!(grant.lease, lease);
        Ok(grant.key)
    }

    /// Stores `body` as a worker does.
    pub(super) async fn store_staged(&self, grant: &PersistGrant, body: &str) -> Result<ObjectMeta, UfsError> {
        let condition = grant.replaces.clone().map_or(Precondition::Absent, Precondition::Matches);
        let body = Bytes::copy_from_slice(body.as_bytes());
        self.store.put(&Key(grant.key.clone()), body, &condition).await
    }

    pub(super) async fn commit(&self, grant: &PersistGrant, meta: &ObjectMeta, request: RequestId) -> Result<Answer> {
        let persisted = Persisted {
            content: grant.content.expect("set").into(),
            key: grant.key.to_vec(),
            size: meta.size,
            mtime: meta.mtime,
            version: meta.version.clone(),
            holders: Vec::new(),
        };
        self.writing().commit(grant.lease, persisted, request).await
    }

    /// Persists `body` under `lease`.
    pub(super) async fn persist(&self, lease: u64, body: &str) -> Result<Answer> {
        let grant = self.persist_grant(lease).await?;
        let meta = self.store_staged(&grant, body).await.expect("stored");
        self.commit(&grant, &meta, request()).await
    }

    /// Writes a file from open to close.
    pub(super) async fn write(&self, path: &str, body: &str) -> InodeId {
        let opened = self.create(path).await.expect("opened");
        let lease = opened.lease.expect("a file");
        let answer = self.persist(lease, body).await.expect("committed");
        self.writing().end(lease).await.expect("ended");
        answer.attr.expect("is there").inode
    }

    /// All keys in the store.
    pub(super) async fn keys(&self) -> Vec<String> {
        keys_of(&self.store).await
    }

    /// The bytes under a key.
    pub(super) async fn object(&self, key: &str) -> String {
        use futures::TryStreamExt;
        let key = Key::from(key.to_owned());
        let meta = self.store.head(&key).await.expect("is there");
        let body = self.store.get(&key, 0..meta.size, &meta.version).await.expect("read");
        let pieces: Vec<Bytes> = body.try_collect().await.expect("read");
        String::from_utf8(pieces.concat()).expect("text")
    }

    /// Waits until no objects are to be moved any more.
    pub(super) async fn relocated(&self) {
        let relocator = &self.master.core.relocator;
        let mut ended = relocator.watch();
        while relocator.pending() > 0 {
            assert!(relocator.problems().is_empty(), "{:?}", relocator.problems());
            let _ = tokio::time::timeout(std::time::Duration::from_millis(50), ended.changed()).await;
        }
    }
}

/// All keys that a store lists.
pub(super) async fn keys_of(store: &dyn UnderStore) -> Vec<String> {
    let mut request = ListRequest::default();
    let mut keys = Vec::new();
    loop {
        let page = store.list(&request).await.expect("listed");
        keys.extend(page.entries.iter().map(|listed| listed.key().to_string()));
        request.continuation = page.continuation;
        if request.continuation.is_none() {
            return keys;
        }
    }
}
