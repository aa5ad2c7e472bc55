//! Multipart uploads that nobody goes on with: their parts cost money until they are aborted, and one that a dead process has asked to be completed may
//! still become an object.
//!
//! An upload is noted in a file of its own, durably, before its first part is sent, and the note goes when the upload was completed
//! or aborted. So neither an error nor the death of the process leaves parts behind, only the loss of the directory does; and the death
//! of the process between the store's answer and the note leaves an upload without parts. Uploads are never looked for in the store: others
//! have theirs there, too.

use std::{
    collections::BTreeMap,
    fs,
    future::Future,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::StreamExt as _;
use headpond_runtime::durable::replace;
use headpond_types::{MountId, Result};
use prost::Message;
use tokio::{sync::Notify, task::spawn_blocking};
use uuid::Uuid;

use crate::{Key, UfsError, UfsErrorKind, UnderStore, UploadMark};

/// Below the directory that is given: a file for each upload.
const UPLOADS: &str = "uploads";

/// Uploads aborted at once.
const AT_ONCE: usize = 8;

/// Pauses before failed aborts are tried again: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// The content of a note.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Note {
    #[prost(uint32, tag = "1")]
    mount: u32,
    #[prost(bytes = "vec", tag = "2")]
    key: Vec<u8>,
    #[prost(string, tag = "3")]
    upload: String,
}

/// What is known of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadState {
    /// This process goes on with it.
    UnderWay,
    /// It is to be aborted.
    GivenUp,
}

/// The uploads of one process, and those that an earlier one left. Aborts what was abandoned.
#[derive(Debug)]
pub struct Abandoned {
    dir: PathBuf,
    /// Those that somebody goes on with, by the names of the notes. Never held across an await, nor while `waiting` is.
    under_way: Mutex<BTreeMap<String, Note>>,
    /// To be aborted: what they say by the names of the notes. Never held across an await.
    waiting: Mutex<BTreeMap<String, Note>>,
    wake: Notify,
}

/// An upload under way; dropped before it is [`Noted::done`], it is abandoned.
#[derive(Debug)]
pub struct Noted {
    abandoned: Arc<Abandoned>,
    note: Option<(String, Note)>,
}

