//! Mutations.

use std::os::fd::OwnedFd;

use bytes::Bytes;
use headpond_types::{ByteRange, ContentId};
use rustix::{
    fs::{AtFlags, Dir, FlockOperation, Mode, OFlags, flock, fstat, fsync, mkdirat, openat, unlinkat},
    io::{Errno, pread},
};

use super::{
    Shared,
    path::{describe, size_of, version_of},
    staging::Staged,
    tag,
};
use crate::{Key, ObjectMeta, Precondition, UfsError, UfsErrorKind};

/// The file of an upload that holds the key it is for.
const UPLOAD_KEY: &str = "key";

impl Shared {
    pub(super) fn put(
        &self,
        key: &Key,
        body: &Bytes,
        condition: &Precondition,
        content: Option<ContentId>,
    ) -> Result<ObjectMeta, UfsError> {
        self.names(key)?;
        let root = self.root()?;
        if key.as_bytes().ends_with(b"/") {
            self.bytes_of_marker(key, body)?;
            return self.make_marker(&root, key, condition);
        }
        let failure = |errno| self.failure("write", key, errno);
        let staged = self.stage(&root).map_err(failure)?;
        staged.write(body).map_err(failure)?;
        staged.set_content(content);
        self.publish(&root, key, &staged, condition)
    }

    fn make_marker(&self, root: &OwnedFd, key: &Key, condition: &Precondition) -> Result<ObjectMeta, UfsError> {
        let failure = |errno| self.failure("write", key, errno);
        let staging = self.staging(root).map_err(failure)?;
        flock(&staging, FlockOperation::LockExclusive).map_err(failure)?;
        self.check(key, condition)?;
        let directory = self.make_directories(root, key, &self.names(key)?)?;
        Ok(describe(key.0.clone(), &fstat(&directory).map_err(failure)?))
    }

    pub(super) fn create_upload(&self, key: &Key, content: Option<ContentId>) -> Result<String, UfsError> {
        self.names(key)?;
        if key.as_bytes().ends_with(b"/") {
            return Err(self.error(UfsErrorKind::Invalid, key, "is a directory and takes no bytes"));
        }
        let root = self.root()?;
        let failure = |errno| self.failure("begin an upload of", key, errno);
        let id = format!("{:032x}", rand::random::<u128>());
        let staging = self.staging(&root).map_err(failure)?;
        mkdirat(&staging, upload_name(&id), Mode::RWXU).map_err(failure)?;
        let upload = open_directory(&staging, &upload_name(&id)).map_err(failure)?;
        let note = self.stage(&root).map_err(failure)?;
        note.write(key.as_bytes()).map_err(failure)?;
        note.set_content(content);
        note.rename_to(&upload, UPLOAD_KEY.as_bytes()).map_err(failure)?;
        Ok(id)
    }

    /// The directory of an upload, if it is one for `key`.
    fn upload(&self, root: &OwnedFd, key: &Key, id: &str) -> Result<OwnedFd, UfsError> {
        let unknown = || self.error(UfsErrorKind::NotFound, key, &format!("has no upload {id}"));
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(unknown());
        }
        let open = || -> Result<(OwnedFd, Vec<u8>), Errno> {
            let upload = open_directory(&self.staging(root)?, &upload_name(id))?;
            let note = openat(&upload, UPLOAD_KEY, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
            let mut noted = vec![0; key.as_bytes().len() + 1];
            let length = pread(&note, &mut noted, 0)?;
            noted.truncate(length);
            Ok((upload, noted))
        };
        match open() {
            Ok((upload, noted)) if noted == key.as_bytes() => Ok(upload),
            Ok(_) | Err(Errno::NOENT) => Err(unknown()),
            Err(errno) => Err(self.failure("go on with an upload of", key, errno)),
        }
    }

    pub(super) fn put_part(&self, key: &Key, id: &str, number: u32, body: &Bytes) -> Result<String, UfsError> {
        self.add_part(key, id, number, |staged| staged.write(body))
    }

    pub(super) fn copy_part(
        &self,
        key: &Key,
        id: &str,
        number: u32,
        source: &Key,
        range: &ByteRange,
        version: &str,
    ) -> Result<String, UfsError> {
        let file = self.open_version(source, range, version)?;
        let tag =
            self.add_part(key, id, number, |staged| staged.append(&file, range.start, range.end - range.start))?;
        self.check_unchanged(source, &file, version)?;
        Ok(tag)
    }

    fn add_part(
        &self,
        key: &Key,
        id: &str,
        number: u32,
        fill: impl FnOnce(&Staged) -> Result<(), Errno>,
    ) -> Result<String, UfsError> {
        let root = self.root()?;
        let upload = self.upload(&root, key, id)?;
        let add = || -> Result<String, Errno> {
            let staged = self.stage(&root)?;
            fill(&staged)?;
            staged.rename_to(&upload, number.to_string().as_bytes())?;
            Ok(version_of(&staged.stat()?))
        };
        add().map_err(|errno| self.failure("write a part of", key, errno))
    }

