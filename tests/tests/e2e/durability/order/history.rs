//! What became of files, as those who wrote them were told.

use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, ensure};
use headpond_tests::noise;

/// A file, whatever it is called.
pub(super) type File = usize;

/// Where a file is, and which of its versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct At {
    pub(super) path: String,
    pub(super) version: u32,
}

/// One change of a file.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// What it makes of the file; `None` when it is removed.
    pub(super) state: Option<At>,
    /// How many changes had been acknowledged when this one was; `None` before.
    pub(super) acknowledged: Option<usize>,
    /// Of a commit: how many had been acknowledged when it began. Whoever sees it sees those.
    pub(super) requires: Option<usize>,
    /// Of what lies below a directory that is renamed for the first time: the same. Whoever sees an object that followed sees those. One that is
    /// renamed again while its objects are on their way keeps its place in the order, since what came between waits for it.
    pub(super) follows: Option<usize>,
}

/// What a change is to those who look at the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Plain,
    /// A commit file is written.
    Commit,
    /// A directory above is renamed for the first time.
    Rename,
}

/// All files, with what was done to each. A change is noted before it begins, so whatever is seen of it was noted before.
#[derive(Debug, Default)]
pub(super) struct History {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    files: Vec<Vec<Step>>,
    acknowledged: usize,
}

impl History {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A file that is not there yet.
    pub(super) fn file(&self) -> File {
        let mut inner = self.lock();
        inner.files.push(Vec::new());
        inner.files.len() - 1
    }

    /// Where a file is.
    pub(super) fn at(&self, file: File) -> Option<At> {
        self.lock().files[file].last().and_then(|step| step.state.clone())
    }

    /// Notes one change of several files, which is not acknowledged yet.
    pub(super) fn begin(&self, changes: &[(File, Option<At>)], kind: Kind) {
        let mut inner = self.lock();
        let before = |of: Kind| (kind == of).then_some(inner.acknowledged);
        let (requires, follows) = (before(Kind::Commit), before(Kind::Rename));
        for (file, state) in changes {
            inner.files[*file].push(Step { state: state.clone(), acknowledged: None, requires, follows });
        }
    }

    /// Notes that the last change of these files was acknowledged.
    pub(super) fn acknowledge(&self, changes: &[(File, Option<At>)]) {
        let mut inner = self.lock();
        let number = inner.acknowledged;
        for (file, _) in changes {
            if let Some(step) = inner.files[*file].last_mut() {
                step.acknowledged = Some(number);
            }
        }
        inner.acknowledged += 1;
    }

    /// How many changes were acknowledged.
    pub(super) fn acknowledged(&self) -> usize {
        self.lock().acknowledged
    }

    /// All steps so far.
    pub(super) fn files(&self) -> Vec<Vec<Step>> {
        self.lock().files.clone()
    }
}

/// The bytes of a version of a file.
pub(super) fn body(file: File, version: u32, length: usize) -> Vec<u8> {
    let mut bytes = format!("{file} {version} {length}\n").into_bytes();
    bytes.extend_from_slice(&noise((file as u64) << 20 | u64::from(version), length));
    bytes
}

/// Which version of which file these bytes are.
///
/// # Errors
/// They are none.
pub(super) fn identify(bytes: &[u8]) -> Result<(File, u32)> {
    let end = bytes.iter().position(|byte| *byte == b'\n').context("no first line")?;
    let line = std::str::from_utf8(&bytes[..end])?;
    let mut words = line.split(' ');
    let mut word = || words.next().context("too few words");
    let (file, version, length) = (word()?.parse()?, word()?.parse()?, word()?.parse()?);
    ensure!(bytes == body(file, version, length), "{line:?} with other bytes, {} in all", bytes.len());
    Ok((file, version))
}
