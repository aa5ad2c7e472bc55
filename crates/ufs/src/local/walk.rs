//! Listings in byte order of the keys.
//!
//! Entries of a directory are sorted with a slash behind the names of directories, which puts the whole subtree where its keys
//! belong: `a.b` before `a/`, `a/x` before `a0`. Attributes are read as entries are given out. A walk whose page was full waits for the
//! request of the next, so a large directory is read once, not once per page.

use std::{collections::VecDeque, os::fd::OwnedFd, sync::PoisonError};

use bytes::Bytes;
use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, openat, statat},
    io::Errno,
};

use super::{
    STAGING, Shared,
    path::{describe, file_type, is_name},
};
use crate::{
    Key, ListPage, ListRequest, Listed, UfsError, UfsErrorKind,
    listing::{Resume, page_size},
};

/// Walks kept for their next page; each holds the names of the directories on its way.
const WAITING: usize = 16;

/// Walks between two pages, oldest first, under prefix, delimiting and continuation.
pub(super) type Waiting = VecDeque<((Key, bool, String), Walk)>;

/// A listing under way.
pub(super) struct Walk {
    /// Directories entered, outermost first.
    frames: Vec<Frame>,
    delimited: bool,
    bound: Resume,
    /// The first result, when it is the directory that the prefix names.
    first: Option<Listed>,
    /// The result that did not fit the page before.
    ahead: Option<Listed>,
}

struct Frame {
    directory: OwnedFd,
    /// The directory's key: empty for the root, else with a trailing slash.
    key: Vec<u8>,
    /// Names in reverse, directories with a trailing slash.
    names: Vec<Vec<u8>>,
}

impl Shared {
    pub(super) fn list(&self, request: &ListRequest) -> Result<ListPage, UfsError> {
        let mut walk = match self.take_waiting(request) {
            Some(walk) => {
                self.root()?;
                walk
            }
            None => match self.walk(&request.prefix, request.delimited, Resume::of(request)?)? {
                Some(walk) => walk,
                None => return Ok(ListPage::default()),
            },
        };
        let most = page_size(request);
        let mut entries = Vec::new();
        while let Some(entry) = self.next(&mut walk)? {
            if entries.len() < most {
                entries.push(entry);
                continue;
            }
            walk.ahead = Some(entry);
            let continuation = entries.last().map(Resume::token);
            if let Some(token) = &continuation {
                let mut waiting = self.walks.lock().unwrap_or_else(PoisonError::into_inner);
                if waiting.len() == WAITING {
                    waiting.pop_front();
                }
                waiting.push_back(((request.prefix.clone(), request.delimited, token.clone()), walk));
            }
            return Ok(ListPage { entries, continuation });
        }
        Ok(ListPage { entries, continuation: None })
    }

    fn take_waiting(&self, request: &ListRequest) -> Option<Walk> {
        let token = request.continuation.as_ref()?;
        let mut waiting = self.walks.lock().unwrap_or_else(PoisonError::into_inner);
        let at = waiting.iter().position(|((prefix, delimited, expected), _)| {
            *prefix == request.prefix && *delimited == request.delimited && expected == token
        })?;
        waiting.remove(at).map(|(_, walk)| walk)
    }