    pub(super) fn complete_upload(
        &self,
        key: &Key,
        id: &str,
        parts: &[(u32, String)],
        condition: &Precondition,
    ) -> Result<ObjectMeta, UfsError> {
        let root = self.root()?;
        let upload = self.upload(&root, key, id)?;
        let failure = |errno| self.failure("complete", key, errno);
        let staged = self.stage(&root).map_err(failure)?;
        for (number, tag) in parts {
            let unknown = || self.error(UfsErrorKind::Invalid, key, &format!("has no part {number} {tag}"));
            let part = match openat(&upload, number.to_string(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
                Err(Errno::NOENT) => return Err(unknown()),
                other => other.map_err(failure)?,
            };
            let stat = fstat(&part).map_err(failure)?;
            if version_of(&stat) != *tag {
                return Err(unknown());
            }
            staged.append(&part, 0, size_of(&stat)).map_err(failure)?;
        }
        let note = openat(&upload, UPLOAD_KEY, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(failure)?;
        staged.set_content(tag::read(&note));
        let meta = self.publish(&root, key, &staged, condition)?;
        // The object is there; parts left behind cost space only.
        let _ = self.remove_upload(&root, id);
        Ok(meta)
    }

    pub(super) fn abort_upload(&self, key: &Key, id: &str) -> Result<(), UfsError> {
        let root = self.root()?;
        match self.upload(&root, key, id) {
            Err(error) if error.kind() == UfsErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(_) => self.remove_upload(&root, id).map_err(|errno| self.failure("abort an upload of", key, errno)),
        }
    }

    fn remove_upload(&self, root: &OwnedFd, id: &str) -> Result<(), Errno> {
        let staging = self.staging(root)?;
        let upload = open_directory(&staging, &upload_name(id))?;
        for entry in Dir::read_from(&upload)? {
            let entry = entry?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                unlinkat(&upload, entry.file_name(), AtFlags::empty())?;
            }
        }
        unlinkat(&staging, upload_name(id), AtFlags::REMOVEDIR)
    }

    pub(super) fn copy(
        &self,
        source: &Key,
        version: &str,
        key: &Key,
        condition: &Precondition,
        content: Option<ContentId>,
    ) -> Result<ObjectMeta, UfsError> {
        self.names(key)?;
        let file = self.open_version(source, &(0..0), version)?;
        if source.as_bytes().ends_with(b"/") || key.as_bytes().ends_with(b"/") {
            return self.put(key, &Bytes::new(), condition, None);
        }
        let root = self.root()?;
        let failure = |errno| self.failure("copy to", key, errno);
        let length = size_of(&fstat(&file).map_err(failure)?);
        let staged = self.stage(&root).map_err(failure)?;
        staged.append(&file, 0, length).map_err(failure)?;
        staged.set_content(content.or_else(|| tag::read(&file)));
        self.check_unchanged(source, &file, version)?;
        self.publish(&root, key, &staged, condition)
    }

    fn check_unchanged(&self, source: &Key, file: &OwnedFd, version: &str) -> Result<(), UfsError> {
        let now = fstat(file).map_err(|errno| self.failure("copy", source, errno))?;
        if version_of(&now) == version { Ok(()) } else { Err(self.changed(source)) }
    }

    /// A directory that still has entries stays: they imply it.
    pub(super) fn delete(&self, key: &Key, condition: &Precondition) -> Result<(), UfsError> {
        let root = self.root()?;
        let names = self.names(key)?;
        let failure = |errno| self.failure("delete", key, errno);
        // Held until the end, so that no conditional write of this driver comes between check and deletion.
        let lock = match condition {
            Precondition::None => None,
            _ => {
                let staging = self.staging(&root).map_err(failure)?;
                flock(&staging, FlockOperation::LockExclusive).map_err(failure)?;
                self.check(key, condition)?;
                Some(staging)
            }
        };
        let Some((last, above)) = names.split_last() else { return Ok(()) };
        let parent = if above.is_empty() {
            root
        } else {
            let above = Key(above.join(&b'/').into());
            match self.open_below(&root, &above, OFlags::RDONLY | OFlags::DIRECTORY) {
                Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
                other => other.map_err(failure)?,
            }
        };
        let marker = key.as_bytes().ends_with(b"/");
        let flags = if marker { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        match unlinkat(&parent, *last, flags) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::NOTEMPTY | Errno::EXIST) if marker => Ok(()),
            Err(Errno::NOENT | Errno::ISDIR) => Ok(()),
            other => other.and_then(|()| fsync(&parent)).map_err(failure),
        }?;
        drop(lock);
        Ok(())
    }
}

fn upload_name(id: &str) -> String {
    format!("upload-{id}")
}

fn open_directory(parent: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    openat(parent, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}
