//! Multipart uploads that nobody goes on with: their parts cost money until they are aborted.
//!
//! An upload is noted in a file of its own, durably, before its first part is sent, and the note goes when the upload was completed
//! or aborted. So neither an error nor the death of the process leaves parts behind, only the loss of the cache directory does; and the death
//! of the process between the store's answer and the note leaves an upload without parts.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::StreamExt as _;
use headpond_types::{MountId, Result};
use headpond_ufs::Key;
use prost::Message;
use tokio::{sync::Notify, task::spawn_blocking};
use uuid::Uuid;

use super::upload::Target;
use crate::{cluster::Cluster, identity::replace};

/// Below the first cache directory: a file for each upload.
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

/// Aborts what was abandoned.
#[derive(Debug)]
pub(crate) struct Abandoned {
    dir: PathBuf,
    /// Names of notes with what they say.
    waiting: Mutex<Vec<(String, Note)>>,
    wake: Notify,
}

/// An upload under way; dropped before it is [`Noted::done`], it is abandoned.
#[derive(Debug)]
pub(super) struct Noted {
    abandoned: Arc<Abandoned>,
    note: Option<(String, Note)>,
}

impl Abandoned {
    /// Takes up what an earlier process noted in the cache directory `dir`. Blocks.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        let dir = dir.join(UPLOADS);
        fs::create_dir_all(&dir)?;
        let mut waiting = Vec::new();
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let note = Uuid::parse_str(&name).ok().and_then(|_| Note::decode(&fs::read(entry.path()).ok()?[..]).ok());
            match note {
                Some(note) => waiting.push((name, note)),
                // Not wholly written: then no part was sent.
                None => fs::remove_file(entry.path())?,
            }
        }
        Ok(Self { dir, waiting: Mutex::new(waiting), wake: Notify::new() })
    }

    /// Notes an upload that has just begun. That it cannot be written down must not keep the bytes from the store: room in the cache is made
    /// by storing them.
    pub(super) async fn note(self: &Arc<Self>, target: &Target, upload: &str) -> Noted {
        let note = Note { mount: target.mount.0, key: target.key.as_bytes().to_vec(), upload: upload.to_owned() };
        let name = Uuid::new_v4().to_string();
        // Before it is written: dropped while it is, the upload is abandoned as well.
        let noted = Noted { abandoned: Arc::clone(self), note: Some((name.clone(), note.clone())) };
        let dir = self.dir.clone();
        let written = spawn_blocking(move || replace(&dir, &name, &note.encode_to_vec())).await;
        if let Ok(Err(error)) = written {
            tracing::warn!(%error, "cannot note an upload: its parts stay in the store if this process dies");
        }
        noted
    }

    /// Aborts what was abandoned, until the stores say that it is done. Never ends.
    pub(crate) async fn run(self: Arc<Self>, cluster: Arc<Cluster>) {
        let mut pause = FIRST_PAUSE;
        loop {
            let waiting = std::mem::take(&mut *self.waiting());
            let aborted = futures::stream::iter(waiting).map(|(name, note)| {
                let (abandoned, cluster) = (&self, &cluster);
                async move {
                    match abort(cluster, &note).await {
                        Ok(()) => {
                            abandoned.remove(name).await;
                            None
                        }
                        Err(error) => {
                            tracing::debug!(error = &error as &dyn std::error::Error, "cannot abort an upload yet");
                            Some((name, note))
                        }
                    }
                }
            });
            let failed: Vec<_> = aborted.buffer_unordered(AT_ONCE).filter_map(std::future::ready).collect().await;
            if failed.is_empty() {
                pause = FIRST_PAUSE;
                self.wake.notified().await;
            } else {
                self.waiting().extend(failed);
                let _ = tokio::time::timeout(pause, self.wake.notified()).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    /// Uploads that wait to be aborted, known to nobody else.
    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<(String, Note)>> {
        self.waiting.lock().expect("no panic while held")
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
    pub(super) async fn done(mut self) {
        if let Some((name, _)) = self.note.take() {
            self.abandoned.remove(name).await;
        }
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        if let Some(note) = self.note.take() {
            self.abandoned.waiting().push(note);
            self.abandoned.wake.notify_one();
        }
    }
}

async fn abort(cluster: &Cluster, note: &Note) -> Result<()> {
    let store = cluster.mounts.store(MountId(note.mount)).await?;
    Ok(store.abort_multipart(&Key::from(note.key.clone()), &note.upload).await?)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::future::BoxFuture;
    use headpond_proto::v1::Mount;
    use headpond_ufs::{Fault, Faulty, Memory, Op, UfsErrorKind, UnderStore};

    use super::*;
    use crate::mounts::Connect;

    #[derive(Debug)]
    struct ToStore(Faulty);

    impl Connect for ToStore {
        fn connect<'a>(&'a self, _: &'a Mount) -> BoxFuture<'a, Result<Arc<dyn UnderStore>>> {
            Box::pin(async { Ok(Arc::new(self.0.clone()) as Arc<dyn UnderStore>) })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_upload_outlives_neither_its_process_nor_a_mount_that_comes_late() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Faulty::new(Arc::new(Memory::named("abandoned")), 1);
        let target = Target { mount: MountId(7), key: Key::from("k") };
        let upload = store.create_multipart(&target.key).await.expect("begun");
        let finished = store.create_multipart(&target.key).await.expect("begun");
        {
            // The process dies: nobody is there to abort what is dropped.
            let abandoned = Arc::new(Abandoned::open(dir.path()).expect("opened"));
            let _noted = abandoned.note(&target, &upload).await;
            abandoned.note(&target, &finished).await.done().await;
            fs::write(dir.path().join(UPLOADS).join("torn.new"), "x").expect("written");
        }
        let is_there = async |upload: &str| store.put_part(&target.key, upload, 1, Bytes::new()).await.is_ok();
        let abandoned = Arc::new(Abandoned::open(dir.path()).expect("opened again"));
        assert_eq!(abandoned.waiting().len(), 1);
        let cluster = Arc::new(Cluster::new(Arc::new(ToStore(store.clone()))));
        store.script(Op::AbortMultipart, [Some(Fault::Error(UfsErrorKind::Transient)), None]);
        let files = || fs::read_dir(dir.path().join(UPLOADS)).expect("a directory").count();
        let mounted = async {
            tokio::time::sleep(Duration::from_mins(1)).await;
            assert!(is_there(&upload).await, "no mount, no store");
            cluster.mounts.set(&[Mount { id: 7, ..Mount::default() }], 1);
            while files() > 0 {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::select! {
            () = abandoned.run(Arc::clone(&cluster)) => panic!("it never ends"),
            () = mounted => {}
        }
        assert_eq!(store.scripted(Op::AbortMultipart), 0);
        assert!(!is_there(&upload).await);
        assert!(is_there(&finished).await, "what was done is left alone");
    }
}