    /// Begins a walk over the keys below `prefix`; `None` when there is no such directory.
    fn walk(&self, prefix: &Key, delimited: bool, bound: Resume) -> Result<Option<Walk>, UfsError> {
        let root = self.root()?;
        let slash = prefix.as_bytes().iter().rposition(|byte| *byte == b'/');
        let (base, start) = prefix.as_bytes().split_at(slash.map_or(0, |at| at + 1));
        let base_key = Key(Bytes::copy_from_slice(base));
        if base.is_empty() {
            let names = self.read_names(&root, base, start, &bound, delimited)?;
            let frames = vec![Frame { directory: root, key: Vec::new(), names }];
            return Ok(Some(Walk { frames, delimited, bound, first: None, ahead: None }));
        }
        if self.names(&base_key).is_err() {
            return Ok(None);
        }
        let directory = match self.open_below(&root, &base_key, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(directory) => directory,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::XDEV | Errno::LOOP) => return Ok(None),
            Err(errno) => return Err(self.failure("list", prefix, errno)),
        };
        let stat = fstat(&directory).map_err(|errno| self.failure("list", prefix, errno))?;
        let marker = start.is_empty() && bound.admits(base);
        let first = marker.then(|| Listed::Object(describe(base_key.0.clone(), &stat)));
        let names = self.read_names(&directory, base, start, &bound, delimited)?;
        Ok(Some(Walk {
            frames: vec![Frame { directory, key: base.to_vec(), names }],
            delimited,
            bound,
            first,
            ahead: None,
        }))
    }

    /// The names of a directory that begin with `start` and may lead to keys behind the bound, last first.
    fn read_names(
        &self,
        directory: &OwnedFd,
        key: &[u8],
        start: &[u8],
        bound: &Resume,
        delimited: bool,
    ) -> Result<Vec<Vec<u8>>, UfsError> {
        let shown = Key(Bytes::copy_from_slice(key));
        let failure = |errno| self.failure("list", &shown, errno);
        let mut names = Vec::new();
        let mut full = key.to_vec();
        for entry in Dir::read_from(directory).map_err(failure)? {
            let entry = entry.map_err(failure)?;
            let name = entry.file_name();
            let bytes = name.to_bytes();
            if !bytes.starts_with(start) || !is_name(bytes) || (key.is_empty() && bytes == STAGING.as_bytes()) {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => file_type(&stat),
                    Err(Errno::NOENT) => continue,
                    Err(errno) => return Err(failure(errno)),
                },
                known => known,
            };
            full.truncate(key.len());
            full.extend_from_slice(bytes);
            let wanted = match kind {
                FileType::Directory => {
                    full.push(b'/');
                    // A folded directory is one result, so one that was given out is done with.
                    bound.may_admit_below(&full)
                        && !(delimited && matches!(bound, Resume::Past(past) if **past == *full))
                }
                FileType::RegularFile | FileType::Symlink => bound.admits(&full),
                _ => false,
            };
            if wanted {
                names.push(full[key.len()..].to_vec());
            }
        }
        names.sort_unstable_by(|one, other| other.cmp(one));
        Ok(names)
    }

    fn next(&self, walk: &mut Walk) -> Result<Option<Listed>, UfsError> {
        if let Some(entry) = walk.ahead.take().or_else(|| walk.first.take()) {
            return Ok(Some(entry));
        }
        while let Some(frame) = walk.frames.last_mut() {
            let Some(name) = frame.names.pop() else {
                walk.frames.pop();
                continue;
            };
            let mut key = frame.key.clone();
            key.extend_from_slice(&name);
            match name.strip_suffix(b"/") {
                Some(_) if walk.delimited => {
                    if walk.bound.admits(&key) || self.has_keys_behind(&key, &walk.bound)? {
                        return Ok(Some(Listed::Prefix(Key(key.into()))));
                    }
                }
                Some(bare) => {
                    let Some(entered) = self.enter(&frame.directory, bare, &key, &walk.bound)? else { continue };
                    let (frame, stat) = entered;
                    walk.frames.push(frame);
                    if walk.bound.admits(&key) {
                        return Ok(Some(Listed::Object(describe(key.into(), &stat))));
                    }
                }
                None => {
                    if let Some(stat) = self.stat_file(&frame.directory, &name, &key)? {
                        return Ok(Some(Listed::Object(describe(key.into(), &stat))));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Whether a directory that the bound cuts through has keys behind it.
    fn has_keys_behind(&self, key: &[u8], bound: &Resume) -> Result<bool, UfsError> {
        match self.walk(&Key(Bytes::copy_from_slice(key)), false, bound.clone())? {
            Some(mut walk) => Ok(self.next(&mut walk)?.is_some()),
            None => Ok(false),
        }
    }

    /// Opens a directory on the way; `None` when it vanished or is no directory any more.
    fn enter(
        &self,
        parent: &OwnedFd,
        name: &[u8],
        key: &[u8],
        bound: &Resume,
    ) -> Result<Option<(Frame, Stat)>, UfsError> {
        let failure = |errno| self.failure("list", &Key(Bytes::copy_from_slice(key)), errno);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = match openat(parent, name, flags, Mode::empty()) {
            Ok(directory) => directory,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(errno) => return Err(failure(errno)),
        };
        let stat = fstat(&directory).map_err(failure)?;
        let names = self.read_names(&directory, key, b"", bound, false)?;
        Ok(Some((Frame { directory, key: key.to_vec(), names }, stat)))
    }

    /// Attributes of a file, or of the file within the root that a link leads to; `None` for anything else.
    fn stat_file(&self, directory: &OwnedFd, name: &[u8], key: &[u8]) -> Result<Option<Stat>, UfsError> {
        let failure = |errno| self.failure("list", &Key(Bytes::copy_from_slice(key)), errno);
        let stat = match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if file_type(&stat) == FileType::Symlink => {
                match self.open_object(&Key(Bytes::copy_from_slice(key)), OFlags::PATH) {
                    Ok((_, stat)) => stat,
                    Err(error) if matches!(error.kind(), UfsErrorKind::NotFound | UfsErrorKind::Refused) => {
                        return Ok(None);
                    }
                    Err(error) => return Err(error),
                }
            }
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(failure(errno)),
        };
        Ok((file_type(&stat) == FileType::RegularFile).then_some(stat))
    }
}
