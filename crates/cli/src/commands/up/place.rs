//! The directories that `headpond up` makes, and takes away again when it cannot start.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use headpond_types::{Error, ErrorKind, Result};
use rustix::io::Errno;

/// What was made in this run. Dropped before [`Made::keep`], it is removed again.
#[derive(Debug, Default)]
pub(super) struct Made {
    /// Files, and directories that are removed only if nothing else is in them.
    small: Vec<PathBuf>,
    /// Directories of state, which are ours alone.
    state: Vec<PathBuf>,
}

impl Made {
    /// Makes a directory and those above it, if they do not exist. Answers whether it did. A dead mount is taken for one.
    ///
    /// # Errors
    /// Names the directory: `NotADirectory`, `PermissionDenied`, `ReadOnly`, `ResourceExhausted`.
    pub(super) fn directory(&mut self, what: &str, path: &Path) -> Result<bool> {
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => return Ok(false),
            Ok(_) => {
                let message = format!("{what} {} is not a directory: name another", path.display());
                return Err(Error::new(ErrorKind::NotADirectory, message));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.raw_os_error() == Some(Errno::NOTCONN.raw_os_error()) => return Ok(false),
            Err(error) => return Err(unmade(what, path, error)),
        }
        if let Some(above) = path.parent().filter(|above| *above != Path::new("")) {
            self.directory(what, above)?;
        }
        fs::create_dir(path).map_err(|error| unmade(what, path, error))?;
        self.small.push(path.to_owned());
        Ok(true)
    }

    /// Makes a directory for state: if it is made here, it is removed with all that came into it.
    ///
    /// # Errors
    /// As [`Made::directory`].
    pub(super) fn state(&mut self, path: &Path) -> Result<()> {
        if self.directory("state directory", path)? {
            self.state.push(path.to_owned());
        }
        Ok(())
    }

    /// Makes a file.
    ///
    /// # Errors
    /// Names the file.
    pub(super) fn file(&mut self, path: &Path, text: &str) -> Result<()> {
        fs::write(path, text).map_err(|error| unmade("file", path, error))?;
        self.small.push(path.to_owned());
        Ok(())
    }

    /// The start has succeeded: nothing is removed.
    pub(super) fn keep(mut self) {
        self.small.clear();
        self.state.clear();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for path in &self.state {
            if let Err(error) = fs::remove_dir_all(path) {
                tracing::warn!(%error, path = %path.display(), "cannot remove the state of a start that failed");
            }
        }
        for path in self.small.iter().rev() {
            let removed = if path.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) };
            match removed {
                Ok(()) => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {}
                Err(error) => tracing::warn!(%error, path = %path.display(), "cannot remove what was made"),
            }
        }
    }
}

fn unmade(what: &str, path: &Path, error: io::Error) -> Error {
    let path = path.display();
    let (kind, message) = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            (ErrorKind::PermissionDenied, format!("{what} {path} cannot be made: name one that this user may make"))
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            (ErrorKind::ReadOnly, format!("{what} {path} cannot be made: name one on a writable file system"))
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            (ErrorKind::ResourceExhausted, format!("{what} {path} cannot be made: free some space"))
        }
        io::ErrorKind::NotADirectory => {
            (ErrorKind::NotADirectory, format!("{what} {path} lies below something that is not a directory"))
        }
        _ => (ErrorKind::InvalidArgument, format!("{what} {path} cannot be made: name another")),
    };
    Error::new(kind, message).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_is_removed_unless_it_is_kept() {
        let root = tempfile::tempdir().expect("a directory");
        let (lake, state) = (root.path().join("a/lake"), root.path().join("state"));
        let make = || {
            let mut made = Made::default();
            made.directory("lake", &lake).expect("made");
            made.file(&lake.join("README.txt"), "x").expect("made");
            made.state(&state).expect("made");
            fs::write(state.join("journal"), "x").expect("written");
            made
        };
        drop(make());
        assert_eq!(fs::read_dir(root.path()).expect("listed").count(), 0);
        make().keep();
        assert!(lake.join("README.txt").exists() && state.join("journal").exists());
        drop(make());
        assert!(state.join("journal").exists(), "what was there before stays");
    }

    #[test]
    fn what_others_put_there_meanwhile_stays() {
        let root = tempfile::tempdir().expect("a directory");
        let pond = root.path().join("pond");
        let mut made = Made::default();
        made.directory("mount point", &pond).expect("made");
        fs::write(pond.join("theirs"), "x").expect("written");
        drop(made);
        assert!(pond.join("theirs").exists());
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let error = Made::default().directory("mount point", file.path()).expect_err("a file");
        assert_eq!(error.kind(), ErrorKind::NotADirectory);
        assert!(error.to_string().contains(&file.path().display().to_string()));
    }
}
