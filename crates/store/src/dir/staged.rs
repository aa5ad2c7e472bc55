//! The files of a directory that belong to no content yet: `staged/<generation>`, and `staged/<generation>.<number>` with what they were before they were
//! changed in place.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
};

use headpond_types::ContentId;
use rustix::{
    fs::{AtFlags, Mode, OFlags},
    io::Errno,
};

use super::{Claims, Dir, fan_out, file_name};

/// Below the configured directory: files that are being written.
pub(super) const STAGED: &str = "staged";

impl Dir {
    /// Makes an empty file, open for reading and writing. Does IO.
    pub(crate) fn create_staged(&self, generation: u32) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.staged, name(generation), flags, Mode::RUSR | Mode::WUSR)?;
        Ok(File::from(file))
    }

    /// Opens the file once more, with an offset of its own. Does IO.
    pub(crate) fn open_staged(&self, generation: u32, flags: OFlags) -> io::Result<File> {
        Ok(File::from(rustix::fs::openat(&self.staged, name(generation), flags | OFlags::CLOEXEC, Mode::empty())?))
    }

    /// Removes the file, unless the directory is closed: then somebody else may have it, who removes what he finds. Does IO.
    pub(crate) fn remove_staged(&self, generation: u32) {
        if let Some(_removing) = self.removing()
            && let Err(error) = rustix::fs::unlinkat(&self.staged, name(generation), AtFlags::empty())
        {
            tracing::debug!(dir = %self.config.path.display(), %error, "cannot remove a staged file");
        }
    }

    /// Makes an empty file beside it, open for reading and writing. Does IO.
    pub(crate) fn create_segment(&self, generation: u32, number: u32) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let name = segment_name(generation, number);
        Ok(File::from(rustix::fs::openat(&self.staged, name, flags, Mode::RUSR | Mode::WUSR)?))
    }

    /// Opens what an earlier process left beside it. Does IO.
    pub(crate) fn open_segment(&self, generation: u32, number: u32) -> io::Result<File> {
        let (flags, name) = (OFlags::RDWR | OFlags::CLOEXEC, segment_name(generation, number));
        Ok(File::from(rustix::fs::openat(&self.staged, name, flags, Mode::empty())?))
    }

    /// Removes what is beside it, as [`Dir::remove_staged`].
    pub(crate) fn remove_segment(&self, generation: u32, number: u32) {
        if let Some(_removing) = self.removing()
            && let Err(error) = rustix::fs::unlinkat(&self.staged, segment_name(generation, number), AtFlags::empty())
        {
            tracing::debug!(dir = %self.config.path.display(), %error, "cannot remove what a staged file was");
        }
    }

    /// Makes the file that of a content, with its generation. Does IO.
    pub(crate) fn move_staged(&self, generation: u32, id: ContentId) -> io::Result<()> {
        let Some(_removing) = self.removing() else { return Err(io::Error::other("the directory is closed")) };
        let (from, to) = (name(generation), file_name(id, generation));
        let rename = || rustix::fs::renameat(&self.staged, &from, &self.files, &to);
        match rename() {
            Err(Errno::NOENT) => match rustix::fs::mkdirat(&self.files, fan_out(id), Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => Ok(rename()?),
                Err(error) => Err(error.into()),
            },
            moved => Ok(moved?),
        }
    }

    /// Makes the file also that of a content, under a generation of its own. Does IO.
    pub(crate) fn link_staged(&self, from: u32, id: ContentId, generation: u32) -> io::Result<()> {
        let Some(_removing) = self.removing() else { return Err(io::Error::other("the directory is closed")) };
        let (from, to) = (name(from), file_name(id, generation));
        let link = || rustix::fs::linkat(&self.staged, &from, &self.files, &to, AtFlags::empty());
        match link() {
            Err(Errno::NOENT) => match rustix::fs::mkdirat(&self.files, fan_out(id), Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => Ok(link()?),
                Err(error) => Err(error.into()),
            },
            linked => Ok(linked?),
        }
    }
}

/// A staged file that an earlier process made durable.
#[derive(Debug)]
pub(super) struct Durable {
    pub(super) generation: u32,
    pub(super) claims: Claims,
    /// The numbers of the files beside it, in order.
    pub(super) segments: Vec<u32>,
}

/// Opens the directory of staged files. Those that an earlier process made durable are answered; the others are
/// removed: nobody can find them any more.
pub(super) fn open_staged_files(root: impl AsFd) -> io::Result<(OwnedFd, Vec<Durable>)> {
    let staged = super::recovery::open_dir(root, STAGED)?;
    let (mut durable, mut beside, mut others) = (BTreeMap::new(), Vec::new(), Vec::new());
    for name in super::recovery::names(&staged)? {
        if let Some((generation, number)) = parse_segment_name(&name) {
            beside.push((generation, number, name));
            continue;
        }
        let claims = read_claims(&staged, &name)?;
        match u32::from_str_radix(&name, 16) {
            Ok(generation) if !claims.as_slice().is_empty() => {
                durable.insert(generation, Durable { generation, claims, segments: Vec::new() });
            }
            _ => others.push(name),
        }
    }
    beside.sort_unstable();
    for (generation, number, name) in beside {
        match durable.get_mut(&generation) {
            Some(of) => of.segments.push(number),
            None => others.push(name),
        }
    }
    for name in others {
        if let Err(error) = rustix::fs::unlinkat(&staged, &name, AtFlags::empty()) {
            tracing::debug!(name, %error, "cannot remove a staged file of an earlier process");
        }
    }
    Ok((staged, durable.into_values().collect()))
}

/// What the file `name` in `folder` says that it is.
pub(super) fn read_claims(folder: &OwnedFd, name: &str) -> io::Result<Claims> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Claims::read(&File::from(rustix::fs::openat(folder, name, flags, Mode::empty())?))
}

fn name(generation: u32) -> String {
    format!("{generation:x}")
}

fn segment_name(generation: u32, number: u32) -> String {
    format!("{generation:x}.{number:x}")
}

fn parse_segment_name(name: &str) -> Option<(u32, u32)> {
    let (generation, number) = name.split_once('.')?;
    Some((u32::from_str_radix(generation, 16).ok()?, u32::from_str_radix(number, 16).ok()?))
}
