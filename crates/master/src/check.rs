//! Comparing what the namespace knows with what stores and workers have. Nothing is changed by it, and no store is asked to make the namespace
//! know more: an object that somebody else put, replaced or deleted since it was seen last differs, and is told.
//!
//! * `walk`, `compare`: the namespace and a listing of the store, both in the order of keys, side by side; a page of each is in memory.
//! * `judge`: what one key is, and whether something explains that the two differ.
//! * `again`: what was found is looked at again after a moment, by itself, and counts only if it is found the same then, before and after the store
//!   was asked: changes that were made meanwhile are no findings.
//! * `contents`: bytes that no store has, and the workers that are to hold them. `uploads`: multipart uploads.

mod again;
mod compare;
mod contents;
mod judge;
mod uploads;
mod walk;

use std::{sync::Arc, time::Duration};

use headpond_types::{Error, ErrorKind, FileKind, NsPath, Result};
use tokio::sync::mpsc;

use crate::{
    core::Core,
    mount::{LiveMount, path_key},
};

/// How long after it was found something is looked at again.
const MOMENT: Duration = Duration::from_secs(2);

/// What is looked at again together.
const SUSPECTS: usize = 1000;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Acknowledged bytes that are nowhere.
    LostContent,
    /// A file without its object.
    MissingObject,
    /// A file whose object is another.
    OtherObject,
    /// An object without a file.
    UnknownObject,
    /// An empty directory that the store does not know.
    MissingMarker,
    /// A marker without a directory.
    LeftMarker,
    /// An upload that was given up.
    LeftUpload,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) kind: Kind,
    /// As bytes: not every key is a path.
    pub(crate) path: Vec<u8>,
    pub(crate) detail: String,
}

/// How much was compared, and what is in work.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) files: u64,
    pub(crate) directories: u64,
    pub(crate) objects: u64,
    pub(crate) writing: u64,
    pub(crate) pending: u64,
    pub(crate) moving: u64,
    pub(crate) unlisted: u64,
    pub(crate) hidden: u64,
    pub(crate) uploads_under_way: u64,
    pub(crate) uploads_of_others: u64,
    pub(crate) findings: u64,
    /// What could not be compared, and why.
    pub(crate) unseen: Vec<String>,
}

/// How far a check is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) findings: Vec<Finding>,
    pub(crate) sums: Sums,
    pub(crate) done: bool,
}

/// One check.
pub(crate) struct Check {
    core: Core,
    path: NsPath,
    sums: Sums,
    tell: mpsc::Sender<Result<Progress>>,
}

/// Who asked has gone, or it failed.
enum Stopped {
    Gone,
    Failed(Error),
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// What of a mount is compared.
struct Scope {
    mount: Arc<LiveMount>,
    /// Relative to the mount's prefix: of a directory with `/` at the end, empty for all of the mount.
    key: Vec<u8>,
    is_directory: bool,
}

impl Check {
    /// Of what lies at and below `path`; what is found goes to `tell`.
    pub(crate) fn new(core: Core, path: NsPath, tell: mpsc::Sender<Result<Progress>>) -> Self {
        Self { core, path, sums: Sums::default(), tell }
    }

    /// Goes on to its end, or until nobody listens.
    pub(crate) async fn run(mut self) {
        match self.compare_all().await {
            Ok(()) => {
                let last = Progress { sums: self.sums, done: true, ..Progress::default() };
                let _ = self.tell.send(Ok(last)).await;
            }
            Err(Stopped::Failed(error)) => {
                let _ = self.tell.send(Err(error)).await;
            }
            Err(Stopped::Gone) => {}
        }
    }

    async fn compare_all(&mut self) -> Result<(), Stopped> {
        let scopes = self.scopes().await?;
        self.compare_contents().await?;
        for scope in scopes {
            let path = scope.mount.mount.path.clone();
            match self.compare_mount(&scope).await {
                Err(Stopped::Failed(error)) => self.unseen(format!("mount {path}: {error}")),
                ended => ended?,
            }
        }
        Ok(())
    }

    async fn compare_mount(&mut self, scope: &Scope) -> Result<(), Stopped> {
        if scope.is_directory {
            self.compare_directory(scope).await?;
        } else {
            self.sums.files += 1;
            self.look_again(&scope.mount, vec![scope.key.clone()]).await?;
        }
        self.compare_uploads(scope).await
    }

    /// The mounts at and below the path, or the one that it is in.
    async fn scopes(&self) -> Result<Vec<Scope>> {
        // That it exists is seen as everybody sees it.
        let answer = self.core.lookups.resolve(&self.path, None, false).await?;
        let top =
            answer.attr.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("{} does not exist", self.path)))?;
        let table = self.core.mounts.table();
        let mut scopes = Vec::new();
        for mount in table.mounts() {
            let Some(mount) = table.get(mount.id).cloned() else { continue };
            if mount.mount.path.starts_with(&self.path) {
                scopes.push(Scope { mount, key: Vec::new(), is_directory: true });
            } else if top.mount == mount.mount.id {
                let names = &self.path.names()[mount.mount.path.names().len()..];
                let is_directory = top.kind == FileKind::Directory;
                let mut key = path_key(names);
                key.extend(is_directory.then_some(b'/'));
                scopes.push(Scope { mount, key, is_directory });
            }
        }
        Ok(scopes)
    }

    /// Tells of what was found, and how far it is.
    async fn told(&mut self, findings: Vec<Finding>) -> Result<(), Stopped> {
        self.sums.findings += findings.len() as u64;
        let progress = Progress { findings, sums: self.sums.clone(), done: false };
        self.tell.send(Ok(progress)).await.map_err(|_| Stopped::Gone)
    }

    fn unseen(&mut self, what: String) {
        if !self.sums.unseen.contains(&what) {
            self.sums.unseen.push(what);
        }
    }
}

/// The path that a key of `mount`, relative to its prefix, stands for.
fn path_of(mount: &LiveMount, key: &[u8]) -> Vec<u8> {
    let mut path = mount.mount.path.to_bytes();
    if path.last() != Some(&b'/') {
        path.push(b'/');
    }
    path.extend_from_slice(key);
    path
}