impl Abandoned {
    /// Takes up what an earlier process noted below `dir`. Blocks on the disk.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let dir = dir.join(UPLOADS);
        fs::create_dir_all(&dir)?;
        let mut waiting = BTreeMap::new();
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let note = Uuid::parse_str(&name).ok().and_then(|_| Note::decode(&fs::read(entry.path()).ok()?[..]).ok());
            match note {
                Some(note) => {
                    waiting.insert(name, note);
                }
                // Not wholly written: then no part was sent.
                None => fs::remove_file(entry.path())?,
            }
        }
        Ok(Self { dir, under_way: Mutex::default(), waiting: Mutex::new(waiting), wake: Notify::new() })
    }

    /// Notes an upload that has just begun. One that cannot be written down goes on: it is lost only if this process dies, and to refuse it would
    /// keep bytes from the store. Dropped, the upload is abandoned; dropped between the store's answer and this call, it is nobody's.
    pub async fn note(self: &Arc<Self>, mount: MountId, key: &Key, upload: &str) -> Noted {
        let note = Note { mount: mount.0, key: key.as_bytes().to_vec(), upload: upload.to_owned() };
        let name = Uuid::new_v4().to_string();
        self.under_way().insert(name.clone(), note.clone());
        // Before it is written: dropped while it is, the upload is abandoned as well.
        let noted = Noted { abandoned: Arc::clone(self), note: Some((name.clone(), note.clone())) };
        let dir = self.dir.clone();
        let written = spawn_blocking(move || replace(&dir, &name, &note.encode_to_vec())).await;
        if let Ok(Err(error)) = written {
            tracing::warn!(%error, "cannot note an upload: its parts stay in the store if this process dies");
        }
        noted
    }

    /// Aborts what was abandoned until the stores, which `store_of` gives, say that it is done. Never ends.
    pub async fn run<F>(self: Arc<Self>, store_of: impl Fn(MountId) -> F)
    where
        F: Future<Output = Result<Arc<dyn UnderStore>>>,
    {
        let mut pause = FIRST_PAUSE;
        loop {
            let aborted = futures::stream::iter(self.waiting_for(None)).map(|(name, note)| {
                let store = store_of(MountId(note.mount));
                async { self.abort(&*store.await?, name, note).await.map_err(headpond_types::Error::from) }
            });
            let failed = aborted.buffer_unordered(AT_ONCE).filter_map(async |aborted| {
                let error = aborted.err()?;
                tracing::debug!(error = &error as &dyn std::error::Error, "cannot abort an upload yet");
                Some(())
            });
            if failed.count().await == 0 {
                pause = FIRST_PAUSE;
                self.wake.notified().await;
            } else {
                let _ = tokio::time::timeout(pause, self.wake.notified()).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    /// Aborts what was abandoned in `store`, which is that of `mount`. Afterwards none of it becomes an object any more, whatever a dead process
    /// has asked for; but what the store refuses to abort is left.
    ///
    /// # Errors
    /// The first of the store's; the others are aborted nevertheless.
    pub async fn abort_in(&self, mount: MountId, store: &dyn UnderStore) -> Result<(), UfsError> {
        let aborting = futures::stream::iter(self.waiting_for(Some(mount)));
        let aborted = aborting.map(|(name, note)| self.abort(store, name, note)).buffer_unordered(AT_ONCE);
        let aborted: Vec<_> = aborted.collect().await;
        let refused = |error: &UfsError| error.kind() == UfsErrorKind::Refused;
        aborted.into_iter().filter_map(Result::err).find(|error| !refused(error)).map_or(Ok(()), Err)
    }

    /// Up to `limit` uploads that are not ended, those under way first.
    #[must_use]
    pub fn names(&self, limit: usize) -> Vec<(MountId, UploadMark)> {
        let name = |note: &Note| {
            let mark = UploadMark { key: Key::from(note.key.clone()), upload: note.upload.clone() };
            (MountId(note.mount), mark)
        };
        let mut names: Vec<_> = self.under_way().values().take(limit).map(name).collect();
        names.extend(self.waiting().values().take(limit - names.len()).map(name));
        names
    }

    /// What this process, or one before it that had the same directory, has to do with an upload; `None`: nothing.
    #[must_use]
    pub fn state_of(&self, mount: MountId, mark: &UploadMark) -> Option<UploadState> {
        let is_it =
            |note: &Note| note.mount == mount.0 && note.upload == mark.upload && note.key == mark.key.as_bytes();
        // One that is given up meanwhile is found in the second.
        let under_way = self.under_way().values().any(is_it);
        let given_up = self.waiting().values().any(is_it);
        match (given_up, under_way) {
            (true, _) => Some(UploadState::GivenUp),
            (false, true) => Some(UploadState::UnderWay),
            (false, false) => None,
        }
    }

    async fn abort(&self, store: &dyn UnderStore, name: String, note: Note) -> Result<(), UfsError> {
        store.abort_multipart(&Key::from(note.key), &note.upload).await?;
        self.waiting().remove(&name);
        self.remove(name).await;
        Ok(())
    }

    /// What is to be aborted, of one mount or all.
    fn waiting_for(&self, mount: Option<MountId>) -> Vec<(String, Note)> {
        let waiting = self.waiting();
        let wanted = waiting.iter().filter(|(_, note)| mount.is_none_or(|mount| mount.0 == note.mount));
        wanted.map(|(name, note)| (name.clone(), note.clone())).collect()
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<String, Note>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn under_way(&self) -> MutexGuard<'_, BTreeMap<String, Note>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn remove(&self, name: String) {
        let path = self.dir.join(name);
        let removed = spawn_blocking(move || fs::remove_file(path)).await;
        if let Ok(Err(error)) = removed
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::debug!(%error, "cannot remove the note of an upload, it is aborted once more at the next start");
        }
    }
}

impl Noted {
    /// The upload became an object.
    pub async fn done(mut self) {
        if let Some((name, _)) = self.note.take() {
            self.abandoned.under_way().remove(&name);
            self.abandoned.remove(name).await;
        }
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        if let Some((name, note)) = self.note.take() {
            self.abandoned.waiting().insert(name.clone(), note);
            self.abandoned.under_way().remove(&name);
            self.abandoned.wake.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use headpond_types::{Error, ErrorKind};

    use super::*;
    use crate::{Fault, Faulty, Memory, Op};

    const MOUNT: MountId = MountId(7);

    fn opened(dir: &tempfile::TempDir) -> Arc<Abandoned> {
        Arc::new(Abandoned::open(dir.path()).expect("opened"))
    }

    fn notes(dir: &tempfile::TempDir) -> usize {
        fs::read_dir(dir.path().join(UPLOADS)).expect("a directory").count()
    }

    async fn is_there(store: &Faulty, upload: &str) -> bool {
        store.put_part(&Key::from("k"), upload, 1, Bytes::new()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn an_upload_outlives_neither_its_process_nor_a_mount_that_comes_late() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Faulty::new(Arc::new(Memory::named("abandoned")), 1);
        let key = Key::from("k");
        let upload = store.create_multipart(&key).await.expect("begun");
        let finished = store.create_multipart(&key).await.expect("begun");
        {
            // The process dies: nobody is there to abort what is dropped.
            let abandoned = opened(&dir);
            let _noted = abandoned.note(MOUNT, &key, &upload).await;
            abandoned.note(MOUNT, &key, &finished).await.done().await;
            fs::write(dir.path().join(UPLOADS).join("torn.new"), "x").expect("written");
        }
        let abandoned = opened(&dir);
        assert_eq!(abandoned.waiting().len(), 1);
        store.script(Op::AbortMultipart, [Some(Fault::Error(UfsErrorKind::Transient)), None]);
        let (mounted, is_mounted) = tokio::sync::watch::channel(false);
        let store_of = |mount| {
            let store: Arc<dyn UnderStore> = Arc::new(store.clone());
            let is_mounted = *is_mounted.borrow() && mount == MOUNT;
            async move { is_mounted.then_some(store).ok_or_else(|| Error::new(ErrorKind::Unavailable, "no mount")) }
        };
        let waiting = async {
            tokio::time::sleep(Duration::from_mins(1)).await;
            assert!(is_there(&store, &upload).await, "no mount, no store");
            mounted.send_replace(true);
            while notes(&dir) > 0 {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::select! {
            () = Arc::clone(&abandoned).run(store_of) => panic!("it never ends"),
            () = waiting => {}
        }
        assert_eq!(store.scripted(Op::AbortMultipart), 0);
        assert!(!is_there(&store, &upload).await);
        assert!(is_there(&store, &finished).await, "what was done is left alone");
    }

    #[tokio::test]
    async fn who_goes_on_waits_until_what_was_left_is_aborted() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Faulty::new(Arc::new(Memory::named("left")), 1);
        let (key, abandoned) = (Key::from("k"), opened(&dir));
        let mut uploads = Vec::new();
        for _ in 0..3 {
            let upload = store.create_multipart(&key).await.expect("begun");
            drop(abandoned.note(MOUNT, &key, &upload).await);
            uploads.push(upload);
        }
        let others = store.create_multipart(&key).await.expect("begun");
        drop(abandoned.note(MountId(8), &key, &others).await);
        store.script(Op::AbortMultipart, [Some(Fault::Error(UfsErrorKind::Transient))]);
        let failed = abandoned.abort_in(MOUNT, &store).await.expect_err("not all are aborted");
        assert_eq!((failed.kind(), notes(&dir)), (UfsErrorKind::Transient, 2));
        store.script(Op::AbortMultipart, [Some(Fault::Error(UfsErrorKind::Refused))]);
        abandoned.abort_in(MOUNT, &store).await.expect("without the right to do it, it is left");
        assert_eq!(notes(&dir), 2);
        abandoned.abort_in(MOUNT, &store).await.expect("aborted");
        for upload in &uploads {
            assert!(!is_there(&store, upload).await);
        }
        assert!(is_there(&store, &others).await, "another mount's");
    }

    #[tokio::test]
    async fn what_an_upload_is_to_this_process_is_told() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Faulty::new(Arc::new(Memory::named("told")), 1);
        let (key, abandoned) = (Key::from("k"), opened(&dir));
        let mark = |upload: &str| UploadMark { key: key.clone(), upload: upload.to_owned() };
        let state = |upload: &str| abandoned.state_of(MOUNT, &mark(upload));
        let mut noted = Vec::new();
        for name in ["a", "b", "c"] {
            noted.push(abandoned.note(MOUNT, &key, name).await);
        }
        assert_eq!((state("a"), state("d")), (Some(UploadState::UnderWay), None));
        assert_eq!(abandoned.state_of(MountId(8), &mark("a")), None, "another mount's");
        drop(noted.pop());
        noted.pop().expect("b").done().await;
        assert_eq!((state("b"), state("c")), (None, Some(UploadState::GivenUp)));
        abandoned.abort_in(MOUNT, &store).await.expect("aborted");
        assert_eq!((state("a"), state("c")), (Some(UploadState::UnderWay), None));
    }
}
